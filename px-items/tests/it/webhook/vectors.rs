//! The published test vectors: `tests/vectors/webhooks.json`.
//!
//! `UPDATE=1 cargo test -p px-items --test it webhook::vectors` regenerates them.

use super::{SetClock, at, kid};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, EncodingKey};
use px_items::webhook::SigningKey;
use px_server::webhook::{FixedKeys, Verifier};
use px_types::model::verification_key::VerificationKey;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Once},
};

/// Created for these vectors and not used for anything else.
const KEY_FOR_TESTS_ONLY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgj/6tyZsZ9/ZAUKS4
RTCN0RqCS6Rw2ZIeYGDmS/n0DuChRANCAAQE3lM5Z9+Tavd0ez6bgk0y8YhiDJPg
sWfr8Tfb5jFx/cxPwc343TciSA0qXbehsKjROmlldOGqPnapvlzOBg7d
-----END PRIVATE KEY-----
";
const KID: &str = "px-test-vectors-1";
const EXPIRED_KID: &str = "px-test-vectors-0";
const SIGNED_AT: &str = "2024-05-01T12:00:00Z";
const BODY: &str = r#"{"webhook_type":"TRANSACTIONS","webhook_code":"SYNC_UPDATES_AVAILABLE","item_id":"i1","environment":"sandbox","initial_update_complete":true,"historical_update_complete":false}"#;

#[derive(Serialize, Deserialize)]
struct Vectors {
    about: Vec<String>,
    private_key_for_tests_only: String,
    keys: Vec<VerificationKey>,
    vectors: Vec<Vector>,
}

#[derive(Serialize, Deserialize)]
struct Vector {
    name: String,
    why: String,
    /// Time at which it is verified.
    at: DateTime<Utc>,
    /// The value of `Plaid-Verification`.
    header: String,
    body: String,
    expect: String,
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/webhooks.json")
}

fn read() -> Vectors {
    static WRITTEN: Once = Once::new();
    WRITTEN.call_once(|| {
        if std::env::var_os("UPDATE").is_some() {
            let text = serde_json::to_string_pretty(&made()).unwrap();
            std::fs::write(path(), text + "\n").unwrap();
        }
    });
    serde_json::from_str(&std::fs::read_to_string(path()).unwrap()).unwrap()
}

#[tokio::test]
async fn case_41_every_published_vector_is_judged_as_it_says() {
    let vectors = read();
    let keys = Arc::new(FixedKeys::new(vectors.keys));
    for vector in &vectors.vectors {
        let clock = Arc::new(SetClock::new(vector.at));
        let verifier = Verifier::new(keys.clone()).clock(clock);
        let outcome = verifier.verify(&vector.header, vector.body.as_bytes(), None).await;
        let outcome = outcome.map_or_else(|error| error.kind().as_str(), |_| "accepted");
        assert_eq!(outcome, vector.expect, "{}: {}", vector.name, vector.why);
    }
}

#[test]
fn the_published_vectors_are_those_made_here() {
    // Signatures are random; everything else is the same each time.
    let shown = |vector: Vector| {
        let signed = vector.header.rsplit_once('.').map(|(signed, _)| signed.to_owned());
        (vector.name, vector.why, vector.at, vector.body, vector.expect, signed)
    };
    let (read, made) = (read(), made());
    assert_eq!(read.about, made.about);
    assert_eq!(read.keys, made.keys);
    assert_eq!(read.private_key_for_tests_only, made.private_key_for_tests_only);
    assert_eq!(read.vectors.len(), made.vectors.len());
    for (read, made) in read.vectors.into_iter().zip(made.vectors) {
        assert_eq!(shown(read), shown(made));
    }
}

#[test]
fn the_vectors_cover_every_outcome_without_network() {
    let shown: BTreeSet<_> = read().vectors.into_iter().map(|vector| vector.expect).collect();
    let all = [
        "accepted",
        "algorithm",
        "body",
        "expired_key",
        "malformed",
        "signature",
        "too_early",
        "too_old",
        "unknown_key",
    ];
    assert_eq!(shown.into_iter().collect::<Vec<_>>(), all);
}

