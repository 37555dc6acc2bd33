//! `POST /applications/notify` at a partner: signed by Plaid, unchanged, and delivered once.

use crate::{
    bank::{body, get, json},
    log::Log,
};
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta};
use http::{Request, header};
use http_body_util::Full;
use jsonwebtoken::{Algorithm, EncodingKey};
use px_core::ManualClock;
use px_server::{
    Caller, Error, Partner, PartnerService,
    guard::CallerAddr,
    verify::{TokenVerifier, VerifyError},
    webhook::{FixedKeys, KeySource, KeySourceFn, Verifier},
};
use px_types::{
    AccessToken, KeyId,
    model::verification_key::VerificationKey,
    partner::{
        GetUser, ListTransactions, NewApplicationLinkNotification, TransactionsResponse,
        UserAccountInfoResponse,
    },
    webhook::SignatureClaims,
};
use serde_json::{Value, json};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Notify;
use tower::ServiceExt as _;

const PATH: &str = "/applications/notify";
const NOW: i64 = 1_714_564_800;
const NOTIFICATION: &str = r#"{"notification_id":"n1","user_id":"u1","application":{"application_id":"app-budget","name":"Budget App","created_at":"2024-05-01T12:00:00Z"},"occurred_at":"2024-05-01T12:00:00Z","event":"LINKED","account_ids":["a1"]}"#;

/// A bank that records its notifications. The first calls fail as scripted.
#[derive(Clone, Default)]
struct Bank {
    delivered: Arc<Mutex<Vec<NewApplicationLinkNotification>>>,
    script: Arc<Mutex<Vec<Fault>>>,
    calls: Arc<AtomicUsize>,
    /// Released for a call that waits.
    gate: Arc<Notify>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Error,
    /// Waits at the gate, then succeeds or fails.
    Wait {
        fails: bool,
    },
    Panic,
    Hang,
}

#[async_trait]
impl Partner for Bank {
    async fn user(&self, _: &Caller, _: GetUser) -> Result<UserAccountInfoResponse, Error> {
        Err(Error::not_offered())
    }

    async fn transactions(
        &self,
        _: &Caller,
        _: ListTransactions,
    ) -> Result<TransactionsResponse, Error> {
        Err(Error::not_offered())
    }

    async fn application_linked(
        &self,
        notification: NewApplicationLinkNotification,
    ) -> Result<(), Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let fault = self.script.lock().unwrap().pop();
        match fault {
            Some(Fault::Error) => return Err(Error::internal("the bank's books are locked")),
            Some(Fault::Panic) => panic!("the bank's code panics"),
            Some(Fault::Wait { fails }) => {
                self.gate.notified().await;
                if fails {
                    return Err(Error::internal("the bank's books are locked"));
                }
            }
            Some(Fault::Hang) => std::future::pending().await,
            None => {}
        }
        self.delivered.lock().unwrap().push(notification);
        Ok(())
    }
}

struct NoTokens;

#[async_trait]
impl TokenVerifier for NoTokens {
    async fn verify(&self, _: &AccessToken) -> Result<Arc<px_server::TokenGrant>, VerifyError> {
        Err(VerifyError::invalid())
    }
}

/// A key of Plaid.
struct Key {
    pair: rcgen::KeyPair,
    kid: &'static str,
}

impl Key {
    fn new(kid: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Self { pair, kid }
    }

    fn published(&self, expired_at: Option<i64>) -> VerificationKey {
        // The public key is 0x04, x, y.
        let point = self.pair.public_key_raw();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut key = VerificationKey::new(
            KeyId::new(self.kid).unwrap(),
            "ES256",
            "P-256",
            "EC",
            "sig",
            part(&point[1..33]),
            part(&point[33..65]),
            NOW - 1000,
        );
        key.expired_at = expired_at;
        key
    }

    fn sign_as(&self, head: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(head), part(claims));
        let key = EncodingKey::from_ec_der(&self.pair.serialize_der());
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::ES256);
        format!("{signed}.{}", signature.unwrap())
    }

    fn sign(&self, body: &str, iat: i64) -> String {
        let claims = SignatureClaims::of(body.as_bytes(), iat).for_recipient("ins_1");
        let claims = serde_json::to_value(claims).unwrap();
        self.sign_as(&json!({ "alg": "ES256", "kid": self.kid, "typ": "JWT" }), &claims)
    }
}

