//! The record of a grant, and its state transitions.
//!
//! Without I/O: a transition takes the record, an event and the time, and returns the new record
//! and the result. Storage, randomness and HTTP are in other modules.
//!
//! A refresh token consists of two secrets, `family.secret`. The first stays the same for the
//! lifetime of the grant; the second changes with each use. A record therefore stores only the
//! tokens that may still be exchanged: a token with the secret of the family and an unknown second
//! part has been spent. Recently spent tokens are stored until their use has to be treated as
//! theft. The record stays small over 13 months of rotation.

use super::Digest;
use crate::PermittedAccounts;
use chrono::{DateTime, TimeDelta, Utc};
use px_core::digest::constant_time_eq;
use px_types::{ApplicationId, ClientId, Scope, ScopeSet, UserId};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Time after the first use of a refresh token during which further uses do not revoke the grant.
pub const REPLAY_WINDOW: TimeDelta = TimeDelta::seconds(30);
/// Time after the first use of a pair during which its unused siblings may be presented without
/// revoking the grant.
pub const SUPERSEDED_WINDOW: TimeDelta = TimeDelta::seconds(60);
/// Maximum number of pairs that one refresh token gives.
pub const MAX_PAIRS: usize = 3;
/// Maximum number of live access tokens of one grant. A further one removes the oldest.
pub const MAX_ACCESS_TOKENS: usize = 64;
/// Maximum number of spent refresh tokens that are stored. Beyond it, use of the oldest is treated
/// as theft.
const MAX_SPENT: usize = 64;

/// A grant: the permissions that a user gave, and the digests of everything that was issued.
///
/// A store saves the whole record, for example as JSON, and finds it by any of
/// [`digests`](Self::digests). It contains no secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GrantRecord {
    /// Identifies the grant. Not a secret.
    pub id: String,
    /// The user who owns the data.
    pub principal: UserId,
    /// The client that the grant was given to.
    pub client_id: ClientId,
    /// The application for which the user gave consent.
    pub application_id: Option<ApplicationId>,
    /// The name of the application.
    pub application_name: Option<String>,
    /// The scopes that the user permitted.
    pub scopes: ScopeSet,
    /// The accounts that the user permitted.
    pub accounts: PermittedAccounts,
    /// Time of the consent.
    pub granted_at: DateTime<Utc>,
    /// Expiry time of the refresh tokens.
    pub ends_at: DateTime<Utc>,
    /// Time of the revocation, if the grant was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// The id of the consent that this grant belongs to and ends with. `None` for a consent
    /// itself.
    pub parent: Option<String>,
    /// End of the grant unless the user consents first. `None` once the user has consented.
    pub pending_until: Option<DateTime<Utc>>,
    /// The authorization code. `None` in credentials mode.
    pub code: Option<CodeState>,
    /// The refresh tokens. `None` before the code is redeemed, and without `offline_access`.
    pub refresh: Option<RefreshState>,
    /// The access tokens that have not expired.
    pub access: Vec<AccessState>,
}

/// An authorization code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CodeState {
    /// The digest of the code.
    pub digest: Digest,
    /// The redirect URI that the code was sent to. The exchange must name the same one.
    pub redirect_uri: String,
    /// The S256 challenge. `None` if the partner does not require one.
    pub challenge: Option<String>,
    /// Expiry time of the code.
    pub expires_at: DateTime<Utc>,
    /// Time of the first use of the code, successful or not.
    pub spent_at: Option<DateTime<Utc>>,
}

/// The refresh tokens of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RefreshState {
    /// The digest of the first part, which all refresh tokens of the grant share.
    pub family: Digest,
    /// The digest of the second part of the current token.
    pub current: Digest,
    /// Time of the first use of the current token.
    pub used_at: Option<DateTime<Utc>>,
    /// The pairs that the current token gave. The first pair to be used becomes the current
    /// one.
    pub pairs: Vec<Pair>,
    /// Recently spent refresh tokens, oldest first.
    pub spent: VecDeque<SpentRefresh>,
}

