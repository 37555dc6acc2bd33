//! The macro that declares messages in the terms of the tables of the contract.
//!
//! It generates the struct, its serde attributes and `new(required…)`, so that the file of a model
//! contains only fields and documentation.

/// Declares a message.
///
/// The fields are in groups. Each group may be left out; the order is fixed:
/// - `required`: must be present; an argument of `new`;
/// - `nullable`: must be present, may be `null` (`""` is read as `null`); an `Option`;
/// - `optional`: may be absent, `null` or `""`; omitted if `None`; an `Option`;
/// - `lists`: an optional array; omitted if empty; a `Vec`;
/// - `flat`: required objects with fields that are flattened into this message;
/// - `skipped`: data about the message that is not part of it on the wire.
macro_rules! message {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $(required { $($(#[$rm:meta])* $r:ident: $rt:ty,)* })?
            $(nullable { $($(#[$nm:meta])* $n:ident: $nt:ty,)* })?
            $(optional { $($(#[$om:meta])* $o:ident: $ot:ty,)* })?
            $(lists { $($(#[$lm:meta])* $l:ident: $lt:ty,)* })?
            $(flat { $($(#[$fm:meta])* $f:ident: $ft:ty,)* })?
            $(skipped { $($(#[$um:meta])* $u:ident: $ut:ty,)* })?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
        #[non_exhaustive]
        pub struct $name {
            $($($(#[$rm])* pub $r: $rt,)*)?
            $($(
                $(#[$nm])*
                #[serde(deserialize_with = "crate::wire::optional")]
                #[cfg_attr(feature = "openapi", schemars(required, transform = crate::openapi::allow_null))]
                pub $n: Option<$nt>,
            )*)?
            $($(
                $(#[$om])*
                #[serde(
                    default,
                    deserialize_with = "crate::wire::optional",
                    skip_serializing_if = "Option::is_none"
                )]
                pub $o: Option<$ot>,
            )*)?
            $($(
                $(#[$lm])*
                #[serde(
                    default,
                    deserialize_with = "crate::wire::list",
                    skip_serializing_if = "Vec::is_empty"
                )]
                pub $l: Vec<$lt>,
            )*)?
            $($($(#[$fm])* #[serde(flatten)] pub $f: $ft,)*)?
            $($($(#[$um])* #[serde(skip)] pub $u: $ut,)*)?
        }

        impl $name {
            /// Creates the message from its required fields. The other fields are unset and can be assigned.
            #[allow(clippy::too_many_arguments, clippy::new_without_default, reason = "one argument per required field")]
            #[must_use]
            pub fn new($($($r: impl Into<$rt>,)*)? $($($f: impl Into<$ft>,)*)?) -> Self {
                Self {
                    $($($r: $r.into(),)*)?
                    $($($n: None,)*)?
                    $($($o: None,)*)?
                    $($($l: Vec::new(),)*)?
                    $($($f: $f.into(),)*)?
                    $($($u: <$ut>::default(),)*)?
                }
            }
        }
    };
}

pub(crate) use message;