fn made() -> Vectors {
    let created = at("2024-01-01T00:00:00Z");
    let key = SigningKey::from_pem(kid(KID), KEY_FOR_TESTS_ONLY, created).unwrap();
    let expired = SigningKey::from_pem(kid(EXPIRED_KID), KEY_FOR_TESTS_ONLY, created).unwrap();
    let expired = expired.expires_at(at("2024-05-01T00:00:00Z"));
    let now = at(SIGNED_AT);
    let about = [
        "Test vectors for those who receive webhooks (px.md section 9), in any language.",
        "`header` is the value of `Plaid-Verification`; `body` is the raw body, as UTF-8.",
        "Check each at the moment `at` (your clock set to it), with `keys` as the responses of POST /webhook_verification_key/get, and no memory of the others.",
        "`expect` is `accepted`, or what is wrong: malformed, algorithm, unknown_key, expired_key, signature, too_old, too_early, body. Refusing for another reason is fine; accepting is not.",
        "`padded`, `alg_twice`, `crit` and `other_typ` are rightly signed oddities: a library that accepts them is lenient, not unsafe.",
        "The key was made for these vectors, is public, and must be trusted nowhere.",
    ];
    Vectors {
        about: about.map(str::to_owned).to_vec(),
        private_key_for_tests_only: KEY_FOR_TESTS_ONLY.to_owned(),
        keys: vec![key.verification_key(now), expired.verification_key(now)],
        vectors: Maker::new(&key).all(),
    }
}

/// Creates tokens, valid and invalid ones.
struct Maker {
    key: EncodingKey,
    public: Vec<u8>,
}

