//! One grant and everything it gave: the record, and each step that it can take.
//!
//! Pure: a step takes the record, what happened and the time, and says what becomes of the
//! record and what is answered. Stores, randomness and HTTP are elsewhere.
//!
//! A refresh token is two secrets, `family.secret`. The first stays for the life of the
//! grant, the second changes with each use. So a record needs to remember only the tokens
//! that may still be exchanged: whoever shows the family's secret with any other second
//! half shows a spent token. Those that were spent a moment ago are remembered until presenting
//! them means theft. The record stays small over 13 months of rotation.

use super::Digest;
use crate::PermittedAccounts;
use chrono::{DateTime, TimeDelta, Utc};
use px_core::digest::constant_time_eq;
use px_types::{ApplicationId, ClientId, Scope, ScopeSet, UserId};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Time after the first use of a refresh token within which no further use of it ends the grant.
pub const REPLAY_WINDOW: TimeDelta = TimeDelta::seconds(30);
/// Time after the first use of a pair within which its unused siblings may be presented without
/// ending the grant.
pub const SUPERSEDED_WINDOW: TimeDelta = TimeDelta::seconds(60);
/// How many pairs one refresh token gives at most.
pub const MAX_PAIRS: usize = 3;
/// The most access tokens of one grant that live at a time; the oldest ends first.
pub const MAX_ACCESS_TOKENS: usize = 64;
/// Maximum number of spent refresh tokens that are remembered. Beyond it the oldest counts as
/// stolen when it is presented.
const MAX_SPENT: usize = 64;

/// A grant: what a user allowed, and the digests of everything it gave.
///
/// A store keeps it whole, as JSON if it likes, and finds it by any of
/// [`digests`](Self::digests). It holds no secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GrantRecord {
    /// Names the grant; no secret.
    pub id: String,
    /// The person whose data it is.
    pub principal: UserId,
    /// The client that was granted it.
    pub client_id: ClientId,
    /// The application for which the user was asked.
    pub application_id: Option<ApplicationId>,
    /// Its name.
    pub application_name: Option<String>,
    /// What the user allowed.
    pub scopes: ScopeSet,
    /// The accounts that the user allowed.
    pub accounts: PermittedAccounts,
    /// When the user allowed it.
    pub granted_at: DateTime<Utc>,
    /// When its refresh tokens end.
    pub ends_at: DateTime<Utc>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<DateTime<Utc>>,
    /// The id of the consent under which it was given, and with which it ends; none for a consent.
    pub parent: Option<String>,
    /// When it ends unless the user consents before; none once the user has.
    pub pending_until: Option<DateTime<Utc>>,
    /// The authorization code; none in credentials mode.
    pub code: Option<CodeState>,
    /// The refresh tokens; none before the code is redeemed, and without `offline_access`.
    pub refresh: Option<RefreshState>,
    /// The access tokens that have not expired.
    pub access: Vec<AccessState>,
}

/// An authorization code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CodeState {
    /// Its digest.
    pub digest: Digest,
    /// Where the code was sent; the exchange names the same.
    pub redirect_uri: String,
    /// The S256 challenge; none where the partner does not ask for one.
    pub challenge: Option<String>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// When it was first used, rightly or not.
    pub spent_at: Option<DateTime<Utc>>,
}

/// The refresh tokens of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RefreshState {
    /// The digest of the first half, which all of them share.
    pub family: Digest,
    /// The digest of the second half of the present one.
    pub current: Digest,
    /// When the present one was first used.
    pub used_at: Option<DateTime<Utc>>,
    /// The pairs that it gave; the first of them that is used becomes the present one.
    pub pairs: Vec<Pair>,
    /// Refresh tokens that were spent a moment ago, the oldest first.
    pub spent: VecDeque<SpentRefresh>,
}

