use crate::{
    endpoint::{
        Auth, Endpoint, Meta,
        codec::{Empty, ResponseBody, ResponseKind},
        parameters::{ParameterError, ParameterWriter, Parameters, ParsedParameters},
    },
    primitive::{
        id::{ApplicationId, ClientId},
        open_enum::open_enum,
        secret::{AuthorizationCode, AuthorizationState},
    },
    wire::DecodeError,
};

/// `GET /oauth2/auth`: the authorization request, which the user's browser sends.
///
/// Contract: `px.md` section 4; RFC 6749 section 4.1.1; RFC 7636 section 4.3.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Authorize {
    /// The parameters of the request.
    pub query: AuthorizeQuery,
}

impl Authorize {
    /// Creates the request.
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
    type Response = AuthorizationResponse;

    fn into_parts(self) -> ((), AuthorizeQuery, Empty) {
        ((), self.query, Empty)
    }
    fn from_parts((): (), query: AuthorizeQuery, _: Empty) -> Self {
        Self { query }
    }
}

open_enum! {
    /// The requested type of the authorization response.
    pub enum ResponseType {
        /// An authorization code. This profile has no other type.
        Code = "code",
    }
}

/// The parameters of an authorization request, as received.
///
/// Reading them only checks the form of the ids and that no parameter is given twice. The server
/// checks the rest, because different errors require different responses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthorizeQuery {
    /// The response type: `code`.
    pub response_type: Option<ResponseType>,
    /// The id of the client.
    pub client_id: Option<ClientId>,
    /// The redirect URI; it must equal one of the client's registered URIs, byte by byte.
    pub redirect_uri: Option<String>,
    /// The requested scopes, separated by spaces.
    pub scope: Option<String>,
    /// A value that is returned unchanged.
    pub state: Option<AuthorizationState>,
    /// The S256 challenge of RFC 7636.
    pub code_challenge: Option<String>,
    /// The method of the challenge: `S256`.
    pub code_challenge_method: Option<String>,
    /// The application for which the user consents.
    pub application_id: Option<ApplicationId>,
    /// The name of the application, to be shown to the user.
    pub application_name: Option<String>,
}

impl Parameters for AuthorizeQuery {
    fn read(pairs: &ParsedParameters) -> Result<Self, ParameterError> {
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

    fn write(&self, out: &mut ParameterWriter) {
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
    /// The error of an authorization response (RFC 6749 section 4.1.2.1).
    pub enum AuthorizationError {
        /// A parameter is missing, given twice or malformed.
        InvalidRequest = "invalid_request",
        /// The client may not use this response type.
        UnauthorizedClient = "unauthorized_client",
        /// The user or the partner denied the request.
        AccessDenied = "access_denied",
        /// The partner supports only the response type `code`.
        UnsupportedResponseType = "unsupported_response_type",
        /// A scope is unknown or malformed.
        InvalidScope = "invalid_scope",
        /// An internal error of the partner.
        ServerError = "server_error",
        /// The partner is temporarily unavailable.
        TemporarilyUnavailable = "temporarily_unavailable",
    }
}

/// The authorization response: the query parameters of the redirect to the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthorizationResponse {
    /// The authorization code, if the user consented.
    pub code: Option<AuthorizationCode>,
    /// The error, if there is no code.
    pub error: Option<AuthorizationError>,
    /// A description of the error, for developers.
    pub error_description: Option<String>,
    /// The `state` of the request.
    pub state: Option<AuthorizationState>,
    /// The issuer (RFC 9207).
    pub iss: Option<String>,
}

impl Parameters for AuthorizationResponse {
    fn read(pairs: &ParsedParameters) -> Result<Self, ParameterError> {
        let text = |name| Ok(pairs.text(name)?.map(str::to_owned));
        Ok(Self {
            code: text("code")?.map(AuthorizationCode::new),
            error: pairs.text("error")?.map(AuthorizationError::from),
            error_description: text("error_description")?,
            state: text("state")?.map(AuthorizationState::new),
            iss: text("iss")?,
        })
    }

    fn write(&self, out: &mut ParameterWriter) {
        out.push_some("code", self.code.as_ref().map(AuthorizationCode::expose));
        out.push_some("error", self.error.as_ref());
        out.push_some("error_description", self.error_description.as_ref());
        out.push_some("state", self.state.as_ref().map(AuthorizationState::expose));
        out.push_some("iss", self.iss.as_ref());
    }
}

impl ResponseBody for AuthorizationResponse {
    const KIND: ResponseKind = ResponseKind::Redirect;
    fn encode(&self) -> Vec<u8> {
        ParameterWriter::text_of(self).into_bytes()
    }
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::new(".", "not UTF-8"))?;
        let read = ParsedParameters::parse(text).and_then(|pairs| Self::read(&pairs));
        read.map_err(|e| DecodeError::new(e.parameter().unwrap_or("."), e.reason()))
    }
}
