use crate::{
    endpoint::{
        Auth, Endpoint, Meta,
        codec::{Json, json_responses},
    },
    message::message,
    primitive::id::{ChallengeId, DeliveryId, UserId},
};

/// `POST /users/{user_id}/sendOtp`: sends a one-time code to the user.
///
/// Contract: `px.md` section 5.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SendOtp {
    /// The user who signs in.
    pub user_id: UserId,
    /// The challenge and the delivery.
    pub request: SendOtpRequest,
}

impl SendOtp {
    /// Creates the request.
    #[must_use]
    pub fn new(user_id: UserId, request: SendOtpRequest) -> Self {
        Self { user_id, request }
    }
}

impl Endpoint for SendOtp {
    const META: Meta = Meta::post("send_otp", "/users/{user_id}/sendOtp")
        .auth(Auth::Client)
        .summary("Sends a one-time code to the user");
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
    /// The challenge and the delivery of a one-time code.
    pub struct SendOtpRequest {
        required {
            /// The id of the challenge that requires a code.
            challenge_id: ChallengeId,
            /// The id of one of the deliveries of the challenge.
            delivery_id: DeliveryId,
        }
    }
}

message! {
    /// The response after a code was sent: `{}`.
    pub struct SendOtpResponse {}
}

json_responses!(SendOtpResponse);
