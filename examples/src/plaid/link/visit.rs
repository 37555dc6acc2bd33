//! Visits: one link token on its way through the pages, in one browser.
//!
//! A visit is of the process that opened it, and ends with it; the link token is spent by then,
//! and the application makes another one. What must outlive a restart is in the store.

use super::{super::order::Order, view::Message};
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

/// How long a visit lives from its latest step.
pub(super) const LIFE: TimeDelta = TimeDelta::minutes(30);
/// The visits that are kept; the oldest goes first.
const MOST: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

type Digest = [u8; 32];

/// Where a visit stands.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The user is told who asks.
    Welcome,
    /// The user has yet to choose a bank.
    Choose,
    /// The user was sent to a bank and has not come back.
    AtBank(InstitutionId, Box<PendingAuthorization>),
    /// The user signs in here.
    SignIn(InstitutionId, String),
    /// The bank sends a code; where to?
    Delivery(InstitutionId, OtpStep),
    /// It has sent one, to an address; another one can be sent.
    Code(InstitutionId, OtpSent, String, OtpStep),
    /// The bank asks questions.
    Answers(InstitutionId, KbaStep),
    /// The bank asks for the code of a device.
    Totp(InstitutionId, TotpStep),
    /// The user has signed in here and picks accounts.
    Accounts(InstitutionId, Box<Authorized>),
    /// A bank's user is asked whether the application may come in.
    Consent,
    /// The application is connected.
    Done(Box<Connected>),
    /// The user left.
    Ended,
}

/// What a user's sign-in gave.
#[derive(Clone, Debug)]
pub(in super::super) struct Authorized {
    pub(in super::super) tokens: TokenSet,
    pub(in super::super) user_id: UserId,
    pub(in super::super) accounts: Vec<Account>,
}

/// What came of a visit.
#[derive(Clone, Debug)]
pub(super) struct Connected {
    pub(super) institution: InstitutionId,
    pub(super) accounts: Vec<Account>,
    /// For the application, where the browser takes it there.
    pub(super) public_token: Option<PublicToken>,
}

/// A visit, as a request that has it to itself sees it.
#[derive(Debug)]
pub(super) struct Visit {
    /// What it is about.
    pub(super) order: Order,
    /// The token that opened it: spent, it tells the application which session it was.
    pub(super) link_token: LinkToken,
    pub(super) step: Step,
    /// How often in a row a challenge was answered wrongly.
    pub(super) wrong: u8,
    /// What the next page says.
    pub(super) message: Option<Message>,
}

/// A visit that is kept, with what its browser must show.
#[derive(Clone, Debug)]
pub(super) struct Kept {
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
    kept: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    visits: LruCache<String, Kept>,
    /// By which link token a visit was opened.
    tokens: LruCache<Digest, String>,
    /// Which visit waits for an answer with a `state`.
    states: LruCache<Digest, String>,
}

fn digest(text: &str) -> Digest {
    *px_core::Digest::of(text).as_bytes()
}

impl Visits {
    pub(super) fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let books = Books {
            visits: LruCache::new(MOST),
            tokens: LruCache::new(MOST),
            states: LruCache::new(MOST),
        };
        Self { clock, random, kept: Mutex::new(books) }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Each change is complete before anything can panic, so a poisoned lock is sound.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the visit of a link token that was taken just now.
    pub(super) fn begin(&self, link_token: LinkToken, order: Order, step: Step) -> Kept {
        let token = digest(link_token.expose());
        let visit = Visit { order, link_token, step, wrong: 0, message: None };
        let kept = Kept {
            id: random::secret(&*self.random),
            csrf: random::secret(&*self.random),
            secret: random::secret(&*self.random),
            visit: Arc::new(AsyncMutex::new(visit)),
            token,
            until: self.clock.now() + LIFE,
        };
        let mut books = self.books();
        books.tokens.put(token, kept.id.clone());
        books.visits.put(kept.id.clone(), kept.clone());
        kept
    }

    /// The visit that a link token opened, in the browser that opened it.
    pub(super) fn of_token(
        &self,
        token: &LinkToken,
        cookie: impl Fn(&str) -> Option<String>,
    ) -> Option<Kept> {
        let id = self.books().tokens.get(&digest(token.expose())).cloned()?;
        self.find(&id, cookie)
    }

    /// A visit, in the browser that opened it. It lives on from now.
    pub(super) fn find(&self, id: &str, cookie: impl Fn(&str) -> Option<String>) -> Option<Kept> {
        let secret = cookie(id).unwrap_or_default();
        let now = self.clock.now();
        let mut books = self.books();
        let kept = books.visits.get_mut(id)?;
        let right = constant_time_eq(kept.secret.as_bytes(), secret.as_bytes());
        if !right || kept.until <= now {
            return None;
        }
        kept.until = now + LIFE;
        Some(kept.clone())
    }

    /// The user goes to a bank, and comes back with this `state`.
    pub(super) fn expect(&self, id: &str, state: &str) {
        self.books().states.put(digest(state), id.to_owned());
    }

    /// The visit that an answer with a `state` is for. That it serves once is the visit's matter.
    pub(super) fn expecting(&self, state: &str) -> Option<String> {
        self.books().states.get(&digest(state)).cloned()
    }

    /// A visit is over: nothing of it is kept.
    pub(super) fn forget(&self, kept: &Kept) {
        let mut books = self.books();
        books.visits.pop(&kept.id);
        books.tokens.pop(&kept.token);
    }
}

impl Kept {
    /// Whether a form came from a page of this visit.
    pub(super) fn is_from_its_page(&self, csrf: &str) -> bool {
        constant_time_eq(self.csrf.as_bytes(), csrf.as_bytes())
    }
}

impl Step {
    /// The bank, once there is one.
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
