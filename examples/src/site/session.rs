//! Sessions: who is signed in, in which browser. Kept at the bank; the browser has a secret.
//!
//! A sign-in under way and a session are two things with two cookies: what a browser was given
//! before the sign-in is worth nothing after it. Sessions are in memory, so a restart signs
//! everyone out.

use chrono::{DateTime, TimeDelta, Utc};
use lru::LruCache;
use px_core::{Clock, Random, digest::constant_time_eq, random};
use px_types::{LinkToken, UserId, model::sign_in::Challenge};
use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// How long a session lives without a page being looked at.
const IDLE: TimeDelta = TimeDelta::minutes(15);
/// How long it lives at most.
pub(super) const LIFE: TimeDelta = TimeDelta::hours(8);
/// How long a sign-in may take.
pub(super) const SIGN_IN: TimeDelta = TimeDelta::minutes(10);
/// The sessions that are kept, and the sign-ins; the oldest goes first.
const MOST: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// The digest of a cookie's secret: what is looked up says nothing about what is kept.
type Key = [u8; 32];

fn key(secret: &str) -> Key {
    *px_core::Digest::of(secret).as_bytes()
}

/// Something that the next page says once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// What an application may see was changed.
    Changed(String),
    /// An application is disconnected.
    Disconnected(String),
    /// It will be, as soon as Plaid can be reached.
    Disconnecting(String),
    /// The customer came back from Plaid's page.
    Back { connected: bool },
}

/// Who is signed in.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) user: UserId,
    pub(super) username: String,
    /// What forms carry.
    pub(super) csrf: String,
    key: Key,
    began: DateTime<Utc>,
    used: DateTime<Utc>,
    said: Option<Said>,
    /// The link token with which the customer was sent to Plaid's page, and has not come back.
    sent_with: Option<Key>,
    /// Ends with the session, for what listens.
    open: watch::Sender<bool>,
}

impl Session {
    /// Whether a form is from a page of this session.
    pub(super) fn sent(&self, csrf: &str) -> bool {
        constant_time_eq(self.csrf.as_bytes(), csrf.as_bytes())
    }

    /// Ends when the session does.
    pub(super) fn end(&self) -> watch::Receiver<bool> {
        self.open.subscribe()
    }

    fn is_over(&self, now: DateTime<Utc>) -> bool {
        now - self.began >= LIFE || now - self.used >= IDLE
    }
}

/// A sign-in under way.
#[derive(Clone, Debug)]
pub(super) struct SigningIn {
    pub(super) csrf: String,
    /// Where to go on.
    pub(super) next: &'static str,
    /// What the user must answer yet.
    pub(super) challenge: Option<Challenge>,
    /// Whether a code was sent.
    pub(super) sent: bool,
    key: Key,
    until: DateTime<Utc>,
}

/// All sessions and sign-ins.
pub(super) struct Sessions {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    sessions: Mutex<LruCache<Key, Session>>,
    // Apart from the sessions, so that pages that anyone may open push nobody out.
    entries: Mutex<LruCache<Key, SigningIn>>,
}

impl Sessions {
    pub(super) fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let (sessions, entries) = (LruCache::new(MOST), LruCache::new(MOST));
        Self { clock, random, sessions: Mutex::new(sessions), entries: Mutex::new(entries) }
    }

    fn sessions(&self) -> MutexGuard<'_, LruCache<Key, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries(&self) -> MutexGuard<'_, LruCache<Key, SigningIn>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a sign-in; gives the secret of its cookie.
    pub(super) fn enter(&self, next: &'static str) -> (SigningIn, String) {
        let (secret, csrf) = (random::secret(&*self.random), random::secret(&*self.random));
        let until = self.clock.now() + SIGN_IN;
        let key = key(&secret);
        let entry = SigningIn { csrf, next, challenge: None, sent: false, key, until };
        self.entries().put(key, entry.clone());
        (entry, secret)
    }

    /// The sign-in of a cookie.
    pub(super) fn entry(&self, secret: &str) -> Option<SigningIn> {
        let now = self.clock.now();
        self.entries().get(&key(secret)).filter(|entry| entry.until > now).cloned()
    }

    /// The sign-in of a form and its cookie.
    pub(super) fn entry_of(&self, secret: &str, csrf: &str) -> Option<SigningIn> {
        let entry = self.entry(secret)?;
        constant_time_eq(entry.csrf.as_bytes(), csrf.as_bytes()).then_some(entry)
    }

    /// The sign-in goes on.
    pub(super) fn go_on(&self, entry: &SigningIn) {
        if let Some(kept) = self.entries().get_mut(&entry.key) {
            *kept = entry.clone();
        }
    }

    /// The user is signed in: a session that no secret from before opens. Gives its secret;
    /// `None` when the sign-in is over, or another call was faster.
    pub(super) fn signed_in(
        &self,
        entry: &SigningIn,
        user: UserId,
        username: String,
    ) -> Option<String> {
        let (secret, csrf) = (random::secret(&*self.random), random::secret(&*self.random));
        self.entries().pop(&entry.key)?;
        let (now, key) = (self.clock.now(), key(&secret));
        let (began, used, open) = (now, now, watch::Sender::new(true));
        let (said, sent_with) = (None, None);
        let session = Session { user, username, csrf, key, began, used, said, sent_with, open };
        self.sessions().put(key, session);
        Some(secret)
    }

    /// The session of a cookie.
    pub(super) fn find(&self, secret: &str) -> Option<Session> {
        let now = self.clock.now();
        let key = key(secret);
        let mut sessions = self.sessions();
        let session = sessions.get_mut(&key)?;
        if session.is_over(now) {
            sessions.pop(&key);
            return None;
        }
        session.used = now;
        Some(session.clone())
    }

    /// Whether a session goes on. Unlike looking at a page, asking does not prolong it.
    pub(super) fn goes_on(&self, session: &Session) -> bool {
        let now = self.clock.now();
        self.sessions().peek(&session.key).is_some_and(|session| !session.is_over(now))
    }

    /// The next page of the session says something.
    pub(super) fn say(&self, session: &Session, said: Said) {
        if let Some(kept) = self.sessions().get_mut(&session.key) {
            kept.said = Some(said);
        }
    }

    /// What this page says, once.
    pub(super) fn said(&self, session: &Session) -> Option<Said> {
        self.sessions().get_mut(&session.key)?.said.take()
    }

    /// The customer goes to Plaid's page. Of several such trips the latest counts.
    pub(super) fn sent_to_plaid(&self, session: &Session, token: &LinkToken) {
        if let Some(kept) = self.sessions().get_mut(&session.key) {
            kept.sent_with = Some(key(token.expose()));
        }
    }

    /// Whether a return from Plaid's page is that of the trip that the customer began here. Once:
    /// the trip is over then. A return with another token ends nothing.
    pub(super) fn came_back(&self, session: &Session, token: &str) -> bool {
        let mut sessions = self.sessions();
        let Some(kept) = sessions.get_mut(&session.key) else { return false };
        let same = |sent: &Key| constant_time_eq(sent, &key(token));
        kept.sent_with.take_if(|sent| same(sent)).is_some()
    }

    /// Signs out.
    pub(super) fn sign_out(&self, session: &Session) {
        self.sessions().pop(&session.key);
        session.open.send_replace(false);
    }
}
