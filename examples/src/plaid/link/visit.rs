//! Visits: one link token on its way through the pages, in one browser.
//!
//! A visit exists in the process that opened it, and ends with it. The link token is used up then,
//! and the application creates another. State that must survive a restart is in the store.

use super::{super::link_request::LinkRequest, view::Message};
use chrono::{DateTime, TimeDelta, Utc};
use lru::LruCache;
use px_client::{
    credentials::{KbaStep, OtpSent, OtpStep, TotpStep},
    oauth::{PendingAuthorization, TokenSet},
};
use px_core::{Clock, Random, digest::constant_time_eq, random};
use px_types::{InstitutionId, LinkToken, PublicToken, UserId, model::account::Account};
use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Mutex as AsyncMutex;

/// Lifetime of a visit, from its latest step.
pub(super) const VISIT_LIFETIME: TimeDelta = TimeDelta::minutes(30);
/// Maximum number of visits; the oldest is evicted first.
const MAX_VISITS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

type Digest = [u8; 32];

/// The current step of a visit.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The page names the application and the requested data.
    Welcome,
    /// The user has yet to choose a bank.
    Choose,
    /// The user was sent to a bank and has not returned.
    AtBank(InstitutionId, Box<PendingAuthorization>),
    /// The user signs in here.
    SignIn(InstitutionId, String),
    /// The user must choose where the bank sends a code.
    Delivery(InstitutionId, OtpStep),
    /// The bank has sent a code to the address. Another one can be requested.
    Code(InstitutionId, OtpSent, String, OtpStep),
    /// The user must answer security questions.
    Answers(InstitutionId, KbaStep),
    /// The user must enter a code from a device.
    Totp(InstitutionId, TotpStep),
    /// The user has signed in here and selects accounts.
    Accounts(InstitutionId, Box<Authorized>),
    /// A bank's user must consent to the application.
    Consent,
    /// The application is connected.
    Done(Box<Connected>),
    /// The user cancelled.
    Ended,
}

/// The result of a user's sign-in.
#[derive(Clone, Debug)]
pub(in super::super) struct Authorized {
    pub(in super::super) tokens: TokenSet,
    pub(in super::super) user_id: UserId,
    pub(in super::super) accounts: Vec<Account>,
}

/// The result of a visit.
#[derive(Clone, Debug)]
pub(super) struct Connected {
    pub(super) institution: InstitutionId,
    pub(super) accounts: Vec<Account>,
    /// The public token that the redirect brings to the application, if there is one.
    pub(super) public_token: Option<PublicToken>,
}

/// The state of a visit, which one request locks at a time.
#[derive(Debug)]
pub(super) struct Visit {
    /// The content of the link token.
    pub(super) link_request: LinkRequest,
    /// The token that opened the visit. It is used up; the application recognizes its session by
    /// it.
    pub(super) link_token: LinkToken,
    pub(super) step: Step,
    /// The number of successive wrong answers to challenges.
    pub(super) wrong: u8,
    /// The message of the next page.
    pub(super) message: Option<Message>,
}

/// A stored visit, with the secrets that its browser must show.
#[derive(Clone, Debug)]
pub(super) struct StoredVisit {
    pub(super) id: String,
    pub(super) csrf: String,
    /// The value of the browser's cookie.
    pub(super) secret: String,
    pub(super) visit: Arc<AsyncMutex<Visit>>,
    token: Digest,
    until: DateTime<Utc>,
}

/// All visits.
#[derive(Debug)]
pub(super) struct Visits {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    index: Mutex<VisitIndex>,
}

#[derive(Debug)]
struct VisitIndex {
    visits: LruCache<String, StoredVisit>,
    /// The visit that each link token opened.
    tokens: LruCache<Digest, String>,
    /// The visit that waits for a callback with each `state`.
    states: LruCache<Digest, String>,
}

fn digest(text: &str) -> Digest {
    *px_core::Digest::of(text).as_bytes()
}

impl Visits {
    pub(super) fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let index = VisitIndex {
            visits: LruCache::new(MAX_VISITS),
            tokens: LruCache::new(MAX_VISITS),
            states: LruCache::new(MAX_VISITS),
        };
        Self { clock, random, index: Mutex::new(index) }
    }

    fn index(&self) -> MutexGuard<'_, VisitIndex> {
        // Each change is complete before anything can panic, so a poisoned lock is sound.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the visit of a link token that was just taken.
    pub(super) fn begin(
        &self,
        link_token: LinkToken,
        link_request: LinkRequest,
        step: Step,
    ) -> StoredVisit {
        let token = digest(link_token.expose());
        let visit = Visit { link_request, link_token, step, wrong: 0, message: None };
        let stored = StoredVisit {
            id: random::secret(&*self.random),
            csrf: random::secret(&*self.random),
            secret: random::secret(&*self.random),
            visit: Arc::new(AsyncMutex::new(visit)),
            token,
            until: self.clock.now() + VISIT_LIFETIME,
        };
        let mut index = self.index();
        index.tokens.put(token, stored.id.clone());
        index.visits.put(stored.id.clone(), stored.clone());
        stored
    }

    /// Returns the visit that a link token opened, in the browser that opened it.
    pub(super) fn of_token(
        &self,
        token: &LinkToken,
        cookie: impl Fn(&str) -> Option<String>,
    ) -> Option<StoredVisit> {
        let id = self.index().tokens.get(&digest(token.expose())).cloned()?;
        self.find(&id, cookie)
    }

    /// Returns a visit in the browser that opened it, and prolongs it.
    pub(super) fn find(
        &self,
        id: &str,
        cookie: impl Fn(&str) -> Option<String>,
    ) -> Option<StoredVisit> {
        let secret = cookie(id).unwrap_or_default();
        let now = self.clock.now();
        let mut index = self.index();
        let stored = index.visits.get_mut(id)?;
        let right = constant_time_eq(stored.secret.as_bytes(), secret.as_bytes());
        if !right || stored.until <= now {
            return None;
        }
        stored.until = now + VISIT_LIFETIME;
        Some(stored.clone())
    }

    /// Records the `state` with which the user will return from a bank.
    pub(super) fn expect_state(&self, id: &str, state: &str) {
        self.index().states.put(digest(state), id.to_owned());
    }

    /// Returns the visit that waits for a callback with a `state`. The visit itself accepts the
    /// callback only once.
    pub(super) fn by_state(&self, state: &str) -> Option<String> {
        self.index().states.get(&digest(state)).cloned()
    }

    /// Removes a visit.
    pub(super) fn forget(&self, stored: &StoredVisit) {
        let mut index = self.index();
        index.visits.pop(&stored.id);
        index.tokens.pop(&stored.token);
    }
}

impl StoredVisit {
    /// Returns whether a form came from a page of this visit.
    pub(super) fn is_from_its_page(&self, csrf: &str) -> bool {
        constant_time_eq(self.csrf.as_bytes(), csrf.as_bytes())
    }
}

impl Step {
    /// Returns the bank, once it is chosen.
    pub(super) fn institution(&self) -> Option<&InstitutionId> {
        match self {
            Self::AtBank(bank, _)
            | Self::SignIn(bank, _)
            | Self::Delivery(bank, _)
            | Self::Code(bank, ..)
            | Self::Answers(bank, _)
            | Self::Totp(bank, _)
            | Self::Accounts(bank, _) => Some(bank),
            Self::Done(connected) => Some(&connected.institution),
            Self::Welcome | Self::Choose | Self::Consent | Self::Ended => None,
        }
    }
}
