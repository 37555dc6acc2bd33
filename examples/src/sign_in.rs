//! Sign-in of customers: one set of checks for the site, the OAuth pages and credentials mode.
//!
//! - [`CustomerSignIn`]: the checks of passwords and factors, called by
//!   [`CredentialsKit`](px_server::credentials::CredentialsKit);
//! - `throttle`: the limit of wrong passwords; `queue`: the limit of concurrent password hashing;
//! - `steps`: the steps of a sign-in on pages; `view`: the forms of these steps.

mod queue;
pub(crate) mod steps;
mod throttle;
pub(crate) mod view;

use crate::{
    ledger::{Ledger, LedgerError, read::User},
    scenario::{self, Factor as ScenarioFactor, QUESTIONS, TOTP_SECRET},
};
use async_trait::async_trait;
use chrono::TimeDelta;
use px_core::Clock;
use px_server::{
    Error,
    credentials::{Factor, SignInMethods, SignInOrigin, TotpSecret},
};
use px_types::{
    DeliveryId, OneTimeCode, Password, QuestionId, Timestamp, UserId, Username,
    model::sign_in::{Delivery, DeliveryMethod, Question},
    partner::KbaAnswerEntry,
};
use queue::FairQueue;
use std::{fmt, sync::Arc};
use subtle::{Choice, ConstantTimeEq as _};
use throttle::{Origin, Throttle};

/// Maximum length of a username and of a password, in bytes. Longer ones are treated as wrong.
const MAX_INPUT_BYTES: usize = 1024;
/// Delay after which a caller may try again if the queue is full.
const BUSY_DELAY: TimeDelta = TimeDelta::seconds(2);

/// A receiver of the lines that the bank "sends" to its users.
pub type Outbox = Arc<dyn Fn(&str) + Send + Sync>;

/// The sign-in checks of the bank's customers, for the credentials kit.
pub struct CustomerSignIn {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    outbox: Outbox,
    throttle: Throttle,
    queue: FairQueue<Origin>,
}

impl fmt::Debug for CustomerSignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomerSignIn").finish_non_exhaustive()
    }
}

impl CustomerSignIn {
    /// Creates the sign-in for the customers of a ledger.
    #[must_use]
    pub fn new(ledger: Ledger, clock: Arc<dyn Clock>, outbox: Outbox) -> Self {
        // Hashing may use half of the processors; the other half serves data.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let queue = FairQueue::new((processors / 2).max(1));
        Self { ledger, clock, outbox, throttle: Throttle::default(), queue }
    }

    /// Checks a password. An unknown username takes the same time as a known one.
    async fn is_right(&self, origin: Origin, password: &Password) -> Result<bool, Error> {
        let hash = self.ledger.password_hash().await.map_err(unavailable)?;
        let turn = self.queue.turn(origin).await.map_err(|_| {
            // A full queue is no failure of the bank, so it is not logged.
            Error::unavailable().retry_at(Timestamp::from(self.clock.now() + BUSY_DELAY))
        })?;
        let password = password.clone();
        // Hashing takes some milliseconds and must not block other requests. The turn ends with the
        // hash, even if the caller has disconnected meanwhile.
        let checked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            hash.is_some_and(|hash| hash.matches(password.expose()))
        });
        checked.await.map_err(Error::internal)
    }

    async fn user(&self, id: &UserId) -> Result<User, Error> {
        let found = self.ledger.user(id).await.map_err(unavailable)?;
        found.ok_or_else(|| Error::internal("a sign-in names a user that does not exist"))
    }
}

#[async_trait]
impl SignInMethods for CustomerSignIn {
    async fn check_password(
        &self,
        origin: &SignInOrigin,
        username: &Username,
        password: &Password,
    ) -> Result<Option<UserId>, Error> {
        let (origin, username) = (Origin::of(origin), username.expose());
        // Counted before the check, so that concurrent guesses cannot share one attempt.
        let attempt = self.throttle.begin(&origin, username, self.clock.now());
        let attempt = attempt.map_err(Error::too_many_requests)?;
        if username.len() > MAX_INPUT_BYTES || password.expose().len() > MAX_INPUT_BYTES {
            return Ok(None);
        }
        let checked = async {
            let is_right = self.is_right(origin, password).await?;
            let user = self.ledger.user_by_name(username).await.map_err(unavailable)?;
            // For a locked customer, the right password must look like a wrong one.
            Ok(user.filter(|user| is_right && !scenario::is_locked(&user.username)))
        };
        match checked.await {
            Ok(Some(user)) => {
                self.throttle.right(&attempt);
                Ok(Some(user.user_id))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                self.throttle.unchecked(&attempt);
                Err(error)
            }
        }
    }

    async fn factors(&self, user: &UserId) -> Result<Vec<Factor>, Error> {
        let user = self.user(user).await?;
        let id = |text| DeliveryId::new(text).map_err(Error::internal);
        Ok(match scenario::of(&user.username).map(|scenario| scenario.factor) {
            None | Some(ScenarioFactor::None | ScenarioFactor::Locked) => vec![],
            Some(ScenarioFactor::Totp) => vec![Factor::Totp],
            Some(ScenarioFactor::Otp) => vec![Factor::Otp(vec![
                Delivery::new(id("sms-1")?, DeliveryMethod::Sms, "+1 ••• ••• 0142"),
                Delivery::new(id("email-1")?, DeliveryMethod::Email, "u•••@mail.example"),
            ])],
            Some(ScenarioFactor::Kba) => {
                let questions = QUESTIONS.iter().map(|(id, text, choices, _)| {
                    let id = QuestionId::new(id).map_err(Error::internal)?;
                    let mut question = Question::new(id, *text);
                    question.choices = choices.iter().map(|choice| (*choice).to_owned()).collect();
                    Ok(question)
                });
                vec![Factor::Kba(questions.collect::<Result<_, Error>>()?)]
            }
        })
    }

    async fn send_otp(&self, user: &UserId, _: &Delivery, code: &OneTimeCode) -> Result<(), Error> {
        let user = self.user(user).await?;
        // The demo "sends" the code by printing it, where the operator of the bank reads it.
        (self.outbox)(&format!("sent to {}: {}", user.username, code.expose()));
        Ok(())
    }

    async fn check_kba(&self, _: &UserId, answers: &[KbaAnswerEntry]) -> Result<bool, Error> {
        let plain = |text: &str| text.trim().to_lowercase();
        let right = QUESTIONS.iter().fold(Choice::from(1), |right, (id, .., answer)| {
            let given = answers.iter().find(|entry| entry.question_id.as_str() == *id);
            let given = given.map(|entry| plain(entry.answer.expose())).unwrap_or_default();
            right & given.as_bytes().ct_eq(plain(answer).as_bytes())
        });
        Ok(right.into())
    }

    async fn totp_secret(&self, _: &UserId) -> Result<TotpSecret, Error> {
        TotpSecret::from_base32(TOTP_SECRET)
            .ok_or_else(|| Error::internal("the TOTP secret is not base32"))
    }
}

fn unavailable(error: LedgerError) -> Error {
    Error::unavailable().with_source(error)
}
