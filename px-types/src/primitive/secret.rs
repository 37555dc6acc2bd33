//! Texts that must not leak: they mask `Debug`, have no `Display`, compare in
//! constant time and are wiped when dropped.

use px_core::digest::constant_time_eq;
use std::fmt;
use zeroize::Zeroizing;

/// The bytes behind every secret. Private: each secret is its own type.
#[derive(Clone)]
pub(crate) struct Hidden(Zeroizing<String>);

impl Hidden {
    pub(crate) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Hidden {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl Eq for Hidden {}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

macro_rules! secret {
    ($($(#[$meta:meta])* $name:ident;)+) => {$(
        $(#[$meta])*
        ///
        /// A secret: `Debug` masks it, comparison takes constant time, and its
        /// bytes are wiped on drop. [`expose`](Self::expose) is the only way to read it.
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(Hidden);

        impl $name {
            /// Takes a text as a secret.
            #[must_use]
            pub fn new(text: impl Into<String>) -> Self {
                Self(Hidden::new(text.into()))
            }

            /// The secret itself. Never log it, never put it in an error.
            #[must_use]
            pub fn expose(&self) -> &str {
                self.0.expose()
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::new(text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(***)"))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.expose())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                crate::wire::from_text(d, "a secret (a string)", |text| {
                    Ok::<_, std::convert::Infallible>(Self::new(text))
                })
            }
        }

        #[cfg(feature = "openapi")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "format": "password" })
            }
        }
    )+};
}

secret! {
    /// A token that a caller presents with every request for data.
    AccessToken;
    /// A token that is exchanged for a new pair of tokens.
    RefreshToken;
    /// A single-use authorization code.
    AuthorizationCode;
    /// The verifier of RFC 7636 behind a code challenge.
    CodeVerifier;
    /// The `state` of an authorization request: it binds the answer to the session that asked.
    AuthorizationState;
    /// A client's secret.
    ClientSecret;
    /// The name that a user signs in with.
    Username;
    /// A user's password.
    Password;
    /// A one-time code typed by the user.
    OneTimeCode;
    /// An answer to a security question.
    KbaAnswer;
    /// An account number of any payment network.
    AccountNumber;
    /// A token of unknown kind, as revocation and introspection take it.
    AnyToken;
    /// A token with which a partner or an application reads an Item at Plaid.
    ItemAccessToken;
    /// A short-lived token that is exchanged for an access token.
    PublicToken;
    /// A short-lived token that opens Plaid's page.
    LinkToken;
    /// A token that names the application to connect in a cross-application flow.
    TargetApplicationToken;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_masks() {
        let token = AccessToken::new("tok-1");
        assert_eq!(format!("{token:?}"), "AccessToken(***)");
        assert_eq!(token, AccessToken::new("tok-1"));
        assert_ne!(token, AccessToken::new("tok-2"));
    }
}
