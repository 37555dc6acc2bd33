//! Visits after the password check: one authorization request on its way through the pages, in one
//! browser tab.
//!
//! Before that check, the sign-in page carries its request sealed ([`px_server::visits`]) and no
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
pub(super) const VISIT_LIFETIME: TimeDelta = TimeDelta::minutes(10);
/// Time during which a form that is sent twice gets the same response.
const RESUBMIT_WINDOW: TimeDelta = TimeDelta::seconds(10);
/// Maximum number of visits; the oldest is evicted first.
const MAX_VISITS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
/// Maximum number of visits of one user; the user's oldest is evicted first.
const MAX_VISITS_OF_USER: usize = 5;

/// The current step of a visit.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The user must answer a challenge. `sent` is true once a code was sent.
    Challenge { challenge: Box<Challenge>, sent: bool },
    /// The user has signed in and must consent or decline.
    Consent { user: Box<User>, accounts: Vec<Account> },
    /// The user has consented or declined.
    Decided(Decided),
}

/// The redirect after a decision, and its time.
#[derive(Clone, Debug)]
pub(super) struct Decided {
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
    /// Whether a request is processing the decision.
    claimed: bool,
}

/// The result of looking up the visit of a form.
#[derive(Debug)]
pub(super) enum VisitLookup {
    /// The visit can continue.
    Visit(Box<Visit>),
    /// The user decided a moment ago. The form gets the same response again.
    Decided(Decided),
    /// The user decided earlier, or another request is processing the decision.
    Over,
    /// There is no such visit, it has expired, or the form is not from its page.
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
            until: self.clock.now() + VISIT_LIFETIME,
            claimed: false,
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

    /// Looks up the visit of a form, and checks the cookie and the CSRF token.
    pub(super) fn find(&self, id: &str, secret: &str, csrf: &str) -> VisitLookup {
        let now = self.clock.now();
        let mut visits = self.visits();
        let Some(visit) = visits.get(id) else {
            return VisitLookup::Unknown;
        };
        let same = |a: &str, b: &str| a.as_bytes().ct_eq(b.as_bytes());
        let right: bool = (same(&visit.secret, secret) & same(&visit.csrf, csrf)).into();
        if !right || visit.until <= now {
            return VisitLookup::Unknown;
        }
        match &visit.step {
            Step::Decided(decided) if now - decided.at < RESUBMIT_WINDOW => {
                VisitLookup::Decided(decided.clone())
            }
            Step::Decided(_) => VisitLookup::Over,
            _ if visit.claimed => VisitLookup::Over,
            _ => {
                let mut visit = visit.clone();
                visit.new_cookie = None;
                VisitLookup::Visit(Box::new(visit))
            }
        }
    }

    /// Moves a visit to its next step, with a new cookie and a new CSRF token; the previous ones
    /// become invalid. Returns `None` if the visit does not exist any more.
    pub(super) fn advance(&self, visit: &mut Visit, step: Step) -> Option<()> {
        visit.secret = random::secret(&*self.random);
        visit.csrf = random::secret(&*self.random);
        visit.new_cookie = Some(visit.secret.clone());
        visit.until = self.clock.now() + VISIT_LIFETIME;
        visit.step = step;
        let mut visits = self.visits();
        let stored = visits.get_mut(&visit.id)?;
        *stored = visit.clone();
        Some(())
    }

    /// Claims the decision for this request. Returns `false` if another request has claimed it.
    pub(super) fn claim(&self, visit: &mut Visit) -> bool {
        let mut visits = self.visits();
        let free =
            |stored: &&mut Visit| !stored.claimed && matches!(stored.step, Step::Consent { .. });
        match visits.get_mut(&visit.id).filter(free) {
            Some(stored) => {
                stored.claimed = true;
                true
            }
            None => false,
        }
    }

    /// Releases the claim, because the decision could not be stored. The user may try again.
    pub(super) fn release(&self, visit: &Visit) {
        if let Some(stored) = self.visits().get_mut(&visit.id) {
            stored.claimed = false;
        }
    }

    pub(super) fn record_decision(&self, visit: &Visit, location: &str) {
        let at = self.clock.now();
        if let Some(stored) = self.visits().get_mut(&visit.id) {
            stored.step = Step::Decided(Decided { location: location.to_owned(), at });
        }
    }
}
