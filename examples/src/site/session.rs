//! Sessions of signed-in users. The state is at the bank; the browser has a secret in a cookie.
//!
//! A pending sign-in and a session have different cookies, so a cookie from before the sign-in is
//! worth nothing after it. Until the password is checked, the sign-in page carries its state sealed
//! ([`px_server::visits`]) and takes no memory. Sessions are in memory, so a restart signs everyone
//! out.

use chrono::{DateTime, TimeDelta, Utc};
use lru::LruCache;
use px_core::{Clock, Random, digest::constant_time_eq, random};
use px_types::{LinkToken, UserId, model::sign_in::Challenge};
use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Time after which a session without requests ends.
const IDLE_TIMEOUT: TimeDelta = TimeDelta::minutes(15);
/// Maximum lifetime of a session.
pub(super) const MAX_SESSION_AGE: TimeDelta = TimeDelta::hours(8);
/// Time limit of a sign-in.
pub(super) const SIGN_IN_TIMEOUT: TimeDelta = TimeDelta::minutes(10);
/// Maximum number of sessions, and of pending sign-ins, of one user. The user's oldest is evicted
/// first.
const MAX_SESSIONS_OF_USER: usize = 10;
/// Maximum number of sessions, and of pending sign-ins. The oldest is evicted first.
const MAX_SESSIONS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// The digest of a cookie's secret. Sessions are stored under digests, so that a lookup reveals
/// nothing about stored secrets.
type Key = [u8; 32];

fn key(secret: &str) -> Key {
    *px_core::Digest::of(secret).as_bytes()
}

/// A message that the next page shows once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FlashMessage {
    /// The scopes of an application were changed. The value is its name.
    Changed(String),
    /// An application was disconnected. The value is its name.
    Disconnected(String),
    /// An application will be disconnected as soon as Plaid can be reached. The value is its name.
    Disconnecting(String),
    /// The customer returned from Plaid's page.
    Returned { connected: bool },
}

/// The session of a signed-in user.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) user: UserId,
    pub(super) username: String,
    /// The CSRF token of the session's forms.
    pub(super) csrf: String,
    key: Key,
    began: DateTime<Utc>,
    used: DateTime<Utc>,
    flash: Option<FlashMessage>,
    /// The digest of the link token with which the customer was sent to Plaid's page and has not
    /// returned.
    pending_link: Option<Key>,
    /// Set to `false` when the session ends. Event streams listen to it.
    open: watch::Sender<bool>,
}

impl Session {
    /// Returns whether a form is from a page of this session.
    pub(super) fn is_own_form(&self, csrf: &str) -> bool {
        constant_time_eq(self.csrf.as_bytes(), csrf.as_bytes())
    }

    /// Returns a receiver. Its value becomes `false` when the session is signed out.
    pub(super) fn end(&self) -> watch::Receiver<bool> {
        self.open.subscribe()
    }

    fn is_over(&self, now: DateTime<Utc>) -> bool {
        now - self.began >= MAX_SESSION_AGE || now - self.used >= IDLE_TIMEOUT
    }
}

/// A pending sign-in: the password was right, and a challenge must be answered.
#[derive(Clone, Debug)]
pub(super) struct PendingSignIn {
    pub(super) csrf: String,
    /// The page that follows the sign-in.
    pub(super) next: &'static str,
    /// The challenge that the user must answer.
    pub(super) challenge: Challenge,
    /// Whether a code was sent.
    pub(super) sent: bool,
    key: Key,
    until: DateTime<Utc>,
}

/// All sessions and pending sign-ins.
pub(super) struct Sessions {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    sessions: Mutex<LruCache<Key, Session>>,
    pending: Mutex<LruCache<Key, PendingSignIn>>,
}

