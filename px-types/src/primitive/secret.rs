//! Secrets: texts that are masked in `Debug`, have no `Display`, are compared in constant time and are
//! zeroed when dropped.

use px_core::digest::constant_time_eq;
use std::fmt;
use zeroize::Zeroizing;

/// The text of a secret. Each kind of secret is a type of its own that wraps it.
#[derive(Clone)]
pub(crate) struct SecretText(Zeroizing<String>);

impl SecretText {
    pub(crate) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for SecretText {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl Eq for SecretText {}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

macro_rules! secret {
    ($($(#[$meta:meta])* $name:ident;)+) => {$(
        $(#[$meta])*
        ///
        /// A secret: `Debug` masks it, comparison takes constant time, and its bytes are zeroed on drop.
        /// [`expose`](Self::expose) is the only way to read it.
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(SecretText);

        impl $name {
            /// Creates a secret from a text.
            #[must_use]
            pub fn new(text: impl Into<String>) -> Self {
                Self(SecretText::new(text.into()))
            }

            /// Returns the secret itself. Never log it or include it in an error.
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
    /// An access token, which a client sends with every request for data.
    AccessToken;
    /// A refresh token, which is exchanged for a new pair of tokens.
    RefreshToken;
    /// A single-use authorization code.
    AuthorizationCode;
    /// The code verifier of RFC 7636 that matches a code challenge.
    CodeVerifier;
    /// The `state` of an authorization request. It binds the response to the session of the request.
    AuthorizationState;
    /// The secret of a client.
    ClientSecret;
    /// The username of a user.
    Username;
    /// The password of a user.
    Password;
    /// A one-time code that the user entered.
    OneTimeCode;
    /// An answer to a security question.
    KbaAnswer;
    /// An account number in any payment network.
    AccountNumber;
    /// A token of unknown type, for revocation and introspection.
    AnyToken;
    /// An access token of an Item, with which a partner or an application uses Plaid's API.
    ItemAccessToken;
    /// A short-lived token that is exchanged for an access token of an Item.
    PublicToken;
    /// A short-lived token that opens the Link page.
    LinkToken;
    /// A token that names the application to be connected in a cross-application flow.
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
