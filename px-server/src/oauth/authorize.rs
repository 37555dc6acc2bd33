//! The authorization request: checks, error pages, error redirects, and the user's decision.

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
    endpoint::parameters::{ParameterError, ParameterWriter, ParsedParameters},
    partner::{AuthorizationError, AuthorizationResponse},
};
use serde::{Deserialize, Serialize};
use std::{error::Error as StdError, fmt};

/// Maximum length of an application's name, in characters.
const MAX_NAME_CHARS: usize = 255;
/// Maximum size of `state`, decoded, in bytes.
const MAX_STATE_BYTES: usize = 10 << 10;

/// The outcome of checking an authorization request.
///
/// `Debug` omits the redirect URL, because it contains `state`.
#[must_use]
pub enum Authorization {
    /// Show an error page. Nothing may be sent to the redirect URI, because it is not known to
    /// belong to the client.
    Refused(PageRefusal),
    /// Redirect to this URL, which reports the error to the client.
    Redirect(String),
    /// Sign the user in and obtain the user's accounts and consent; then call
    /// [`OAuth::approve`] or [`OAuth::deny`].
    Prompt(Box<AuthorizationRequest>),
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => f.debug_tuple("Refused").field(refusal).finish(),
            Self::Redirect(_) => f.write_str("Redirect(***)"),
            Self::Prompt(request) => f.debug_tuple("Ask").field(request).finish(),
        }
    }
}

/// A checked authorization request, for the bank's pages.
///
/// The form of the page must send it back, bound to the same browser, because [`OAuth::approve`]
/// trusts it. Until the user has signed in, store it in the page with
/// [`Visits`](crate::visits::Visits) and not in server memory, which anyone could fill. It is
/// smaller than 32 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuthorizationRequest {
    /// The requesting client.
    pub client_id: ClientId,
    /// The name of the client, to be shown to the user.
    pub client_name: String,
    /// The URI that the response is sent to.
    pub redirect_uri: String,
    /// The requested scopes. The pages may let the user narrow them.
    pub scopes: ScopeSet,
    /// An opaque value that is returned to the client unchanged.
    pub state: Option<AuthorizationState>,
    /// The S256 challenge.
    pub challenge: Option<String>,
    /// The application for which consent is requested.
    pub application_id: Option<ApplicationId>,
    /// The name of the application, to be shown to the user. The client chose it: escape it.
    pub application_name: Option<String>,
}

