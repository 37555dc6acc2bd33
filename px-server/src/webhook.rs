//! Verification of webhooks, for their receivers: applications and partners.
//!
//! This module checks signatures. It does not interpret webhooks and does not sign them.
//!
//! A webhook is delivered at least once, in any order, up to a day late, or never. Treat it as a
//! hint:
//!
//! - Verify it with a [`Verifier`], over the raw body. On an error, respond with its
//!   [`status`](VerifyError::status).
//! - Record that the Item must be read: insert or ignore. Two webhooks can have the same body, so
//!   do not drop one because an equal body was received before. Only the [id](VerifiedWebhook::id)
//!   shows whether a webhook is a repetition.
//! - If recording can fail, use [`begin`](Verifier::begin): a failed webhook is forgotten, so that
//!   it can be delivered again. Respond with 500 in that case.
//! - Respond with 200 immediately, even for an Item that is no longer known. Any other status makes
//!   the sender repeat the webhook for a day.
//! - Then read the Item. Only the read data is authoritative, including the Item's health. Also
//!   read periodically without a webhook, in case one was lost.
//!
//! ```
//! use px_server::{guard::CallerAddr, webhook::Verifier};
//! use px_types::{ItemId, webhook::Webhook};
//! use std::collections::BTreeSet;
//!
//! /// Returns the status of the response.
//! async fn receive(
//!     verifier: &Verifier,
//!     address: Option<CallerAddr>,
//!     (header, raw_body): (&str, &[u8]),
//!     to_read: &mut BTreeSet<ItemId>,
//! ) -> u16 {
//!     if let Err(error) = verifier.verify(header, raw_body, address).await {
//!         return error.status();
//!     }
//!     if let Ok(webhook) = px_types::decode::<Webhook>(raw_body) {
//!         to_read.insert(webhook.item_id);
//!     }
//!     200
//! }
//! ```
//!
//! Receivers in other languages can use the test vectors in `px-items/tests/vectors/webhooks.json`:
//! correctly signed webhooks and one for each kind of error, with the expected result and the time
//! of the check. The file describes its format.

mod fair_queue;
mod keys;
mod replay;
mod token;

pub use self::keys::{FixedKeys, FoundKey, KeySource, KeySourceFn, KeyStore};

pub(crate) use self::replay::{ReplayCache, ReplayState};
use self::{
    fair_queue::Origin,
    keys::Keys,
    token::{CheckedToken, MAX_AGE, Recipient, Token},
};
use crate::guard::CallerAddr;
use chrono::{DateTime, TimeDelta, Utc};
use px_core::{Clock, SystemClock};
use px_types::{ClientId, InstitutionId, KeyId};
use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Default tolerance for a sender's clock that is ahead.
const DEFAULT_SKEW: TimeDelta = TimeDelta::seconds(30);
/// Maximum tolerance for a sender's clock that is ahead.
const MAX_SKEW: TimeDelta = TimeDelta::minutes(2);
/// Default number of webhooks that are remembered.
const DEFAULT_REMEMBERED_WEBHOOKS: usize = 10_000;