/// A spent refresh token. Presenting it does not revoke the grant until
/// [`harmless_until`](Self::harmless_until).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SpentRefresh {
    /// The digest of the second part of the token.
    pub digest: Digest,
    /// The last time at which it may be presented without revoking the grant.
    pub harmless_until: DateTime<Utc>,
    /// Whether a sibling of its pair was used first. Otherwise the current token was issued for
    /// it.
    pub superseded: bool,
}

/// An access token and a refresh token that were issued together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pair {
    /// The digest of the second part of the refresh token.
    pub refresh: Digest,
    /// The digest of the access token.
    pub access: Digest,
}

/// An access token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AccessState {
    /// The digest of the token.
    pub digest: Digest,
    /// The scopes of the token.
    pub scopes: ScopeSet,
    /// Expiry time of the token.
    pub expires_at: DateTime<Utc>,
    /// Whether the token was revoked, or a sibling of its pair was used first.
    pub ended: bool,
    /// Time at which a sibling of its pair was used first.
    pub superseded_at: Option<DateTime<Utc>>,
}

/// The result of a state transition of a grant.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Step<T> {
    /// The record to store; `None` if it does not change.
    pub record: Option<GrantRecord>,
    /// The value of the transition, or the reason for which it was refused.
    pub outcome: Result<T, GrantRefusal>,
}

/// The reason for which a transition was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrantRefusal {
    /// The code or the token is unknown, expired, spent, revoked or belongs to another client.
    InvalidGrant,
    /// A spent code or refresh token was used, or a pair was presented long after its sibling
    /// was used. The grant is revoked.
    Reused,
    /// A pair was presented shortly after its sibling was used. Nothing is revoked.
    Superseded,
    /// The requested scopes exceed those of the grant.
    InvalidScope,
}

/// Tokens that a transition issued.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct IssuedTokens {
    /// The scopes of the access token.
    pub scopes: ScopeSet,
    /// Expiry time of the access token.
    pub expires_at: DateTime<Utc>,
    /// Whether a refresh token was issued too.
    pub refresh: bool,
}

/// The digests of new tokens. They are created before the transition, and stored if it issues
/// tokens.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct NewTokenDigests {
    /// The digest of the access token.
    pub access: Digest,
    /// The digest of the first part of the refresh token; used when a code is redeemed.
    pub family: Digest,
    /// The digest of the second part of the refresh token.
    pub refresh: Digest,
    /// The lifetime of the access token.
    pub access_lifetime: TimeDelta,
}

impl NewTokenDigests {
    /// Creates the digests of new tokens.
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
    /// Creates a grant without code and tokens.
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

    /// Adds the authorization code of the user's consent.
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

    /// Adds an access token that is issued without a code, for credentials mode.
    #[must_use]
    pub fn with_access(mut self, digest: Digest, expires_at: DateTime<Utc>) -> Self {
        let scopes = self.scopes.clone();
        self.access.push(AccessState::new(digest, scopes, expires_at));
        self
    }

    /// Returns the digests by which a store must find the record: code, family and access
    /// tokens.
    #[must_use]
    pub fn digests(&self) -> Vec<Digest> {
        let code = self.code.iter().map(|code| code.digest);
        let family = self.refresh.iter().map(|refresh| refresh.family);
        let access = self.access.iter().map(|access| access.digest);
        code.chain(family).chain(access).collect()
    }

    /// Returns when the last code or token of the record expires. A store may then delete the
    /// record.
    #[must_use]
    pub fn retain_until(&self) -> DateTime<Utc> {
        let code = self.code.as_ref().map(|code| code.expires_at);
        let refresh = self.refresh.as_ref().map(|_| self.ends_at);
        let access = self.access.iter().map(|access| access.expires_at).max();
        let end = [code, refresh, access].into_iter().flatten().max().unwrap_or(self.granted_at);
        self.pending_until.map_or(end, |until| end.min(until))
    }

    /// Returns whether a code or token of the grant can be used at that time.
    #[must_use]
    pub fn is_active(&self, now: DateTime<Utc>) -> bool {
        let code = self.code.as_ref();
        let code = code.is_some_and(|code| code.spent_at.is_none() && now < code.expires_at);
        let refresh = self.refresh.is_some() && now < self.ends_at;
        let access = self.access.iter().any(|access| !access.ended && now < access.expires_at);
        self.is_open(now) && (code || refresh || access)
    }

