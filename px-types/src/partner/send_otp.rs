use crate::{
    endpoint::{
        Auth, Endpoint, Meta,
        codec::{Json, json_replies},
    },
    message::message,
    primitive::id::{ChallengeId, DeliveryId, UserId},
};

/// `POST /users/{user_id}/sendOtp`: has a one-time code sent to the user.
///
/// Contract: `px.md` section 5.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SendOtp {
    /// The user who signs in.
    pub user_id: UserId,
    /// Which challenge, and which way the code goes.
    pub request: SendOtpRequest,
}

impl SendOtp {
    /// Has a code sent.
    #[must_use]
    pub fn new(user_id: UserId, request: SendOtpRequest) -> Self {
        Self { user_id, request }
    }
}

impl Endpoint for SendOtp {
    const META: Meta = Meta::post("send_otp", "/users/{user_id}/sendOtp")
        .auth(Auth::Client)
        .summary("Has a one-time code sent to the user");
    type Path = (UserId,);
    type Query = ();
    type Body = Json<SendOtpRequest>;
    type Response = SendOtpResponse;

    fn into_parts(self) -> (Self::Path, (), Self::Body) {
        ((self.user_id,), (), Json(self.request))
    }
    fn from_parts((user_id,): Self::Path, (): (), Json(request): Self::Body) -> Self {
        Self { user_id, request }
    }
}

message! {
    /// Which challenge, and which way the code goes.
    pub struct SendOtpRequest {
        required {
            /// The challenge that asked for a code.
            challenge_id: ChallengeId,
            /// One of its deliveries.
            delivery_id: DeliveryId,
        }
    }
}

message! {
    /// The code is on its way; the answer is `{}`.
    pub struct SendOtpResponse {}
}

json_replies!(SendOtpResponse);
