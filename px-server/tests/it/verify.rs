//! Verifiers of a provider's tokens: JWTs with the provider's keys, introspection, the cache.

mod cache;
mod misconfigured;
mod presets;
mod strangers;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{Request, Response, Uri};
use jsonwebtoken::{Algorithm, EncodingKey};
use px_core::{HttpLimits, HttpTransport, ManualClock, TransportError, TransportErrorKind};
use px_server::{
    PermittedAccounts, TokenGrant,
    verify::{
        CachedVerifier, IntrospectionVerifier, JwtAlgorithm, JwtVerifier, TokenVerifier,
        VerifierBuildError, VerifyError,
    },
};
use px_types::{AccessToken, AccountId, ClientId, ClientSecret, ScopeSet, UserId};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

const ISSUER: &str = "https://idp.example";
const AUDIENCE: &str = "https://bank.example";
const NOW: i64 = 1_700_000_000;

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).unwrap()
}

/// A provider that responds from a script, and then repeats its last response.
#[derive(Debug)]
struct Provider {
    script: Mutex<VecDeque<ScriptedResponse>>,
    calls: AtomicUsize,
    last: Mutex<Option<Request<Bytes>>>,
}

#[derive(Clone, Debug)]
enum ScriptedResponse {
    Json(u16, Value),
    Bytes(Vec<u8>),
    Fault,
    Never,
}

impl Provider {
    fn new(script: impl IntoIterator<Item = ScriptedResponse>) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(script.into_iter().collect()),
            calls: AtomicUsize::new(0),
            last: Mutex::new(None),
        })
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

#[async_trait::async_trait]
impl HttpTransport for Provider {
    async fn send(
        &self,
        request: Request<Bytes>,
        _: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        *self.last.lock().unwrap() = Some(request);
        let response = {
            let mut script = self.script.lock().unwrap();
            match script.len() {
                1 => script[0].clone(),
                _ => script.pop_front().unwrap(),
            }
        };
        let (status, body) = match response {
            ScriptedResponse::Json(status, body) => (status, body.to_string().into_bytes()),
            ScriptedResponse::Bytes(body) => (200, body),
            ScriptedResponse::Fault => {
                return Err(TransportError::new(TransportErrorKind::Connect, "connection refused"));
            }
            ScriptedResponse::Never => std::future::pending().await,
        };
        Ok(Response::builder().status(status).body(body.into()).unwrap())
    }
}

/// A P-256 key of the provider.
struct Key {
    pair: rcgen::KeyPair,
    id: &'static str,
}

impl Key {
    fn new(id: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Self { pair, id }
    }

    fn jwk(&self) -> Value {
        // The public key is 0x04, x, y.
        let point = self.pair.public_key_raw();
        json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id,
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]),
            "y": URL_SAFE_NO_PAD.encode(&point[33..65]),
        })
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let key = EncodingKey::from_ec_der(&self.pair.serialize_der());
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::ES256).unwrap();
        format!("{message}.{signature}")
    }
}

fn message(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

fn header(changes: Value) -> Value {
    merged(json!({"alg": "ES256", "typ": "at+jwt", "kid": "k1"}), changes)
}

fn claims(changes: Value) -> Value {
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "u-1", "client_id": "plaid", "jti": "1",
        "scope": "accounts transactions", "iat": NOW, "exp": NOW + 900,
    });
    merged(claims, changes)
}

/// Replaces members; `null` removes one.
fn merged(mut value: Value, changes: Value) -> Value {
    for (name, change) in changes.as_object().unwrap() {
        match change {
            Value::Null => value.as_object_mut().unwrap().remove(name),
            change => value.as_object_mut().unwrap().insert(name.clone(), change.clone()),
        };
    }
    value
}

fn jwks_response(keys: &[&Key]) -> ScriptedResponse {
    let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
    ScriptedResponse::Json(200, json!({ "keys": keys }))
}

