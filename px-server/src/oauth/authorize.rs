//! The authorization request: what is refused on a page, what by a redirect, and what the
//! bank's own pages are to ask the user.

use super::OAuth;
use crate::{
    Error, PermittedAccounts,
    clients::{Client, is_secure_url},
    oauth::GrantRecord,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use px_types::{
    ApplicationId, AuthorizationCode, AuthorizationState, ClientId, ScopeSet, UserId,
    endpoint::parameters::{Pairs, PairsOut, ParameterError},
    partner::{AuthorizationAnswer, AuthorizationError},
};
use serde::{Deserialize, Serialize};
use std::{error::Error as StdError, fmt};

/// The most characters of an application's name.
const MAX_NAME: usize = 255;
/// Maximum size of `state`, decoded.
const MAX_STATE_BYTES: usize = 10 << 10;

/// What becomes of an authorization request.
///
/// `Debug` leaves out where to redirect to: the URL carries `state`.
#[must_use]
pub enum Authorization {
    /// Show an error page. Nothing may be sent to the redirect URI: it is not known to be
    /// the client's.
    Refused(PageRefusal),
    /// Redirect to this URL, which tells the client of the refusal.
    Redirect(String),
    /// Sign the user in, let them pick accounts and consent; then call
    /// [`OAuth::approve`] or [`OAuth::deny`].
    Ask(Box<AuthorizationRequest>),
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => f.debug_tuple("Refused").field(refusal).finish(),
            Self::Redirect(_) => f.write_str("Redirect(***)"),
            Self::Ask(request) => f.debug_tuple("Ask").field(request).finish(),
        }
    }
}

/// A checked authorization request, for the bank's pages.
///
/// It must come back with the form of the page, bound to the browser that sent it, because
/// [`OAuth::approve`] trusts it. Until the user has signed in, keep it in the page by
/// [`Visits`](crate::visits::Visits) and not in the server's memory, which anybody could fill. It
/// is smaller than 32 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuthorizationRequest {
    /// The client that asks.
    pub client_id: ClientId,
    /// Its name, to be shown to the user.
    pub client_name: String,
    /// Where the answer goes.
    pub redirect_uri: String,
    /// What is asked for; the user may be let narrow it.
    pub scopes: ScopeSet,
    /// Given back unchanged.
    pub state: Option<AuthorizationState>,
    /// The S256 challenge.
    pub challenge: Option<String>,
    /// The application for which the user is asked.
    pub application_id: Option<ApplicationId>,
    /// Its name, to be shown to the user. The client chose it: escape it.
    pub application_name: Option<String>,
}

