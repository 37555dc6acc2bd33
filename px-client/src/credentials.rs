//! Credentials mode: name and password, then as many challenges as the partner asks.
//!
//! Contract: `px.md` section 5.

use crate::{
    error::{Error, Kind},
    partner::PartnerClient,
};
use px_types::{
    ChallengeId, DeliveryId, KbaAnswer, OneTimeCode, Password, QuestionId, UserId, Username,
    model::sign_in::{Challenge, ChallengeKind, Delivery, Question, SignIn, UserToken},
    partner::{
        AuthTokenRequest, KbaAnswerEntry, KbaValidationRequest, OtpValidationRequest, SendOtp,
        SendOtpRequest, TwoFactorRequest, ValidateTwoFactor,
    },
};

/// Where a sign-in stands. Go on until it is [`Done`](Self::Done).
///
/// A step is consumed by its answer. Clone it before, to try again after a wrong answer: a
/// challenge is locked by the fifth.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SignInStep {
    /// The user is signed in; the token goes to [`PartnerClient::with_token`].
    Done(UserToken),
    /// A one-time code that the partner sends: choose where to.
    Otp(OtpStep),
    /// Security questions.
    Kba(KbaStep),
    /// A one-time code of the user's device.
    Totp(TotpStep),
}

#[derive(Clone, Debug)]
struct Asked {
    client: PartnerClient,
    user_id: UserId,
    challenge_id: ChallengeId,
}

/// The partner will send a one-time code: choose where to.
#[derive(Clone, Debug)]
pub struct OtpStep {
    asked: Asked,
    deliveries: Vec<Delivery>,
}

/// A one-time code is on its way.
#[derive(Clone, Debug)]
pub struct OtpSent(Asked);

/// The partner asks security questions.
#[derive(Clone, Debug)]
pub struct KbaStep {
    asked: Asked,
    questions: Vec<Question>,
}

/// The partner asks for a one-time code of the user's device.
#[derive(Clone, Debug)]
pub struct TotpStep(Asked);

impl PartnerClient {
    /// Signs a user in with name and password.
    ///
    /// # Errors
    /// As [`send`](Self::send); `invalid_credentials` for a bad pair, `user_locked` for a
    /// user who may not sign in; a challenge of a kind that this version does not know.
    pub async fn sign_in(
        &self,
        username: Username,
        password: Password,
    ) -> Result<SignInStep, Error> {
        let answer = self.auth_token(AuthTokenRequest::new(username, password)).await?;
        self.step(answer)
    }

    fn step(&self, answer: SignIn) -> Result<SignInStep, Error> {
        let unknown = || {
            Error::new(
                Kind::Decode,
                "auth_token",
                "the partner asks for a challenge that this version does not know",
            )
            .advice("update this program")
        };
        let challenge = match answer {
            SignIn::Token(token) => return Ok(SignInStep::Done(token)),
            SignIn::Challenge(challenge) => challenge,
            _ => return Err(unknown()),
        };
        let Challenge { user_id, challenge_id, kind, .. } = challenge;
        let asked = Asked { client: self.clone(), user_id, challenge_id };
        Ok(match kind {
            ChallengeKind::Otp(otp) => {
                SignInStep::Otp(OtpStep { asked, deliveries: otp.deliveries })
            }
            ChallengeKind::Kba(kba) => SignInStep::Kba(KbaStep { asked, questions: kba.questions }),
            ChallengeKind::Totp => SignInStep::Totp(TotpStep(asked)),
            _ => return Err(unknown()),
        })
    }
}

impl Asked {
    async fn code(self, code: OneTimeCode) -> Result<SignInStep, Error> {
        let request = OtpValidationRequest::new(self.challenge_id.clone(), code);
        self.answer(TwoFactorRequest::Code(request)).await
    }

    async fn answer(self, request: TwoFactorRequest) -> Result<SignInStep, Error> {
        let request = ValidateTwoFactor::new(self.user_id, request);
        let answer = self.client.two_factor(request).await?;
        self.client.step(answer)
    }
}

impl OtpStep {
    /// Where the code can go.
    #[must_use]
    pub fn deliveries(&self) -> &[Delivery] {
        &self.deliveries
    }

    /// Has the code sent.
    ///
    /// # Errors
    /// As [`PartnerClient::send`].
    pub async fn send(self, delivery: &DeliveryId) -> Result<OtpSent, Error> {
        let request = SendOtpRequest::new(self.asked.challenge_id.clone(), delivery.clone());
        let request = SendOtp::new(self.asked.user_id.clone(), request);
        self.asked.client.send_otp(request).await?;
        Ok(OtpSent(self.asked))
    }
}

impl OtpSent {
    /// Answers with the code that the user got.
    ///
    /// # Errors
    /// As [`PartnerClient::send`]; `invalid_challenge` for a wrong code.
    pub async fn answer(self, code: OneTimeCode) -> Result<SignInStep, Error> {
        self.0.code(code).await
    }
}

impl KbaStep {
    /// The questions, each to be answered.
    #[must_use]
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Answers the questions.
    ///
    /// # Errors
    /// As [`PartnerClient::send`]; `invalid_challenge` for a wrong answer.
    pub async fn answer(self, answers: Vec<(QuestionId, KbaAnswer)>) -> Result<SignInStep, Error> {
        let entries: Vec<_> = answers
            .into_iter()
            .map(|(question, answer)| KbaAnswerEntry::new(question, answer))
            .collect();
        let request = KbaValidationRequest::new(self.asked.challenge_id.clone(), entries);
        self.asked.answer(TwoFactorRequest::Answers(request)).await
    }
}

impl TotpStep {
    /// Answers with the code of the user's device.
    ///
    /// # Errors
    /// As [`PartnerClient::send`]; `invalid_challenge` for a wrong code.
    pub async fn answer(self, code: OneTimeCode) -> Result<SignInStep, Error> {
        self.0.code(code).await
    }
}
