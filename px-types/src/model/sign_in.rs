//! How a sign-in in credentials mode goes on: with a token, or with a challenge.

use crate::{
    endpoint::codec::json_replies,
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

/// A token, or a challenge that the user must answer first.
///
/// Contract: `px.md` section 5.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(untagged))]
#[non_exhaustive]
pub enum SignIn {
    /// The user is signed in.
    Token(UserToken),
    /// The user must answer first.
    Challenge(Challenge),
}

message! {
    /// The token of a user who signed in.
    pub struct UserToken {
        required {
            /// The principal.
            user_id: UserId,
            /// Sent as bearer token.
            auth_token: AccessToken,
        }
    }
}

message! {
    /// A challenge: what the user must answer before a token is given.
    pub struct Challenge {
        required {
            /// The user who signs in.
            user_id: UserId,
            /// The challenge.
            challenge_id: ChallengeId,
        }
        flat {
            /// What is asked.
            kind: ChallengeKind,
        }
    }
}

/// What a challenge asks.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(tag = "mfa_type", rename_all = "UPPERCASE"))]
#[non_exhaustive]
pub enum ChallengeKind {
    /// A one-time code that the partner sends.
    Otp(Otp),
    /// Answers to security questions.
    Kba(Kba),
    /// A one-time code that the user's device makes.
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
        /// A one-time code that the user's device makes.
        Totp = "TOTP",
    }
}

message! {
    /// A one-time code that the partner sends.
    pub struct Otp {
        required {
            /// The ways that the code can go.
            deliveries: Vec<Delivery>,
        }
    }
}

message! {
    /// One way to send a one-time code.
    pub struct Delivery {
        required {
            /// Named when the code is asked for.
            id: DeliveryId,
            /// How it goes.
            method: DeliveryMethod,
            /// The address, masked.
            mask: String,
        }
    }
}

open_enum! {
    /// How a one-time code goes.
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
            /// The questions, each to be answered.
            questions: Vec<Question>,
        }
    }
}

message! {
    /// A security question.
    pub struct Question {
        required {
            /// Named with the answer.
            id: QuestionId,
            /// The question.
            text: String,
        }
        lists {
            /// The answers to choose from; empty where the user types one.
            choices: String,
        }
    }
}

impl ChallengeKind {
    /// The kind, as the wire spells it.
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
            MfaType::Otp => Self::Otp(wire::from_held(&fields)?),
            MfaType::Kba => Self::Kba(wire::from_held(&fields)?),
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
        // A token answer has no tag: absent, `null` and `""` are alike.
        match fields.get("mfa_type") {
            None | Some(Value::Null) => wire::from_held(&fields).map(Self::Token),
            Some(Value::String(tag)) if tag.is_empty() => wire::from_held(&fields).map(Self::Token),
            Some(_) => wire::from_held(&fields).map(Self::Challenge),
        }
    }
}

json_replies!(SignIn);
