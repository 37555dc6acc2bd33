//! The macro that declares a message in the terms of the contract's tables.
//!
//! It writes the struct, its serde rules and `new(required…)`, so that a model's
//! file holds fields and documentation and nothing else.

/// Declares a message.
///
/// Fields stand in groups, all of them optional and in this order:
/// - `required`: must be present; the arguments of `new`;
/// - `nullable`: must be present, may be `null` (`""` reads as `null`); `Option`;
/// - `optional`: may be absent, `null` or `""`; omitted when `None`; `Option`;
/// - `lists`: an optional array; omitted when empty; `Vec`;
/// - `flat`: required parts whose fields lie flat in this message;
/// - `unwritten`: what is known of the message and not part of it on the wire.
macro_rules! message {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $(required { $($(#[$rm:meta])* $r:ident: $rt:ty,)* })?
            $(nullable { $($(#[$nm:meta])* $n:ident: $nt:ty,)* })?
            $(optional { $($(#[$om:meta])* $o:ident: $ot:ty,)* })?
            $(lists { $($(#[$lm:meta])* $l:ident: $lt:ty,)* })?
            $(flat { $($(#[$fm:meta])* $f:ident: $ft:ty,)* })?
            $(unwritten { $($(#[$um:meta])* $u:ident: $ut:ty,)* })?
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
            /// Makes one from what is required; the rest is unset and can be assigned.
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