/// Verifies that a webhook was sent by Plaid, was not changed, and is new.
///
/// The checks, in order: the algorithm is ES256; the key is known and has not expired; the
/// signature is valid; it is at most 5 minutes old; it covers exactly this body; it is for this
/// receiver, if the verifier [has a name](Self::institution); its id was not seen before, if the
/// sender provides ids.
///
/// Keys come from a [`KeySource`] and are cached; with a [`KeyStore`], also across restarts. A
/// cached key is requested again after an hour, and when a new key appears, so that the end of a
/// key is noticed.
///
/// Anyone can invent key ids. Therefore at most 60 requests per minute go to the source. Some of
/// them are reserved for known ids; unknown ids are scheduled fairly by the address that they come
/// from. Whatever one address invents, a new key that another address names is found within 2 s;
/// with a hundred such addresses, within 5 minutes. A webhook waits at most 4 s for its turn.
///
/// ```
/// use px_server::webhook::{KeySourceFn, Verifier};
/// use std::sync::Arc;
///
/// # async fn example(plaid: Plaid) -> Result<(), Box<dyn std::error::Error>> {
/// // `POST /webhook_verification_key/get`, by a client of Plaid's API.
/// let keys = KeySourceFn::new(move |kid| {
///     let plaid = plaid.clone();
///     async move { plaid.verification_key(kid).await }
/// });
/// let verifier = Verifier::new(Arc::new(keys));
/// # let (header, raw_body) = ("", b"");
/// # let address = None;
/// // `address` is the address of the sender, if known.
/// verifier.verify(header, raw_body, address).await?;
/// # Ok(()) }
/// # #[derive(Clone)] struct Plaid;
/// # impl Plaid {
/// #     async fn verification_key(&self, _: px_types::KeyId) -> Result<Option<px_types::model::verification_key::VerificationKey>, std::io::Error> { Ok(None) }
/// # }
/// ```
///
/// Contract: `px.md` section 9.
#[derive(Debug)]
pub struct Verifier {
    keys: Keys,
    clock: Arc<dyn Clock>,
    skew: TimeDelta,
    recipient: Option<Recipient>,
    seen: Option<Mutex<ReplayCache>>,
}

impl Verifier {
    /// Creates a verifier with the keys of a source and the system clock.
    #[must_use]
    pub fn new(source: Arc<dyn KeySource>) -> Self {
        Self {
            keys: Keys::new(source),
            clock: Arc::new(SystemClock::new()),
            skew: DEFAULT_SKEW,
            recipient: None,
            seen: Some(Mutex::new(ReplayCache::new(DEFAULT_REMEMBERED_WEBHOOKS))),
        }
    }

    /// Sets the clock; the system clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the tolerance for a sender's clock that is ahead: 30 s by default, 2 minutes at most.
    #[must_use]
    pub fn skew(mut self, skew: Duration) -> Self {
        self.skew = TimeDelta::from_std(skew).unwrap_or(MAX_SKEW).min(MAX_SKEW);
        self
    }

    /// Sets a store for the keys, so that they are known after a restart.
    #[must_use]
    pub fn key_store(mut self, store: Arc<dyn KeyStore>) -> Self {
        self.keys.store(store);
        self
    }

    /// Accepts only webhooks that are signed for this institution. Every partner should set its
    /// institution: otherwise a webhook that Plaid signed for another partner can be replayed here.
    ///
    /// A partner with several institutions at Plaid calls it once for each.
    #[must_use]
    pub fn institution(mut self, id: InstitutionId) -> Self {
        match &mut self.recipient {
            Some(Recipient::Institutions(ids)) => ids.push(id),
            recipient => *recipient = Some(Recipient::Institutions(vec![id])),
        }
        self
    }

    /// Refuses webhooks that are signed for another application. A webhook without a recipient is
    /// accepted, because Plaid's own webhooks to applications name none.
    #[must_use]
    pub fn application(mut self, client_id: ClientId) -> Self {
        self.recipient = Some(Recipient::Application(client_id));
        self
    }

    /// Sets the number of webhooks that are remembered to refuse repetitions: 10,000 by default; 0
    /// disables the check. Beyond it, the oldest is forgotten.
    ///
    /// Webhooks are identified by their ids. A webhook without an id cannot be checked: see
    /// [`VerifiedWebhook::is_certainly_new`]. The memory is local to this process, so several receivers
    /// can each accept a webhook once.
    #[must_use]
    pub fn remember(mut self, webhooks: usize) -> Self {
        self.seen = (webhooks > 0).then(|| Mutex::new(ReplayCache::new(webhooks)));
        self
    }