struct World {
    bank: Bank,
    service: PartnerService,
    clock: ManualClock,
    key: Key,
    expired: Key,
}

impl World {
    fn new() -> Self {
        let (key, expired) = (Key::new("key-1"), Key::new("key-0"));
        let keys = vec![key.published(None), expired.published(Some(NOW - 60))];
        Self::with_keys(Arc::new(FixedKeys::new(keys)), key, expired)
    }

    /// A bank without a configured institution.
    fn without_institution() -> Self {
        let (key, expired) = (Key::new("key-1"), Key::new("key-0"));
        let verifier = Verifier::new(Arc::new(FixedKeys::new(vec![key.published(None)])));
        Self::with_verifier(verifier, key, expired)
    }

    fn with_keys(keys: Arc<dyn KeySource>, key: Key, expired: Key) -> Self {
        Self::with_verifier(Verifier::new(keys).institution("ins_1".parse().unwrap()), key, expired)
    }

    fn with_verifier(verifier: Verifier, key: Key, expired: Key) -> Self {
        let clock = ManualClock::new(DateTime::from_timestamp(NOW, 0).unwrap());
        let bank = Bank::default();
        let verifier = verifier.clock(Arc::new(clock.clone()));
        let service = PartnerService::builder(bank.clone())
            .tokens(Arc::new(NoTokens))
            .clock(Arc::new(clock.clone()))
            .notifications(Arc::new(verifier));
        Self { bank, service: service.build().unwrap(), clock, key, expired }
    }

    fn fails_first(self, faults: &[Fault]) -> Self {
        self.bank.script.lock().unwrap().extend(faults);
        self
    }

    async fn send(&self, signature: &str, body: &str) -> (u16, String) {
        send(&self.service, request(Some(signature), body)).await
    }

    fn delivered(&self) -> usize {
        self.bank.delivered.lock().unwrap().len()
    }
}

fn request(signature: Option<&str>, body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::post(PATH)
        .header(header::HOST, "bank.example")
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(signature) = signature {
        request = request.header("plaid-verification", signature);
    }
    request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()
}

/// Returns the status and the id of the error.
async fn send(service: &PartnerService, request: Request<Full<Bytes>>) -> (u16, String) {
    let response = service.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let request_id = response.headers()["x-request-id"].clone();
    let bearer = response.headers().contains_key(header::WWW_AUTHENTICATE);
    assert!(!bearer, "a bearer token is not what is missing");
    if status == 200 {
        assert_eq!(body(response).await, "");
        return (status, String::new());
    }
    let body = json(response).await;
    assert_eq!(body["request_id"], request_id.to_str().unwrap());
    (status, body["error"]["id"].as_str().unwrap().to_owned())
}

fn forged() -> (u16, String) {
    (401, "invalid_signature".into())
}

#[tokio::test]
async fn a_signed_notification_is_handed_to_the_bank_as_it_was_sent() {
    let world = World::new();
    assert_eq!(world.send(&world.key.sign(NOTIFICATION, NOW), NOTIFICATION).await.0, 200);
    let delivered = world.bank.delivered.lock().unwrap().clone();
    let expected: NewApplicationLinkNotification = serde_json::from_str(NOTIFICATION).unwrap();
    assert_eq!(delivered, std::slice::from_ref(&expected));
    assert!(!expected.is_unlink());
    let unlinked = NOTIFICATION.replace("LINKED", "UNLINKED").replace("n1", "n2");
    assert_eq!(world.send(&world.key.sign(&unlinked, NOW), &unlinked).await.0, 200);
    assert!(world.bank.delivered.lock().unwrap()[1].is_unlink());
}

