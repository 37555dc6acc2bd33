//! The reasons for which a token is refused or cannot be judged.

use super::VerifyError;
use chrono::{DateTime, SecondsFormat, Utc};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Maximum length of a text from a token that is shown, in characters.
const MAX_SHOWN_CHARS: usize = 100;

/// The reason for which a token is refused.
///
/// It is logged with the request's id. Texts from the token are cut to 100 printable characters,
/// and only `typ`, `alg`, `kid`, `iss`, `aud` and the claims of [`TypeClaim`](super::TypeClaim) are
/// among them: no secret, and nothing about the user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It is unknown, expired or revoked.
    Unknown,
    /// It is longer than any token of a provider.
    TooLong,
    /// It is not a signed JWT.
    NotAJwt,
    /// It is an encrypted JWT, which only its issuer can read.
    Encrypted,
    /// Its header has a member that cannot be used.
    Header {
        /// The member, `crit`.
        member: &'static str,
    },
    /// It is signed with an algorithm that is not accepted.
    Algorithm {
        /// The algorithm that it names.
        found: String,
    },
    /// The provider has published no key of its id.
    UnknownKey {
        /// The id that it names.
        key_id: String,
    },
    /// No published key made its signature.
    Signature,
    /// It has expired.
    Expired {
        /// The end of its life.
        since: DateTime<Utc>,
    },
    /// It is not an access token, or not of the expected type.
    Type {
        /// The header member or the claim that says so.
        claim: String,
        /// The value, if there is one.
        found: Option<String>,
        /// The values that are accepted.
        expected: Vec<String>,
    },
    /// It has a claim that only ID tokens have.
    IdToken {
        /// The claim, `nonce` or `at_hash`.
        claim: &'static str,
    },
    /// It is from another issuer.
    Issuer {
        /// The issuer that it names, if any.
        found: Option<String>,
        /// The issuer that is accepted.
        expected: String,
    },
    /// It is for another audience.
    Audience {
        /// The audiences that it names.
        found: Vec<String>,
        /// The audience that is accepted.
        expected: String,
    },
    /// It names no client, which access tokens of the provider do.
    NoClient {
        /// The claims that may name the client.
        claims: Vec<String>,
    },
    /// The provider says that it is not active.
    Inactive,
    /// It is bound to a certificate that the call does not have.
    Certificate,
    /// It is bound to something else than a certificate, for example to a key of DPoP.
    Binding,
}

impl fmt::Display for Refusal {
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
                write!(f, "the token has `{claim}`, so it is an ID token and no access token")
            }
            Self::Issuer { found: Some(found), expected } => {
                write!(f, "the token's `iss` is {found:?} instead of {expected:?}")
            }
            Self::Issuer { found: None, expected } => {
                write!(f, "the token has no `iss`, which must be {expected:?}")
            }
            Self::Audience { found, expected } => {
                write!(f, "the token's `aud` is {found:?} and does not have {expected:?}")
            }
            Self::NoClient { claims } => {
                write!(f, "the token names no client in `{}`", claims.join("` or `"))
            }
            Self::Inactive => f.write_str("the identity provider says that the token is inactive"),
            Self::Certificate => {
                f.write_str("the token is bound to a certificate that the call does not have")
            }
            Self::Binding => f.write_str("the token is bound to something else than a certificate"),
        }
    }
}

impl std::error::Error for Refusal {}

/// A setting that has to be corrected before tokens can be judged.
///
/// Its text says what is wrong and ends with the setting's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misconfiguration {
    setting: &'static str,
    problem: String,
}

impl Misconfiguration {
    /// Names a setting and says what is wrong. The text must not contain a secret.
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

/// The outcome for a token that is not accepted.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The token is bad, whatever the settings are.
    Refused(Refusal),
    /// The token is bad, or the named setting is wrong for every token.
    Suspect(&'static str, Refusal),
    /// The named setting is wrong, here or at the provider.
    Misconfigured(Misconfiguration),
    /// The provider has to be asked again.
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

/// Whether a verifier has accepted a token since it was built.
///
/// Until then a refusal that a wrong setting would cause does not end the token.
#[derive(Debug, Default)]
pub(super) struct Experience(AtomicBool);

impl Experience {
    pub(super) fn accepted(&self) {
        // Read first: the line of memory is shared by all threads.
        if !self.0.load(Ordering::Relaxed) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn judge(&self, fault: Fault) -> VerifyError {
        match fault {
            Fault::Refused(refusal) => VerifyError::Invalid(refusal),
            Fault::Suspect(_, refusal) if self.0.load(Ordering::Relaxed) => {
                VerifyError::Invalid(refusal)
            }
            Fault::Suspect(setting, refusal) => {
                let problem = format!("{refusal}, and no token was accepted so far");
                VerifyError::Misconfigured(Misconfiguration::new(setting, problem))
            }
            Fault::Misconfigured(problem) => VerifyError::Misconfigured(problem),
            Fault::Unavailable(why) => VerifyError::unavailable(&*why),
        }
    }
}

/// A text from a token, for an error or the log: printable and short.
pub(super) fn shown(text: &str) -> String {
    let printable = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut shown: String = text.chars().filter(printable).take(MAX_SHOWN_CHARS + 1).collect();
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
        assert_eq!(shown("a\r\nb\u{1b}[31m\u{202e}c"), "ab[31mc");
        let long = shown(&"x".repeat(5_000));
        assert_eq!(long.chars().count(), MAX_SHOWN_CHARS + 1);
    }
}
