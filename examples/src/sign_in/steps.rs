//! The steps of a sign-in on the bank's pages.
//!
//! The site and the OAuth pages use the same kit as credentials mode, so that locks, codes and
//! attempts count together.

use crate::pages::Form;
use http::{Extensions, StatusCode};
use px_server::{
    Error, ErrorKind,
    credentials::{CredentialsKit, SignInOrigin, SignInStep},
    guard::CallerAddr,
};
use px_types::{
    DeliveryId, KbaAnswer, OneTimeCode, Password, Username,
    model::sign_in::{Challenge, ChallengeKind},
    partner::{
        KbaAnswerEntry, KbaValidationRequest, OtpValidationRequest, SendOtp, SendOtpRequest,
        TwoFactorRequest, ValidateTwoFactor,
    },
};

/// The reason why a form is shown again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The name or the password is wrong.
    Wrong,
    /// Too many answers were wrong.
    Locked,
    /// Too many passwords were wrong.
    Wait,
    /// Too many customers are signing in at the moment.
    Busy,
    /// The code or a security answer is wrong, or too late.
    WrongAnswer,
    /// Too many codes were sent.
    TooManyCodes,
}

impl Refusal {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Wrong => "The username or password is not right. Please try again.",
            Self::Locked => {
                "You cannot sign in at the moment: too many answers were wrong. Try again later, or call us."
            }
            Self::Wait => "Too many attempts. Please wait a minute, then try again.",
            Self::Busy => {
                "We cannot check your password at the moment. Please try again in a few seconds."
            }
            Self::WrongAnswer => "That is not right, or it came too late. Please try again.",
            Self::TooManyCodes => {
                "We have sent several codes already. Use the latest, or start again."
            }
        }
    }

    /// Returns the status of the page that shows it.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Wait => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::OK,
        }
    }
}

/// The next step, or the reason why the form is shown again.
pub(crate) type Outcome<T> = Result<Result<T, Refusal>, Error>;

/// Returns the origin of a request for a page.
pub(crate) fn origin(extensions: &Extensions) -> SignInOrigin {
    SignInOrigin::OwnPages(CallerAddr::of(extensions))
}

/// Checks name and password.
pub(crate) async fn password(
    kit: &CredentialsKit,
    origin: &SignInOrigin,
    form: &Form,
) -> Outcome<SignInStep> {
    let username = Username::new(form.one("username"));
    let password = Password::new(form.one("password"));
    match kit.begin(origin, &username, &password).await {
        Ok(step) => Ok(Ok(step)),
        Err(error) if error.kind() == ErrorKind::TooManyRequests => Ok(Err(Refusal::Wait)),
        Err(error) if error.kind() == ErrorKind::Unavailable => {
            if let Some(source) = std::error::Error::source(&error) {
                tracing::warn!(error = source, "a password could not be checked");
            }
            Ok(Err(Refusal::Busy))
        }
        Err(error) => refused(error, Refusal::Wrong),
    }
}

/// Sends a code to the delivery that the form names.
pub(crate) async fn send_code(
    kit: &CredentialsKit,
    origin: &SignInOrigin,
    challenge: &Challenge,
    form: &Form,
) -> Outcome<()> {
    let Ok(delivery) = DeliveryId::new(form.one("delivery")) else {
        return Ok(Err(Refusal::WrongAnswer));
    };
    let request = SendOtpRequest::new(challenge.challenge_id.clone(), delivery);
    let request = SendOtp::new(challenge.user_id.clone(), request);
    match kit.send_code(origin, &request).await {
        Ok(()) => Ok(Ok(())),
        Err(error) => refused(error, Refusal::WrongAnswer),
    }
}

/// Checks the answer to a challenge.
pub(crate) async fn answer(
    kit: &CredentialsKit,
    origin: &SignInOrigin,
    challenge: &Challenge,
    form: &Form,
) -> Outcome<SignInStep> {
    let id = challenge.challenge_id.clone();
    let answer = match &challenge.kind {
        ChallengeKind::Kba(kba) => {
            let answers = kba.questions.iter().enumerate().map(|(n, question)| {
                let given = form.one(&format!("answer-{n}")).to_owned();
                KbaAnswerEntry::new(question.id.clone(), KbaAnswer::new(given))
            });
            TwoFactorRequest::Answers(KbaValidationRequest::new(id, answers.collect::<Vec<_>>()))
        }
        _ => {
            let code: String = form.one("code").split_whitespace().collect();
            TwoFactorRequest::Code(OtpValidationRequest::new(id, OneTimeCode::new(code)))
        }
    };
    let request = ValidateTwoFactor::new(challenge.user_id.clone(), answer);
    match kit.answer(origin, request).await {
        Ok(step) => Ok(Ok(step)),
        Err(error) => refused(error, Refusal::WrongAnswer),
    }
}

/// Separates refusals, which the page shows, from failures.
fn refused<T>(error: Error, otherwise: Refusal) -> Outcome<T> {
    match error.kind() {
        ErrorKind::Forbidden => Ok(Err(Refusal::Locked)),
        ErrorKind::TooManyRequests => Ok(Err(Refusal::TooManyCodes)),
        ErrorKind::SignInRefused | ErrorKind::InvalidRequest => Ok(Err(otherwise)),
        _ => Err(error),
    }
}