/// Why an authorization request is answered by an error page.
pub struct PageRefusal {
    kind: PageRefusalKind,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What is wrong with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageRefusalKind {
    /// The query cannot be read.
    Malformed,
    /// `client_id` is missing or given twice.
    ClientId,
    /// There is no such client.
    UnknownClient,
    /// `redirect_uri` is missing or given twice.
    RedirectUri,
    /// The redirect URI is not one of the client's.
    UnknownRedirectUri,
    /// The clients cannot be looked up at the moment.
    Unavailable,
}

impl PageRefusal {
    fn page(kind: PageRefusalKind) -> Authorization {
        Authorization::Refused(Self { kind, source: None })
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> PageRefusalKind {
        self.kind
    }

    /// The status of the page.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.kind {
            PageRefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// What the page tells the user; it repeats nothing of the request.
    #[must_use]
    pub fn message(&self) -> &'static str {
        match self.kind {
            PageRefusalKind::Malformed => "The link that brought you here is damaged.",
            PageRefusalKind::ClientId => "The link that brought you here names no one who asks.",
            PageRefusalKind::UnknownClient => "Who sent you here is not known to this institution.",
            PageRefusalKind::RedirectUri => {
                "The link that brought you here does not say where you came from."
            }
            PageRefusalKind::UnknownRedirectUri => {
                "The link that brought you here names an address that is not registered."
            }
            PageRefusalKind::Unavailable => {
                "This cannot be done at the moment. Try again in a few minutes."
            }
        }
    }
}

impl fmt::Display for PageRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl fmt::Debug for PageRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageRefusal").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl StdError for PageRefusal {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

impl OAuth {
    /// Reads and checks the query of an authorization request.
    ///
    /// Contract: `px.md` section 4; RFC 6749 section 4.1; RFC 7636 section 4.3.
    pub async fn authorize(&self, query: &str) -> Authorization {
        let Ok(pairs) = Pairs::parse(query) else {
            return PageRefusal::page(PageRefusalKind::Malformed);
        };
        let Ok(Some(client_id)) = pairs.text("client_id") else {
            return PageRefusal::page(PageRefusalKind::ClientId);
        };
        let client = match ClientId::new(client_id) {
            Ok(id) => self.0.clients.find(&id).await,
            Err(_) => Ok(None),
        };
        let client = match client {
            Ok(Some(client)) => client,
            Ok(None) => return PageRefusal::page(PageRefusalKind::UnknownClient),
            Err(source) => {
                return Authorization::Refused(PageRefusal {
                    kind: PageRefusalKind::Unavailable,
                    source: Some(source),
                });
            }
        };
        let Ok(Some(redirect_uri)) = pairs.text("redirect_uri") else {
            return PageRefusal::page(PageRefusalKind::RedirectUri);
        };
        // A fragment is not allowed here (RFC 6749, 3.1.2), nor a code in the clear, whatever was
        // registered.
        let is_safe = !redirect_uri.contains('#') && is_secure_url(redirect_uri);
        if !is_safe || !client.redirect_uris.iter().any(|u| u == redirect_uri) {
            return PageRefusal::page(PageRefusalKind::UnknownRedirectUri);
        }
        match self.read_request(&client, redirect_uri, &pairs) {
            Ok(request) => Authorization::Ask(Box::new(request)),
            Err((error, description)) => {
                let mut answer = AuthorizationAnswer::default();
                answer.error = Some(error);
                answer.error_description = Some(description);
                // A state that is given twice is no one's; one that is too long is not kept.
                let state = pairs.text("state").ok().flatten().filter(|state| is_kept(state));
                answer.state = state.map(AuthorizationState::new);
                Authorization::Redirect(self.redirect(redirect_uri, answer))
            }
        }
    }

    /// What the user consented to becomes a grant; gives the URL to redirect to.
    ///
    /// `accounts` are those that the user picked: those and no later ones.
    ///
    /// # Errors
    /// `invalid_request` when no account is picked, in which case the page asks again, or
    /// when the scopes were widened; unavailable when the grant cannot be stored.
    pub async fn approve(
        &self,
        request: &AuthorizationRequest,
        principal: UserId,
        accounts: PermittedAccounts,
    ) -> Result<String, Error> {
        if matches!(&accounts, PermittedAccounts::Only(picked) if picked.is_empty()) {
            return Err(Error::invalid_request("Pick at least one account."));
        }
        if request.scopes.is_empty() || !request.scopes.is_subset(&self.0.scopes) {
            let text = "The scopes of the request are not those of this institution.";
            return Err(Error::invalid_request(text));
        }
        let (now, code) = (self.now(), self.secret());
        let mut record = GrantRecord::new(
            self.name(),
            principal,
            request.client_id.clone(),
            request.scopes.clone(),
            accounts,
            now,
            self.ends_at(now),
        )
        .with_code(
            super::Digest::of(&code),
            request.redirect_uri.clone(),
            request.challenge.clone(),
            now + self.0.code_lifetime,
        );
        record.application_id = request.application_id.clone();
        record.application_name = request.application_name.clone();
        let stored = self.0.store.create(record).await;
        stored.map_err(|source| Error::unavailable().with_source(source))?;
        let mut answer = AuthorizationAnswer::default();
        answer.code = Some(AuthorizationCode::new(code));
        answer.state = request.state.clone();
        Ok(self.redirect(&request.redirect_uri, answer))
    }