#[tokio::test]
async fn a_partner_that_does_not_ask_for_notifications_has_nothing_there() {
    let service = PartnerService::builder(Bank::default()).tokens(Arc::new(NoTokens));
    let service = service.build().unwrap();
    let response = send(&service, request(Some("x"), NOTIFICATION)).await;
    assert_eq!(response, (404, "not_found".into()));
    assert_eq!(service.oneshot(get(PATH, None)).await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_forged_notification_is_refused() {
    let world = World::new();
    let stranger = Key { kid: "key-1", ..Key::new("key-1") };
    assert_eq!(world.send(&stranger.sign(NOTIFICATION, NOW), NOTIFICATION).await, forged());
    let unknown = Key::new("nobody's");
    assert_eq!(world.send(&unknown.sign(NOTIFICATION, NOW), NOTIFICATION).await, forged());
    for signature in ["", "x", "a.b.c", "..", &"a".repeat(5000)] {
        assert_eq!(world.send(signature, NOTIFICATION).await, forged(), "{signature}");
    }
    assert_eq!(send(&world.service, request(None, NOTIFICATION)).await, forged());
    // A valid signature beside another one is refused: which one counts is not guessed.
    let mut two = request(Some(&world.key.sign(NOTIFICATION, NOW)), NOTIFICATION);
    two.headers_mut().append("plaid-verification", "x".parse().unwrap());
    assert_eq!(send(&world.service, two).await, forged());
    assert_eq!(world.delivered(), 0);
}

/// A signature for one bank is not accepted by another.
#[tokio::test]
async fn a_notification_for_another_bank_is_refused() {
    let world = World::new();
    let signed = |aud: Value| {
        let claims = SignatureClaims::of(NOTIFICATION.as_bytes(), NOW).with_id("n1");
        let mut claims = serde_json::to_value(claims).unwrap();
        claims["aud"] = aud;
        world.key.sign_as(&json!({ "alg": "ES256", "kid": "key-1", "typ": "JWT" }), &claims)
    };
    for other in
        [json!("ins_2"), json!("ins_1 "), json!("INS_1"), json!(["ins_2"]), json!([]), json!("")]
    {
        assert_eq!(world.send(&signed(other), NOTIFICATION).await, forged());
    }
    let claims = serde_json::to_value(SignatureClaims::of(NOTIFICATION.as_bytes(), NOW)).unwrap();
    let nobodys = world.key.sign_as(&json!({ "alg": "ES256", "kid": "key-1" }), &claims);
    assert_eq!(world.send(&nobodys, NOTIFICATION).await, forged());
    assert_eq!(world.delivered(), 0);
    assert_eq!(world.send(&signed(json!("ins_1")), NOTIFICATION).await.0, 200);
    assert_eq!(world.send(&signed(json!(["ins_2", "ins_1"])), NOTIFICATION).await.0, 200);
    assert_eq!(world.delivered(), 1);
    // A verifier without an institution does not check it.
    let nameless = World::without_institution();
    assert_eq!(nameless.send(&nameless.key.sign(NOTIFICATION, NOW), NOTIFICATION).await.0, 200);
}

#[tokio::test]
async fn a_bank_that_is_several_institutions_takes_what_is_signed_for_any_of_them() {
    let key = Key::new("key-1");
    let verifier = Verifier::new(Arc::new(FixedKeys::new(vec![key.published(None)])))
        .institution("ins_1".parse().unwrap())
        .institution("ins_2".parse().unwrap());
    let world = World::with_verifier(verifier, key, Key::new("key-0"));
    for (n, (institution, status)) in
        [("ins_1", 200), ("ins_2", 200), ("ins_3", 401)].into_iter().enumerate()
    {
        let body = NOTIFICATION.replace("n1", &format!("n{n}"));
        let claims = SignatureClaims::of(body.as_bytes(), NOW).for_recipient(institution);
        let claims = serde_json::to_value(claims).unwrap();
        let signature = world.key.sign_as(&json!({ "alg": "ES256", "kid": "key-1" }), &claims);
        assert_eq!(world.send(&signature, &body).await.0, status, "{institution}");
    }
}

/// A notification with a failed first delivery arrives again under the same id.
#[tokio::test]
async fn a_notification_is_identified_by_its_ids_alone() {
    let world = World::new();
    let signed = |id: &str, body: &str| {
        let claims = SignatureClaims::of(body.as_bytes(), NOW).with_id(id).for_recipient("ins_1");
        let claims = serde_json::to_value(claims).unwrap();
        world.key.sign_as(&json!({ "alg": "ES256", "kid": "key-1" }), &claims)
    };
    assert_eq!(world.send(&signed("a", NOTIFICATION), NOTIFICATION).await.0, 200);
    // Another signature of the same notification, and another notification.
    assert_eq!(world.send(&signed("b", NOTIFICATION), NOTIFICATION).await.0, 200);
    assert_eq!(world.delivered(), 1);
    let other = NOTIFICATION.replace("n1", "n2");
    assert_eq!(world.send(&signed("c", &other), &other).await.0, 200);
    assert_eq!(world.delivered(), 2);
}

#[tokio::test]
async fn a_notification_altered_by_one_byte_is_refused() {
    let world = World::new();
    let signature = world.key.sign(NOTIFICATION, NOW);
    for at in 0..NOTIFICATION.len() {
        let mut altered = NOTIFICATION.as_bytes().to_vec();
        altered[at] ^= 1;
        let altered = String::from_utf8(altered).unwrap();
        assert_eq!(world.send(&signature, &altered).await, forged(), "byte {at}");
    }
    for altered in [format!("{NOTIFICATION} "), NOTIFICATION.replace(',', ", "), String::new()] {
        assert_eq!(world.send(&signature, &altered).await, forged());
    }
    // And every byte of the three parts of the signature.
    for at in 0..signature.len() {
        let mut altered = signature.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).unwrap();
        // It may name another key; few keys are requested per second.
        world.clock.advance(TimeDelta::milliseconds(if at % 4 == 0 { 1400 } else { 0 }));
        let request = async { world.send(&altered, NOTIFICATION).await.0 };
        let minute = async {
            tokio::task::yield_now().await;
            world.clock.advance(TimeDelta::seconds(2));
            std::future::pending::<()>().await
        };
        let status = tokio::select! { biased; status = request => status, () = minute => 0 };
        assert!(matches!(status, 401 | 503), "byte {at}: {status}");
    }
    assert_eq!(world.delivered(), 0);
    let signature = world.key.sign(NOTIFICATION, world.clock_seconds());
    assert_eq!(world.send(&signature, NOTIFICATION).await.0, 200, "what was sent is still good");
}

#[tokio::test]
async fn a_notification_signed_with_an_expired_key_is_refused() {
    let world = World::new();
    // The signature was made while the key was valid, and is recent enough.
    let signature = world.expired.sign(NOTIFICATION, NOW - 120);
    assert_eq!(world.send(&signature, NOTIFICATION).await, forged());
    assert_eq!(world.delivered(), 0);
}

#[tokio::test]
async fn a_notification_with_alg_none_or_another_algorithm_is_refused() {
    let world = World::new();
    let claims = serde_json::to_value(SignatureClaims::of(NOTIFICATION.as_bytes(), NOW)).unwrap();
    for alg in ["none", "None", "NONE", "HS256", "RS256", "ES384", "EdDSA", "es256", ""] {
        let head = json!({ "alg": alg, "kid": "key-1", "typ": "JWT" });
        let signed = world.key.sign_as(&head, &claims);
        assert_eq!(world.send(&signed, NOTIFICATION).await, forged(), "{alg}");
        let bare = format!("{}.", signed.rsplit_once('.').unwrap().0);
        assert_eq!(world.send(&bare, NOTIFICATION).await, forged(), "{alg}, no signature");
    }
    assert_eq!(world.delivered(), 0);
}

/// A verifier that trusts the algorithm of the token would use the public key, which is public, as
/// the secret of an HMAC.
#[tokio::test]
async fn a_notification_signed_by_hmac_with_the_public_key_is_refused() {
    let world = World::new();
    let claims = serde_json::to_value(SignatureClaims::of(NOTIFICATION.as_bytes(), NOW)).unwrap();
    let key = world.key.published(None);
    let point = world.key.pair.public_key_raw().to_vec();
    let jwk = serde_json::to_vec(&key).unwrap();
    let pem = world.key.pair.public_key_pem().into_bytes();
    let secrets = [point[1..].to_vec(), point, pem, jwk, Vec::new()];
    for (n, secret) in secrets.iter().enumerate() {
        // The second one claims the right algorithm.
        for alg in ["HS256", "ES256"] {
            let head = json!({ "alg": alg, "kid": "key-1", "typ": "JWT" });
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let signed = format!("{}.{}", part(&head), part(&claims));
            let secret = EncodingKey::from_secret(secret);
            let mac = jsonwebtoken::crypto::sign(signed.as_bytes(), &secret, Algorithm::HS256);
            let token = format!("{signed}.{}", mac.unwrap());
            assert_eq!(world.send(&token, NOTIFICATION).await, forged(), "{alg}, secret {n}");
        }
    }
    assert_eq!(world.delivered(), 0);
}

#[tokio::test]
async fn a_notification_is_good_for_five_minutes() {
    let world = World::new();
    for (iat, status) in
        [(NOW - 301, 401), (NOW - 300, 200), (NOW + 30, 200), (NOW + 31, 401), (0, 401)]
    {
        let notification = NOTIFICATION.replace("n1", &format!("n{iat}"));
        let signature = world.key.sign(&notification, iat);
        assert_eq!(world.send(&signature, &notification).await.0, status, "{}", iat - NOW);
    }
    assert_eq!(world.delivered(), 2);
}

/// The response to a replay is 200, because any other status would make the sender repeat it.
#[tokio::test]
async fn a_replayed_notification_is_not_handed_on_a_second_time() {
    let world = World::new();
    let signature = world.key.sign(NOTIFICATION, NOW);
    for _ in 0..3 {
        assert_eq!(world.send(&signature, NOTIFICATION).await.0, 200);
        assert_eq!(world.delivered(), 1);
    }
    // Anyone can derive a second valid ECDSA signature from a first one: s and n - s.
    let twin = malleated(&signature);
    assert_ne!(twin, signature);
    assert_eq!(world.send(&twin, NOTIFICATION).await.0, 200);
    assert_eq!(world.delivered(), 1);
    world.clock.advance(TimeDelta::seconds(300));
    assert_eq!(world.send(&signature, NOTIFICATION).await.0, 200);
    assert_eq!(world.delivered(), 1, "at its last moment it is remembered");
    world.clock.advance(TimeDelta::seconds(1));
    assert_eq!(world.send(&signature, NOTIFICATION).await, forged());
    // Signed again, even a day later, it is the same notification.
    for later in [0, 24 * 3600] {
        world.clock.advance(TimeDelta::seconds(later));
        let again = world.key.sign(NOTIFICATION, world.clock_seconds());
        assert_eq!(world.send(&again, NOTIFICATION).await.0, 200);
        assert_eq!(world.delivered(), 1);
    }
}

/// Returns the other valid signature of the same text by the same key.
fn malleated(token: &str) -> String {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i32::from(ORDER[at]) - i32::from(bytes[32 + at]) - borrow;
        borrow = i32::from(difference < 0);
        bytes[32 + at] = u8::try_from(difference + 256 * borrow).unwrap();
    }
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes))
}