fn jwt(provider: &Arc<Provider>, clock: &ManualClock) -> JwtVerifier {
    let uri = Uri::from_static("https://idp.example/jwks");
    let verifier = JwtVerifier::new(provider.clone(), uri, ISSUER, AUDIENCE).unwrap();
    verifier.clock(Arc::new(clock.clone()))
}

async fn verify(verifier: &dyn TokenVerifier, token: &str) -> Result<Arc<TokenGrant>, VerifyError> {
    verifier.verify(&AccessToken::new(token)).await
}

async fn outcome(verifier: &dyn TokenVerifier, token: &str) -> &'static str {
    match verify(verifier, token).await {
        Ok(_) => "good",
        Err(VerifyError::Invalid(_)) => "invalid",
        Err(VerifyError::Misconfigured(_)) => "misconfigured",
        Err(_) => "unavailable",
    }
}

/// Returns the verifier after it has accepted a token, so that its refusals are definite.
async fn after_accepting<V: TokenVerifier>(verifier: V, token: &str) -> V {
    assert_eq!(outcome(&verifier, token).await, "good");
    verifier
}

#[tokio::test]
async fn jwt_that_is_good() {
    let (key, clock) = (Key::new("k1"), ManualClock::new(start()));
    let provider = Provider::new([jwks_response(&[&key, &Key::new("k2")])]);
    let verifier = jwt(&provider, &clock);
    let token = key.sign(&header(json!({})), &claims(json!({})));
    let grant = verify(&verifier, &token).await.unwrap();
    assert_eq!(grant.principal, UserId::new("u-1").unwrap());
    assert_eq!(grant.scopes.to_string(), "accounts transactions");
    assert_eq!(grant.client_id.as_ref().unwrap().as_str(), "plaid");
    assert_eq!(grant.accounts, PermittedAccounts::All);
    for (name, header_change, claims_change) in [
        ("a long type", json!({"typ": "application/at+jwt"}), json!({})),
        ("a type in capitals", json!({"typ": "AT+JWT"}), json!({})),
        ("several audiences", json!({}), json!({"aud": ["x", AUDIENCE]})),
        ("a fraction of a second", json!({}), json!({"exp": 1_700_000_900.5})),
        ("expired within the leeway", json!({}), json!({"exp": NOW - 9})),
        ("begins within the leeway", json!({}), json!({"nbf": NOW + 10})),
        ("unknown claims", json!({"x": 1}), json!({"y": {"z": []}})),
        ("a moment as a text", json!({}), json!({"exp": "1700000900"})),
        ("no scope that is known", json!({}), json!({"scope": "openid"})),
        ("scopes as a list", json!({}), json!({"scope": ["accounts", "transactions x"]})),
        ("an empty scope", json!({}), json!({"scope": ""})),
    ] {
        let token = key.sign(&header(header_change), &claims(claims_change));
        assert_eq!(outcome(&verifier, &token).await, "good", "{name}");
    }
    assert_eq!(provider.calls(), 1, "the keys are cached");
    let accounts = jwt(&provider, &clock).accounts_claim("accounts");
    let token = key.sign(&header(json!({})), &claims(json!({"accounts": ["a-1"]})));
    let grant = verify(&accounts, &token).await.unwrap();
    let only = PermittedAccounts::Only([AccountId::new("a-1").unwrap()].into());
    assert_eq!(grant.accounts, only);
    let token = key.sign(&header(json!({})), &claims(json!({})));
    let grant = verify(&accounts, &token).await.unwrap();
    assert_eq!(grant.accounts, PermittedAccounts::Only([].into()));
}

