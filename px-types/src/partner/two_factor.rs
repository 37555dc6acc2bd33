use crate::{
    endpoint::{Auth, Endpoint, Meta, codec::Json},
    message::message,
    model::sign_in::SignIn,
    primitive::{
        id::{ChallengeId, QuestionId, UserId},
        secret::{KbaAnswer, OneTimeCode},
    },
    wire,
};
use serde::{Deserialize, Serialize};

/// `POST /users/{user_id}/2fa`: answers a challenge.
///
/// Contract: `px.md` section 5.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ValidateTwoFactor {
    /// The user who signs in.
    pub user_id: UserId,
    /// The answer.
    pub request: TwoFactorRequest,
}

impl ValidateTwoFactor {
    /// Answers a challenge.
    #[must_use]
    pub fn new(user_id: UserId, request: TwoFactorRequest) -> Self {
        Self { user_id, request }
    }
}

impl Endpoint for ValidateTwoFactor {
    const META: Meta = Meta::post("two_factor", "/users/{user_id}/2fa")
        .auth(Auth::Client)
        .summary("Answers a challenge");
    type Path = (UserId,);
    type Query = ();
    type Body = Json<TwoFactorRequest>;
    type Response = SignIn;

    fn into_parts(self) -> (Self::Path, (), Self::Body) {
        ((self.user_id,), (), Json(self.request))
    }
    fn from_parts((user_id,): Self::Path, (): (), Json(request): Self::Body) -> Self {
        Self { user_id, request }
    }
}

message! {
    /// A one-time code, sent (OTP) or made by the user's device (TOTP).
    pub struct OtpValidationRequest {
        required {
            /// The challenge that is answered.
            challenge_id: ChallengeId,
            /// The code.
            code: OneTimeCode,
        }
    }
}

message! {
    /// Answers to security questions.
    pub struct KbaValidationRequest {
        required {
            /// The challenge that is answered.
            challenge_id: ChallengeId,
            /// An answer to each question.
            answers: Vec<KbaAnswerEntry>,
        }
    }
}

message! {
    /// The answer to one security question.
    pub struct KbaAnswerEntry {
        required {
            /// The question.
            question_id: QuestionId,
            /// The answer.
            answer: KbaAnswer,
        }
    }
}

/// The answer to a challenge: codes and answers are told apart by their fields.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(untagged)]
#[non_exhaustive]
pub enum TwoFactorRequest {
    /// The answer to an OTP or a TOTP challenge.
    Code(OtpValidationRequest),
    /// The answer to a KBA challenge.
    Answers(KbaValidationRequest),
}

impl TwoFactorRequest {
    /// The challenge that is answered.
    #[must_use]
    pub fn challenge_id(&self) -> &ChallengeId {
        match self {
            Self::Code(request) => &request.challenge_id,
            Self::Answers(request) => &request.challenge_id,
        }
    }
}

impl<'de> Deserialize<'de> for TwoFactorRequest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            challenge_id: ChallengeId,
            #[serde(default, deserialize_with = "wire::optional")]
            code: Option<OneTimeCode>,
            #[serde(default, deserialize_with = "wire::optional")]
            answers: Option<Vec<KbaAnswerEntry>>,
        }
        let Wire { challenge_id, code, answers } = Wire::deserialize(d)?;
        match (code, answers) {
            (Some(code), None) => Ok(Self::Code(OtpValidationRequest { challenge_id, code })),
            (None, Some(answers)) => {
                Ok(Self::Answers(KbaValidationRequest { challenge_id, answers }))
            }
            (None, None) => Err(wire::error_at("code", "missing: `code` or `answers` is required")),
            (Some(_), Some(_)) => {
                Err(wire::error_at("answers", "not allowed together with `code`"))
            }
        }
    }
}
