use crate::{
    endpoint::{Auth, Endpoint, Meta, codec::Json},
    message::message,
    model::sign_in::SignIn,
    primitive::secret::{Password, Username},
};

/// `POST /users/auth_token`: signs a user in with username and password.
///
/// Contract: `px.md` section 5.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RequestAuthToken {
    /// The credentials of the user.
    pub request: AuthTokenRequest,
}

impl RequestAuthToken {
    /// Creates the request.
    #[must_use]
    pub fn new(request: AuthTokenRequest) -> Self {
        Self { request }
    }
}

impl Endpoint for RequestAuthToken {
    const META: Meta = Meta::post("auth_token", "/users/auth_token")
        .auth(Auth::Client)
        .summary("Signs a user in with username and password");
    type Path = ();
    type Query = ();
    type Body = Json<AuthTokenRequest>;
    type Response = SignIn;

    fn into_parts(self) -> ((), (), Self::Body) {
        ((), (), Json(self.request))
    }
    fn from_parts((): (), (): (), Json(request): Self::Body) -> Self {
        Self { request }
    }
}

message! {
    /// A username and a password. They are never stored and never logged.
    pub struct AuthTokenRequest {
        required {
            /// The username.
            username: Username,
            /// The password.
            password: Password,
        }
    }
}