#[tokio::test]
async fn jwt_negative_table() {
    let (key, other) = (Key::new("k1"), Key::new("k1"));
    let clock = ManualClock::new(start());
    let second = Key::new("k2");
    let good = |h: Value, c: Value| key.sign(&header(h), &claims(c));
    let none = json!({"alg": "none"});
    let unsigned = format!("{}.", message(&header(none.clone()), &claims(json!({}))));
    let hs256 = |secret: &[u8]| {
        let message = message(&header(json!({"alg": "HS256"})), &claims(json!({})));
        let key = EncodingKey::from_secret(secret);
        let tag = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
        format!("{message}.{}", tag.unwrap())
    };
    let pem = key.pair.public_key_pem();
    let token = good(json!({}), json!({}));
    let (message_part, signature) = token.rsplit_once('.').unwrap();
    let changed = {
        let claims = claims(json!({"sub": "u-2"}));
        format!("{}.{signature}", message(&header(json!({})), &claims))
    };
    let (invalid, misconfigured, unavailable) = ("invalid", "misconfigured", "unavailable");
    let refused = [
        ("nothing", String::new()),
        ("no JWT", "opaque-token".into()),
        ("two parts", message_part.to_owned()),
        ("four parts", format!("{token}.x")),
        ("header that is no base64", format!("~{token}")),
        ("alg none", unsigned),
        ("alg none with a signature", good(none, json!({}))),
        ("alg None", good(json!({"alg": "None"}), json!({}))),
        ("no alg", good(json!({"alg": null}), json!({}))),
        ("HS256 with the public key as PEM", hs256(pem.as_bytes())),
        ("HS256 with the public key's bytes", hs256(key.pair.public_key_raw())),
        ("HS256 with an empty secret", hs256(b"")),
        ("alg RS256, not selected", good(json!({"alg": "RS256"}), json!({}))),
        ("alg ES384", good(json!({"alg": "ES384"}), json!({}))),
        ("no signature", format!("{message_part}.")),
        ("a cut signature", token[..token.len() - 4].to_owned()),
        ("changed claims", changed),
        ("signed by another key", other.sign(&header(json!({})), &claims(json!({})))),
        ("the kid of another key", good(json!({"kid": "k2"}), json!({}))),
        (
            "no kid, and no key made it",
            other.sign(&header(json!({"kid": null})), &claims(json!({}))),
        ),
        ("a kid that is no text", good(json!({"kid": 1}), json!({}))),
        ("no typ", good(json!({"typ": null}), json!({}))),
        ("typ JWT, an ID token", good(json!({"typ": "JWT"}), json!({}))),
        ("crit", good(json!({"crit": ["b64"], "b64": false}), json!({}))),
        ("another issuer", good(json!({}), json!({"iss": "https://evil.example"}))),
        ("the issuer with a slash", good(json!({}), json!({"iss": format!("{ISSUER}/")}))),
        ("no issuer", good(json!({}), json!({"iss": null}))),
        ("another audience", good(json!({}), json!({"aud": "https://other.example"}))),
        ("other audiences", good(json!({}), json!({"aud": ["a", "b"]}))),
        ("expired", good(json!({}), json!({"exp": NOW - 10}))),
        ("bound to a certificate", good(json!({}), json!({"cnf": {"x5t#S256": "x"}}))),
        ("longer than 16 KiB", good(json!({}), json!({"x": "x".repeat(16 * 1024)}))),
    ];
    // A signed token with unusable claims is the provider's fault, not the token's.
    let not_judged = [
        ("no audience", good(json!({}), json!({"aud": null}))),
        ("an audience that is no text", good(json!({}), json!({"aud": {}}))),
        ("no expiry", good(json!({}), json!({"exp": null}))),
        ("an expiry that is no number", good(json!({}), json!({"exp": "soon"}))),
        ("an expiry beyond all times", good(json!({}), json!({"exp": u64::MAX}))),
        ("begins later", good(json!({}), json!({"nbf": NOW + 11}))),
        ("begins at no time", good(json!({}), json!({"nbf": "now"}))),
        ("no subject", good(json!({}), json!({"sub": null}))),
        ("a subject that is no id", good(json!({}), json!({"sub": ".."}))),
        ("no scope", good(json!({}), json!({"scope": null}))),
        ("claims that are no object", {
            let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
            let message = format!("{}.{}", part(&header(json!({})).to_string()), part("[]"));
            let pkcs8 = EncodingKey::from_ec_der(&key.pair.serialize_der());
            let signature =
                jsonwebtoken::crypto::sign(message.as_bytes(), &pkcs8, Algorithm::ES256);
            format!("{message}.{}", signature.unwrap())
        }),
    ];
    let unknown = ("an unknown kid", good(json!({"kid": "k3"}), json!({})), unavailable);
    let nameless = ("no kid among several keys", good(json!({"kid": null}), json!({})), "good");
    let cases = refused.map(|(name, token)| (name, token, invalid)).into_iter();
    let cases = cases.chain(not_judged.map(|(name, token)| (name, token, misconfigured)));
    for (name, token, expected) in cases.chain([unknown, nameless]) {
        let provider = Provider::new([jwks_response(&[&key, &second])]);
        let good = good(json!({}), json!({"jti": "good"}));
        let verifier = after_accepting(jwt(&provider, &clock), &good).await;
        assert_eq!(outcome(&verifier, &token).await, expected, "{name}");
    }
}

