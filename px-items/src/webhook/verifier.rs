//! Checking webhooks, for those who receive them: applications, and partners.
//!
//! What a webhook says is not looked at here. Signing is in [`Signer`](super::Signer).

mod keys;
mod replay;

pub use self::keys::{FixedKeys, KeySource};

use self::{keys::Keys, replay::Replays};
use super::token::{MAX_AGE, Token};
use chrono::{DateTime, TimeDelta, Utc};
use px_client::clock::{Clock, TokioClock};
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
/// use px_items::webhook::{FixedKeys, Signer, SigningKey, Verifier};
/// use px_client::clock::{Clock, TokioClock};
/// use px_types::KeyId;
/// use std::sync::Arc;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let now = TokioClock::new().now();
/// let signer = Signer::new(SigningKey::generate(KeyId::new("2024-05")?, now)?);
/// // A program asks `POST /webhook_verification_key/get` for keys instead.
/// let verifier = Verifier::new(Arc::new(FixedKeys::new(signer.verification_keys(now))));
///
/// let body = br#"{"webhook_type":"ITEM"}"#;
/// let header = signer.sign(body, now)?;
/// verifier.verify(&header, body).await?;
/// assert!(verifier.verify(&header, b"another body").await.is_err());
/// # Ok(())
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
            clock: Arc::new(TokioClock::new()),
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
    /// The body is what came over the network: never what was parsed and written again.
    ///
    /// # Errors
    /// When it is not to be acted on; [`VerifyError::status`] says what to answer.
    pub async fn verify(&self, header: &str, body: &[u8]) -> Result<Verified, VerifyError> {
        let token = Token::read(header)?;
        let key = self.keys.find(&token.kid, self.clock.now()).await?;
        // Asking for a key takes time.
        let now = self.clock.now();
        if key.expired_at.is_some_and(|moment| moment <= now) {
            return Err(VerifyErrorKind::ExpiredKey.into());
        }
        let checked = token.check(&key.key, body, now, self.skew)?;
        if let Some(seen) = &self.seen {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if !seen.insert(checked.digest, checked.issued_at + MAX_AGE, now) {
                return Err(VerifyErrorKind::Replay.into());
            }
        }
        Ok(Verified { kid: token.kid, issued_at: checked.issued_at })
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
    /// - 503 when keys are out of reach: the sender tries again later.
    /// - 401 for everything else.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.kind {
            VerifyErrorKind::Replay => 200,
            VerifyErrorKind::KeyUnavailable => 503,
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