/// The reason for which the response to an authorization request is an error page.
pub struct PageRefusal {
    kind: PageRefusalKind,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kind of a [`PageRefusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageRefusalKind {
    /// The query cannot be parsed.
    Malformed,
    /// `client_id` is missing or occurs twice.
    ClientId,
    /// The client does not exist.
    UnknownClient,
    /// `redirect_uri` is missing or occurs twice.
    RedirectUri,
    /// The redirect URI is not registered for the client, or is not secure.
    UnknownRedirectUri,
    /// The registry of clients is temporarily unavailable.
    Unavailable,
}

impl PageRefusal {
    fn page(kind: PageRefusalKind) -> Authorization {
        Authorization::Refused(Self { kind, source: None })
    }

    /// Returns the kind of the refusal.
    #[must_use]
    pub fn kind(&self) -> PageRefusalKind {
        self.kind
    }

    /// Returns the HTTP status of the page.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.kind {
            PageRefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Returns the text of the page for the user. It contains no value of the request.
    #[must_use]
    pub fn message(&self) -> &'static str {
        match self.kind {
            PageRefusalKind::Malformed => "The link that brought you here is damaged.",
            PageRefusalKind::ClientId => {
                "The link that brought you here does not name an application."
            }
            PageRefusalKind::UnknownClient => {
                "The application that sent you here is not known to this institution."
            }
            PageRefusalKind::RedirectUri => {
                "The link that brought you here does not say where to return to."
            }
            PageRefusalKind::UnknownRedirectUri => {
                "The link that brought you here returns to an address that is not registered."
            }
            PageRefusalKind::Unavailable => {
                "This service is temporarily unavailable. Try again in a few minutes."
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
    /// Parses and checks the query of an authorization request.
    ///
    /// Contract: `px.md` section 4; RFC 6749 section 4.1; RFC 7636 section 4.3.
    pub async fn authorize(&self, query: &str) -> Authorization {
        let Ok(pairs) = ParsedParameters::parse(query) else {
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
        // Whatever was registered, a fragment is not allowed here (RFC 6749, 3.1.2), and a
        // code must not be sent without encryption.
        let is_safe = !redirect_uri.contains('#') && is_secure_url(redirect_uri);
        if !is_safe || !client.redirect_uris.iter().any(|u| u == redirect_uri) {
            return PageRefusal::page(PageRefusalKind::UnknownRedirectUri);
        }
        match self.read_request(&client, redirect_uri, &pairs) {
            Ok(request) => Authorization::Prompt(Box::new(request)),
            Err((error, description)) => {
                let mut parameters = AuthorizationResponse::default();
                parameters.error = Some(error);
                parameters.error_description = Some(description);
                // A state that occurs twice is ambiguous; one that is too long is
                // not returned.
                let state =
                    pairs.text("state").ok().flatten().filter(|state| is_acceptable_state(state));
                parameters.state = state.map(AuthorizationState::new);
                Authorization::Redirect(self.redirect(redirect_uri, parameters))
            }
        }
    }

    /// Stores the user's consent as a grant and returns the URL to redirect to.
    ///
    /// `accounts` are the accounts that the user selected; later ones are not included.
    ///
    /// # Errors
    /// - [`Error::invalid_request`] if no account is selected (show the page again), or if the
    ///   scopes are empty or not supported by the partner.
    /// - [`Error::unavailable`] if the grant cannot be stored.
    pub async fn approve(
        &self,
        request: &AuthorizationRequest,
        principal: UserId,
        accounts: PermittedAccounts,
    ) -> Result<String, Error> {
        if matches!(&accounts, PermittedAccounts::Only(picked) if picked.is_empty()) {
            return Err(Error::invalid_request("Select at least one account."));
        }
        if request.scopes.is_empty() || !request.scopes.is_subset(&self.0.scopes) {
            let text = "The request has a scope that this institution does not support.";
            return Err(Error::invalid_request(text));
        }
        let (now, code) = (self.now(), self.secret());
        let mut record = GrantRecord::new(
            self.identifier(),
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
        let mut parameters = AuthorizationResponse::default();
        parameters.code = Some(AuthorizationCode::new(code));
        parameters.state = request.state.clone();
        Ok(self.redirect(&request.redirect_uri, parameters))
    }

    /// Returns the URL to redirect to after the user refused consent.
    #[must_use]
    pub fn deny(&self, request: &AuthorizationRequest) -> String {
        let mut parameters = AuthorizationResponse::default();
        parameters.error = Some(AuthorizationError::AccessDenied);
        parameters.error_description = Some("The user did not consent.".into());
        parameters.state = request.state.clone();
        self.redirect(&request.redirect_uri, parameters)
    }

    fn read_request(
        &self,
        client: &Client,
        redirect_uri: &str,
        pairs: &ParsedParameters,
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
        if !state.is_none_or(is_acceptable_state) {
            return Err(refuse("state", "longer than 10 KiB, or with control characters"));
        }
        match response_type {
            None => return Err(refuse("response_type", "missing")),
            Some("code") => {}
            Some(_) => {
                let text = "This institution supports `response_type=code` only.".to_owned();
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
            |name: &str| name.chars().count() <= MAX_NAME_CHARS && !name.contains(char::is_control);
        if !application_name.is_none_or(named) {
            let reason = "longer than 255 characters, or with control characters";
            return Err(refuse("application_name", reason));
        }
        let scopes = match scope.map(str::parse::<ScopeSet>) {
            None => self.0.scopes.clone(),
            Some(Ok(scopes)) if !scopes.is_empty() && scopes.is_subset(&self.0.scopes) => scopes,
            Some(_) => {
                let text = "This institution does not support a requested scope.".to_owned();
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

    fn redirect(&self, uri: &str, mut parameters: AuthorizationResponse) -> String {
        parameters.iss = Some(self.0.issuer.clone());
        let joint = match uri.split_once('?') {
            None => "?",
            Some((_, "")) => "",
            Some((_, query)) if query.ends_with('&') => "",
            Some(_) => "&",
        };
        format!("{uri}{joint}{}", ParameterWriter::text_of(&parameters))
    }
}

/// Returns whether a `state` is short enough to be returned, and free of characters that RFC 6749
/// does not allow.
fn is_acceptable_state(state: &str) -> bool {
    state.len() <= MAX_STATE_BYTES && !state.contains(char::is_control)
}