/// A refresh token that gives nothing more. Until a moment, presenting it ends nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SpentRefresh {
    /// The digest of its second half.
    pub digest: Digest,
    /// The last moment at which it may be presented without ending the grant.
    pub harmless_until: DateTime<Utc>,
    /// Whether a sibling of its pair was used first. Otherwise it gave the present token.
    pub superseded: bool,
}

/// An access and a refresh token that were given together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pair {
    /// The digest of the refresh token's second half.
    pub refresh: Digest,
    /// The digest of the access token.
    pub access: Digest,
}

/// An access token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AccessState {
    /// Its digest.
    pub digest: Digest,
    /// What it may do.
    pub scopes: ScopeSet,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
    /// Whether it was revoked, or its sibling was used first.
    pub ended: bool,
    /// When its sibling was used first, if one was.
    pub superseded_at: Option<DateTime<Utc>>,
}

/// What becomes of a record, and what is answered.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Step<T> {
    /// The record to store; `None` when it stays as it is.
    pub record: Option<GrantRecord>,
    /// The answer.
    pub outcome: Result<T, Refusal>,
}

/// Why a step was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The code or the token is unknown, expired, spent, revoked or another client's.
    InvalidGrant,
    /// A spent code or a spent refresh token was used, or a pair that lost against its sibling
    /// was presented long after: the grant is revoked.
    Reused,
    /// A pair was presented whose sibling was used first, a moment ago. Nothing ends.
    Superseded,
    /// More scopes were asked for than were granted.
    InvalidScope,
}

/// What a step gave.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Given {
    /// What the access token may do.
    pub scopes: ScopeSet,
    /// When the access token ends.
    pub expires_at: DateTime<Utc>,
    /// Whether the refresh token was given too.
    pub refresh: bool,
}

/// The digests of fresh tokens, made before the step and used if it gives any.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Fresh {
    /// Of the access token.
    pub access: Digest,
    /// Of the refresh token's first half; used when the code is redeemed.
    pub family: Digest,
    /// Of the refresh token's second half.
    pub refresh: Digest,
    /// How long the access token lives.
    pub access_lifetime: TimeDelta,
}

impl Fresh {
    /// Fresh tokens.
    #[must_use]
    pub fn new(
        access: Digest,
        family: Digest,
        refresh: Digest,
        access_lifetime: TimeDelta,
    ) -> Self {
        Self { access, family, refresh, access_lifetime }
    }
}

impl GrantRecord {
    /// A grant that has given nothing yet.
    #[must_use]
    pub fn new(
        id: impl Into<String>,
        principal: UserId,
        client_id: ClientId,
        scopes: ScopeSet,
        accounts: PermittedAccounts,
        granted_at: DateTime<Utc>,
        ends_at: DateTime<Utc>,
    ) -> Self {
        Self {
            id: id.into(),
            principal,
            client_id,
            application_id: None,
            application_name: None,
            scopes,
            accounts,
            granted_at,
            ends_at,
            revoked_at: None,
            parent: None,
            pending_until: None,
            code: None,
            refresh: None,
            access: Vec::new(),
        }
    }

    /// Adds the code that the user's consent gave.
    #[must_use]
    pub fn with_code(
        mut self,
        digest: Digest,
        redirect_uri: impl Into<String>,
        challenge: Option<String>,
        expires_at: DateTime<Utc>,
    ) -> Self {
        self.code = Some(CodeState {
            digest,
            redirect_uri: redirect_uri.into(),
            challenge,
            expires_at,
            spent_at: None,
        });
        self
    }

    /// Adds an access token that no code and no refresh token gave: credentials mode.
    #[must_use]
    pub fn with_access(mut self, digest: Digest, expires_at: DateTime<Utc>) -> Self {
        let scopes = self.scopes.clone();
        self.access.push(AccessState::new(digest, scopes, expires_at));
        self
    }

