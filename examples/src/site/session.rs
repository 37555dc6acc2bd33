//! Sessions: who is signed in, in which browser. Kept at the bank; the browser has a secret.
//!
//! A sign-in under way and a session are two things with two cookies: what a browser was given
//! before the sign-in is worth nothing after it. Until the password was right, the sign-in page
//! carries its state sealed ([`px_server::visits`]) and takes no memory. Sessions are in memory, so
//! a restart signs everyone out.

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
/// Maximum number of sessions, and of sign-ins under way, of one user; the user's oldest is evicted
/// first.
const MAX_OF_USER: usize = 10;
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

/// A sign-in under way: the password was right.
#[derive(Clone, Debug)]
pub(super) struct SigningIn {
    pub(super) csrf: String,
    /// Page to which the sign-in leads.
    pub(super) next: &'static str,
    /// Challenge that the user must answer.
    pub(super) challenge: Challenge,
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

    /// Begins the sign-in of a user who has to answer a challenge. Returns the secret of its cookie.
    pub(super) fn enter(&self, next: &'static str, challenge: Challenge) -> (SigningIn, String) {
        let (secret, csrf) = (random::secret(&*self.random), random::secret(&*self.random));
        let until = self.clock.now() + SIGN_IN;
        let key = key(&secret);
        let entry = SigningIn { csrf, next, challenge, sent: false, key, until };
        let mut entries = self.entries();
        let user = &entry.challenge.user_id;
        make_room(&mut entries, |other| other.challenge.user_id == *user);
        entries.put(key, entry.clone());
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

    /// Stores the state of a sign-in.
    pub(super) fn go_on(&self, entry: &SigningIn) {
        if let Some(kept) = self.entries().get_mut(&entry.key) {
            *kept = entry.clone();
        }
    }

    /// Ends a sign-in under way. Returns `false` if it is over, or another request was faster.
    pub(super) fn leave(&self, entry: &SigningIn) -> bool {
        self.entries().pop(&entry.key).is_some()
    }

    /// Opens a session with a new secret, which it returns.
    pub(super) fn signed_in(&self, user: UserId, username: String) -> String {
        let (secret, csrf) = (random::secret(&*self.random), random::secret(&*self.random));
        let (now, key) = (self.clock.now(), key(&secret));
        let (began, used, open) = (now, now, watch::Sender::new(true));
        let (said, sent_with) = (None, None);
        let session = Session { user, username, csrf, key, began, used, said, sent_with, open };
        let mut sessions = self.sessions();
        make_room(&mut sessions, |other| other.user == session.user);
        sessions.put(key, session);
        secret
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

/// Evicts the oldest entries of a user who has the maximum number.
fn make_room<T>(all: &mut LruCache<Key, T>, is_users: impl Fn(&T) -> bool) {
    // The latest ones come first.
    let of_user = all.iter().filter(|(_, one)| is_users(one));
    let oldest: Vec<Key> = of_user.skip(MAX_OF_USER - 1).map(|(key, _)| *key).collect();
    for key in oldest {
        all.pop(&key);
    }
}
