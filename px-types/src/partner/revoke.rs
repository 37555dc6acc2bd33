use crate::{
    endpoint::{
        Auth, Endpoint, Meta,
        codec::{Empty, Form},
        parameters::{Pairs, PairsOut, ParameterError, Parameters},
    },
    primitive::{
        id::ClientId,
        open_enum::open_enum,
        secret::{AnyToken, ClientSecret},
    },
};

/// `POST /oauth2/revoke`: ends a token.
///
/// Of a refresh token it ends the whole family; of an access token that one
/// alone; an unknown token is answered 200. Contract: `px.md` section 4; RFC 7009.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revoke {
    /// What is to end.
    pub request: RevokeRequest,
}

impl Revoke {
    /// Asks to end a token.
    #[must_use]
    pub fn new(request: RevokeRequest) -> Self {
        Self { request }
    }
}

impl Endpoint for Revoke {
    const META: Meta =
        Meta::post("revoke", "/oauth2/revoke").auth(Auth::Client).summary("Ends a token");
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
    /// What a token is believed to be. A hint, never relied upon.
    pub enum TokenTypeHint {
        /// An access token.
        AccessToken = "access_token",
        /// A refresh token.
        RefreshToken = "refresh_token",
    }
}

/// A revocation request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RevokeRequest {
    /// The token that is to end.
    pub token: AnyToken,
    /// What it is believed to be.
    pub token_type_hint: Option<TokenTypeHint>,
    /// The client's id, when it authenticates in the body.
    pub client_id: Option<ClientId>,
    /// The client's secret, when it authenticates in the body.
    pub client_secret: Option<ClientSecret>,
}

impl RevokeRequest {
    /// Ends a token; the client authenticates in a header.
    #[must_use]
    pub fn new(token: AnyToken) -> Self {
        Self { token, token_type_hint: None, client_id: None, client_secret: None }
    }
}

impl Parameters for RevokeRequest {
    fn read(pairs: &Pairs) -> Result<Self, ParameterError> {
        Ok(Self {
            token: AnyToken::new(pairs.required_text("token")?),
            token_type_hint: pairs.text("token_type_hint")?.map(TokenTypeHint::from),
            client_id: pairs.value("client_id")?,
            client_secret: pairs.text("client_secret")?.map(ClientSecret::new),
        })
    }

    fn write(&self, out: &mut PairsOut) {
        out.push("token", self.token.expose());
        out.push_some("token_type_hint", self.token_type_hint.as_ref());
        out.push_some("client_id", self.client_id.as_ref());
        out.push_some("client_secret", self.client_secret.as_ref().map(ClientSecret::expose));
    }
}