    /// Everything by which a store must find the record: code, family, access tokens.
    #[must_use]
    pub fn digests(&self) -> Vec<Digest> {
        let code = self.code.iter().map(|code| code.digest);
        let family = self.refresh.iter().map(|refresh| refresh.family);
        let access = self.access.iter().map(|access| access.digest);
        code.chain(family).chain(access).collect()
    }

    /// When nothing that the record knows can be used any more; a store may drop it then.
    #[must_use]
    pub fn keep_until(&self) -> DateTime<Utc> {
        let code = self.code.as_ref().map(|code| code.expires_at);
        let refresh = self.refresh.as_ref().map(|_| self.ends_at);
        let access = self.access.iter().map(|access| access.expires_at).max();
        let end = [code, refresh, access].into_iter().flatten().max().unwrap_or(self.granted_at);
        self.pending_until.map_or(end, |until| end.min(until))
    }

    /// Whether anything that it gave can be used at that moment.
    #[must_use]
    pub fn holds(&self, now: DateTime<Utc>) -> bool {
        let code = self.code.as_ref();
        let code = code.is_some_and(|code| code.spent_at.is_none() && now < code.expires_at);
        let refresh = self.refresh.is_some() && now < self.ends_at;
        let access = self.access.iter().any(|access| !access.ended && now < access.expires_at);
        self.is_open(now) && (code || refresh || access)
    }

    /// Whether it was neither revoked nor left without the consent that it waits for.
    fn is_open(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.pending_until.is_none_or(|until| now < until)
    }

    /// The record once the user has consented, if it was pending and holds.
    #[must_use]
    pub fn confirm(&self, now: DateTime<Utc>) -> Option<Self> {
        let is_pending = self.pending_until.is_some() && self.is_open(now);
        is_pending.then(|| Self { pending_until: None, ..self.clone() })
    }

    /// Exchanges the code. Any use by its client spends it; a second use revokes the grant.
    #[must_use]
    pub fn redeem(
        &self,
        code: &Digest,
        client: &ClientId,
        redirect_uri: Option<&str>,
        verifier: Option<&str>,
        fresh: &Fresh,
        now: DateTime<Utc>,
    ) -> Step<Given> {
        let Some(state) = &self.code else {
            return Step::refused(Refusal::InvalidGrant);
        };
        if self.revoked_at.is_some() || state.digest != *code || self.client_id != *client {
            return Step::refused(Refusal::InvalidGrant);
        }
        if state.spent_at.is_some() {
            return self.reused(now);
        }
        if now >= state.expires_at {
            return Step::refused(Refusal::InvalidGrant);
        }
        let proven = match (&state.challenge, verifier) {
            (Some(challenge), Some(verifier)) => {
                well_formed(verifier) && same(&Digest::of(verifier).to_string(), challenge)
            }
            // A verifier without a challenge is a request that was tampered with (RFC 9700, 4.8.2).
            (Some(_), None) | (None, Some(_)) => false,
            (None, None) => true,
        };
        let bound = redirect_uri == Some(&state.redirect_uri);
        let mut record = self.clone();
        if let Some(code) = &mut record.code {
            code.spent_at = Some(now);
        }
        if !proven || !bound {
            return Step::changed(record, Err(Refusal::InvalidGrant));
        }
        let refresh = record.scopes.contains(&Scope::OFFLINE_ACCESS) && now < record.ends_at;
        if refresh {
            record.refresh = Some(RefreshState {
                family: fresh.family,
                current: fresh.refresh,
                used_at: None,
                pairs: Vec::new(),
                spent: VecDeque::new(),
            });
        }
        let scopes = record.scopes.clone();
        let expires_at = record.access_ends(fresh, now);
        record.give_access(fresh.access, scopes.clone(), expires_at, now);
        let given = Given { scopes, expires_at, refresh };
        Step::changed(record, Ok(given))
    }