#[tokio::test]
async fn keys_that_do_not_fit_are_not_used() {
    let (key, clock) = (Key::new("k1"), ManualClock::new(start()));
    let token = key.sign(&header(json!({})), &claims(json!({})));
    let second = Key::new("k2");
    let of_second = second.sign(&header(json!({"kid": "k2"})), &claims(json!({})));
    for (name, change, expected) in [
        // As if the keys did not exist.
        ("for encryption", json!({"use": "enc"}), "unavailable"),
        ("for signing alone", json!({"key_ops": ["sign"]}), "unavailable"),
        ("on another curve", json!({"crv": "P-521"}), "unavailable"),
        ("of another type", json!({"kty": "oct", "k": "AAAA"}), "unavailable"),
        ("for another algorithm", json!({"alg": "ES384"}), "invalid"),
    ] {
        let keys = json!({ "keys": [merged(key.jwk(), change), second.jwk()] });
        let provider = Provider::new([ScriptedResponse::Json(200, keys)]);
        let verifier = after_accepting(jwt(&provider, &clock), &of_second).await;
        assert_eq!(outcome(&verifier, &token).await, expected, "{name}");
    }
    // A single key needs no `kid`, and neither `alg` nor `use`.
    let jwk = merged(key.jwk(), json!({"kid": null, "alg": null, "use": null}));
    let provider = Provider::new([ScriptedResponse::Json(200, json!({ "keys": [jwk] }))]);
    let nameless = key.sign(&header(json!({"kid": null})), &claims(json!({})));
    assert_eq!(outcome(&jwt(&provider, &clock), &nameless).await, "good");
}

#[tokio::test]
async fn other_algorithms_unless_others_are_selected() {
    let (es256, clock) = (Key::new("es"), ManualClock::new(start()));
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let jwk = json!({
        "kty": "OKP", "crv": "Ed25519", "kid": "k1",
        "x": URL_SAFE_NO_PAD.encode(pair.public_key_raw()),
    });
    let message = message(&header(json!({"alg": "EdDSA"})), &claims(json!({})));
    let key = EncodingKey::from_ed_der(&pair.serialize_der());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::EdDSA);
    let token = format!("{message}.{}", signature.unwrap());
    let provider =
        Provider::new([ScriptedResponse::Json(200, json!({ "keys": [jwk, es256.jwk()] }))]);
    assert_eq!(outcome(&jwt(&provider, &clock), &token).await, "good");
    let selected = jwt(&provider, &clock).algorithms([JwtAlgorithm::Es256]);
    assert_eq!(outcome(&selected, &token).await, "misconfigured", "as every token so far");
    let of_es256 = es256.sign(&header(json!({"kid": "es"})), &claims(json!({})));
    let selected = after_accepting(selected, &of_es256).await;
    assert_eq!(outcome(&selected, &token).await, "invalid");
}

