//! Open challenges and wrong attempts: bounded, without I/O.
//!
//! An attempt is counted before an answer is checked and uncounted if the answer was right.
//! Concurrent answers therefore cannot share one attempt.

use super::kit::Factor;
use chrono::{DateTime, TimeDelta, Utc};
use lru::LruCache;
use px_types::{ChallengeId, ClientId, OneTimeCode, UserId};
use std::{collections::VecDeque, num::NonZeroUsize};

/// Lifetime of a challenge.
pub(super) const CHALLENGE_LIFETIME: TimeDelta = TimeDelta::minutes(5);
/// Number of wrong answers that locks a challenge.
const MAX_WRONG: u32 = 5;
/// Number of wrong answers, over all challenges, that locks a user. It equals four challenges, so
/// that a person who knows the password cannot continue to guess with new challenges.
const MAX_WRONG_PER_USER: u32 = 20;
/// Maximum number of codes that are sent for one challenge.
const MAX_SENDS: u32 = 5;
/// Maximum number of open challenges of one user. A further one ends the oldest.
const MAX_OPEN_PER_USER: usize = 5;

/// A challenge that has not been completed.
#[derive(Clone, Debug)]
pub(super) struct OpenChallenge {
    pub(super) user: UserId,
    /// The client that began the sign-in. `None` for the institution's own pages.
    pub(super) client: Option<ClientId>,
    /// The factor to check now, followed by the remaining ones.
    pub(super) factors: VecDeque<Factor>,
    pub(super) expires_at: DateTime<Utc>,
    pub(super) code: Option<OneTimeCode>,
    sends: u32,
    wrong: u32,
}

/// The attempts and open challenges of a user.
#[derive(Debug, Default)]
struct UserAttempts {
    wrong: u32,
    last_wrong: DateTime<Utc>,
    /// The time step of the last accepted TOTP code.
    totp_step: Option<i64>,
    open: VecDeque<ChallengeId>,
}

/// The reason for which a challenge cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChallengeError {
    /// The challenge is unknown, expired, completed, or belongs to another user or client.
    NotFound,
    /// The challenge or the user has too many wrong attempts.
    Locked,
    /// Too many codes were sent for the challenge.
    TooManySends,
}

#[derive(Debug)]
pub(super) struct ChallengeTable {
    challenges: LruCache<ChallengeId, OpenChallenge>,
    users: LruCache<UserId, UserAttempts>,
    lock_time: TimeDelta,
}

impl ChallengeTable {
    pub(super) fn new(capacity: NonZeroUsize, lock_time: TimeDelta) -> Self {
        Self { challenges: LruCache::new(capacity), users: LruCache::new(capacity), lock_time }
    }

    /// Returns whether the user is locked because of wrong attempts.
    pub(super) fn is_locked(&mut self, user: &UserId, now: DateTime<Utc>) -> bool {
        let lock_time = self.lock_time;
        let Some(attempts) = self.users.get_mut(user) else {
            return false;
        };
        if now - attempts.last_wrong >= lock_time {
            attempts.wrong = 0;
        }
        attempts.wrong >= MAX_WRONG_PER_USER
    }

    /// Opens a challenge.
    pub(super) fn open(
        &mut self,
        id: ChallengeId,
        user: UserId,
        client: Option<ClientId>,
        factors: VecDeque<Factor>,
        now: DateTime<Utc>,
    ) {
        let attempts = self.users.get_or_insert_mut(user.clone(), UserAttempts::default);
        attempts.open.push_back(id.clone());
        if attempts.open.len() > MAX_OPEN_PER_USER
            && let Some(oldest) = attempts.open.pop_front()
        {
            self.challenges.pop(&oldest);
        }
        let open = OpenChallenge {
            user,
            client,
            factors,
            expires_at: now + CHALLENGE_LIFETIME,
            code: None,
            sends: 0,
            wrong: 0,
        };
        self.challenges.put(id, open);
    }

