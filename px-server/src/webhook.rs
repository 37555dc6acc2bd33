//! Checking webhooks, for those who receive them: applications, and partners.
//!
//! What a webhook says is not looked at here, and signing is its sender's matter.
//!
//! A webhook arrives at least once, in any order, up to a day late, or never. So it is a hint
//! and nothing more:
//!
//! - Check it with a [`Verifier`], over the raw body. On an error answer its
//!   [`status`](VerifyError::status).
//! - Note that the Item is to be read: insert or ignore. Two webhooks can have the same body, so
//!   do not drop one because an equal body was seen before: only an [id](Verified::id) tells
//!   whether a webhook is the same one again.
//! - If that can fail, use [`begin`](Verifier::begin): what fails is forgotten, so that it may
//!   come again. Answer 500 then.
//! - Answer 200 at once, also for an Item that is not known any more: anything but 200 is sent
//!   again for a day.
//! - Then read. What is true comes from reading, an Item's health too; read now and then
//!   without a webhook, for one that was lost.
//!
//! ```
//! use px_server::{guard::CallerAddr, webhook::Verifier};
//! use px_types::{ItemId, webhook::Webhook};
//! use std::collections::BTreeSet;
//!
//! /// Answers the status.
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
//! Receivers in other languages find test vectors in `px-items/tests/vectors/webhooks.json`:
//! rightly signed webhooks and each way of being wrong, with the verdict that is expected and
//! the moment at which to check. The file says how to read it.

mod keys;
mod replay;
mod token;
mod turns;

pub use self::keys::{AskedKeys, FixedKeys, FoundKey, KeySource, KeyStore};

pub(crate) use self::replay::{Replays, State};
use self::{
    keys::Keys,
    token::{Checked, MAX_AGE, Recipient, Token},
    turns::Origin,
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

/// How far the sender's clock may be ahead.
const SKEW: TimeDelta = TimeDelta::seconds(30);
/// The most skew that can be asked for.
const MOST_SKEW: TimeDelta = TimeDelta::minutes(2);
/// How many webhooks are remembered.
const REPLAYS: usize = 10_000;

/// Checks that a webhook is Plaid's, as it was sent, and new.
///
/// In this order: the algorithm is ES256 and no other; the key is known and has not expired;
/// the signature is right; it is at most 5 minutes old; it is of this very body, byte by byte; it
/// is for this receiver, if the verifier [was given](Self::institution) a name; it was not seen
/// before, if its sender gives webhooks ids.
///
/// Keys come from a [`KeySource`] and are kept; with a [`KeyStore`] over a restart too. A kept key
/// is requested again after an hour, and when another key turns up, so an end is noticed.
///
/// Anyone can invent names of keys. So at most 60 requests a minute go to the source, some of them
/// reserved for names that are known, and unknown names take turns by the address that they come
/// from: whatever one address invents, a new key that another address names is found within 2 s;
/// with a hundred such addresses, within 5 minutes. A webhook waits up to 4 s for its turn.
///
/// ```
/// use px_server::webhook::{AskedKeys, Verifier};
/// use std::sync::Arc;
///
/// # async fn example(plaid: Plaid) -> Result<(), Box<dyn std::error::Error>> {
/// // `POST /webhook_verification_key/get`, by a client of Plaid's API.
/// let keys = AskedKeys::new(move |kid| {
///     let plaid = plaid.clone();
///     async move { plaid.verification_key(kid).await }
/// });
/// let verifier = Verifier::new(Arc::new(keys));
/// # let (header, raw_body) = ("", b"");
/// # let address = None;
/// // `address` is where the webhook came from, if that is known.
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
    seen: Option<Mutex<Replays>>,
}

impl Verifier {
    /// Checks with keys of a source, by the machine's clock.
    #[must_use]
    pub fn new(source: Arc<dyn KeySource>) -> Self {
        Self {
            keys: Keys::new(source),
            clock: Arc::new(SystemClock::new()),
            skew: SKEW,
            recipient: None,
            seen: Some(Mutex::new(Replays::new(REPLAYS))),
        }
    }

    /// Takes the time from elsewhere.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How far the sender's clock may be ahead: 30 s unless set, 2 minutes at most.
    #[must_use]
    pub fn skew(mut self, skew: Duration) -> Self {
        self.skew = TimeDelta::from_std(skew).unwrap_or(MOST_SKEW).min(MOST_SKEW);
        self
    }