#[tokio::test]
async fn keys_are_fetched_again_for_an_unknown_kid_once_a_minute() {
    let (old, new, clock) = (Key::new("k1"), Key::new("k2"), ManualClock::new(start()));
    let provider = Provider::new([
        jwks_response(&[&old]),
        jwks_response(&[&old]),
        jwks_response(&[&old, &new]),
    ]);
    let verifier = jwt(&provider, &clock);
    let of_old = old.sign(&header(json!({})), &claims(json!({})));
    let of_new = new.sign(&header(json!({"kid": "k2"})), &claims(json!({})));
    assert_eq!(outcome(&verifier, &of_old).await, "good");
    // The provider may have changed its keys recently, and its caches may not show it yet.
    assert_eq!(outcome(&verifier, &of_new).await, "unavailable");
    assert_eq!(provider.calls(), 2);
    assert_eq!(outcome(&verifier, &of_new).await, "unavailable");
    assert_eq!(outcome(&verifier, &of_old).await, "good");
    assert_eq!(provider.calls(), 2);
    clock.advance(TimeDelta::seconds(60));
    assert_eq!(outcome(&verifier, &of_new).await, "good");
    assert_eq!(provider.calls(), 3);
}

#[tokio::test]
async fn a_kid_that_stays_unknown_is_refused_after_10_minutes() {
    let (known, unknown) = (Key::new("k1"), Key::new("k2"));
    let (later, clock) = (Key::new("k3"), ManualClock::new(start()));
    let lasting = json!({"exp": NOW + 86_400});
    let of_known = known.sign(&header(json!({})), &claims(lasting.clone()));
    let of_unknown = unknown.sign(&header(json!({"kid": "k2"})), &claims(lasting.clone()));
    let provider = Provider::new([jwks_response(&[&known])]);
    let verifier = after_accepting(jwt(&provider, &clock), &of_known).await;
    for _ in 0..10 {
        assert_eq!(outcome(&verifier, &of_unknown).await, "unavailable");
        clock.advance(TimeDelta::minutes(1));
    }
    assert_eq!(outcome(&verifier, &of_unknown).await, "invalid");
    assert_eq!(outcome(&verifier, &of_unknown).await, "invalid", "also between two fetches");
    // Another id has its own period.
    let of_later = later.sign(&header(json!({"kid": "k3"})), &claims(lasting));
    assert_eq!(outcome(&verifier, &of_later).await, "unavailable");
    assert_eq!(outcome(&verifier, &of_known).await, "good");
    // Without any accepted token, the address of the keys may be wrong.
    let verifier = jwt(&provider, &clock);
    assert_eq!(outcome(&verifier, &of_unknown).await, "unavailable");
    clock.advance(TimeDelta::minutes(10));
    assert_eq!(outcome(&verifier, &of_unknown).await, "misconfigured");
}

/// A provider that was set up again: the same issuer, other keys.
#[tokio::test]
async fn other_keys_of_the_same_issuer() {
    let lasting = || claims(json!({"exp": NOW + 86_400}));
    // With other ids: a signature of the old key is in doubt for 10 minutes, then refused.
    let (old, new, clock) = (Key::new("k1"), Key::new("k2"), ManualClock::new(start()));
    let of_old = old.sign(&header(json!({})), &lasting());
    let of_new = new.sign(&header(json!({"kid": "k2"})), &lasting());
    let provider = Provider::new([jwks_response(&[&old]), jwks_response(&[&new])]);
    let verifier = after_accepting(jwt(&provider, &clock), &of_old).await;
    assert_eq!(outcome(&verifier, &of_new).await, "good");
    for _ in 0..10 {
        clock.advance(TimeDelta::seconds(59));
        assert_eq!(outcome(&verifier, &of_old).await, "unavailable");
    }
    clock.advance(TimeDelta::minutes(1));
    assert_eq!(outcome(&verifier, &of_old).await, "unavailable", "it was met 9 minutes ago");
    clock.advance(TimeDelta::minutes(1));
    assert_eq!(outcome(&verifier, &of_old).await, "invalid");
    // With the same id, which no provider should do.
    let (old, new, clock) = (Key::new("k1"), Key::new("k1"), ManualClock::new(start()));
    let of_old = old.sign(&header(json!({})), &lasting());
    let of_new = new.sign(&header(json!({})), &lasting());
    let provider = Provider::new([jwks_response(&[&old]), jwks_response(&[&new])]);
    let verifier = after_accepting(jwt(&provider, &clock), &of_old).await;
    assert_eq!(outcome(&verifier, &of_new).await, "good");
    clock.advance(TimeDelta::minutes(9));
    assert_eq!(outcome(&verifier, &of_old).await, "unavailable");
    clock.advance(TimeDelta::minutes(1));
    assert_eq!(outcome(&verifier, &of_old).await, "invalid");
}

