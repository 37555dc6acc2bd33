//! Visits after the password: one authorization request on its way through the pages, in one browser
//! tab.
//!
//! Before the password, the sign-in page carries its request sealed ([`px_server::visits`]) and no
//! visit exists. Visits are bounded per user, so that one user cannot evict another's.

use crate::ledger::read::User;
use chrono::{DateTime, TimeDelta, Utc};
use lru::LruCache;
use px_core::{Clock, Random, random};
use px_server::oauth::AuthorizationRequest;
use px_types::{
    UserId,
    model::{account::Account, sign_in::Challenge},
};
use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use subtle::ConstantTimeEq as _;

/// Lifetime of a visit, from its latest step.
pub(super) const LIFE: TimeDelta = TimeDelta::minutes(10);
/// Time during which a form that is sent twice gets the same response.
const TWICE: TimeDelta = TimeDelta::seconds(10);
/// Maximum number of visits; the oldest is evicted first.
const MAX_VISITS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
/// Maximum number of visits of one user; the user's oldest is evicted first.
const MAX_VISITS_OF_USER: usize = 5;

/// The current step of a visit.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The user must answer a challenge. `sent` says whether a code was sent.
    Challenge { challenge: Box<Challenge>, sent: bool },
    /// The user has signed in and decides.
    Consent { user: Box<User>, accounts: Vec<Account> },
    /// The user has decided.
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
    /// The secret of the browser's cookie, if the page must set it.
    pub(super) new_cookie: Option<String>,
    user: UserId,
    secret: String,
    until: DateTime<Utc>,
    /// Whether a request is deciding it at the moment.
    taken: bool,
}

/// What a form's visit is.
#[derive(Debug)]
pub(super) enum Found {
    /// It goes on.
    Visit(Box<Visit>),
    /// It was decided a moment ago; the same response is due.
    Answered(Answered),
    /// It was decided long ago, or is being decided.
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
        Self { clock, random, visits: Mutex::new(LruCache::new(MAX_VISITS)) }
    }

    fn visits(&self) -> MutexGuard<'_, LruCache<String, Visit>> {
        // Each change is complete before anything can panic, so a poisoned lock is sound.
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the visit of a user who gave the right password.
    pub(super) fn begin(&self, request: AuthorizationRequest, user: UserId, step: Step) -> Visit {
        let secret = random::secret(&*self.random);
        let visit = Visit {
            id: random::secret(&*self.random),
            csrf: random::secret(&*self.random),
            request,
            step,
            new_cookie: Some(secret.clone()),
            user,
            secret,
            until: self.clock.now() + LIFE,
            taken: false,
        };
        let mut visits = self.visits();
        // The latest ones come first.
        let of_user = visits.iter().filter(|(_, other)| other.user == visit.user);
        let oldest = of_user.skip(MAX_VISITS_OF_USER - 1).map(|(id, _)| id.clone());
        for id in oldest.collect::<Vec<_>>() {
            visits.pop(&id);
        }
        visits.put(visit.id.clone(), visit.clone());
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

    /// Moves a visit to its next step, with a new cookie and a new token: those of the step before
    /// are worth nothing. Returns `None` if the visit is over.
    pub(super) fn go_on(&self, visit: &mut Visit, step: Step) -> Option<()> {
        visit.secret = random::secret(&*self.random);
        visit.csrf = random::secret(&*self.random);
        visit.new_cookie = Some(visit.secret.clone());
        visit.until = self.clock.now() + LIFE;
        visit.step = step;
        let mut visits = self.visits();
        let stored = visits.get_mut(&visit.id)?;
        *stored = visit.clone();
        Some(())
    }

    /// Claims the decision for this request. Returns `false` if another request has it.
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

    /// The decision could not be stored; the user may try again.
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
