//! Open challenges and spent tries: pure, bounded, without I/O.
//!
//! A try is taken before an answer is checked and given back when it was right, so that
//! answers that come at the same time cannot share one.

use super::kit::Factor;
use chrono::{DateTime, TimeDelta, Utc};
use lru::LruCache;
use px_types::{ChallengeId, ClientId, OneTimeCode, UserId};
use std::{collections::VecDeque, num::NonZeroUsize};

/// How long a challenge lives.
pub(super) const CHALLENGE_LIFE: TimeDelta = TimeDelta::minutes(5);
/// The wrong answer that locks a challenge.
const MAX_WRONG: u32 = 5;
/// The wrong answer that locks a user, over all challenges: four challenges' worth, so that
/// whoever knows the password cannot guess on by asking anew.
const MAX_WRONG_OF_USER: u32 = 20;
/// How often the code of one challenge is sent.
const MAX_SENDS: u32 = 5;
/// The open challenges of one user; an older one ends when there are more.
const MAX_OPEN: usize = 5;

/// A challenge that waits for its answer.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) user: UserId,
    /// Client that began the sign-in. `None` for the institution's own pages.
    pub(super) client: Option<ClientId>,
    /// What is asked now, and after that.
    pub(super) factors: VecDeque<Factor>,
    pub(super) ends: DateTime<Utc>,
    pub(super) code: Option<OneTimeCode>,
    sends: u32,
    wrong: u32,
}

/// What is remembered of a user between challenges.
#[derive(Debug, Default)]
struct Tries {
    wrong: u32,
    last_wrong: DateTime<Utc>,
    /// The step of the last TOTP code that was taken.
    totp_step: Option<i64>,
    open: VecDeque<ChallengeId>,
}

/// Why a challenge cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// Unknown, expired, used, or another user's or client's.
    NoSuch,
    /// The tries of the challenge or of the user are spent.
    Locked,
    /// The code was sent too often.
    TooManySends,
}

#[derive(Debug)]
pub(super) struct State {
    challenges: LruCache<ChallengeId, Open>,
    users: LruCache<UserId, Tries>,
    lock_time: TimeDelta,
}

impl State {
    pub(super) fn new(capacity: NonZeroUsize, lock_time: TimeDelta) -> Self {
        Self { challenges: LruCache::new(capacity), users: LruCache::new(capacity), lock_time }
    }

    /// Whether the user's tries are spent.
    pub(super) fn locked(&mut self, user: &UserId, now: DateTime<Utc>) -> bool {
        let lock_time = self.lock_time;
        let Some(tries) = self.users.get_mut(user) else {
            return false;
        };
        if now - tries.last_wrong >= lock_time {
            tries.wrong = 0;
        }
        tries.wrong >= MAX_WRONG_OF_USER
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
        let tries = self.users.get_or_insert_mut(user.clone(), Tries::default);
        tries.open.push_back(id.clone());
        if tries.open.len() > MAX_OPEN
            && let Some(oldest) = tries.open.pop_front()
        {
            self.challenges.pop(&oldest);
        }
        let open = Open {
            user,
            client,
            factors,
            ends: now + CHALLENGE_LIFE,
            code: None,
            sends: 0,
            wrong: 0,
        };
        self.challenges.put(id, open);
    }

    /// The challenge, if this user and this client may answer it now.
    fn usable(
        &mut self,
        id: &ChallengeId,
        user: &UserId,
        client: Option<&ClientId>,
        now: DateTime<Utc>,
    ) -> Result<&mut Open, Closed> {
        let locked = self.locked(user, now);
        let Some(open) = self.challenges.get_mut(id) else {
            return Err(Closed::NoSuch);
        };
        if open.user != *user || open.client.as_ref() != client || now >= open.ends {
            return Err(Closed::NoSuch);
        }
        if locked || open.wrong >= MAX_WRONG {
            return Err(Closed::Locked);
        }
        Ok(open)
    }

    /// Takes note of a code that is about to be sent; the one before counts no more.
    pub(super) fn sending(
        &mut self,
        id: &ChallengeId,
        user: &UserId,
        client: Option<&ClientId>,
        code: &OneTimeCode,
        now: DateTime<Utc>,
    ) -> Result<(), Closed> {
        let open = self.usable(id, user, client, now)?;
        if open.sends >= MAX_SENDS {
            return Err(Closed::TooManySends);
        }
        open.sends += 1;
        open.code = Some(code.clone());
        Ok(())
    }

    /// The code could not be sent.
    pub(super) fn not_sent(&mut self, id: &ChallengeId, code: &OneTimeCode) {
        if let Some(open) = self.challenges.peek_mut(id)
            && open.code.as_ref() == Some(code)
        {
            open.code = None;
        }
    }

    /// What a challenge asks, without taking a try.
    pub(super) fn look(
        &mut self,
        id: &ChallengeId,
        user: &UserId,
        client: Option<&ClientId>,
        now: DateTime<Utc>,
    ) -> Result<Open, Closed> {
        self.usable(id, user, client, now).cloned()
    }

    /// Takes a try.
    pub(super) fn take_try(
        &mut self,
        id: &ChallengeId,
        user: &UserId,
        client: Option<&ClientId>,
        now: DateTime<Utc>,
    ) -> Result<Open, Closed> {
        let open = self.usable(id, user, client, now)?;
        open.wrong += 1;
        let open = open.clone();
        let tries = self.users.get_or_insert_mut(user.clone(), Tries::default);
        tries.wrong += 1;
        tries.last_wrong = now;
        Ok(open)
    }

    /// Gives a try back: the answer was right, or could not be checked.
    pub(super) fn give_back(&mut self, id: &ChallengeId, user: &UserId) {
        if let Some(open) = self.challenges.peek_mut(id) {
            open.wrong = open.wrong.saturating_sub(1);
        }
        if let Some(tries) = self.users.peek_mut(user) {
            tries.wrong = tries.wrong.saturating_sub(1);
        }
    }

    /// Ends a challenge that was answered; `false` when someone else was faster.
    pub(super) fn spend(&mut self, id: &ChallengeId) -> bool {
        let Some(open) = self.challenges.pop(id) else {
            return false;
        };
        if let Some(tries) = self.users.peek_mut(&open.user) {
            tries.open.retain(|other| other != id);
        }
        true
    }

    /// The user is signed in: earlier wrong answers are forgotten.
    pub(super) fn signed_in(&mut self, user: &UserId) {
        if let Some(tries) = self.users.peek_mut(user) {
            tries.wrong = 0;
        }
    }

    /// The step of the last TOTP code that was taken.
    pub(super) fn totp_step(&mut self, user: &UserId) -> Option<i64> {
        self.users.peek(user).and_then(|tries| tries.totp_step)
    }

    /// Takes note of a TOTP code that was taken.
    pub(super) fn used_totp(&mut self, user: &UserId, step: i64) {
        let tries = self.users.get_or_insert_mut(user.clone(), Tries::default);
        tries.totp_step = Some(step);
    }
}