    /// Returns whether the grant is neither revoked nor expired while it waited for consent.
    fn is_open(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.pending_until.is_none_or(|until| now < until)
    }

    /// Returns the record after the user has consented. Returns `None` if it is not pending or
    /// has ended.
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
        digests: &NewTokenDigests,
        now: DateTime<Utc>,
    ) -> Step<IssuedTokens> {
        let Some(state) = &self.code else {
            return Step::refused(GrantRefusal::InvalidGrant);
        };
        if self.revoked_at.is_some() || state.digest != *code || self.client_id != *client {
            return Step::refused(GrantRefusal::InvalidGrant);
        }
        if state.spent_at.is_some() {
            return self.revoke_as_reused(now);
        }
        if now >= state.expires_at {
            return Step::refused(GrantRefusal::InvalidGrant);
        }
        let proven = match (&state.challenge, verifier) {
            (Some(challenge), Some(verifier)) => {
                is_code_verifier(verifier)
                    && constant_time_str_eq(&Digest::of(verifier).to_string(), challenge)
            }
            // A verifier without a challenge indicates a manipulated request (RFC 9700,
            // 4.8.2).
            (Some(_), None) | (None, Some(_)) => false,
            (None, None) => true,
        };
        let bound = redirect_uri == Some(&state.redirect_uri);
        let mut record = self.clone();
        if let Some(code) = &mut record.code {
            code.spent_at = Some(now);
        }
        if !proven || !bound {
            return Step::changed(record, Err(GrantRefusal::InvalidGrant));
        }
        let refresh = record.scopes.contains(&Scope::OFFLINE_ACCESS) && now < record.ends_at;
        if refresh {
            record.refresh = Some(RefreshState {
                family: digests.family,
                current: digests.refresh,
                used_at: None,
                pairs: Vec::new(),
                spent: VecDeque::new(),
            });
        }
        let scopes = record.scopes.clone();
        let expires_at = record.access_ends(digests, now);
        record.add_access_token(digests.access, scopes.clone(), expires_at, now);
        let issued = IssuedTokens { scopes, expires_at, refresh };
        Step::changed(record, Ok(issued))
    }

    /// Exchanges a refresh token for a pair of tokens.
    ///
    /// Within [`REPLAY_WINDOW`] of its first use, a refresh token gives up to [`MAX_PAIRS`]
    /// pairs, because a response can be lost. The pair that is used first remains valid. Other
    /// uses within the window are refused without revoking anything; a use after the window
    /// revokes the grant. If a sibling of a pair was used first, presenting the pair after
    /// [`SUPERSEDED_WINDOW`] revokes the grant too.
    #[must_use]
    pub fn refresh(
        &self,
        family: &Digest,
        secret: &Digest,
        client: &ClientId,
        scope: Option<&ScopeSet>,
        digests: &NewTokenDigests,
        now: DateTime<Utc>,
    ) -> Step<IssuedTokens> {
        let Some(state) = &self.refresh else {
            return Step::refused(GrantRefusal::InvalidGrant);
        };
        // The record may have been found by another of its digests.
        if state.family != *family || self.client_id != *client {
            return Step::refused(GrantRefusal::InvalidGrant);
        }
        if self.revoked_at.is_some() || now >= self.ends_at {
            return Step::refused(GrantRefusal::InvalidGrant);
        }
        let mut record = self.clone();
        if let Some(chosen) = state.pairs.iter().position(|pair| pair.refresh == *secret) {
            record.select_pair(chosen, now);
        } else if state.current == *secret {
            match state.window_ends() {
                Some(end) if now > end => return self.revoke_as_reused(now),
                Some(_) if state.pairs.len() >= MAX_PAIRS => {
                    return Step::refused(GrantRefusal::InvalidGrant);
                }
                _ => {}
            }
        } else {
            let spent = state.spent.iter().find(|spent| spent.digest == *secret);
            return match spent.filter(|spent| now <= spent.harmless_until) {
                Some(spent) if spent.superseded => Step::refused(GrantRefusal::Superseded),
                Some(_) => Step::refused(GrantRefusal::InvalidGrant),
                None => self.revoke_as_reused(now),
            };
        }
        let scopes = match scope {
            Some(scope) if !scope.is_subset(&self.scopes) => {
                return Step::refused(GrantRefusal::InvalidScope);
            }
            Some(scope) => scope.clone(),
            None => self.scopes.clone(),
        };
        if let Some(refresh) = &mut record.refresh {
            refresh.used_at.get_or_insert(now);
            refresh.pairs.push(Pair { refresh: digests.refresh, access: digests.access });
        }
        let expires_at = record.access_ends(digests, now);
        record.add_access_token(digests.access, scopes.clone(), expires_at, now);
        let issued = IssuedTokens { scopes, expires_at, refresh: true };
        Step::changed(record, Ok(issued))
    }

    /// Uses an access token: returns its state, and ends the siblings of its pair.
    ///
    /// If a sibling of its pair was used first, the token revokes the grant after
    /// [`SUPERSEDED_WINDOW`], as its refresh token does.
    #[must_use]
    pub fn present(&self, access: &Digest, now: DateTime<Utc>) -> Step<&AccessState> {
        let found = self.access.iter().find(|state| state.digest == *access);
        let in_time = |state: &&AccessState| self.is_open(now) && now < state.expires_at;
        let Some(state) = found.filter(in_time) else {
            return Step::refused(GrantRefusal::InvalidGrant);
        };
        match state.superseded_at {
            Some(at) if now - at > SUPERSEDED_WINDOW => return self.revoke_as_reused(now),
            Some(_) => return Step::refused(GrantRefusal::Superseded),
            None if state.ended => return Step::refused(GrantRefusal::InvalidGrant),
            None => {}
        }
        let pairs = self.refresh.iter().flat_map(|refresh| &refresh.pairs);
        let chosen = pairs.enumerate().find(|(_, pair)| pair.access == *access);
        let record = chosen.map(|(index, _)| {
            let mut record = self.clone();
            record.select_pair(index, now);
            record
        });
        Step { record, outcome: Ok(state) }
    }

    /// Revokes one access token. Nothing changes if it belongs to another client.
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

    /// Revokes the grant of a refresh token, even of a spent one. Nothing changes if it belongs
    /// to another client.
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

    /// Revokes the grant and everything that was issued under it.
    #[must_use]
    pub fn revoke(&self, now: DateTime<Utc>) -> Step<()> {
        let record = self.revoked_at.is_none().then(|| {
            let mut record = self.clone();
            record.revoked_at = Some(now);
            record
        });
        Step { record, outcome: Ok(()) }
    }

    fn revoke_as_reused<T>(&self, now: DateTime<Utc>) -> Step<T> {
        Step { record: self.revoke(now).record, outcome: Err(GrantRefusal::Reused) }
    }

    /// Makes one of the pairs the current one and ends its siblings.
    fn select_pair(&mut self, chosen: usize, now: DateTime<Utc>) {
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

    /// Returns when a new access token expires: no later than the grant.
    fn access_ends(&self, digests: &NewTokenDigests, now: DateTime<Utc>) -> DateTime<Utc> {
        (now + digests.access_lifetime).min(self.ends_at)
    }

    fn add_access_token(
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
    /// Returns the last moment at which the current token may be used again, once it was used.
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
    fn refused(refusal: GrantRefusal) -> Self {
        Self { record: None, outcome: Err(refusal) }
    }

    fn changed(record: GrantRecord, outcome: Result<T, GrantRefusal>) -> Self {
        Self { record: Some(record), outcome }
    }
}

/// Returns whether a text is a code verifier of RFC 7636 section 4.1.
fn is_code_verifier(verifier: &str) -> bool {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    (43..=128).contains(&verifier.len()) && verifier.bytes().all(unreserved)
}

/// Compares two texts in constant time.
fn constant_time_str_eq(a: &str, b: &str) -> bool {
    constant_time_eq(a.as_bytes(), b.as_bytes())
}