impl Maker {
    fn new(key: &SigningKey) -> Self {
        use base64::engine::general_purpose::STANDARD;
        let body: String = KEY_FOR_TESTS_ONLY.lines().filter(|line| !line.contains('-')).collect();
        let jwk = key.verification_key(at(SIGNED_AT));
        let public = [jwk.x, jwk.y].map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).concat();
        Self { key: EncodingKey::from_ec_der(&STANDARD.decode(body).unwrap()), public }
    }

    fn token(&self, head: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encode(head), encode(claims));
        self.signed(&signed)
    }

    fn signed(&self, signed: &str) -> String {
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &self.key, Algorithm::ES256).unwrap();
        format!("{signed}.{signature}")
    }

    fn with_head(&self, head: Value) -> String {
        self.token(&head.to_string(), &claims(BODY).to_string())
    }

    fn with_claims(&self, claims: Value) -> String {
        self.token(&head().to_string(), &claims.to_string())
    }

    fn all(&self) -> Vec<Vector> {
        let mut all = self.good();
        all.extend(self.wrong_tokens());
        all.extend(self.wrong_times());
        all.extend(self.wrong_bodies());
        all.extend(self.malformed());
        all
    }

    fn good(&self) -> Vec<Vector> {
        let token = self.with_head(head());
        let unicode = "{\"webhook_type\":\"ITEM\",\"note\":\"Žluťoučký kůň — 馬 🐎\"}\r\n";
        let odd = json!({ "alg": "ES256", "kid": KID, "jku": "https://evil.example/", "x": 1 });
        let mut more = claims(BODY);
        more["sub"] = "someone".into();
        let mut named = claims(BODY);
        named["jti"] = "w-1".into();
        named["aud"] = "client-1".into();
        vec![
            vector("valid", "as it is sent", "accepted", &token),
            with_body(unicode, "valid_unicode", "accepted", "bytes beyond ASCII, a line end", &{
                self.with_claims(claims(unicode))
            }),
            with_body("", "valid_empty_body", "accepted", "the digest of nothing", &{
                self.with_claims(claims(""))
            }),
            vector(
                "valid_with_unknown_fields",
                "fields that nobody knows change nothing; no address in a header is ever fetched; `typ` may be missing",
                "accepted",
                &self.with_head(odd),
            ),
            vector(
                "valid_with_id_and_recipient",
                "`jti` is the same on every attempt: drop what was accepted under it; `aud` is the client id of the application: refuse another's",
                "accepted",
                &self.with_claims(named),
            ),
            vector(
                "valid_with_unknown_claims",
                "claims that nobody knows change nothing",
                "accepted",
                &self.with_claims(more),
            ),
        ]
    }

    fn wrong_tokens(&self) -> Vec<Vector> {
        let named = |alg: &str, kid: &str| json!({ "alg": alg, "kid": kid, "typ": "JWT" });
        let none = format!("{}.{}.", encode(&named("none", KID).to_string()), {
            encode(&claims(BODY).to_string())
        });
        let hs256 = {
            let signed = format!("{}.{}", encode(&named("HS256", KID).to_string()), {
                encode(&claims(BODY).to_string())
            });
            let key = EncodingKey::from_secret(&[&[4], &*self.public].concat());
            let mac = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256);
            format!("{signed}.{}", mac.unwrap())
        };
        let good = self.with_head(head());
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[40] ^= 1;
        let bent = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&bytes));
        let other = EncodingKey::from_ec_der(&other_key());
        let stolen = jsonwebtoken::crypto::sign(signed.as_bytes(), &other, Algorithm::ES256);
        let (head_part, _) = signed.split_once('.').unwrap();
        let moved = format!(
            "{head_part}.{}.{signature}",
            encode(&json!({ "iat": now() + 1, "request_body_sha256": digest(BODY) }).to_string())
        );
        vec![
            vector("alg_none", "no signature at all", "algorithm", &none),
            vector("alg_none_mixed_case", "`nOnE` is `none` to some", "algorithm", &{
                none.replacen(
                    none.split('.').next().unwrap(),
                    &encode(&named("nOnE", KID).to_string()),
                    1,
                )
            }),
            vector(
                "alg_hs256_with_the_public_key",
                "the public key used as a shared secret",
                "algorithm",
                &hs256,
            ),
            vector(
                "alg_es384",
                "another curve is another algorithm",
                "algorithm",
                &self.with_head(named("ES384", KID)),
            ),
            vector(
                "alg_lower_case",
                "names of algorithms have one spelling",
                "algorithm",
                &self.with_head(named("es256", KID)),
            ),
            vector(
                "unknown_key",
                "a name that nobody published",
                "unknown_key",
                &self.with_head(named("ES256", "px-test-vectors-9")),
            ),
            vector(
                "expired_key",
                "the signature is right, but the key ended before that moment",
                "expired_key",
                &self.with_head(named("ES256", EXPIRED_KID)),
            ),
            vector("signature_bent", "one bit of the signature differs", "signature", &bent),
            vector(
                "signature_of_another_key",
                "signed with another key under this id",
                "signature",
                &format!("{signed}.{}", stolen.unwrap()),
            ),
            vector("claims_changed", "`iat` was moved after signing", "signature", &moved),
            vector(
                "signature_zero",
                "r = s = 0",
                "signature",
                &format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
            ),
            vector(
                "signature_missing",
                "three parts, the last one empty",
                "signature",
                &format!("{signed}."),
            ),
        ]
    }

    fn wrong_times(&self) -> Vec<Vector> {
        let good = self.with_head(head());
        let checked = |name: &str, seconds: i64, expect: &str, why: &str| {
            let moment = at(SIGNED_AT) + TimeDelta::seconds(seconds);
            Vector { at: moment, ..vector(name, why, expect, &good) }
        };
        vec![
            checked("five_minutes_old", 300, "accepted", "exactly as old as it may be"),
            checked("too_old", 301, "too_old", "one second more"),
            checked("a_day_old", 86_400, "too_old", "found in a log"),
            checked("clock_behind", -10, "accepted", "the receiver's clock is 10 s behind"),
            checked("of_the_future", -600, "too_early", "no clock is that far behind"),
            vector("iat_overflow", "a moment beyond all calendars", "malformed", &{
                self.with_claims(json!({ "iat": i64::MAX, "request_body_sha256": digest(BODY) }))
            }),
        ]
    }

    fn wrong_bodies(&self) -> Vec<Vector> {
        let good = self.with_head(head());
        let parsed: Value = serde_json::from_str(BODY).unwrap();
        let spaced = serde_json::to_string_pretty(&parsed).unwrap();
        let with_digest = |digest: Value| {
            self.with_claims(json!({ "iat": now(), "request_body_sha256": digest }))
        };
        vec![
            with_body(
                &BODY.replace("i1", "i2"),
                "another_item",
                "body",
                "a signature is of one body",
                &good,
            ),
            with_body(
                &spaced,
                "same_json_other_bytes",
                "body",
                "parsed and written again: not the raw body",
                &good,
            ),
            with_body(&format!("{BODY}\n"), "line_end_added", "body", "one byte more", &good),
            with_body("", "body_gone", "body", "nothing is not the body", &good),
            vector(
                "digest_empty",
                "an empty digest is of no body",
                "body",
                &with_digest("".into()),
            ),
            vector(
                "digest_cut",
                "a part of the digest is not the digest",
                "body",
                &with_digest(digest(BODY)[..32].into()),
            ),
        ]
    }

    fn malformed(&self) -> Vec<Vector> {
        let good = self.with_head(head());
        let claims = claims(BODY).to_string();
        let parts: Vec<_> = good.split('.').collect();
        let twice = format!(r#"{{"alg":"none","alg":"ES256","kid":"{KID}"}}"#);
        let mut critical = head();
        critical["crit"] = json!(["exp"]);
        let typed = json!({ "alg": "ES256", "kid": KID, "typ": "at+jwt" });
        let fault = |name: &str, why: &str, header: &str| vector(name, why, "malformed", header);
        vec![
            fault("empty", "no header", ""),
            fault("two_parts", "a signature is missing", &parts[..2].join(".")),
            fault(
                "four_parts",
                "a part too many",
                &self.signed(&format!("{}.{}.e30", parts[0], parts[1])),
            ),
            fault("padded", "base64url has no padding here", &format!("{good}="))
                .expecting("signature"),
            fault("header_is_no_json", "nothing says which algorithm", &self.token("no", &claims)),
            fault(
                "claims_are_no_json",
                "rightly signed nonsense",
                &self.token(&head().to_string(), "no"),
            ),
            fault(
                "alg_twice",
                "two readers would see two algorithms",
                &self.token(&twice, &claims),
            ),
            fault("no_alg", "nothing says which algorithm", &self.with_head(json!({ "kid": KID }))),
            fault("no_kid", "nothing says which key", &self.with_head(json!({ "alg": "ES256" }))),
            fault(
                "kid_is_a_number",
                "a name is a text",
                &self.with_head(json!({ "alg": "ES256", "kid": 1 })),
            ),
            fault("crit", "an extension that must be understood", &self.with_head(critical)),
            fault("other_typ", "a token for another purpose", &self.with_head(typed)),
            fault(
                "no_iat",
                "nothing says how old it is",
                &self.with_claims(json!({ "request_body_sha256": digest(BODY) })),
            ),
            fault(
                "iat_is_text",
                "",
                &self.with_claims(json!({ "iat": "now", "request_body_sha256": digest(BODY) })),
            ),
            fault(
                "no_digest",
                "a signature that is of no body",
                &self.with_claims(json!({ "iat": now() })),
            ),
            fault(
                "digest_is_null",
                "",
                &self.with_claims(json!({ "iat": now(), "request_body_sha256": null })),
            ),
        ]
    }
}

impl Vector {
    fn expecting(self, expect: &str) -> Self {
        Self { expect: expect.to_owned(), ..self }
    }
}

fn vector(name: &str, why: &str, expect: &str, header: &str) -> Vector {
    Vector {
        name: name.to_owned(),
        why: why.to_owned(),
        at: at(SIGNED_AT),
        header: header.to_owned(),
        body: BODY.to_owned(),
        expect: expect.to_owned(),
    }
}

fn with_body(body: &str, name: &str, expect: &str, why: &str, header: &str) -> Vector {
    Vector { body: body.to_owned(), ..vector(name, why, expect, header) }
}

fn head() -> Value {
    json!({ "alg": "ES256", "kid": KID, "typ": "JWT" })
}

fn claims(body: &str) -> Value {
    json!({ "iat": now(), "request_body_sha256": digest(body) })
}

fn now() -> i64 {
    at(SIGNED_AT).timestamp()
}

fn digest(body: &str) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// Returns a key that was never published.
fn other_key() -> Vec<u8> {
    let random = aws_lc_rs::rand::SystemRandom::new();
    let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let made = aws_lc_rs::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &random);
    made.unwrap().as_ref().to_vec()
}