#[tokio::test(start_paused = true)]
async fn keys_that_cannot_be_had_end_no_token() {
    let key = Key::new("k1");
    let token = key.sign(&header(json!({})), &claims(json!({})));
    let (unavailable, misconfigured) = ("unavailable", "misconfigured");
    for (name, response, expected) in [
        ("a fault", ScriptedResponse::Fault, unavailable),
        ("no response", ScriptedResponse::Never, unavailable),
        ("500", ScriptedResponse::Json(500, json!({"keys": [key.jwk()]})), unavailable),
        ("404", ScriptedResponse::Json(404, json!({})), misconfigured),
        ("a redirect", ScriptedResponse::Json(302, json!({})), misconfigured),
        ("junk", ScriptedResponse::Bytes(b"<html>".to_vec()), misconfigured),
        ("no keys", ScriptedResponse::Json(200, json!({"keys": []})), misconfigured),
        ("too much", ScriptedResponse::Bytes(vec![b' '; 256 * 1024 + 1]), unavailable),
    ] {
        let clock = ManualClock::new(start());
        let provider = Provider::new([response.clone(), jwks_response(&[&key])]);
        let verifier = jwt(&provider, &clock);
        assert_eq!(outcome(&verifier, &token).await, expected, "{name}");
        assert_eq!(outcome(&verifier, &token).await, "unavailable", "{name}: not at once");
        assert_eq!(provider.calls(), 1, "{name}");
        clock.advance(TimeDelta::seconds(5));
        assert_eq!(outcome(&verifier, &token).await, "good", "{name}");
    }
    // Old keys are used for a day if new ones cannot be fetched.
    let clock = ManualClock::new(start());
    let provider = Provider::new([jwks_response(&[&key]), ScriptedResponse::Fault]);
    let verifier = jwt(&provider, &clock);
    let lasting = key.sign(&header(json!({})), &claims(json!({"exp": NOW + 1_000_000})));
    assert_eq!(outcome(&verifier, &lasting).await, "good");
    clock.advance(TimeDelta::hours(23));
    assert_eq!(outcome(&verifier, &lasting).await, "good");
    assert_eq!(provider.calls(), 2);
    clock.advance(TimeDelta::hours(1));
    assert_eq!(outcome(&verifier, &lasting).await, "unavailable");
}

/// Over http, anyone on the network path could replace the keys or read the tokens.
#[test]
fn an_identity_provider_is_reached_by_https_or_on_loopback() {
    let (id, secret) = (ClientId::new("bank").unwrap(), ClientSecret::new("s"));
    let built = |uri: &'static str| {
        let (provider, uri) = (Provider::new([]), Uri::from_static(uri));
        let jwt = JwtVerifier::new(provider.clone(), uri.clone(), ISSUER, AUDIENCE);
        let introspection = IntrospectionVerifier::new(provider, uri, &id, &secret);
        (jwt.map(drop), introspection.map(drop))
    };
    for uri in [
        "https://idp.example/keys",
        "http://127.0.0.1:8080/keys",
        "http://127.9.9.9/",
        "http://[::1]:1/",
        "http://localhost/",
        "http://idp.localhost:9/",
    ] {
        assert_eq!(built(uri), (Ok(()), Ok(())), "{uri}");
    }
    for uri in [
        "http://idp.example/keys",
        "http://10.0.0.1/",
        "http://[fe80::1]/",
        "http://localhost.example/",
        "http://127.0.0.1.example/",
        "ftp://idp.example/",
        "/keys",
        "idp.example:443",
    ] {
        let refused = Err(VerifierBuildError::InsecureAddress);
        assert_eq!(built(uri), (refused, refused), "{uri}");
    }
}