    /// Exchanges a refresh token for a pair.
    ///
    /// Within [`REPLAY_WINDOW`] of its first use it gives up to [`MAX_PAIRS`] pairs, because a
    /// response can be lost. The pair that is used first stays. Other uses within the window are
    /// refused and end nothing; a use after it revokes the grant, and so does a pair that lost
    /// against its sibling, [`SUPERSEDED_WINDOW`] after that was used.
    #[must_use]
    pub fn refresh(
        &self,
        family: &Digest,
        secret: &Digest,
        client: &ClientId,
        scope: Option<&ScopeSet>,
        fresh: &Fresh,
        now: DateTime<Utc>,
    ) -> Step<Given> {
        let Some(state) = &self.refresh else {
            return Step::refused(Refusal::InvalidGrant);
        };
        // The record may have been found by another of its digests.
        if state.family != *family || self.client_id != *client {
            return Step::refused(Refusal::InvalidGrant);
        }
        if self.revoked_at.is_some() || now >= self.ends_at {
            return Step::refused(Refusal::InvalidGrant);
        }
        let mut record = self.clone();
        if let Some(chosen) = state.pairs.iter().position(|pair| pair.refresh == *secret) {
            record.settle(chosen, now);
        } else if state.current == *secret {
            match state.window_ends() {
                Some(end) if now > end => return self.reused(now),
                Some(_) if state.pairs.len() >= MAX_PAIRS => {
                    return Step::refused(Refusal::InvalidGrant);
                }
                _ => {}
            }
        } else {
            let spent = state.spent.iter().find(|spent| spent.digest == *secret);
            return match spent.filter(|spent| now <= spent.harmless_until) {
                Some(spent) if spent.superseded => Step::refused(Refusal::Superseded),
                Some(_) => Step::refused(Refusal::InvalidGrant),
                None => self.reused(now),
            };
        }
        let scopes = match scope {
            Some(scope) if !scope.is_subset(&self.scopes) => {
                return Step::refused(Refusal::InvalidScope);
            }
            Some(scope) => scope.clone(),
            None => self.scopes.clone(),
        };
        if let Some(refresh) = &mut record.refresh {
            refresh.used_at.get_or_insert(now);
            refresh.pairs.push(Pair { refresh: fresh.refresh, access: fresh.access });
        }
        let expires_at = record.access_ends(fresh, now);
        record.give_access(fresh.access, scopes.clone(), expires_at, now);
        let given = Given { scopes, expires_at, refresh: true };
        Step::changed(record, Ok(given))
    }

    /// Uses an access token: says what it is, and ends the siblings of its pair.
    ///
    /// One that lost against its sibling revokes the grant, as its refresh token does.
    #[must_use]
    pub fn present(&self, access: &Digest, now: DateTime<Utc>) -> Step<&AccessState> {
        let found = self.access.iter().find(|state| state.digest == *access);
        let in_time = |state: &&AccessState| self.is_open(now) && now < state.expires_at;
        let Some(state) = found.filter(in_time) else {
            return Step::refused(Refusal::InvalidGrant);
        };
        match state.superseded_at {
            Some(at) if now - at > SUPERSEDED_WINDOW => return self.reused(now),
            Some(_) => return Step::refused(Refusal::Superseded),
            None if state.ended => return Step::refused(Refusal::InvalidGrant),
            None => {}
        }
        let pairs = self.refresh.iter().flat_map(|refresh| &refresh.pairs);
        let chosen = pairs.enumerate().find(|(_, pair)| pair.access == *access);
        let record = chosen.map(|(index, _)| {
            let mut record = self.clone();
            record.settle(index, now);
            record
        });
        Step { record, outcome: Ok(state) }
    }

    /// Ends one access token. Of another client's, nothing ends.
    #[must_use]
    pub fn revoke_access(&self, access: &Digest, client: &ClientId) -> Step<()> {
        let index = self.access.iter().position(|state| state.digest == *access);
        match index {
            Some(index) if self.client_id == *client && !self.access[index].ended => {
                let mut record = self.clone();
                record.access[index].ended = true;
                Step::changed(record, Ok(()))
            }
            _ => Step { record: None, outcome: Ok(()) },
        }
    }