#[tokio::test]
async fn of_many_copies_at_once_one_is_handed_on() {
    let world = World::new();
    let signature = world.key.sign(NOTIFICATION, NOW);
    let copies = (0..20).map(|_| world.send(&signature, NOTIFICATION));
    let responses = futures_util::future::join_all(copies).await;
    assert!(responses.iter().all(|(status, _)| *status == 200));
    assert_eq!(world.delivered(), 1);
}

/// A copy arrives while the first is being delivered: the outcome is not known yet, so the sender
/// must repeat the copy.
#[tokio::test]
async fn a_copy_of_one_that_is_being_handed_on_is_neither_lost_nor_handed_on_twice() {
    let busy = (503, "institution_unavailable".to_owned());
    for fails in [true, false] {
        let world = World::new().fails_first(&[Fault::Wait { fails }]);
        let signature = world.key.sign(NOTIFICATION, NOW);
        let mut first = Box::pin(world.send(&signature, NOTIFICATION));
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        for copy in [&signature, &malleated(&signature)] {
            assert_eq!(world.send(copy, NOTIFICATION).await, busy);
        }
        // Another notification is not delayed.
        let other = NOTIFICATION.replace("n1", "n2");
        assert_eq!(world.send(&world.key.sign(&other, NOW), &other).await.0, 200);
        world.bank.gate.notify_one();
        assert_eq!(first.await.0, if fails { 500 } else { 200 });
        assert_eq!(world.send(&signature, NOTIFICATION).await.0, 200);
        assert_eq!(world.send(&signature, NOTIFICATION).await.0, 200);
        assert_eq!(world.delivered(), 2);
        let handed_on = world.bank.calls.load(Ordering::SeqCst);
        assert_eq!(handed_on, if fails { 3 } else { 2 });
    }
}

