use crate::{
    endpoint::{
        Auth, Endpoint, Meta,
        codec::{Form, json_responses},
        parameters::{ParameterError, ParameterWriter, Parameters, ParsedParameters},
    },
    message::message,
    primitive::{
        id::{ClientId, UserId},
        secret::{AccessToken, AuthorizationCode, ClientSecret, CodeVerifier, RefreshToken},
    },
};

/// `POST /oauth2/token`: exchanges an authorization code or a refresh token for tokens.
///
/// Contract: `px.md` section 4; RFC 6749 sections 4.1.3 and 6.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestToken {
    /// The parameters of the request.
    pub request: TokenRequest,
}

impl RequestToken {
    /// Creates the request.
    #[must_use]
    pub fn new(request: TokenRequest) -> Self {
        Self { request }
    }
}

impl Endpoint for RequestToken {
    const META: Meta = Meta::post("token", "/oauth2/token")
        .auth(Auth::Client)
        .summary("Exchanges an authorization code or a refresh token for tokens");
    type Path = ();
    type Query = ();
    type Body = Form<TokenRequest>;
    type Response = TokenResponse;

    fn into_parts(self) -> ((), (), Self::Body) {
        ((), (), Form(self.request))
    }
    fn from_parts((): (), (): (), Form(request): Self::Body) -> Self {
        Self { request }
    }
}

/// The parameters of a token request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenRequest {
    /// The grant.
    pub grant: Grant,
    /// The id of the client, if it authenticates in the body.
    pub client_id: Option<ClientId>,
    /// The secret of the client, if it authenticates in the body.
    pub client_secret: Option<ClientSecret>,
}

impl TokenRequest {
    /// Creates the parameters for a client that authenticates in a header.
    #[must_use]
    pub fn new(grant: Grant) -> Self {
        Self { grant, client_id: None, client_secret: None }
    }
}

/// A grant that is exchanged for tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Grant {
    /// The grant type `authorization_code`.
    AuthorizationCode {
        /// The authorization code.
        code: AuthorizationCode,
        /// The redirect URI of the authorization request.
        redirect_uri: Option<String>,
        /// The code verifier that matches the code challenge of the request.
        code_verifier: Option<CodeVerifier>,
    },
    /// The grant type `refresh_token`.
    RefreshToken {
        /// The refresh token.
        refresh_token: RefreshToken,
        /// A subset of the granted scopes, separated by spaces.
        scope: Option<String>,
    },
    /// A grant type that this profile does not support.
    Unsupported(String),
}

impl Parameters for TokenRequest {
    fn read(pairs: &ParsedParameters) -> Result<Self, ParameterError> {
        let text = |name| Ok::<_, ParameterError>(pairs.text(name)?.map(str::to_owned));
        // Read every parameter, so that a duplicate is an error with any grant type.
        let (code, redirect_uri) = (text("code")?, text("redirect_uri")?);
        let (verifier, refresh_token) = (text("code_verifier")?, text("refresh_token")?);
        let (scope, client_secret) = (text("scope")?, text("client_secret")?);
        let client_id = pairs.value("client_id")?;
        let missing = |name| ParameterError::new(name, "missing");
        let grant = match pairs.required_text("grant_type")? {
            "authorization_code" => Grant::AuthorizationCode {
                code: AuthorizationCode::new(code.ok_or_else(|| missing("code"))?),
                redirect_uri,
                code_verifier: verifier.map(CodeVerifier::new),
            },
            "refresh_token" => Grant::RefreshToken {
                refresh_token: RefreshToken::new(
                    refresh_token.ok_or_else(|| missing("refresh_token"))?,
                ),
                scope,
            },
            other => Grant::Unsupported(other.to_owned()),
        };
        Ok(Self { grant, client_id, client_secret: client_secret.map(ClientSecret::new) })
    }

    fn write(&self, out: &mut ParameterWriter) {
        match &self.grant {
            Grant::AuthorizationCode { code, redirect_uri, code_verifier } => {
                out.push("grant_type", "authorization_code");
                out.push("code", code.expose());
                out.push_some("redirect_uri", redirect_uri.as_ref());
                out.push_some("code_verifier", code_verifier.as_ref().map(CodeVerifier::expose));
            }
            Grant::RefreshToken { refresh_token, scope } => {
                out.push("grant_type", "refresh_token");
                out.push("refresh_token", refresh_token.expose());
                out.push_some("scope", scope.as_ref());
            }
            Grant::Unsupported(grant_type) => out.push("grant_type", grant_type),
        }
        out.push_some("client_id", self.client_id.as_ref());
        out.push_some("client_secret", self.client_secret.as_ref().map(ClientSecret::expose));
    }
}

message! {
    /// The tokens that are issued for a grant.
    ///
    /// Contract: `px.md` section 4; RFC 6749 section 5.1.
    pub struct TokenResponse {
        required {
            /// The access token, to be sent with every request for data.
            access_token: AccessToken,
            /// The token type: `Bearer`.
            token_type: String,
        }
        optional {
            /// The lifetime of the access token, in seconds.
            expires_in: u64,
            /// The refresh token, to be exchanged for the next pair of tokens.
            refresh_token: RefreshToken,
            /// The granted scopes, separated by spaces.
            scope: String,
            /// The id of the principal.
            user_id: UserId,
        }
    }
}

json_responses!(tolerant: TokenResponse);