    /// Ends the grant that a refresh token is of, a spent one too. Of another client's,
    /// nothing ends.
    #[must_use]
    pub fn revoke_refresh(
        &self,
        family: &Digest,
        client: &ClientId,
        now: DateTime<Utc>,
    ) -> Step<()> {
        let own = self.refresh.as_ref().is_some_and(|state| state.family == *family);
        if own && self.client_id == *client {
            return self.revoke(now);
        }
        Step { record: None, outcome: Ok(()) }
    }

    /// Ends the grant and everything it gave.
    #[must_use]
    pub fn revoke(&self, now: DateTime<Utc>) -> Step<()> {
        let record = self.revoked_at.is_none().then(|| {
            let mut record = self.clone();
            record.revoked_at = Some(now);
            record
        });
        Step { record, outcome: Ok(()) }
    }

    fn reused<T>(&self, now: DateTime<Utc>) -> Step<T> {
        Step { record: self.revoke(now).record, outcome: Err(Refusal::Reused) }
    }

    /// Makes one of the pairs the present one and ends its siblings.
    fn settle(&mut self, chosen: usize, now: DateTime<Utc>) {
        let Some(refresh) = &mut self.refresh else {
            return;
        };
        refresh.spent.retain(|spent| now <= spent.harmless_until);
        let window_ends = refresh.window_ends().unwrap_or(now);
        refresh.remember(refresh.current, window_ends, false);
        for (index, pair) in std::mem::take(&mut refresh.pairs).into_iter().enumerate() {
            if index == chosen {
                refresh.current = pair.refresh;
                refresh.used_at = None;
                continue;
            }
            refresh.remember(pair.refresh, now + SUPERSEDED_WINDOW, true);
            for access in self.access.iter_mut().filter(|access| access.digest == pair.access) {
                access.ended = true;
                access.superseded_at = Some(now);
            }
        }
    }

    /// When a fresh access token ends: no later than the grant.
    fn access_ends(&self, fresh: &Fresh, now: DateTime<Utc>) -> DateTime<Utc> {
        (now + fresh.access_lifetime).min(self.ends_at)
    }

    fn give_access(
        &mut self,
        digest: Digest,
        scopes: ScopeSet,
        expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) {
        self.access.retain(|access| now < access.expires_at);
        if self.access.len() >= MAX_ACCESS_TOKENS {
            self.access.remove(0);
        }
        self.access.push(AccessState::new(digest, scopes, expires_at));
    }
}

impl AccessState {
    fn new(digest: Digest, scopes: ScopeSet, expires_at: DateTime<Utc>) -> Self {
        Self { digest, scopes, expires_at, ended: false, superseded_at: None }
    }
}

impl RefreshState {
    /// The last moment at which the present token may be used again, once it was used.
    fn window_ends(&self) -> Option<DateTime<Utc>> {
        self.used_at.map(|first| first + REPLAY_WINDOW)
    }

    fn remember(&mut self, digest: Digest, harmless_until: DateTime<Utc>, superseded: bool) {
        if self.spent.len() == MAX_SPENT {
            self.spent.pop_front();
        }
        self.spent.push_back(SpentRefresh { digest, harmless_until, superseded });
    }
}

impl<T> Step<T> {
    fn refused(refusal: Refusal) -> Self {
        Self { record: None, outcome: Err(refusal) }
    }

    fn changed(record: GrantRecord, outcome: Result<T, Refusal>) -> Self {
        Self { record: Some(record), outcome }
    }
}

/// Whether a text is a verifier of RFC 7636 section 4.1.
fn well_formed(verifier: &str) -> bool {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    (43..=128).contains(&verifier.len()) && verifier.bytes().all(unreserved)
}

/// Compares in constant time.
fn same(a: &str, b: &str) -> bool {
    constant_time_eq(a.as_bytes(), b.as_bytes())
}