/// Returns a response of the introspection endpoint.
fn active(changes: Value) -> ScriptedResponse {
    let response = merged(claims(json!({"active": true, "token_type": "Bearer"})), changes);
    ScriptedResponse::Json(200, response)
}

fn introspection(provider: &Arc<Provider>) -> IntrospectionVerifier {
    let uri = Uri::from_static("https://idp.example/introspect");
    let (id, secret) = (ClientId::new("bank:1").unwrap(), ClientSecret::new("s%"));
    let verifier = IntrospectionVerifier::new(provider.clone(), uri, &id, &secret);
    verifier.unwrap().clock(Arc::new(ManualClock::new(start())))
}

#[tokio::test(start_paused = true)]
async fn introspection_table() {
    let (good, invalid) = ("good", "invalid");
    let (misconfigured, unavailable) = ("misconfigured", "unavailable");
    let cases = [
        ("active", active(json!({})), good),
        ("without times", active(json!({"exp": null, "iat": null})), good),
        ("of type bearer", active(json!({"token_type": "bearer"})), good),
        ("a number as the user", active(json!({"sub": 12})), good),
        ("inactive", ScriptedResponse::Json(200, json!({"active": false})), invalid),
        ("inactive with more", active(json!({"active": false})), invalid),
        ("expired all the same", active(json!({"exp": NOW})), invalid),
        ("another type", active(json!({"token_type": "DPoP"})), invalid),
        ("a refresh token", active(json!({"token_type": "refresh_token"})), invalid),
        ("a type of its own", active(json!({"token_type": "x"})), invalid),
        ("bound to a certificate", active(json!({"cnf": {}})), invalid),
        ("for another audience", active(json!({"aud": ["x"]})), invalid),
        ("of no type", active(json!({"token_type": null})), misconfigured),
        ("of type access_token", active(json!({"token_type": "access_token"})), misconfigured),
        ("for no audience", active(json!({"aud": null})), misconfigured),
        ("not yet begun", active(json!({"nbf": NOW + 1})), misconfigured),
        ("no principal", active(json!({"sub": null})), misconfigured),
        ("no scopes", active(json!({"scope": null})), misconfigured),
        ("a time that is none", active(json!({"exp": "soon"})), misconfigured),
        ("no word of active", ScriptedResponse::Json(200, json!({"sub": "u-1"})), misconfigured),
        ("active as a text", active(json!({"active": "false"})), misconfigured),
        ("a list", ScriptedResponse::Json(200, json!([])), misconfigured),
        ("HTML", ScriptedResponse::Bytes(b"<html>".to_vec()), misconfigured),
        ("nothing", ScriptedResponse::Bytes(Vec::new()), misconfigured),
        ("401", ScriptedResponse::Json(401, json!({"active": false})), misconfigured),
        ("404", ScriptedResponse::Json(404, json!({"active": false})), misconfigured),
        ("429", ScriptedResponse::Json(429, json!({"active": false})), unavailable),
        ("500", ScriptedResponse::Json(500, json!({"active": false})), unavailable),
        ("a fault", ScriptedResponse::Fault, unavailable),
        ("no response", ScriptedResponse::Never, unavailable),
        ("too much", ScriptedResponse::Bytes(vec![b' '; 256 * 1024 + 1]), unavailable),
    ];
    for (name, response, expected) in cases {
        let provider = Provider::new([active(json!({})), response]);
        let verifier = introspection(&provider).audience(AUDIENCE);
        let verifier = after_accepting(verifier, "a good token").await;
        assert_eq!(outcome(&verifier, "a token&").await, expected, "{name}");
        let request = provider.last.lock().unwrap().take().unwrap();
        assert_eq!(request.method(), "POST");
        let basic = format!("Basic {}", STANDARD.encode("bank%3A1:s%25"));
        assert_eq!(request.headers()["authorization"], basic);
        assert_eq!(&request.body()[..], b"token=a+token%26&token_type_hint=access_token");
    }
}