/// The bank's code fails after the signature was remembered. The next attempt is delivered, whether
/// it has a new signature or, within the same second, an identical one.
#[tokio::test]
async fn a_notification_that_the_bank_could_not_take_is_not_lost() {
    for later in [0, 30] {
        let world = World::new().fails_first(&[Fault::Error, Fault::Panic]);
        for status in [500, 500, 200, 200] {
            let iat = world.clock_seconds();
            let signature = world.key.sign(NOTIFICATION, iat);
            assert_eq!(world.send(&signature, NOTIFICATION).await.0, status);
            if status == 500 {
                assert_eq!(world.delivered(), 0);
                world.clock.advance(TimeDelta::seconds(later));
            }
        }
        assert_eq!((world.delivered(), world.bank.calls.load(Ordering::SeqCst)), (1, 3));
    }
}

#[tokio::test]
async fn a_notification_is_not_lost_if_its_caller_hangs_up() {
    let world = World::new().fails_first(&[Fault::Hang]);
    let signature = world.key.sign(NOTIFICATION, NOW);
    let mut first = Box::pin(world.send(&signature, NOTIFICATION));
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    assert_eq!(world.bank.calls.load(Ordering::SeqCst), 1);
    drop(first);
    assert_eq!(world.send(&signature, NOTIFICATION).await.0, 200);
    assert_eq!(world.delivered(), 1);
}

