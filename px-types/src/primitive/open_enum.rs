//! Open enums: unknown values are kept when they are read, and written back unchanged.

/// A value that no variant represents.
///
/// Its field is private, so that callers cannot depend on a value being unknown.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnknownValue(pub(crate) Box<str>);

impl std::fmt::Debug for UnknownValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// The common interface of all open enums.
pub trait OpenEnum: Sized + for<'a> From<&'a str> {
    /// All values that this version knows, in their wire form.
    const KNOWN: &'static [&'static str];

    /// Returns the value in its wire form.
    fn as_str(&self) -> &str;

    /// Returns whether this version knows the value.
    fn is_known(&self) -> bool;
}

macro_rules! open_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)+ }
    ) => {
        $(#[$meta])*
        ///
        /// This enum is open: an unknown value is kept and written back. It can be read with
        /// [`as_str`](Self::as_str), but not matched.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$vmeta])* #[doc = concat!("`", $text, "`")] $variant,)+
            #[doc(hidden)]
            _Unknown($crate::primitive::open_enum::UnknownValue),
        }

        impl $name {
            /// All values that this version knows.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the value in its wire form.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::_Unknown(value) => &value.0,
                }
            }

            /// Returns whether this version knows the value.
            #[must_use]
            pub fn is_known(&self) -> bool {
                !matches!(self, Self::_Unknown(_))
            }
        }

        impl $crate::primitive::open_enum::OpenEnum for $name {
            const KNOWN: &'static [&'static str] = &[$($text,)+];
            fn as_str(&self) -> &str {
                Self::as_str(self)
            }
            fn is_known(&self) -> bool {
                Self::is_known(self)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)+
                    other => Self::_Unknown($crate::primitive::open_enum::UnknownValue(other.into())),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                $crate::wire::from_text(d, "a string", |text| {
                    Ok::<_, std::convert::Infallible>(Self::from(text))
                })
            }
        }

        #[cfg(feature = "openapi")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                // `examples` instead of `enum`, because readers must accept unknown values.
                schemars::json_schema!({ "type": "string", "examples": [$($text,)+] })
            }
        }
    };
}

pub(crate) use open_enum;