    /// Returns the challenge if this user and this client may use it now.
    fn open_challenge(
        &mut self,
        id: &ChallengeId,
        user: &UserId,
        client: Option<&ClientId>,
        now: DateTime<Utc>,
    ) -> Result<&mut OpenChallenge, ChallengeError> {
        let locked = self.is_locked(user, now);
        let Some(open) = self.challenges.get_mut(id) else {
            return Err(ChallengeError::NotFound);
        };
        if open.user != *user || open.client.as_ref() != client || now >= open.expires_at {
            return Err(ChallengeError::NotFound);
        }
        if locked || open.wrong >= MAX_WRONG {
            return Err(ChallengeError::Locked);
        }
        Ok(open)
    }

    /// Stores a code that is about to be sent. It replaces the previous code.
    pub(super) fn record_code(
        &mut self,
        id: &ChallengeId,
        user: &UserId,
        client: Option<&ClientId>,
        code: &OneTimeCode,
        now: DateTime<Utc>,
    ) -> Result<(), ChallengeError> {
        let open = self.open_challenge(id, user, client, now)?;
        if open.sends >= MAX_SENDS {
            return Err(ChallengeError::TooManySends);
        }
        open.sends += 1;
        open.code = Some(code.clone());
        Ok(())
    }

    /// Discards a code that could not be sent.
    pub(super) fn discard_code(&mut self, id: &ChallengeId, code: &OneTimeCode) {
        if let Some(open) = self.challenges.peek_mut(id)
            && open.code.as_ref() == Some(code)
        {
            open.code = None;
        }
    }

    /// Returns a challenge without counting an attempt.
    pub(super) fn get(
        &mut self,
        id: &ChallengeId,
        user: &UserId,
        client: Option<&ClientId>,
        now: DateTime<Utc>,
    ) -> Result<OpenChallenge, ChallengeError> {
        self.open_challenge(id, user, client, now).cloned()
    }

    /// Counts an attempt and returns the challenge.
    pub(super) fn begin_attempt(
        &mut self,
        id: &ChallengeId,
        user: &UserId,
        client: Option<&ClientId>,
        now: DateTime<Utc>,
    ) -> Result<OpenChallenge, ChallengeError> {
        let open = self.open_challenge(id, user, client, now)?;
        open.wrong += 1;
        let open = open.clone();
        let attempts = self.users.get_or_insert_mut(user.clone(), UserAttempts::default);
        attempts.wrong += 1;
        attempts.last_wrong = now;
        Ok(open)
    }

    /// Uncounts an attempt, because the answer was right or could not be checked.
    pub(super) fn refund_attempt(&mut self, id: &ChallengeId, user: &UserId) {
        if let Some(open) = self.challenges.peek_mut(id) {
            open.wrong = open.wrong.saturating_sub(1);
        }
        if let Some(attempts) = self.users.peek_mut(user) {
            attempts.wrong = attempts.wrong.saturating_sub(1);
        }
    }

    /// Closes a completed challenge. Returns `false` if a concurrent call has closed it.
    pub(super) fn close(&mut self, id: &ChallengeId) -> bool {
        let Some(open) = self.challenges.pop(id) else {
            return false;
        };
        if let Some(attempts) = self.users.peek_mut(&open.user) {
            attempts.open.retain(|other| other != id);
        }
        true
    }

    /// Resets the wrong attempts of a user who has signed in.
    pub(super) fn reset_attempts(&mut self, user: &UserId) {
        if let Some(attempts) = self.users.peek_mut(user) {
            attempts.wrong = 0;
        }
    }

    /// Returns the time step of the last accepted TOTP code.
    pub(super) fn last_totp_step(&mut self, user: &UserId) -> Option<i64> {
        self.users.peek(user).and_then(|attempts| attempts.totp_step)
    }

    /// Stores the time step of an accepted TOTP code.
    pub(super) fn record_totp_step(&mut self, user: &UserId, step: i64) {
        let attempts = self.users.get_or_insert_mut(user.clone(), UserAttempts::default);
        attempts.totp_step = Some(step);
    }
}