    /// Keeps the keys that were found in a store, so that they are known after a restart.
    #[must_use]
    pub fn key_store(mut self, store: Arc<dyn KeyStore>) -> Self {
        self.keys.store(store);
        self
    }

    /// Takes only what was signed for this institution. Every partner should name itself: else
    /// what Plaid signed for another partner can be replayed here.
    ///
    /// A partner that is several institutions at Plaid calls it once for each.
    #[must_use]
    pub fn institution(mut self, id: InstitutionId) -> Self {
        match &mut self.recipient {
            Some(Recipient::Institutions(ids)) => ids.push(id),
            recipient => *recipient = Some(Recipient::Institutions(vec![id])),
        }
        self
    }

    /// Refuses what was signed for another application. A webhook that names no recipient is
    /// taken, because Plaid's own to applications name none.
    #[must_use]
    pub fn application(mut self, client_id: ClientId) -> Self {
        self.recipient = Some(Recipient::Application(client_id));
        self
    }

    /// The number of webhooks that are remembered, to refuse them the second time: 10,000 unless
    /// set; 0 is none. Beyond that the oldest is forgotten.
    ///
    /// They are told apart by their ids. One without an id cannot be judged: see
    /// [`Verified::is_judged`]. The memory is this process's. Where several receive, it is a help
    /// and not a promise.
    #[must_use]
    pub fn remember(mut self, webhooks: usize) -> Self {
        self.seen = (webhooks > 0).then(|| Mutex::new(Replays::new(webhooks)));
        self
    }

    /// Checks a webhook: the value of its header `Plaid-Verification`, its raw body, and the
    /// address that it came from.
    ///
    /// The address is that of the request ([`CallerAddr::of`]). Requests for unknown keys take
    /// turns by it; webhooks without one share one turn.
    ///
    /// The body is what came over the network: never what was parsed and written again. From now
    /// on the same webhook is a replay; where acting on it can fail, [`begin`](Self::begin).
    ///
    /// # Errors
    /// When it is not to be acted on; [`VerifyError::status`] says what to answer.
    pub async fn verify(
        &self,
        header: &str,
        body: &[u8],
        address: Option<CallerAddr>,
    ) -> Result<Verified, VerifyError> {
        Ok(self.begin(header, body, address).await?.done())
    }

    /// Whether a header can be a signature at all, by its form alone: before the body is read.
    pub(crate) fn check_form(&self, header: &str) -> Result<(), VerifyError> {
        Ok(Token::read(header).map(drop)?)
    }

    /// Checks a webhook as [`verify`](Self::verify) does, and waits to hear that it was acted on.
    ///
    /// Until then a copy of it is [`Pending`](VerifyErrorKind::Pending), for nobody knows yet
    /// whether the first will succeed: its sender is to try again.
    ///
    /// # Errors
    /// When it is not to be acted on; [`VerifyError::status`] says what to answer.
    pub async fn begin(
        &self,
        header: &str,
        body: &[u8],
        address: Option<CallerAddr>,
    ) -> Result<Begun<'_>, VerifyError> {
        let token = Token::read(header)?;
        let key = self.keys.find(&token.kid, Origin::of(address), &*self.clock).await?;
        // Asking for a key takes time.
        let now = self.clock.now();
        if key.expired_at.is_some_and(|moment| moment <= now) {
            return Err(VerifyErrorKind::ExpiredKey.into());
        }
        let checked = token.check(&key.key, body, self.recipient.as_ref(), (now, self.skew))?;
        let Checked { issued_at, id } = checked;
        let known = id
            .as_deref()
            .and_then(|id| self.seen(|seen| seen.begin(id, issued_at + MAX_AGE, now)).flatten());
        match known {
            None => {}
            Some(State::Pending) => return Err(VerifyErrorKind::Pending.into()),
            Some(State::Done) => return Err(VerifyErrorKind::Replay.into()),
        }
        let is_judged = id.is_some() && self.seen.is_some();
        let verified = Verified { kid: token.kid, issued_at, id, is_judged };
        Ok(Begun { verifier: self, verified, is_done: false })
    }

    /// Forgets a webhook that could not be acted on after all, so that it may come again.
    ///
    /// Every attempt of its sender has the same id: without this, the next one would be taken for
    /// a replay, and be lost. A copy that came meanwhile was refused as a replay:
    /// [`begin`](Self::begin) has no such gap.
    pub fn forget(&self, verified: &Verified) {
        if let Some(id) = &verified.id {
            self.seen(|seen| seen.remove(id));
        }
    }

    fn seen<T>(&self, work: impl FnOnce(&mut Replays) -> T) -> Option<T> {
        let seen = self.seen.as_ref()?;
        Some(work(&mut seen.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// A webhook that is what it says, and is being acted on.
///
/// Dropped before [`done`](Self::done) it is forgotten, also by a panic or a caller that hung up:
/// then it may come again.
#[derive(Debug)]
#[must_use = "a webhook that is dropped here counts as failed"]
pub struct Begun<'v> {
    verifier: &'v Verifier,
    verified: Verified,
    is_done: bool,
}

impl Begun<'_> {
    /// It was acted on: from now on a copy of it is a replay.
    pub fn done(mut self) -> Verified {
        self.is_done = true;
        if let Some(id) = &self.verified.id {
            self.verifier.seen(|seen| seen.done(id));
        }
        self.verified.clone()
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.verifier.forget(&self.verified);
        }
    }
}

