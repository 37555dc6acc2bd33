//! The result of a sign-in step in credentials mode: a token or a challenge.

use crate::{
    endpoint::codec::json_responses,
    message::message,
    primitive::{
        id::{ChallengeId, DeliveryId, QuestionId, UserId},
        open_enum::open_enum,
        secret::AccessToken,
    },
    wire,
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

/// The result of a sign-in step: a token, or a challenge that the user must answer first.
///
/// Contract: `px.md` section 5.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(untagged))]
#[non_exhaustive]
pub enum SignIn {
    /// The user is signed in.
    Token(UserToken),
    /// The user must answer a challenge.
    Challenge(Challenge),
}

message! {
    /// The token of a signed-in user.
    pub struct UserToken {
        required {
            /// The principal.
            user_id: UserId,
            /// The bearer token.
            auth_token: AccessToken,
        }
    }
}

message! {
    /// A challenge that the user must answer before a token is issued.
    pub struct Challenge {
        required {
            /// The user who signs in.
            user_id: UserId,
            /// The id of the challenge.
            challenge_id: ChallengeId,
        }
        flat {
            /// The kind of the challenge.
            kind: ChallengeKind,
        }
    }
}

/// The kind of a challenge, with its fields.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(tag = "mfa_type", rename_all = "UPPERCASE"))]
#[non_exhaustive]
pub enum ChallengeKind {
    /// A one-time code that the partner sends.
    Otp(Otp),
    /// Answers to security questions.
    Kba(Kba),
    /// A one-time code that the user's device generates.
    Totp,
    /// A kind that this version does not know.
    #[cfg_attr(feature = "openapi", schemars(skip))]
    Unknown(MfaType),
}

open_enum! {
    /// The kind of a challenge.
    pub enum MfaType {
        /// A one-time code that the partner sends.
        Otp = "OTP",
        /// Answers to security questions.
        Kba = "KBA",
        /// A one-time code that the user's device generates.
        Totp = "TOTP",
    }
}

message! {
    /// A one-time code that the partner sends.
    pub struct Otp {
        required {
            /// The available deliveries.
            deliveries: Vec<Delivery>,
        }
    }
}

message! {
    /// One way to deliver a one-time code.
    pub struct Delivery {
        required {
            /// The id, to be named in the request for the code.
            id: DeliveryId,
            /// The delivery method.
            method: DeliveryMethod,
            /// The masked address.
            mask: String,
        }
    }
}

open_enum! {
    /// The delivery method of a one-time code.
    pub enum DeliveryMethod {
        Sms = "sms",
        Email = "email",
        Voice = "voice",
    }
}

message! {
    /// Security questions.
    pub struct Kba {
        required {
            /// The questions. The user must answer all of them.
            questions: Vec<Question>,
        }
    }
}

message! {
    /// A security question.
    pub struct Question {
        required {
            /// The id, to be named with the answer.
            id: QuestionId,
            /// The text of the question.
            text: String,
        }
        lists {
            /// The answers to choose from; empty if the user types the answer.
            choices: String,
        }
    }
}

impl ChallengeKind {
    /// Returns the kind without its fields.
    #[must_use]
    pub fn mfa_type(&self) -> MfaType {
        match self {
            Self::Otp(_) => MfaType::Otp,
            Self::Kba(_) => MfaType::Kba,
            Self::Totp => MfaType::Totp,
            Self::Unknown(mfa_type) => mfa_type.clone(),
        }
    }
}

impl Serialize for ChallengeKind {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Tagged<'a> {
            mfa_type: MfaType,
            #[serde(skip_serializing_if = "Option::is_none")]
            deliveries: Option<&'a [Delivery]>,
            #[serde(skip_serializing_if = "Option::is_none")]
            questions: Option<&'a [Question]>,
        }
        let mut tagged = Tagged { mfa_type: self.mfa_type(), deliveries: None, questions: None };
        match self {
            Self::Otp(otp) => tagged.deliveries = Some(&otp.deliveries),
            Self::Kba(kba) => tagged.questions = Some(&kba.questions),
            Self::Totp | Self::Unknown(_) => {}
        }
        tagged.serialize(s)
    }
}

impl<'de> Deserialize<'de> for ChallengeKind {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let fields = Map::deserialize(d)?;
        let mfa_type = match fields.get("mfa_type") {
            Some(Value::String(name)) => MfaType::from(name.as_str()),
            Some(_) => return Err(wire::error_at("mfa_type", "expected a string")),
            None => return Err(serde::de::Error::missing_field("mfa_type")),
        };
        Ok(match mfa_type {
            MfaType::Otp => Self::Otp(wire::from_buffered(&fields)?),
            MfaType::Kba => Self::Kba(wire::from_buffered(&fields)?),
            MfaType::Totp => Self::Totp,
            unknown => Self::Unknown(unknown),
        })
    }
}

impl Serialize for SignIn {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Token(token) => token.serialize(s),
            Self::Challenge(challenge) => challenge.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for SignIn {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let fields = Map::deserialize(d)?;
        // A token response has no tag. Absent, `null` and `""` are equivalent.
        match fields.get("mfa_type") {
            None | Some(Value::Null) => wire::from_buffered(&fields).map(Self::Token),
            Some(Value::String(tag)) if tag.is_empty() => {
                wire::from_buffered(&fields).map(Self::Token)
            }
            Some(_) => wire::from_buffered(&fields).map(Self::Challenge),
        }
    }
}

json_responses!(SignIn);
