//! The verifier: which keys it requests and when, and what it refuses.

use super::{SetClock, at, kid, signer};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use px_core::Clock;
use px_items::webhook::{Signer, SigningKey};
use px_server::webhook::{
    FixedKeys, FoundKey, KeySource, KeyStore, Verifier, VerifyError, WebhookErrorKind as Wrong,
};
use px_types::{KeyId, model::verification_key::VerificationKey, webhook::SignatureClaims};
use std::{
    error::Error as StdError,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Key source with the keys of a signer. Counts the requests.
#[derive(Debug)]
struct CountingKeys {
    signer: Arc<Signer>,
    clock: SetClock,
    requests: Mutex<Vec<String>>,
    down: AtomicBool,
    wait: tokio::sync::Semaphore,
    waiting: AtomicUsize,
}

impl CountingKeys {
    fn new(signer: Arc<Signer>, clock: SetClock) -> Arc<Self> {
        Arc::new(Self {
            signer,
            clock,
            requests: Mutex::default(),
            down: AtomicBool::new(false),
            wait: tokio::sync::Semaphore::new(1_000),
            waiting: AtomicUsize::new(0),
        })
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

#[async_trait]
impl KeySource for CountingKeys {
    async fn key(
        &self,
        kid: &KeyId,
    ) -> Result<Option<VerificationKey>, Box<dyn StdError + Send + Sync>> {
        self.requests.lock().unwrap().push(kid.as_str().to_owned());
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.wait.acquire().await?.forget();
        if self.down.load(Ordering::SeqCst) {
            return Err("out of reach".into());
        }
        Ok(self.signer.verification_key(kid, self.clock.now()))
    }
}

struct World {
    clock: SetClock,
    signer: Arc<Signer>,
    source: Arc<CountingKeys>,
    verifier: Verifier,
}

fn world() -> World {
    let clock = SetClock::new(at("2024-05-01T12:00:00Z"));
    let signer = Arc::new(signer("k1", at("2024-01-01T00:00:00Z")));
    let source = CountingKeys::new(signer.clone(), clock.clone());
    let verifier = Verifier::new(source.clone()).clock(Arc::new(clock.clone()));
    World { clock, signer, source, verifier }
}

impl World {
    async fn receive(&self, signer: &Signer, body: &str) -> Result<(), VerifyError> {
        let header = signer.sign(body.as_bytes(), self.clock.now()).unwrap();
        self.verifier.verify(&header, body.as_bytes(), None).await.map(drop)
    }

    async fn kind(&self, signer: &Signer, body: &str) -> Option<Wrong> {
        self.receive(signer, body).await.err().map(|error| error.kind())
    }
}

#[tokio::test]
async fn a_key_is_asked_for_once_an_hour() {
    let world = world();
    for minute in 0..60 {
        assert_eq!(world.kind(&world.signer, &minute.to_string()).await, None);
        world.clock.pass(60);
    }
    assert_eq!(world.source.requests(), 1);
    assert_eq!(world.kind(&world.signer, "an hour later").await, None);
    assert_eq!(world.source.requests(), 2);
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_asked_for_at_most_once_a_minute() {
    let world = world();
    let stranger = signer("stranger", at("2024-01-01T00:00:00Z"));
    for second in 0..60 {
        let kind = world.kind(&stranger, &second.to_string()).await;
        assert_eq!(kind, Some(Wrong::UnknownKey));
        world.clock.pass(1);
    }
    assert_eq!(world.source.requests(), 1);
    assert_eq!(world.kind(&stranger, "b").await, Some(Wrong::UnknownKey));
    assert_eq!(world.source.requests(), 2);
}

/// A clock that advances as soon as a task sleeps.
#[derive(Debug)]
struct Hurried(SetClock);

#[async_trait]
impl Clock for Hurried {
    fn now(&self) -> DateTime<Utc> {
        self.0.now()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        self.0.set(self.now() + duration);
    }
}

#[tokio::test]
async fn invented_names_cannot_flood_the_source_nor_stop_known_keys() {
    let mut world = world();
    let clock = Arc::new(Hurried(world.clock.clone()));
    world.verifier = Verifier::new(world.source.clone()).clock(clock);
    let begun = world.clock.now();
    assert_eq!(world.kind(&world.signer, "before").await, None);
    // tokio interrupts a task after 128 waits, and this clock passes with every interruption.
    for n in 0..100 {
        let stranger = signer(&format!("s{n}"), at("2024-01-01T00:00:00Z"));
        assert!(world.kind(&stranger, "x").await.is_some());
    }
    let minutes = (world.clock.now() - begun).num_seconds() / 60 + 1;
    let requests = i64::try_from(world.source.requests()).unwrap();
    assert!(requests <= 60 * minutes, "{requests} in {minutes} minutes");
    assert_eq!(world.kind(&world.signer, "after").await, None);
    // An hour later the known key is requested, however many key ids were invented.
    world.clock.pass(3_600);
    assert_eq!(world.kind(&world.signer, "an hour later").await, None);
}

/// A request that exceeds the limit is not refused permanently.
#[tokio::test]
async fn a_crowd_of_invented_names_is_refused_at_once_and_only_for_now() {
    let world = world();
    assert_eq!(world.kind(&world.signer, "before").await, None);
    let crowd: Vec<_> =
        (0..20).map(|n| signer(&format!("s{n}"), at("2024-01-01T00:00:00Z"))).collect();
    let received: FuturesUnordered<_> =
        crowd.iter().map(|stranger| world.receive(stranger, "x")).collect();
    // Two are requested, four wait for their turn, and the clock stands still.
    let errors: Vec<_> = received.take(16).map(Result::unwrap_err).collect().await;
    let unavailable = errors.iter().filter(|error| error.kind() == Wrong::KeyUnavailable);
    assert_eq!(unavailable.clone().count(), 14);
    assert!(unavailable.into_iter().all(|error| error.status() == 503));
    assert_eq!(world.source.requests(), 3);
}

/// A program that has just started does not need the source for a key that it knew before.
#[tokio::test]
async fn a_key_that_was_found_is_known_after_a_restart() {
    let world = world();
    let store = Arc::new(Saved::default());
    let verifier = || {
        Verifier::new(world.source.clone())
            .clock(Arc::new(world.clock.clone()))
            .key_store(store.clone())
    };
    let header = with_id(&world, b"{}", "w1");
    verifier().verify(&header, b"{}", None).await.unwrap();
    world.source.down.store(true, Ordering::SeqCst);
    verifier().verify(&header, b"{}", None).await.unwrap();
    assert_eq!(world.source.requests(), 1);
}

#[derive(Debug, Default)]
struct Saved(Mutex<Vec<FoundKey>>);

#[async_trait]
impl KeyStore for Saved {
    async fn load(&self) -> Result<Vec<FoundKey>, Box<dyn StdError + Send + Sync>> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn save(&self, keys: &[FoundKey]) -> Result<(), Box<dyn StdError + Send + Sync>> {
        *self.0.lock().unwrap() = keys.to_vec();
        Ok(())
    }
}

#[tokio::test]
async fn case_40_a_key_that_ended_is_refused_though_it_was_kept() {
    let world = world();
    assert_eq!(world.kind(&world.signer, "1").await, None);
    // The old key expires, and an attacker who has it continues to sign.
    let old = SigningKey::generate(kid("old"), at("2024-01-01T00:00:00Z")).unwrap();
    let thief = Signer::new(old.clone());
    world.signer.add(old.clone());
    assert_eq!(world.kind(&thief, "2").await, None, "it is in force");
    world.clock.pass(120);
    world.signer.add(old.expires_at(world.clock.now()));
    assert_eq!(world.kind(&thief, "3").await, None, "a cached key is not requested each time");
    // Another key appears: the cached ones are requested again.
    world.signer.add(SigningKey::generate(kid("k2"), world.clock.now()).unwrap());
    assert_eq!(world.kind(&world.signer, "4").await, None);
    assert_eq!(world.kind(&thief, "5").await, Some(Wrong::ExpiredKey));
    world.clock.pass(86_400);
    assert_eq!(world.kind(&thief, "6").await, Some(Wrong::ExpiredKey));
}

#[tokio::test]
async fn case_40_without_rotation_an_end_is_noticed_within_the_hour() {
    let world = world();
    let key = SigningKey::generate(kid("old"), at("2024-01-01T00:00:00Z")).unwrap();
    let thief = Signer::new(key.clone());
    world.signer.add(key.clone());
    assert_eq!(world.kind(&thief, "1").await, None);
    world.signer.add(key.expires_at(world.clock.now()));
    world.clock.pass(3_600);
    assert_eq!(world.kind(&thief, "2").await, Some(Wrong::ExpiredKey));
}

#[tokio::test]
async fn a_source_that_is_down_does_not_stop_known_keys_for_a_day() {
    let world = world();
    assert_eq!(world.kind(&world.signer, "1").await, None);
    world.source.down.store(true, Ordering::SeqCst);
    world.clock.pass(23 * 3_600);
    assert_eq!(world.kind(&world.signer, "2").await, None);
    world.clock.pass(2 * 3_600);
    assert_eq!(world.kind(&world.signer, "3").await, Some(Wrong::KeyUnavailable));
    world.source.down.store(false, Ordering::SeqCst);
    world.clock.pass(60);
    assert_eq!(world.kind(&world.signer, "4").await, None);
}

#[tokio::test]
async fn many_webhooks_of_a_new_key_ask_once_and_known_keys_do_not_wait() {
    let world = world();
    assert_eq!(world.kind(&world.signer, "1").await, None);
    world.source.wait.forget_permits(usize::MAX);
    let new = SigningKey::generate(kid("k2"), world.clock.now()).unwrap();
    let of_new = Signer::new(new.clone());
    let of_old = signer_of(&world);
    world.signer.add(new);
    let many = futures_util::future::join_all((0..50).map(|n| {
        let (world, of_new) = (&world, &of_new);
        async move { world.kind(of_new, &n.to_string()).await }
    }));
    let known = async {
        while world.source.waiting.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        let kind = world.kind_of(&of_old).await;
        world.source.wait.add_permits(1);
        kind
    };
    let (many, known) = tokio::join!(many, known);
    assert_eq!(known, None);
    assert_eq!(many, vec![None; 50]);
    assert_eq!(world.source.requests(), 2);
}

/// Returns a webhook that was signed with the first key before there was another one.
fn signer_of(world: &World) -> (String, &'static [u8]) {
    (world.signer.sign(b"kept", world.clock.now()).unwrap(), b"kept")
}

impl World {
    async fn kind_of(&self, (header, body): &(String, &'static [u8])) -> Option<Wrong> {
        self.verifier.verify(header, body, None).await.err().map(|error| error.kind())
    }
}

/// Returns a webhook with an id, signed now.
fn with_id(world: &World, body: &[u8], id: &str) -> String {
    let now = world.clock.now();
    let claims = SignatureClaims::of(body, now.timestamp()).with_id(id);
    world.signer.sign_claims(&claims, now).unwrap()
}

#[tokio::test]
async fn case_41_a_webhook_that_was_accepted_before_is_a_replay_by_its_id_alone() {
    let world = world();
    let header = with_id(&world, b"{}", "w1");
    let verified = world.verifier.verify(&header, b"{}", None).await.unwrap();
    assert_eq!((verified.id.as_deref(), verified.is_certainly_new()), (Some("w1"), true));
    let error = world.verifier.verify(&header, b"{}", None).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (Wrong::Replay, 200));
    // Another webhook of the same second with the same body is not a replay.
    assert_eq!(world.kind_of(&(with_id(&world, b"{}", "w2"), b"{}")).await, None);
    // The sender's next attempt is one, and is accepted so that it is the last.
    world.clock.pass(200);
    let again = with_id(&world, b"{}", "w1");
    assert_eq!(world.kind_of(&(again.clone(), b"{}")).await, Some(Wrong::Replay));
    // Later it is refused: as a replay, then for its age.
    world.clock.set(at("2024-05-01T12:05:00Z"));
    assert_eq!(world.kind_of(&(header.clone(), b"{}")).await, Some(Wrong::Replay));
    world.clock.set(at("2024-05-01T12:05:01Z"));
    assert_eq!(world.kind_of(&(header, b"{}")).await, Some(Wrong::TooOld));
    world.clock.set(at("2024-05-01T12:08:20Z"));
    assert_eq!(world.kind_of(&(again, b"{}")).await, Some(Wrong::Replay));
}

/// Plaid's own webhooks have no id: two of the same second have the same claims, and none is
/// dropped.
#[tokio::test]
async fn without_an_id_nothing_is_judged_and_the_result_says_so() {
    let world = world();
    let header = world.signer.sign(b"{}", world.clock.now()).unwrap();
    for _ in 0..3 {
        let verified = world.verifier.verify(&header, b"{}", None).await.unwrap();
        assert_eq!((verified.id.as_deref(), verified.is_certainly_new()), (None, false));
    }
    let empty = with_id(&world, b"{}", "");
    assert!(!world.verifier.verify(&empty, b"{}", None).await.unwrap().is_certainly_new());
    assert!(!world.verifier.verify(&empty, b"{}", None).await.unwrap().is_certainly_new());
}

#[tokio::test]
async fn a_webhook_for_another_application_is_refused() {
    let now = at("2024-05-01T12:00:00Z");
    let signer = signer("k1", now);
    let keys = FixedKeys::new(signer.verification_keys(now));
    let budget = Verifier::new(Arc::new(keys))
        .clock(Arc::new(SetClock::new(now)))
        .application("client-budget".parse().unwrap());
    let claims = || SignatureClaims::of(b"{}", now.timestamp());
    for (claims, expected) in [
        (claims().for_recipient("client-budget"), None),
        (claims(), None),
        (claims().for_recipient("client-tax"), Some(Wrong::Recipient)),
        (claims().for_recipient(""), Some(Wrong::Recipient)),
    ] {
        let header = signer.sign_claims(&claims, now).unwrap();
        let kind = budget.verify(&header, b"{}", None).await.err().map(|error| error.kind());
        assert_eq!(kind, expected, "{claims:?}");
    }
}

#[tokio::test]
async fn case_41_a_forged_webhook_is_not_remembered() {
    let world = world();
    let header = with_id(&world, b"{}", "w1");
    assert_eq!(world.kind_of(&(header.clone(), b"[]")).await, Some(Wrong::Body));
    assert_eq!(world.kind_of(&(header, b"{}")).await, None);
}

#[tokio::test]
async fn case_41_another_valid_form_of_a_signature_is_a_replay_too() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    // (r, s) and (r, n - s) are both valid: n is the order of P-256.
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63,
        0x25, 0x51,
    ];
    let world = world();
    let header = with_id(&world, b"{}", "w1");
    let (signed, signature) = header.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER).rev() {
        let difference = i32::from(order) - i32::from(*byte) - borrow;
        borrow = i32::from(difference < 0);
        *byte = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    let other = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    assert_eq!(world.kind_of(&(other, b"{}")).await, None, "it is valid");
    assert_eq!(world.kind_of(&(header, b"{}")).await, Some(Wrong::Replay));
}

#[tokio::test]
async fn a_published_key_that_is_none_is_not_used() {
    let now = at("2024-05-01T12:00:00Z");
    let signer = signer("k1", now);
    let good = signer.verification_key(&kid("k1"), now).unwrap();
    let bend: [fn(&mut VerificationKey); 7] = [
        |key| key.alg = "HS256".into(),
        |key| key.crv = "P-384".into(),
        |key| key.kty = "oct".into(),
        |key| key.usage = "enc".into(),
        |key| key.x.truncate(20),
        |key| key.y = "!".into(),
        |key| key.x = key.y.clone(),
    ];
    for (n, bend) in bend.into_iter().enumerate() {
        let mut key = good.clone();
        bend(&mut key);
        let verifier =
            Verifier::new(Arc::new(FixedKeys::new(vec![key]))).clock(Arc::new(SetClock::new(now)));
        let header = signer.sign(b"{}", now).unwrap();
        assert!(verifier.verify(&header, b"{}", None).await.is_err(), "{n}");
    }
}

#[tokio::test]
async fn nothing_of_a_webhook_is_in_its_error() {
    let world = world();
    let header = world.signer.sign(b"hunter2", world.clock.now()).unwrap();
    let error = world.verifier.verify(&header, b"hunter3", None).await.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("hunter") && !shown.contains(&header[..20]), "{shown}");
}

#[tokio::test]
async fn no_header_panics() {
    let world = world();
    let good = world.signer.sign(b"{}", world.clock.now()).unwrap();
    for end in 0..good.len() {
        if good.is_char_boundary(end) {
            assert!(world.verifier.verify(&good[..end], b"{}", None).await.is_err(), "{end}");
        }
    }
    for bad in ["", ".", "..", "...", "é.é.é", &"a".repeat(1 << 20), &".".repeat(4_096)] {
        let error = world.verifier.verify(bad, b"{}", None).await.unwrap_err();
        assert_eq!(error.kind(), Wrong::Malformed);
    }
    world.clock.pass(-TimeDelta::days(1).num_seconds());
    let early = world.verifier.verify(&good, b"{}", None).await.unwrap_err();
    assert_eq!(early.kind(), Wrong::TooEarly);
}