impl Sessions {
    pub(super) fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let (sessions, pending) = (LruCache::new(MAX_SESSIONS), LruCache::new(MAX_SESSIONS));
        Self { clock, random, sessions: Mutex::new(sessions), pending: Mutex::new(pending) }
    }

    fn sessions(&self) -> MutexGuard<'_, LruCache<Key, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, LruCache<Key, PendingSignIn>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the pending sign-in of a user who must answer a challenge. Returns it and the secret
    /// of its cookie.
    pub(super) fn begin_sign_in(
        &self,
        next: &'static str,
        challenge: Challenge,
    ) -> (PendingSignIn, String) {
        let (secret, csrf) = (random::secret(&*self.random), random::secret(&*self.random));
        let until = self.clock.now() + SIGN_IN_TIMEOUT;
        let key = key(&secret);
        let entry = PendingSignIn { csrf, next, challenge, sent: false, key, until };
        let mut pending = self.pending();
        let user = &entry.challenge.user_id;
        evict_oldest(&mut pending, |other| other.challenge.user_id == *user);
        pending.put(key, entry.clone());
        (entry, secret)
    }

    /// Returns the pending sign-in of a cookie.
    pub(super) fn find_pending(&self, secret: &str) -> Option<PendingSignIn> {
        let now = self.clock.now();
        self.pending().get(&key(secret)).filter(|entry| entry.until > now).cloned()
    }

    /// Returns the pending sign-in of a form and its cookie.
    pub(super) fn find_pending_form(&self, secret: &str, csrf: &str) -> Option<PendingSignIn> {
        let entry = self.find_pending(secret)?;
        constant_time_eq(entry.csrf.as_bytes(), csrf.as_bytes()).then_some(entry)
    }

    /// Stores the state of a pending sign-in.
    pub(super) fn update_pending(&self, entry: &PendingSignIn) {
        if let Some(stored) = self.pending().get_mut(&entry.key) {
            *stored = entry.clone();
        }
    }

    /// Ends a pending sign-in. Returns `false` if it has ended already, or another request ended it
    /// first.
    pub(super) fn finish_pending(&self, entry: &PendingSignIn) -> bool {
        self.pending().pop(&entry.key).is_some()
    }

    /// Opens a session with a new secret. Returns the secret.
    pub(super) fn open_session(&self, user: UserId, username: String) -> String {
        let (secret, csrf) = (random::secret(&*self.random), random::secret(&*self.random));
        let (now, key) = (self.clock.now(), key(&secret));
        let (began, used, open) = (now, now, watch::Sender::new(true));
        let (flash, pending_link) = (None, None);
        let session = Session { user, username, csrf, key, began, used, flash, pending_link, open };
        let mut sessions = self.sessions();
        evict_oldest(&mut sessions, |other| other.user == session.user);
        sessions.put(key, session);
        secret
    }

    /// Returns the session of a cookie, and prolongs it.
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

    /// Returns whether a session is still open. Unlike [`find`](Self::find), does not prolong it.
    pub(super) fn is_open(&self, session: &Session) -> bool {
        let now = self.clock.now();
        self.sessions().peek(&session.key).is_some_and(|session| !session.is_over(now))
    }

    /// Sets the message that the next page of the session shows.
    pub(super) fn set_flash(&self, session: &Session, message: FlashMessage) {
        if let Some(stored) = self.sessions().get_mut(&session.key) {
            stored.flash = Some(message);
        }
    }

    /// Takes the message that this page shows.
    pub(super) fn take_flash(&self, session: &Session) -> Option<FlashMessage> {
        self.sessions().get_mut(&session.key)?.flash.take()
    }

    /// Stores the link token with which the customer is sent to Plaid's page. The latest one
    /// counts.
    pub(super) fn sent_to_plaid(&self, session: &Session, token: &LinkToken) {
        if let Some(stored) = self.sessions().get_mut(&session.key) {
            stored.pending_link = Some(key(token.expose()));
        }
    }

    /// Returns whether a customer returned from Plaid's page with the link token of the pending
    /// visit, and ends that visit. A return with another token ends nothing.
    pub(super) fn finish_visit(&self, session: &Session, token: &str) -> bool {
        let mut sessions = self.sessions();
        let Some(stored) = sessions.get_mut(&session.key) else { return false };
        let same = |sent: &Key| constant_time_eq(sent, &key(token));
        stored.pending_link.take_if(|sent| same(sent)).is_some()
    }

    /// Ends a session.
    pub(super) fn sign_out(&self, session: &Session) {
        self.sessions().pop(&session.key);
        session.open.send_replace(false);
    }
}

/// Evicts the oldest pending of a user who has the maximum number.
fn evict_oldest<T>(all: &mut LruCache<Key, T>, is_users: impl Fn(&T) -> bool) {
    // The latest ones come first.
    let of_user = all.iter().filter(|(_, one)| is_users(one));
    let oldest: Vec<Key> = of_user.skip(MAX_SESSIONS_OF_USER - 1).map(|(key, _)| *key).collect();
    for key in oldest {
        all.pop(&key);
    }
}
