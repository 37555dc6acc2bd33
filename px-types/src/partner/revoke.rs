use crate::{
    endpoint::{
        Auth, Endpoint, Meta,
        codec::{Empty, Form},
        parameters::{ParameterError, ParameterWriter, Parameters, ParsedParameters},
    },
    primitive::{
        id::ClientId,
        open_enum::open_enum,
        secret::{AnyToken, ClientSecret},
    },
};

/// `POST /oauth2/revoke`: revokes a token.
///
/// Revoking a refresh token revokes its whole token family; revoking an access token revokes only
/// that token. The response to an unknown token is 200.
///
/// Contract: `px.md` section 4; RFC 7009.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revoke {
    /// The parameters of the request.
    pub request: RevokeRequest,
}

impl Revoke {
    /// Creates the request.
    #[must_use]
    pub fn new(request: RevokeRequest) -> Self {
        Self { request }
    }
}

impl Endpoint for Revoke {
    const META: Meta =
        Meta::post("revoke", "/oauth2/revoke").auth(Auth::Client).summary("Revokes a token");
    type Path = ();
    type Query = ();
    type Body = Form<RevokeRequest>;
    type Response = Empty;

    fn into_parts(self) -> ((), (), Self::Body) {
        ((), (), Form(self.request))
    }
    fn from_parts((): (), (): (), Form(request): Self::Body) -> Self {
        Self { request }
    }
}

open_enum! {
    /// The presumed type of a token. It is only a hint.
    pub enum TokenTypeHint {
        /// An access token.
        AccessToken = "access_token",
        /// A refresh token.
        RefreshToken = "refresh_token",
    }
}

/// The parameters of a revocation request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RevokeRequest {
    /// The token to revoke.
    pub token: AnyToken,
    /// The presumed type of the token.
    pub token_type_hint: Option<TokenTypeHint>,
    /// The id of the client, if it authenticates in the body.
    pub client_id: Option<ClientId>,
    /// The secret of the client, if it authenticates in the body.
    pub client_secret: Option<ClientSecret>,
}

impl RevokeRequest {
    /// Creates the parameters for a client that authenticates in a header.
    #[must_use]
    pub fn new(token: AnyToken) -> Self {
        Self { token, token_type_hint: None, client_id: None, client_secret: None }
    }
}

impl Parameters for RevokeRequest {
    fn read(pairs: &ParsedParameters) -> Result<Self, ParameterError> {
        Ok(Self {
            token: AnyToken::new(pairs.required_text("token")?),
            token_type_hint: pairs.text("token_type_hint")?.map(TokenTypeHint::from),
            client_id: pairs.value("client_id")?,
            client_secret: pairs.text("client_secret")?.map(ClientSecret::new),
        })
    }

    fn write(&self, out: &mut ParameterWriter) {
        out.push("token", self.token.expose());
        out.push_some("token_type_hint", self.token_type_hint.as_ref());
        out.push_some("client_id", self.client_id.as_ref());
        out.push_some("client_secret", self.client_secret.as_ref().map(ClientSecret::expose));
    }
}