    /// Verifies a webhook: the value of its header `Plaid-Verification`, its raw body, and the
    /// address of the sender.
    ///
    /// The address is that of the request ([`CallerAddr::of`]). Requests for unknown keys are
    /// scheduled by it; webhooks without an address count as one address.
    ///
    /// Pass the body as it was received, not one that was parsed and serialized again. After this
    /// call, the same webhook is a replay; if handling it can fail, use [`begin`](Self::begin).
    ///
    /// # Errors
    /// If the webhook must not be acted on; see [`WebhookErrorKind`]. [`VerifyError::status`] is the
    /// status to respond with.
    pub async fn verify(
        &self,
        header: &str,
        body: &[u8],
        address: Option<CallerAddr>,
    ) -> Result<VerifiedWebhook, VerifyError> {
        Ok(self.begin(header, body, address).await?.done())
    }

    /// Checks whether a header has the form of a signature, before the body is read.
    pub(crate) fn check_form(&self, header: &str) -> Result<(), VerifyError> {
        Ok(Token::read(header).map(drop)?)
    }

    /// Verifies a webhook as [`verify`](Self::verify) does, and returns a guard for handling it.
    ///
    /// Until [`PendingWebhook::done`] is called, a copy of the webhook is
    /// [`Pending`](WebhookErrorKind::Pending), because the first may still fail: its sender should
    /// try again.
    ///
    /// # Errors
    /// If the webhook must not be acted on; see [`WebhookErrorKind`]. [`VerifyError::status`] is the
    /// status to respond with.
    pub async fn begin(
        &self,
        header: &str,
        body: &[u8],
        address: Option<CallerAddr>,
    ) -> Result<PendingWebhook<'_>, VerifyError> {
        let token = Token::read(header)?;
        let key = self.keys.find(&token.kid, Origin::of(address), &*self.clock).await?;
        // The time is taken after the key request, which may take a while.
        let now = self.clock.now();
        if key.expired_at.is_some_and(|moment| moment <= now) {
            return Err(WebhookErrorKind::ExpiredKey.into());
        }
        let checked = token.check(&key.key, body, self.recipient.as_ref(), (now, self.skew))?;
        let CheckedToken { issued_at, id } = checked;
        let known = id
            .as_deref()
            .and_then(|id| self.seen(|seen| seen.begin(id, issued_at + MAX_AGE, now)).flatten());
        match known {
            None => {}
            Some(ReplayState::Pending) => return Err(WebhookErrorKind::Pending.into()),
            Some(ReplayState::Done) => return Err(WebhookErrorKind::Replay.into()),
        }
        let is_certainly_new = id.is_some() && self.seen.is_some();
        let verified = VerifiedWebhook { kid: token.kid, issued_at, id, is_certainly_new };
        Ok(PendingWebhook { verifier: self, verified, is_done: false })
    }

    /// Forgets a verified webhook that could not be handled, so that it can be delivered again.
    ///
    /// Every attempt of the sender has the same id. Without this call, the next attempt would be
    /// refused as a replay and the webhook lost. A copy that arrived meanwhile was refused as a
    /// replay too; [`begin`](Self::begin) avoids that gap.
    pub fn forget(&self, verified: &VerifiedWebhook) {
        if let Some(id) = &verified.id {
            self.seen(|seen| seen.remove(id));
        }
    }

    fn seen<T>(&self, work: impl FnOnce(&mut ReplayCache) -> T) -> Option<T> {
        let seen = self.seen.as_ref()?;
        Some(work(&mut seen.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// A verified webhook that is being handled.
///
/// If it is dropped before [`done`](Self::done), even by a panic or a disconnected caller, the
/// webhook is forgotten, so that it can be delivered again.
#[derive(Debug)]
#[must_use = "a webhook that is dropped here counts as failed"]
pub struct PendingWebhook<'v> {
    verifier: &'v Verifier,
    verified: VerifiedWebhook,
    is_done: bool,
}

impl PendingWebhook<'_> {
    /// Marks the webhook as handled: from now on, a copy of it is a replay.
    pub fn done(mut self) -> VerifiedWebhook {
        self.is_done = true;
        if let Some(id) = &self.verified.id {
            self.verifier.seen(|seen| seen.done(id));
        }
        self.verified.clone()
    }
}

impl Drop for PendingWebhook<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.verifier.forget(&self.verified);
        }
    }
}

