//! Reasons to refuse a token, and reasons for which it cannot be verified.

use super::VerifyError;
use chrono::{DateTime, SecondsFormat, Utc};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Maximum length of a text from a token in an error, in characters.
const MAX_SHOWN_CHARS: usize = 100;

/// The reason for which a token is refused.
///
/// It is logged with the id of the request. Texts from the token are truncated to 100 printable
/// characters. They come only from `typ`, `alg`, `kid`, `iss`, `aud` and the claims of
/// [`TypeClaim`](super::TypeClaim), so they contain no secret and nothing about the user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenRefusal {
    /// The token is unknown, expired or revoked.
    Unknown,
    /// The token is longer than any token of a provider.
    TooLong,
    /// The token is not a signed JWT.
    NotAJwt,
    /// The token is an encrypted JWT, which only its issuer can read.
    Encrypted,
    /// The header has a member that is not supported.
    Header {
        /// The member, for example `crit`.
        member: &'static str,
    },
    /// The token is signed with an algorithm that is not accepted.
    Algorithm {
        /// The algorithm in the header.
        found: String,
    },
    /// The provider has not published the key of the token.
    UnknownKey {
        /// The key id in the header.
        key_id: String,
    },
    /// No published key made the signature.
    Signature,
    /// The token has expired.
    Expired {
        /// The time at which it expired.
        since: DateTime<Utc>,
    },
    /// The token is not an access token, or not of the expected type.
    Type {
        /// The header member or claim with the type.
        claim: String,
        /// The value, if present.
        found: Option<String>,
        /// The accepted values.
        expected: Vec<String>,
    },
    /// The token has a claim that only ID tokens have.
    IdToken {
        /// The claim, `nonce` or `at_hash`.
        claim: &'static str,
    },
    /// The token is from another issuer.
    Issuer {
        /// The issuer in the token, if present.
        found: Option<String>,
        /// The accepted issuer.
        expected: String,
    },
    /// The token is for another audience.
    Audience {
        /// The audiences in the token.
        found: Vec<String>,
        /// The accepted audience.
        expected: String,
    },
    /// The token does not name a client, unlike access tokens of the provider.
    NoClient {
        /// The claims that may name the client.
        claims: Vec<String>,
    },
    /// The provider reports that the token is not active.
    Inactive,
    /// The token is bound to a certificate that the call does not have.
    Certificate,
    /// The token is bound to something other than a certificate, for example to a DPoP key.
    Binding,
}

impl fmt::Display for TokenRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("the token is unknown, expired or revoked"),
            Self::TooLong => f.write_str("the token is too long"),
            Self::NotAJwt => f.write_str("the token is not a signed JWT"),
            Self::Encrypted => f.write_str("the token is an encrypted JWT"),
            Self::Header { member } => write!(f, "the token's header has an unusable `{member}`"),
            Self::Algorithm { found } => {
                write!(f, "the token's `alg` is {found:?}, which is not accepted")
            }
            Self::UnknownKey { key_id } => {
                write!(f, "the token's `kid` is {key_id:?}, which the provider does not publish")
            }
            Self::Signature => f.write_str("the token's signature is wrong"),
            Self::Expired { since } => {
                let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
                write!(f, "the token expired at {since}")
            }
            Self::Type { claim, found, expected } => {
                let expected = expected.join("` or `");
                match found {
                    Some(found) => {
                        write!(f, "the token's `{claim}` is {found:?} instead of `{expected}`")
                    }
                    None => write!(f, "the token has no `{claim}`, which must be `{expected}`"),
                }
            }
            Self::IdToken { claim } => {
                write!(f, "the token has `{claim}`, so it is an ID token and not an access token")
            }
            Self::Issuer { found: Some(found), expected } => {
                write!(f, "the token's `iss` is {found:?} instead of {expected:?}")
            }
            Self::Issuer { found: None, expected } => {
                write!(f, "the token has no `iss`, which must be {expected:?}")
            }
            Self::Audience { found, expected } => {
                write!(f, "the token's `aud` is {found:?} and does not contain {expected:?}")
            }
            Self::NoClient { claims } => {
                write!(f, "the token names no client in `{}`", claims.join("` or `"))
            }
            Self::Inactive => {
                f.write_str("the identity provider reports that the token is inactive")
            }
            Self::Certificate => {
                f.write_str("the token is bound to a certificate that the call does not have")
            }
            Self::Binding => {
                f.write_str("the token is bound to something other than a certificate")
            }
        }
    }
}

impl std::error::Error for TokenRefusal {}

/// A setting that must be corrected before tokens can be verified.
///
/// Its text states the problem and ends with the name of the setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misconfiguration {
    setting: &'static str,
    problem: String,
}

impl Misconfiguration {
    /// Creates an error for a setting with a description of the problem. The text must not contain
    /// a secret.
    #[must_use]
    pub fn new(setting: &'static str, problem: impl Into<String>) -> Self {
        Self { setting, problem: problem.into() }
    }

    /// Returns the name of the setting.
    #[must_use]
    pub fn setting(&self) -> &'static str {
        self.setting
    }
}

impl fmt::Display for Misconfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; check the setting {}", self.problem, self.setting)
    }
}

impl std::error::Error for Misconfiguration {}

/// The reason for which a token is not accepted, before [`AcceptanceFlag::classify`].
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The token is invalid, whatever the settings are.
    Refused(TokenRefusal),
    /// The token is invalid, or the named setting is wrong for every token.
    Suspect(&'static str, TokenRefusal),
    /// The named setting is wrong, here or at the provider.
    Misconfigured(Misconfiguration),
    /// The token cannot be verified now.
    Unavailable(Arc<str>),
}

impl Fault {
    pub(super) fn setting(setting: &'static str, problem: impl Into<String>) -> Self {
        Self::Misconfigured(Misconfiguration::new(setting, problem))
    }

    pub(super) fn unavailable(error: &dyn fmt::Display) -> Self {
        Self::Unavailable(error.to_string().into())
    }
}

/// Whether a verifier has accepted a token since it was created.
///
/// Until then, a refusal that a wrong setting would cause does not end the token.
#[derive(Debug, Default)]
pub(super) struct AcceptanceFlag(AtomicBool);

impl AcceptanceFlag {
    pub(super) fn accepted(&self) {
        // Avoids writing to memory that all threads share.
        if !self.0.load(Ordering::Relaxed) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn classify(&self, fault: Fault) -> VerifyError {
        match fault {
            Fault::Refused(refusal) => VerifyError::Invalid(refusal),
            Fault::Suspect(_, refusal) if self.0.load(Ordering::Relaxed) => {
                VerifyError::Invalid(refusal)
            }
            Fault::Suspect(setting, refusal) => {
                let problem = format!("{refusal}, and this verifier has accepted no token yet");
                VerifyError::Misconfigured(Misconfiguration::new(setting, problem))
            }
            Fault::Misconfigured(problem) => VerifyError::Misconfigured(problem),
            Fault::Unavailable(why) => VerifyError::unavailable(&*why),
        }
    }
}

/// Returns a text from a token for an error or the log: printable and short.
pub(super) fn printable(text: &str) -> String {
    let is_printable = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut shown: String = text.chars().filter(is_printable).take(MAX_SHOWN_CHARS + 1).collect();
    if shown.chars().count() > MAX_SHOWN_CHARS {
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_tokens_are_one_short_line() {
        assert_eq!(printable("a\r\nb\u{1b}[31m\u{202e}c"), "ab[31mc");
        let long = printable(&"x".repeat(5_000));
        assert_eq!(long.chars().count(), MAX_SHOWN_CHARS + 1);
    }
}
