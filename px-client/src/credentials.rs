//! Credentials mode: name and password, then any challenges that the partner requires.
//!
//! Contract: `px.md` section 5.

use crate::{
    error::{Error, ErrorKind},
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

/// The state of a sign-in. Continue until it is [`Done`](Self::Done).
///
/// Responding to a challenge consumes the step. To allow another attempt after a wrong response, clone the
/// step first. The fifth wrong response locks a challenge.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SignInStep {
    /// The user is signed in. Pass the token to [`PartnerClient::with_token`].
    Done(UserToken),
    /// The partner will send a one-time code: choose the delivery.
    Otp(OtpStep),
    /// Security questions.
    Kba(KbaStep),
    /// A one-time code from the user's device.
    Totp(TotpStep),
}

#[derive(Clone, Debug)]
struct PendingChallenge {
    client: PartnerClient,
    user_id: UserId,
    challenge_id: ChallengeId,
}

/// A challenge by a one-time code that the partner sends, before a delivery is chosen.
#[derive(Clone, Debug)]
pub struct OtpStep {
    challenge: PendingChallenge,
    deliveries: Vec<Delivery>,
}

/// A challenge by a one-time code that the partner has sent.
#[derive(Clone, Debug)]
pub struct OtpSent(PendingChallenge);

/// A challenge by security questions.
#[derive(Clone, Debug)]
pub struct KbaStep {
    challenge: PendingChallenge,
    questions: Vec<Question>,
}

/// A challenge by a one-time code from the user's device.
#[derive(Clone, Debug)]
pub struct TotpStep(PendingChallenge);

impl PartnerClient {
    /// Signs a user in with name and password.
    ///
    /// # Errors
    /// See [`send`](Self::send). The partner's `invalid_credentials` means a wrong name or password,
    /// `user_locked` a user who may not sign in. A challenge of a kind that this version does not support is
    /// an error too.
    pub async fn sign_in(
        &self,
        username: Username,
        password: Password,
    ) -> Result<SignInStep, Error> {
        let response = self.auth_token(AuthTokenRequest::new(username, password)).await?;
        self.step(response)
    }

    fn step(&self, response: SignIn) -> Result<SignInStep, Error> {
        let unknown = || {
            Error::new(
                ErrorKind::Decode,
                "auth_token",
                "the partner requires a challenge that this version does not support",
            )
            .with_advice("update this program")
        };
        let challenge = match response {
            SignIn::Token(token) => return Ok(SignInStep::Done(token)),
            SignIn::Challenge(challenge) => challenge,
            _ => return Err(unknown()),
        };
        let Challenge { user_id, challenge_id, kind, .. } = challenge;
        let challenge = PendingChallenge { client: self.clone(), user_id, challenge_id };
        Ok(match kind {
            ChallengeKind::Otp(otp) => {
                SignInStep::Otp(OtpStep { challenge, deliveries: otp.deliveries })
            }
            ChallengeKind::Kba(kba) => {
                SignInStep::Kba(KbaStep { challenge, questions: kba.questions })
            }
            ChallengeKind::Totp => SignInStep::Totp(TotpStep(challenge)),
            _ => return Err(unknown()),
        })
    }
}

impl PendingChallenge {
    async fn respond_with_code(self, code: OneTimeCode) -> Result<SignInStep, Error> {
        let request = OtpValidationRequest::new(self.challenge_id.clone(), code);
        self.respond(TwoFactorRequest::Code(request)).await
    }

    async fn respond(self, request: TwoFactorRequest) -> Result<SignInStep, Error> {
        let request = ValidateTwoFactor::new(self.user_id, request);
        let response = self.client.two_factor(request).await?;
        self.client.step(response)
    }
}

impl OtpStep {
    /// Returns the possible deliveries of the code.
    #[must_use]
    pub fn deliveries(&self) -> &[Delivery] {
        &self.deliveries
    }

    /// Has the code sent to the user.
    ///
    /// # Errors
    /// See [`PartnerClient::send`].
    pub async fn send(self, delivery: &DeliveryId) -> Result<OtpSent, Error> {
        let request = SendOtpRequest::new(self.challenge.challenge_id.clone(), delivery.clone());
        let request = SendOtp::new(self.challenge.user_id.clone(), request);
        self.challenge.client.send_otp(request).await?;
        Ok(OtpSent(self.challenge))
    }
}

impl OtpSent {
    /// Sends the code that the user received.
    ///
    /// # Errors
    /// See [`PartnerClient::send`]. The partner's `invalid_challenge` means a wrong code.
    pub async fn answer(self, code: OneTimeCode) -> Result<SignInStep, Error> {
        self.0.respond_with_code(code).await
    }
}

impl KbaStep {
    /// Returns the questions. Each must be answered.
    #[must_use]
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Sends the user's answers to the questions.
    ///
    /// # Errors
    /// See [`PartnerClient::send`]. The partner's `invalid_challenge` means a wrong answer.
    pub async fn answer(self, answers: Vec<(QuestionId, KbaAnswer)>) -> Result<SignInStep, Error> {
        let entries: Vec<_> = answers
            .into_iter()
            .map(|(question, answer)| KbaAnswerEntry::new(question, answer))
            .collect();
        let request = KbaValidationRequest::new(self.challenge.challenge_id.clone(), entries);
        self.challenge.respond(TwoFactorRequest::Answers(request)).await
    }
}

impl TotpStep {
    /// Sends the code from the user's device.
    ///
    /// # Errors
    /// See [`PartnerClient::send`]. The partner's `invalid_challenge` means a wrong code.
    pub async fn answer(self, code: OneTimeCode) -> Result<SignInStep, Error> {
        self.0.respond_with_code(code).await
    }
}