/// A webhook that is what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The key that signed it.
    pub kid: KeyId,
    /// When it was signed.
    pub issued_at: DateTime<Utc>,
    /// The id of the webhook, the same on every attempt to deliver it (`jti`). `None` if its
    /// sender gives none, as Plaid's own to applications.
    pub id: Option<String>,
    is_judged: bool,
}

impl Verified {
    /// Returns whether it is certain that this process did not accept it before. `false` without
    /// an id: then it may be a replay.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        self.is_judged
    }
}

/// Why a webhook is not to be acted on.
///
/// It shows nothing of the header or the body.
pub struct VerifyError {
    kind: VerifyErrorKind,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What is wrong with a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VerifyErrorKind {
    /// The header is no token, or not a whole one.
    Malformed,
    /// The token names another algorithm than ES256.
    Algorithm,
    /// There is no key of that name.
    UnknownKey,
    /// The key has ended.
    ExpiredKey,
    /// Whether there is such a key cannot be found out now.
    KeyUnavailable,
    /// The signature is not of that key.
    Signature,
    /// It was signed more than 5 minutes ago.
    TooOld,
    /// It was signed in the future.
    TooEarly,
    /// It was signed for another body.
    Body,
    /// It was signed for another receiver, or for none where one is required.
    Recipient,
    /// The same one, by its id, is being acted on, and that may fail yet.
    Pending,
    /// The same one, by its id, was accepted before.
    Replay,
}

impl VerifyErrorKind {
    /// Its name in the test vectors.
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
    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> VerifyErrorKind {
        self.kind
    }

    /// The status to answer.
    ///
    /// - 200 for a replay: it was acted on; anything else would make the sender repeat it.
    /// - 503 when keys are out of reach, or when the same one is being acted on: the sender tries
    ///   again later.
    /// - 401 for everything else.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.kind {
            VerifyErrorKind::Replay => 200,
            VerifyErrorKind::KeyUnavailable | VerifyErrorKind::Pending => 503,
            _ => 401,
        }
    }
}

impl From<VerifyErrorKind> for VerifyError {
    fn from(kind: VerifyErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            VerifyErrorKind::Malformed => "the webhook's signature cannot be read",
            VerifyErrorKind::Algorithm => "the webhook is signed by an algorithm other than ES256",
            VerifyErrorKind::UnknownKey => "the webhook is signed with a key that nobody published",
            VerifyErrorKind::ExpiredKey => "the webhook is signed with a key that has ended",
            VerifyErrorKind::KeyUnavailable => {
                "the key of the webhook's signature cannot be had now; it will be sent again"
            }
            VerifyErrorKind::Signature => "the webhook's signature is wrong",
            VerifyErrorKind::TooOld => "the webhook's signature is more than 5 minutes old",
            VerifyErrorKind::TooEarly => {
                "the webhook's signature is of the future; one of the clocks is wrong"
            }
            VerifyErrorKind::Body => "the webhook's signature is of another body",
            VerifyErrorKind::Recipient => "the webhook was signed for another receiver",
            VerifyErrorKind::Pending => "the webhook is being acted on just now",
            VerifyErrorKind::Replay => "the webhook was received before",
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
