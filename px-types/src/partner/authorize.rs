use crate::{
    endpoint::{
        Auth, Endpoint, Meta,
        codec::{Empty, Reply, ReplyKind},
        parameters::{Pairs, PairsOut, ParameterError, Parameters},
    },
    primitive::{
        id::{ApplicationId, ClientId},
        open_enum::open_enum,
        secret::{AuthorizationCode, AuthorizationState},
    },
    wire::DecodeError,
};

/// `GET /oauth2/auth`: a user's browser asks the partner for authorization.
///
/// Contract: `px.md` section 4; RFC 6749 section 4.1.1; RFC 7636 section 4.3.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Authorize {
    /// What is asked for.
    pub query: AuthorizeQuery,
}

impl Authorize {
    /// Asks for authorization.
    #[must_use]
    pub fn new(query: AuthorizeQuery) -> Self {
        Self { query }
    }
}

impl Endpoint for Authorize {
    const META: Meta = Meta::get("authorize", "/oauth2/auth")
        .auth(Auth::User)
        .summary("The user signs in, picks accounts and consents");
    type Path = ();
    type Query = AuthorizeQuery;
    type Body = Empty;
    type Response = AuthorizationAnswer;

    fn into_parts(self) -> ((), AuthorizeQuery, Empty) {
        ((), self.query, Empty)
    }
    fn from_parts((): (), query: AuthorizeQuery, _: Empty) -> Self {
        Self { query }
    }
}

open_enum! {
    /// What an authorization request wants back.
    pub enum ResponseType {
        /// An authorization code, the only answer that this profile has.
        Code = "code",
    }
}

/// An authorization request as it came in: nothing is checked but that no
/// parameter is given twice, because each fault has its own way to be answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthorizeQuery {
    /// `code`
    pub response_type: Option<ResponseType>,
    /// The client that asks.
    pub client_id: Option<ClientId>,
    /// Where the answer goes; one of the client's registered ones, byte by byte.
    pub redirect_uri: Option<String>,
    /// The scopes that are asked for, separated by spaces.
    pub scope: Option<String>,
    /// Given back unchanged.
    pub state: Option<AuthorizationState>,
    /// The S256 challenge of RFC 7636.
    pub code_challenge: Option<String>,
    /// `S256`
    pub code_challenge_method: Option<String>,
    /// The application for which the user is asked.
    pub application_id: Option<ApplicationId>,
    /// Its name, to be shown to the user.
    pub application_name: Option<String>,
}

impl Parameters for AuthorizeQuery {
    fn read(pairs: &Pairs) -> Result<Self, ParameterError> {
        let text = |name| Ok(pairs.text(name)?.map(str::to_owned));
        Ok(Self {
            response_type: pairs.text("response_type")?.map(ResponseType::from),
            client_id: pairs.value("client_id")?,
            redirect_uri: text("redirect_uri")?,
            scope: text("scope")?,
            state: text("state")?.map(AuthorizationState::new),
            code_challenge: text("code_challenge")?,
            code_challenge_method: text("code_challenge_method")?,
            application_id: pairs.value("application_id")?,
            application_name: text("application_name")?,
        })
    }

    fn write(&self, out: &mut PairsOut) {
        out.push_some("response_type", self.response_type.as_ref());
        out.push_some("client_id", self.client_id.as_ref());
        out.push_some("redirect_uri", self.redirect_uri.as_ref());
        out.push_some("scope", self.scope.as_ref());
        out.push_some("state", self.state.as_ref().map(AuthorizationState::expose));
        out.push_some("code_challenge", self.code_challenge.as_ref());
        out.push_some("code_challenge_method", self.code_challenge_method.as_ref());
        out.push_some("application_id", self.application_id.as_ref());
        out.push_some("application_name", self.application_name.as_ref());
    }
}

open_enum! {
    /// Why an authorization was refused (RFC 6749 section 4.1.2.1).
    pub enum AuthorizationError {
        /// A parameter is missing, given twice or malformed.
        InvalidRequest = "invalid_request",
        /// The client may not ask this way.
        UnauthorizedClient = "unauthorized_client",
        /// The user or the partner refused.
        AccessDenied = "access_denied",
        /// The partner answers with codes only.
        UnsupportedResponseType = "unsupported_response_type",
        /// A scope is unknown or malformed.
        InvalidScope = "invalid_scope",
        /// The partner failed.
        ServerError = "server_error",
        /// The partner cannot answer now.
        TemporarilyUnavailable = "temporarily_unavailable",
    }
}

/// What the redirect back to the client carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthorizationAnswer {
    /// The code, if the user consented.
    pub code: Option<AuthorizationCode>,
    /// The refusal, if not.
    pub error: Option<AuthorizationError>,
    /// What led to the refusal, for developers.
    pub error_description: Option<String>,
    /// The `state` of the request.
    pub state: Option<AuthorizationState>,
    /// The issuer that answers (RFC 9207).
    pub iss: Option<String>,
}

impl Parameters for AuthorizationAnswer {
    fn read(pairs: &Pairs) -> Result<Self, ParameterError> {
        let text = |name| Ok(pairs.text(name)?.map(str::to_owned));
        Ok(Self {
            code: text("code")?.map(AuthorizationCode::new),
            error: pairs.text("error")?.map(AuthorizationError::from),
            error_description: text("error_description")?,
            state: text("state")?.map(AuthorizationState::new),
            iss: text("iss")?,
        })
    }

    fn write(&self, out: &mut PairsOut) {
        out.push_some("code", self.code.as_ref().map(AuthorizationCode::expose));
        out.push_some("error", self.error.as_ref());
        out.push_some("error_description", self.error_description.as_ref());
        out.push_some("state", self.state.as_ref().map(AuthorizationState::expose));
        out.push_some("iss", self.iss.as_ref());
    }
}

impl Reply for AuthorizationAnswer {
    const KIND: ReplyKind = ReplyKind::Redirect;
    fn encode(&self) -> Vec<u8> {
        PairsOut::text_of(self).into_bytes()
    }
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::new(".", "not UTF-8"))?;
        let read = Pairs::parse(text).and_then(|pairs| Self::read(&pairs));
        read.map_err(|e| DecodeError::new(e.parameter().unwrap_or("."), e.reason()))
    }
}
