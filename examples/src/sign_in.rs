//! Who may sign in, with what: for the pages and for credentials mode.

use crate::{
    ledger::{Ledger, LedgerError, read::User},
    scenario::{self, Factor as Needs, QUESTIONS, TOTP_SECRET},
};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use lru::LruCache;
use px_core::Clock;
use px_server::{
    Error,
    credentials::{Factor, SignInMethods, TotpSecret},
};
use px_types::{
    DeliveryId, OneTimeCode, Password, QuestionId, UserId, Username,
    model::sign_in::{Delivery, DeliveryMethod, Question},
    partner::KbaAnswerEntry,
};
use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};
use subtle::{Choice, ConstantTimeEq as _};

/// Wrong passwords in a row after which a name has to wait.
const TRIES: u32 = 10;
/// How long it waits, from the last of them.
const WAIT: TimeDelta = TimeDelta::minutes(1);
/// The names whose tries are remembered.
const NAMES: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Takes lines that the bank "sends" to its users.
pub type Outbox = Arc<dyn Fn(&str) + Send + Sync>;

/// How a sign-in with a password ended.
#[derive(Clone, Debug)]
pub enum Attempt {
    /// It is the user.
    User(User),
    /// The name or the password is wrong.
    Wrong,
    /// The user is locked out.
    Locked,
    /// Too many wrong passwords; the name has to wait a minute.
    Wait,
}

/// Who may sign in, with what.
pub struct Doors {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    outbox: Outbox,
    tries: Mutex<LruCache<String, (u32, DateTime<Utc>)>>,
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doors").finish_non_exhaustive()
    }
}

impl Doors {
    /// The doors of a ledger's users.
    #[must_use]
    pub fn new(ledger: Ledger, clock: Arc<dyn Clock>, outbox: Outbox) -> Self {
        Self { ledger, clock, outbox, tries: Mutex::new(LruCache::new(NAMES)) }
    }

    /// Tries a name and a password. Unknown names are counted, and cost time, like known ones.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn attempt(&self, username: &str, password: &str) -> Result<Attempt, LedgerError> {
        let now = self.clock.now();
        if self.has_to_wait(username, now) {
            return Ok(Attempt::Wait);
        }
        let right = self.ledger.check_password(password).await?;
        let user = self.ledger.user_by_name(username).await?;
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        match user.filter(|_| right) {
            None => {
                let (count, last) = tries.get_or_insert_mut(username.to_owned(), || (0, now));
                (*count, *last) = (*count + 1, now);
                Ok(Attempt::Wrong)
            }
            Some(user) if scenario::is_locked(&user.username) => Ok(Attempt::Locked),
            Some(user) => {
                tries.pop(username);
                Ok(Attempt::User(user))
            }
        }
    }

    fn has_to_wait(&self, username: &str, now: DateTime<Utc>) -> bool {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        match tries.get(username) {
            Some((count, last)) if *count >= TRIES => {
                let waits = now - *last < WAIT;
                if !waits {
                    tries.pop(username);
                }
                waits
            }
            _ => false,
        }
    }

    async fn user(&self, id: &UserId) -> Result<User, Error> {
        let found = self.ledger.user(id).await.map_err(unavailable)?;
        found.ok_or_else(|| Error::internal("a sign-in names a user that the bank has not"))
    }
}

#[async_trait]
impl SignInMethods for Doors {
    async fn check_password(
        &self,
        username: &Username,
        password: &Password,
    ) -> Result<Option<UserId>, Error> {
        let attempt = self.attempt(username.expose(), password.expose()).await;
        match attempt.map_err(unavailable)? {
            Attempt::User(user) => Ok(Some(user.user_id)),
            Attempt::Wrong => Ok(None),
            Attempt::Locked | Attempt::Wait => Err(Error::user_locked()),
        }
    }

    async fn factors(&self, user: &UserId) -> Result<Vec<Factor>, Error> {
        let user = self.user(user).await?;
        let id = |text| DeliveryId::new(text).map_err(Error::internal);
        Ok(match scenario::of(&user.username).map(|scenario| scenario.factor) {
            None | Some(Needs::None | Needs::Locked) => vec![],
            Some(Needs::Totp) => vec![Factor::Totp],
            Some(Needs::Otp) => vec![Factor::Otp(vec![
                Delivery::new(id("sms-1")?, DeliveryMethod::Sms, "+1 ••• ••• 0142"),
                Delivery::new(id("email-1")?, DeliveryMethod::Email, "u•••@mail.example"),
            ])],
            Some(Needs::Kba) => {
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
        // The demo's way of sending: whoever runs the bank reads it there.
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