/// A verified webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedWebhook {
    /// The key that signed the webhook.
    pub kid: KeyId,
    /// Time of the signature.
    pub issued_at: DateTime<Utc>,
    /// The id of the webhook, the same for every delivery attempt (`jti`). `None` if its sender
    /// provides none, as in Plaid's own webhooks to applications.
    pub id: Option<String>,
    is_certainly_new: bool,
}

impl VerifiedWebhook {
    /// Returns whether this process has certainly not accepted the webhook before. Returns `false`
    /// for a webhook without an id, which may be a replay.
    #[must_use]
    pub fn is_certainly_new(&self) -> bool {
        self.is_certainly_new
    }
}

/// Error of verifying a webhook.
///
/// It contains nothing of the header or the body.
pub struct VerifyError {
    kind: WebhookErrorKind,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kind of a [`VerifyError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WebhookErrorKind {
    /// The header is not a complete token.
    Malformed,
    /// The token names an algorithm other than ES256.
    Algorithm,
    /// The key does not exist.
    UnknownKey,
    /// The key has expired.
    ExpiredKey,
    /// The key source is not reachable, or too many keys are being requested.
    KeyUnavailable,
    /// The signature does not match the key.
    Signature,
    /// It was signed more than 5 minutes ago.
    TooOld,
    /// It was signed in the future.
    TooEarly,
    /// The signature covers another body.
    Body,
    /// The webhook was signed for another receiver, or for none although one is required.
    Recipient,
    /// The same webhook, by its id, is being handled, which may still fail.
    Pending,
    /// The same webhook, by its id, was accepted before.
    Replay,
}

impl WebhookErrorKind {
    /// Returns the name of the kind in the test vectors.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::ExpiredKey => "expired_key",
            Self::KeyUnavailable => "key_unavailable",
            Self::Signature => "signature",
            Self::TooOld => "too_old",
            Self::TooEarly => "too_early",
            Self::Body => "body",
            Self::Recipient => "recipient",
            Self::Pending => "pending",
            Self::Replay => "replay",
        }
    }
}

impl VerifyError {
    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> WebhookErrorKind {
        self.kind
    }

    /// Returns the status to respond with.
    ///
    /// - 200 for a replay, because it was handled; any other status would make the sender repeat
    ///   it.
    /// - 503 if keys are not available, or the same webhook is being handled: the sender tries
    ///   again later.
    /// - 401 for everything else.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.kind {
            WebhookErrorKind::Replay => 200,
            WebhookErrorKind::KeyUnavailable | WebhookErrorKind::Pending => 503,
            _ => 401,
        }
    }
}

impl From<WebhookErrorKind> for VerifyError {
    fn from(kind: WebhookErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            WebhookErrorKind::Malformed => "the webhook's signature cannot be read",
            WebhookErrorKind::Algorithm => "the webhook is signed by an algorithm other than ES256",
            WebhookErrorKind::UnknownKey => "the webhook is signed with an unknown key",
            WebhookErrorKind::ExpiredKey => "the webhook is signed with an expired key",
            WebhookErrorKind::KeyUnavailable => {
                "the key of the webhook's signature is not available now; the sender will repeat the webhook"
            }
            WebhookErrorKind::Signature => "the webhook's signature is wrong",
            WebhookErrorKind::TooOld => "the webhook's signature is more than 5 minutes old",
            WebhookErrorKind::TooEarly => {
                "the webhook's signature is from the future; check the clocks of sender and receiver"
            }
            WebhookErrorKind::Body => "the webhook's signature does not match the body",
            WebhookErrorKind::Recipient => "the webhook was signed for another receiver",
            WebhookErrorKind::Pending => "the webhook is already being handled",
            WebhookErrorKind::Replay => "the webhook was received before",
        })
    }
}

impl fmt::Debug for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("VerifyError");
        shown.field("kind", &self.kind).field("source", &self.source).finish()
    }
}

impl StdError for VerifyError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