impl World {
    fn clock_seconds(&self) -> i64 {
        px_core::Clock::now(&self.clock).timestamp()
    }
}

/// Requests for unknown keys take turns by the address that a notification comes from.
#[tokio::test]
async fn a_new_key_is_found_while_another_address_invents_names() {
    let world = World::new();
    let from = |last: u8, signature: String| {
        let mut request = request(Some(&signature), NOTIFICATION);
        request.extensions_mut().insert(CallerAddr::new([192, 0, 2, last].into()));
        send(&world.service, request)
    };
    let invented = (0..7).map(|n| {
        let head = json!({ "alg": "ES256", "kid": format!("invented-{n}") });
        from(1, world.key.sign_as(&head, &json!({})))
    });
    // Three names are requested at once; the others wait for their turn.
    let mut invented = Box::pin(futures_util::future::join_all(invented));
    assert!(futures_util::poll!(invented.as_mut()).is_pending());
    let mut real = Box::pin(from(2, world.key.sign(NOTIFICATION, NOW)));
    let first = futures_util::poll!(real.as_mut());
    assert!(first.is_pending(), "{first:?}");
    world.clock.advance(TimeDelta::seconds(2));
    assert!(futures_util::poll!(invented.as_mut()).is_pending());
    assert_eq!(futures_util::poll!(real), std::task::Poll::Ready((200, String::new())));
}

