//! Checking webhooks, for those who receive them: applications, and partners.
//!
//! What a webhook says is not looked at here, and signing is its sender's matter.
//!
//! A webhook arrives at least once, in any order, up to a day late, or never. So it is a hint
//! and nothing more:
//!
//! - Check it with a [`Verifier`], over the raw body. On an error answer its
//!   [`status`](VerifyError::status).
//! - Note that the Item is to be read: insert or ignore. A body has no number of its own, and
//!   the same body can be two pieces of news, so do not drop one because its like was seen before.
//! - If that can fail, use [`begin`](Verifier::begin): what fails is forgotten, so that it may
//!   come again. Answer 500 then.
//! - Answer 200 at once, also for an Item that is not known any more: anything but 200 is sent
//!   again for a day.
//! - Then read. What is true comes from reading, an Item's health too; read now and then
//!   without a webhook, for one that was lost.
//!
//! ```
//! use px_server::webhook::Verifier;
//! use px_types::{ItemId, webhook::Webhook};
//! use std::collections::BTreeSet;
//!
//! /// Answers the status.
//! async fn receive(
//!     verifier: &Verifier,
//!     (header, raw_body): (&str, &[u8]),
//!     to_read: &mut BTreeSet<ItemId>,
//! ) -> u16 {
//!     if let Err(error) = verifier.verify(header, raw_body).await {
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

pub use self::keys::{AskedKeys, FixedKeys, KeySource};

use self::{
    keys::Keys,
    replay::{Replays, State},
    token::{Checked, MAX_AGE, Token},
};
use chrono::{DateTime, TimeDelta, Utc};
use px_core::{Clock, SystemClock};
use px_types::KeyId;
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
/// How many signatures are remembered.
const REPLAYS: usize = 10_000;

/// Checks that a webhook is Plaid's, as it was sent, and new.
///
/// In this order: the algorithm is ES256 and no other; the key is known and has not expired;
/// the signature is right; it is at most 5 minutes old; it is of this very body, byte by byte;
/// it was not seen before.
///
/// Keys come from a [`KeySource`] and are kept. A kept key is asked for again after an hour,
/// and when another key turns up, so an end is noticed. A name that the source does not know is
/// asked for at most once a minute, and only a few such names in all.
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
/// verifier.verify(header, raw_body).await?;
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

    /// How many signatures are remembered to refuse them the second time: 10,000 unless set;
    /// 0 is none. Beyond that the oldest is forgotten.
    ///
    /// The memory is this process's. Where several receive, it is a help and not a promise.
    #[must_use]
    pub fn remember(mut self, signatures: usize) -> Self {
        self.seen = (signatures > 0).then(|| Mutex::new(Replays::new(signatures)));
        self
    }

    /// Checks a webhook: the value of its header `Plaid-Verification`, and its raw body.
    ///
    /// The body is what came over the network: never what was parsed and written again. From now
    /// on the same webhook is a replay; where acting on it can fail, [`begin`](Self::begin).
    ///
    /// # Errors
    /// When it is not to be acted on; [`VerifyError::status`] says what to answer.
    pub async fn verify(&self, header: &str, body: &[u8]) -> Result<Verified, VerifyError> {
        Ok(self.begin(header, body).await?.done())
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
    pub async fn begin(&self, header: &str, body: &[u8]) -> Result<Begun<'_>, VerifyError> {
        let token = Token::read(header)?;
        let key = self.keys.find(&token.kid, self.clock.now()).await?;
        // Asking for a key takes time.
        let now = self.clock.now();
        if key.expired_at.is_some_and(|moment| moment <= now) {
            return Err(VerifyErrorKind::ExpiredKey.into());
        }
        let checked = token.check(&key.key, body, now, self.skew)?;
        let until = checked.issued_at + MAX_AGE;
        match self.seen(|seen| seen.begin(checked.digest, until, now)).flatten() {
            None => {}
            Some(State::Pending) => return Err(VerifyErrorKind::Pending.into()),
            Some(State::Done) => return Err(VerifyErrorKind::Replay.into()),
        }
        let Checked { issued_at, digest } = checked;
        let verified = Verified { kid: token.kid, issued_at, digest };
        Ok(Begun { verifier: self, verified, is_done: false })
    }

    /// Forgets a webhook that could not be acted on after all, so that it may come again.
    ///
    /// A sender signs each attempt anew, but two within one second are signed alike: without
    /// this, the second of them would be taken for a replay of the first, and be lost. A copy
    /// that came meanwhile was answered as a replay: [`begin`](Self::begin) has no such gap.
    pub fn forget(&self, verified: &Verified) {
        self.seen(|seen| seen.remove(&verified.digest));
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
        self.verifier.seen(|seen| seen.done(&self.verified.digest));
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
    /// Of what was signed.
    digest: [u8; 32],
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
    /// The very same one is being acted on, and that may fail yet.
    Pending,
    /// The very same one was accepted before.
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
