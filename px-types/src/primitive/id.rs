//! Opaque ids, with one type per kind of entity, so that ids of different kinds cannot be confused.
//!
//! Ids are compared and ordered byte by byte. They are never trimmed, case-folded or interpreted.

use std::{borrow::Borrow, fmt, sync::Arc};

/// Maximum size of an id that this crate accepts, in bytes.
pub const MAX_ID_BYTES: usize = 1024;

/// Maximum size of an id that a partner may write, in bytes.
///
/// Longer ids, up to [`MAX_ID_BYTES`], are accepted; the validator reports them.
pub const CONTRACT_ID_BYTES: usize = 255;

/// An error for a text that is not a valid id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidId {
    /// The text is empty.
    #[error("an id must not be empty")]
    Empty,
    /// The text has more than [`MAX_ID_BYTES`] bytes.
    #[error("an id has at most 1024 bytes")]
    TooLong,
    /// The text has a control character.
    #[error("an id has no control characters")]
    ControlCharacter,
    /// The text is `.` or `..`, which cannot be a path segment.
    #[error("an id is not `.` or `..`")]
    DotSegment,
}

/// Checks the grammar of ids.
fn check(text: &str) -> Result<(), InvalidId> {
    match text {
        "" => Err(InvalidId::Empty),
        "." | ".." => Err(InvalidId::DotSegment),
        _ if text.len() > MAX_ID_BYTES => Err(InvalidId::TooLong),
        _ if text.bytes().any(|b| b < 0x20 || b == 0x7f) => Err(InvalidId::ControlCharacter),
        _ if !text.is_ascii() && text.chars().any(char::is_control) => {
            Err(InvalidId::ControlCharacter)
        }
        _ => Ok(()),
    }
}

macro_rules! id {
    ($($(#[$meta:meta])* $name:ident;)+) => {$(
        $(#[$meta])*
        ///
        /// Cheap to clone. Contract: `px.md` section 1, `id`.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Creates an id from a text.
            ///
            /// # Errors
            /// If the text is empty, longer than [`MAX_ID_BYTES`], `.` or `..`, or has a control character.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidId> {
                let text = text.as_ref();
                check(text)?;
                Ok(Self(text.into()))
            }

            /// Returns the id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                crate::wire::from_text(d, "an id (a string)", |text| Self::new(text))
            }
        }

        #[cfg(feature = "openapi")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "minLength": 1, "maxLength": CONTRACT_ID_BYTES })
            }
        }
    )+};
}

id! {
    /// The stable id of a user at the partner: the principal.
    UserId;
    /// The id of an account.
    AccountId;
    /// The id of an identity, an account holder.
    IdentityId;
    /// The id of a security.
    SecurityId;
    /// The id of a transaction, the same while it is pending and after it has posted.
    TransactionId;
    /// The id of an application.
    ApplicationId;
    /// The id of an OAuth client at a partner, or of a client of Plaid's API.
    ClientId;
    /// The id of an Item, one user's connection at one institution.
    ItemId;
    /// The id of a sign-in challenge in credentials mode.
    ChallengeId;
    /// The id of one way to deliver a one-time code.
    DeliveryId;
    /// The id of a security question.
    QuestionId;
    /// The id of a notification, for deduplication.
    NotificationId;
    /// The id of a key that signs webhooks.
    KeyId;
    /// The id of an entry of the activity log.
    ActivityId;
    /// The id of an institution.
    InstitutionId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_opaque_but_bounded() {
        assert!(UserId::new("a b/ü%").is_ok());
        assert_eq!(UserId::new(""), Err(InvalidId::Empty));
        assert_eq!(UserId::new(".."), Err(InvalidId::DotSegment));
        assert_eq!(UserId::new("a\nb"), Err(InvalidId::ControlCharacter));
        assert_eq!(UserId::new("a\u{85}b"), Err(InvalidId::ControlCharacter));
        assert!(UserId::new("x".repeat(1024)).is_ok());
        assert_eq!(UserId::new("x".repeat(1025)), Err(InvalidId::TooLong));
    }

    #[test]
    fn order_is_by_bytes() {
        let z = UserId::new("Z").unwrap();
        let a = UserId::new("a").unwrap();
        assert!(z < a);
    }
}