#[tokio::test]
async fn keys_out_of_reach_are_503_and_the_notification_comes_again() {
    let (key, expired) = (Key::new("key-1"), Key::new("key-0"));
    let published = key.published(None);
    let (calls, down) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(true)));
    let keys = {
        let (calls, down) = (calls.clone(), down.clone());
        KeySourceFn::new(move |kid: KeyId| {
            calls.fetch_add(1, Ordering::SeqCst);
            let response = match *down.lock().unwrap() {
                true => Err("Plaid is out of reach"),
                false => Ok(Some(published.clone()).filter(|key| key.kid == kid)),
            };
            async move { response }
        })
    };
    let world = World::with_keys(Arc::new(keys), key, expired);
    let signature = world.key.sign(NOTIFICATION, NOW);
    for _ in 0..3 {
        let response = world.send(&signature, NOTIFICATION).await;
        assert_eq!(response, (503, "institution_unavailable".into()));
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1, "at most one call per minute");
    *down.lock().unwrap() = false;
    world.clock.advance(TimeDelta::seconds(60));
    for n in 0..10 {
        let notification = NOTIFICATION.replace("n1", &format!("n{n}"));
        let signature = world.key.sign(&notification, NOW + 60 - n);
        assert_eq!(world.send(&signature, &notification).await.0, 200);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2, "and cached");
    assert_eq!(world.delivered(), 10);
}

/// The signature is checked first: the body of an unauthenticated sender is not parsed.
#[tokio::test]
async fn nothing_is_parsed_before_the_signature_is_checked() {
    let world = World::new();
    for bad in ["", "{", "[]", r#"{"notification_id":"n1"}"#] {
        assert_eq!(world.send("x.y.z", bad).await, forged());
        let signature = world.key.sign(bad, NOW);
        let response = world.send(&signature, bad).await;
        assert_eq!(response, (400, "invalid_request".into()), "{bad}");
        // A body that cannot be parsed is never delivered, however often it arrives.
        assert_eq!(world.send(&signature, bad).await.0, 400);
    }
    let mut form = request(Some(&world.key.sign(NOTIFICATION, NOW)), NOTIFICATION);
    form.headers_mut().insert(header::CONTENT_TYPE, "text/plain".parse().unwrap());
    assert_eq!(send(&world.service, form).await, (415, "unsupported_media_type".into()));
    let large = " ".repeat((1 << 20) + 1);
    assert_eq!(world.send("x", &large).await, forged(), "what cannot be a signature reads no body");
    let signature = world.key.sign(NOTIFICATION, NOW);
    let response = world.send(&signature, &large).await;
    assert_eq!(response, (413, "payload_too_large".into()));
    assert_eq!(world.delivered(), 0);
}

#[tokio::test]
async fn a_notification_leaves_no_secret_and_no_customer_in_the_log() {
    let (log, guard) = Log::capture();
    let world = World::new().fails_first(&[Fault::Error]);
    let signature = world.key.sign(NOTIFICATION, NOW);
    for status in [500, 200, 200] {
        assert_eq!(world.send(&signature, NOTIFICATION).await.0, status);
    }
    world.send(&signature, "{}").await;
    drop(guard);
    let text = log.text();
    assert!(
        text.contains("application_linked") && text.contains("does not match the body"),
        "{text}"
    );
    assert_eq!(text.matches("the bank's books are locked").count(), 1, "{text}");
    for hidden in [&signature[..40], &signature[signature.len() - 40..], "Budget App", "\"u1\""] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
}

/// A verifier without a handler is a configuration fault, which the log names.
#[tokio::test]
async fn a_notification_that_no_method_takes_is_an_error_in_the_log() {
    let (log, guard) = Log::capture();
    let key = Key::new("key-1");
    let clock = ManualClock::new(DateTime::from_timestamp(NOW, 0).unwrap());
    let keys = FixedKeys::new(vec![key.published(None)]);
    let verifier = Verifier::new(Arc::new(keys)).clock(Arc::new(clock));
    let service = crate::bank::service_with(crate::bank::Behaviour::Plain, |builder| {
        builder.notifications(Arc::new(verifier))
    });
    let signed = request(Some(&key.sign(NOTIFICATION, NOW)), NOTIFICATION);
    assert_eq!(send(&service, signed).await, (404, "not_found".into()));
    drop(guard);
    let text = log.text();
    let line = text.lines().find(|line| line.contains("application_linked` is not implemented"));
    let line = line.expect("the log says nothing");
    assert!(line.contains("ERROR") && line.contains("request_id"), "{line}");
}
