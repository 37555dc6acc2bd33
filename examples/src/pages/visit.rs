//! Visits: one authorization request on its way through the pages, in one browser tab.

use crate::ledger::read::User;
use chrono::{DateTime, TimeDelta, Utc};
use lru::LruCache;
use px_core::{Clock, Random, random};
use px_server::oauth::AuthorizationRequest;
use px_types::model::account::Account;
use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use subtle::ConstantTimeEq as _;

/// How long a visit lives from its latest step.
pub(super) const LIFE: TimeDelta = TimeDelta::minutes(10);
/// How long an answer is given again to a form that was sent twice.
const TWICE: TimeDelta = TimeDelta::seconds(10);
/// The visits that are kept; the oldest goes first.
const MOST: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Where a visit stands.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The user has yet to sign in.
    SignIn { username: String },
    /// The user has signed in and is asked.
    Consent { user: Box<User>, accounts: Vec<Account> },
    /// The user was answered.
    Answered(Answered),
}

/// Where the user was sent, and when.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) location: String,
    at: DateTime<Utc>,
}

/// A visit.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) id: String,
    pub(super) csrf: String,
    pub(super) request: AuthorizationRequest,
    pub(super) step: Step,
    /// The secret of the browser's cookie, where it must be set anew.
    pub(super) new_cookie: Option<String>,
    secret: String,
    until: DateTime<Utc>,
    /// Whether a call is answering it at the moment.
    taken: bool,
}

/// What a form's visit is.
#[derive(Debug)]
pub(super) enum Found {
    /// It goes on.
    Visit(Box<Visit>),
    /// It was answered a moment ago; the same answer is due.
    Answered(Answered),
    /// It was answered long ago, or is being answered.
    Over,
    /// There is none, it is over, or the form is not from its page.
    Unknown,
}

/// All visits.
pub(super) struct Visits {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    visits: Mutex<LruCache<String, Visit>>,
}

impl Visits {
    pub(super) fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { clock, random, visits: Mutex::new(LruCache::new(MOST)) }
    }

    fn visits(&self) -> MutexGuard<'_, LruCache<String, Visit>> {
        // Each change is complete before anything can panic, so a poisoned lock is sound.
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, request: AuthorizationRequest) -> Visit {
        let secret = random::secret(&*self.random);
        let visit = Visit {
            id: random::secret(&*self.random),
            csrf: random::secret(&*self.random),
            request,
            step: Step::SignIn { username: String::new() },
            new_cookie: Some(secret.clone()),
            secret,
            until: self.clock.now() + LIFE,
            taken: false,
        };
        self.visits().put(visit.id.clone(), visit.clone());
        visit
    }

    /// The visit of a form, if cookie and token are those of its page.
    pub(super) fn find(&self, id: &str, secret: &str, csrf: &str) -> Found {
        let now = self.clock.now();
        let mut visits = self.visits();
        let Some(visit) = visits.get(id) else {
            return Found::Unknown;
        };
        let same = |a: &str, b: &str| a.as_bytes().ct_eq(b.as_bytes());
        let right: bool = (same(&visit.secret, secret) & same(&visit.csrf, csrf)).into();
        if !right || visit.until <= now {
            return Found::Unknown;
        }
        match &visit.step {
            Step::Answered(answered) if now - answered.at < TWICE => {
                Found::Answered(answered.clone())
            }
            Step::Answered(_) => Found::Over,
            _ if visit.taken => Found::Over,
            _ => {
                let mut visit = visit.clone();
                visit.new_cookie = None;
                Found::Visit(Box::new(visit))
            }
        }
    }

    /// The user signed in: the visit goes on with a new cookie and a new token, so that
    /// neither is one that was known before.
    pub(super) fn signed_in(
        &self,
        visit: &mut Visit,
        user: User,
        accounts: Vec<Account>,
    ) -> Option<()> {
        visit.secret = random::secret(&*self.random);
        visit.csrf = random::secret(&*self.random);
        visit.new_cookie = Some(visit.secret.clone());
        visit.until = self.clock.now() + LIFE;
        visit.step = Step::Consent { user: Box::new(user), accounts };
        let mut visits = self.visits();
        let stored = visits.get_mut(&visit.id)?;
        *stored = visit.clone();
        Some(())
    }

    /// Makes an answer this call's alone; `false` when another call has it.
    pub(super) fn take(&self, visit: &mut Visit) -> bool {
        let mut visits = self.visits();
        let free =
            |stored: &&mut Visit| !stored.taken && matches!(stored.step, Step::Consent { .. });
        match visits.get_mut(&visit.id).filter(free) {
            Some(stored) => {
                stored.taken = true;
                true
            }
            None => false,
        }
    }

    /// The answer failed; the user may try again.
    pub(super) fn give_back(&self, visit: &Visit) {
        if let Some(stored) = self.visits().get_mut(&visit.id) {
            stored.taken = false;
        }
    }

    pub(super) fn answered(&self, visit: &Visit, location: &str) {
        let at = self.clock.now();
        if let Some(stored) = self.visits().get_mut(&visit.id) {
            stored.step = Step::Answered(Answered { location: location.to_owned(), at });
        }
    }
}
