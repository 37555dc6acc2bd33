use crate::{
    endpoint::{
        Auth, Endpoint, Meta,
        codec::{Form, json_replies},
        parameters::{Pairs, PairsOut, ParameterError, Parameters},
    },
    message::message,
    primitive::{
        id::{ClientId, UserId},
        secret::{AccessToken, AuthorizationCode, ClientSecret, CodeVerifier, RefreshToken},
    },
};

/// `POST /oauth2/token`: exchanges a code or a refresh token for tokens.
///
/// Contract: `px.md` section 4; RFC 6749 sections 4.1.3 and 6.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestToken {
    /// What is exchanged.
    pub request: TokenRequest,
}

impl RequestToken {
    /// Asks for tokens.
    #[must_use]
    pub fn new(request: TokenRequest) -> Self {
        Self { request }
    }
}

impl Endpoint for RequestToken {
    const META: Meta = Meta::post("token", "/oauth2/token")
        .auth(Auth::Client)
        .summary("Exchanges a code or a refresh token for tokens");
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

/// A token request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenRequest {
    /// What is exchanged.
    pub grant: Grant,
    /// The client's id, when it authenticates in the body.
    pub client_id: Option<ClientId>,
    /// The client's secret, when it authenticates in the body.
    pub client_secret: Option<ClientSecret>,
}

impl TokenRequest {
    /// Exchanges a grant; the client authenticates in a header.
    #[must_use]
    pub fn new(grant: Grant) -> Self {
        Self { grant, client_id: None, client_secret: None }
    }
}

/// What is exchanged for tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Grant {
    /// `authorization_code`
    AuthorizationCode {
        /// The code of the redirect.
        code: AuthorizationCode,
        /// The redirect URI of the authorization request.
        redirect_uri: Option<String>,
        /// The verifier behind the request's challenge.
        code_verifier: Option<CodeVerifier>,
    },
    /// `refresh_token`
    RefreshToken {
        /// The refresh token.
        refresh_token: RefreshToken,
        /// Fewer scopes than were granted.
        scope: Option<String>,
    },
    /// A grant type that this profile does not have.
    Unsupported(String),
}

impl Parameters for TokenRequest {
    fn read(pairs: &Pairs) -> Result<Self, ParameterError> {
        let text = |name| Ok::<_, ParameterError>(pairs.text(name)?.map(str::to_owned));
        // All of them are looked at, so that one given twice is refused whatever the grant.
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

    fn write(&self, out: &mut PairsOut) {
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
    /// The tokens that a grant gives.
    ///
    /// Contract: `px.md` section 4; RFC 6749 section 5.1.
    pub struct TokenResponse {
        required {
            /// Presented with every request for data.
            access_token: AccessToken,
            /// `Bearer`
            token_type: String,
        }
        optional {
            /// The seconds that the access token lives.
            expires_in: u64,
            /// Exchanged for the next pair.
            refresh_token: RefreshToken,
            /// The scopes that were granted, separated by spaces.
            scope: String,
            /// The principal.
            user_id: UserId,
        }
    }
}

json_replies!(tolerant: TokenResponse);