    /// The user refused; gives the URL to redirect to.
    #[must_use]
    pub fn deny(&self, request: &AuthorizationRequest) -> String {
        let mut answer = AuthorizationAnswer::default();
        answer.error = Some(AuthorizationError::AccessDenied);
        answer.error_description = Some("The user did not consent.".into());
        answer.state = request.state.clone();
        self.redirect(&request.redirect_uri, answer)
    }

    fn read_request(
        &self,
        client: &Client,
        redirect_uri: &str,
        pairs: &Pairs,
    ) -> Result<AuthorizationRequest, (AuthorizationError, String)> {
        let invalid =
            |error: ParameterError| (AuthorizationError::InvalidRequest, error.to_string());
        let refuse = |name, reason: &str| invalid(ParameterError::new(name, reason));
        let text = |name| pairs.text(name).map_err(invalid);
        let (response_type, scope, state) =
            (text("response_type")?, text("scope")?, text("state")?);
        let (challenge, method) = (text("code_challenge")?, text("code_challenge_method")?);
        let application_id: Option<ApplicationId> =
            pairs.value("application_id").map_err(invalid)?;
        let application_name = text("application_name")?;
        if !state.is_none_or(is_kept) {
            return Err(refuse("state", "longer than 10 KiB, or with control characters"));
        }
        match response_type {
            None => return Err(refuse("response_type", "missing")),
            Some("code") => {}
            Some(_) => {
                let text = "This institution answers with codes alone.".to_owned();
                return Err((AuthorizationError::UnsupportedResponseType, text));
            }
        }
        match (challenge, method) {
            (None, None) if self.0.pkce_optional => {}
            (None, _) => return Err(refuse("code_challenge", "missing")),
            (Some(_), None) => return Err(refuse("code_challenge_method", "missing: use S256")),
            (Some(challenge), Some("S256")) => {
                let bytes = URL_SAFE_NO_PAD.decode(challenge).unwrap_or_default();
                if bytes.len() != 32 {
                    return Err(refuse("code_challenge", "not 43 characters of base64url"));
                }
            }
            (Some(_), Some(_)) => return Err(refuse("code_challenge_method", "not S256")),
        }
        let named =
            |name: &str| name.chars().count() <= MAX_NAME && !name.contains(char::is_control);
        if !application_name.is_none_or(named) {
            let reason = "longer than 255 characters, or with control characters";
            return Err(refuse("application_name", reason));
        }
        let scopes = match scope.map(str::parse::<ScopeSet>) {
            None => self.0.scopes.clone(),
            Some(Ok(scopes)) if !scopes.is_empty() && scopes.is_subset(&self.0.scopes) => scopes,
            Some(_) => {
                let text = "A scope is not known to this institution.".to_owned();
                return Err((AuthorizationError::InvalidScope, text));
            }
        };
        Ok(AuthorizationRequest {
            client_id: client.id.clone(),
            client_name: client.name.clone(),
            redirect_uri: redirect_uri.to_owned(),
            scopes,
            state: state.map(AuthorizationState::new),
            challenge: challenge.map(str::to_owned),
            application_id,
            application_name: application_name.map(str::to_owned),
        })
    }

    fn redirect(&self, uri: &str, mut answer: AuthorizationAnswer) -> String {
        answer.iss = Some(self.0.issuer.clone());
        let joint = match uri.split_once('?') {
            None => "?",
            Some((_, "")) => "",
            Some((_, query)) if query.ends_with('&') => "",
            Some(_) => "&",
        };
        format!("{uri}{joint}{}", PairsOut::text_of(&answer))
    }
}

/// Whether a `state` is of a size that is given back, and free of characters that RFC 6749 does
/// not allow in it.
fn is_kept(state: &str) -> bool {
    state.len() <= MAX_STATE_BYTES && !state.contains(char::is_control)
}
