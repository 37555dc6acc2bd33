//! The checks of an OAuth callback before its code is used.

use super::PendingAuthorization;
use px_types::{
    AuthorizationCode, CodeVerifier,
    endpoint::parameters::{Parameters as _, ParsedParameters},
    partner::{AuthorizationError, AuthorizationResponse},
};
use std::{error::Error as StdError, fmt};

/// A callback that passed every check. Its code can be exchanged.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AcceptedCallback {
    pub(super) code: AuthorizationCode,
    pub(super) redirect_uri: String,
    pub(super) code_verifier: CodeVerifier,
}

/// The error of a callback without a usable code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackError {
    kind: CallbackErrorKind,
}

/// The kind of a [`CallbackError`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallbackErrorKind {
    /// The callback cannot be parsed: broken encoding, or a repeated parameter.
    Malformed,
    /// `state` is missing or differs: the callback belongs to no request of this session.
    State,
    /// `iss` is missing or differs: the callback comes from another partner (RFC 9207).
    Issuer,
    /// The user or the partner refused the authorization.
    Refused(AuthorizationError),
    /// The callback has neither a code nor an error.
    NoCode,
}

impl CallbackError {
    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> &CallbackErrorKind {
        &self.kind
    }
}

impl From<CallbackErrorKind> for CallbackError {
    fn from(kind: CallbackErrorKind) -> Self {
        Self { kind }
    }
}

impl fmt::Display for CallbackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            CallbackErrorKind::Malformed => {
                "the callback cannot be parsed; begin a new authorization"
            }
            CallbackErrorKind::State => {
                "the callback belongs to no request of this session and may be forged; ignore it"
            }
            CallbackErrorKind::Issuer => {
                "the callback comes from another issuer and may be a mix-up attack; ignore it"
            }
            CallbackErrorKind::Refused(AuthorizationError::AccessDenied) => {
                "the user did not consent"
            }
            CallbackErrorKind::Refused(error) if error.is_known() => {
                return write!(f, "the partner refused the authorization: {}", error.as_str());
            }
            CallbackErrorKind::Refused(_) => "the partner refused the authorization",
            CallbackErrorKind::NoCode => {
                "the callback has neither a code nor an error; report it to the partner"
            }
        })
    }
}

impl StdError for CallbackError {}

impl PendingAuthorization {
    /// Checks a callback, given as its whole URL or its query.
    ///
    /// The order of checks is: `state`, in constant time; then the issuer; then a refusal.
    ///
    /// # Errors
    /// If a check fails, or if the user or the partner refused the authorization; see [`CallbackErrorKind`].
    pub fn check_callback(self, url_or_query: &str) -> Result<AcceptedCallback, CallbackError> {
        let query = url_or_query.split_once('?').map_or(url_or_query, |(_, query)| query);
        let query = query.split('#').next().unwrap_or_default();
        let response = ParsedParameters::parse(query)
            .and_then(|pairs| AuthorizationResponse::read(&pairs))
            .map_err(|_| CallbackErrorKind::Malformed)?;
        if response.state.as_ref() != Some(&self.state) {
            return Err(CallbackErrorKind::State.into());
        }
        // RFC 9207 section 2.4: servers that do not announce `iss` may leave it out.
        let checks_issuer = response.iss.is_some() || self.requires_iss;
        if self.issuer.is_some() && checks_issuer && response.iss != self.issuer {
            return Err(CallbackErrorKind::Issuer.into());
        }
        if let Some(error) = response.error {
            return Err(CallbackErrorKind::Refused(error).into());
        }
        Ok(AcceptedCallback {
            code: response.code.ok_or(CallbackErrorKind::NoCode)?,
            redirect_uri: self.redirect_uri,
            code_verifier: self.code_verifier,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use px_types::AuthorizationState;

    fn check(query: &str) -> Result<AcceptedCallback, CallbackErrorKind> {
        let pending = PendingAuthorization {
            state: AuthorizationState::new("the-state"),
            code_verifier: CodeVerifier::new("v"),
            redirect_uri: "https://plaid.example/cb".into(),
            issuer: Some("https://bank.example".into()),
            requires_iss: true,
        };
        let callback = format!("https://plaid.example/cb?{query}");
        assert_eq!(
            pending.clone().check_callback(&callback).map_err(|e| e.kind),
            pending.clone().check_callback(query).map_err(|e| e.kind),
        );
        pending.check_callback(query).map_err(|e| e.kind)
    }

    impl PartialEq for AcceptedCallback {
        fn eq(&self, other: &Self) -> bool {
            self.code == other.code
        }
    }

    #[test]
    fn every_way_to_fail() {
        use CallbackErrorKind as K;
        let iss = "iss=https%3A%2F%2Fbank.example";
        let good = check(&format!("code=c&state=the-state&{iss}")).unwrap();
        assert_eq!(good.code, AuthorizationCode::new("c"));
        for (query, kind) in [
            (format!("code=c&{iss}"), K::State),
            (format!("code=c&state=other&{iss}"), K::State),
            (format!("error=access_denied&state=other&{iss}"), K::State),
            ("code=c&state=the-state".into(), K::Issuer),
            ("code=c&state=the-state&iss=https%3A%2F%2Fevil.example".into(), K::Issuer),
            (
                format!("error=access_denied&state=the-state&{iss}"),
                K::Refused(AuthorizationError::AccessDenied),
            ),
            (format!("state=the-state&{iss}"), K::NoCode),
            (format!("code=c&code=d&state=the-state&{iss}"), K::Malformed),
            ("code=%zz".into(), K::Malformed),
        ] {
            assert_eq!(check(&query), Err(kind), "{query}");
        }
    }

    #[test]
    fn a_server_that_need_not_send_its_issuer_must_not_send_another() {
        let pending = |requires_iss| PendingAuthorization {
            state: AuthorizationState::new("s"),
            code_verifier: CodeVerifier::new("v"),
            redirect_uri: "https://plaid.example/cb".into(),
            issuer: Some("https://id.example".into()),
            requires_iss,
        };
        let check = |requires_iss, query| pending(requires_iss).check_callback(query).is_ok();
        assert!(check(false, "code=c&state=s"));
        assert!(check(false, "code=c&state=s&iss=https://id.example"));
        assert!(!check(false, "code=c&state=s&iss=https://evil.example"));
        assert!(!check(true, "code=c&state=s"));
        // A pending authorization that an earlier version stored.
        let mut stored = serde_json::to_value(pending(false)).unwrap();
        stored.as_object_mut().unwrap().remove("requires_iss");
        let read: PendingAuthorization = serde_json::from_value(stored).unwrap();
        assert_eq!(read, pending(true));
    }

    #[test]
    fn secrets_are_masked() {
        let pending = PendingAuthorization {
            state: AuthorizationState::new("s3cret"),
            code_verifier: CodeVerifier::new("s3cret"),
            redirect_uri: "r".into(),
            issuer: None,
            requires_iss: true,
        };
        assert!(!format!("{pending:?}").contains("s3cret"));
        let text = serde_json::to_string(&pending).unwrap();
        let back: PendingAuthorization = serde_json::from_str(&text).unwrap();
        assert_eq!(back, pending);
    }
}
