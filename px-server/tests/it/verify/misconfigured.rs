//! A wrong setting ends no token, and the log names the setting.

use super::*;
use http_body_util::Empty;
use px_server::{
    Caller, Error, Partner, PartnerService,
    verify::{Preset, TokenRefusal},
};
use px_types::partner::{GetUser, ListTransactions, TransactionsResponse, UserAccountInfoResponse};

struct Bank;

#[async_trait::async_trait]
impl Partner for Bank {
    async fn user(&self, _: &Caller, _: GetUser) -> Result<UserAccountInfoResponse, Error> {
        Err(Error::unavailable())
    }

    async fn transactions(
        &self,
        _: &Caller,
        _: ListTransactions,
    ) -> Result<TransactionsResponse, Error> {
        Err(Error::unavailable())
    }
}

/// Returns the status of `GET /customers/current` with a token.
async fn status(verifier: Arc<dyn TokenVerifier>, token: &str) -> u16 {
    let service = PartnerService::builder(Bank).tokens(verifier).build().unwrap();
    let request = Request::get("/customers/current")
        .header("host", "bank.example")
        .header("authorization", format!("Bearer {token}"))
        .body(Empty::<Bytes>::new())
        .unwrap();
    service.respond(request).await.status().as_u16()
}

#[tokio::test]
async fn a_setting_that_is_wrong_for_every_token_is_503_and_named_in_the_log() {
    let key = Key::new("k1");
    let clock = ManualClock::new(start());
    let good = key.sign(&header(json!({})), &claims(json!({})));
    let jwt = || jwt(&Provider::new([jwks_response(&[&key])]), &clock);
    let uri = || Uri::from_static("https://idp.example/jwks");
    let with = |issuer: &str, audience: &str| {
        let provider = Provider::new([jwks_response(&[&key])]);
        let verifier = JwtVerifier::new(provider, uri(), issuer, audience).unwrap();
        verifier.clock(Arc::new(clock.clone()))
    };
    let other_keys = {
        let provider = Provider::new([jwks_response(&[&Key::new("k9")])]);
        JwtVerifier::new(provider, uri(), ISSUER, AUDIENCE).unwrap().clock(Arc::new(clock.clone()))
    };
    let no_keys = {
        let provider = Provider::new([ScriptedResponse::Json(404, json!({}))]);
        JwtVerifier::new(provider, uri(), ISSUER, AUDIENCE).unwrap()
    };
    let introspect = |response: ScriptedResponse| {
        let verifier = introspection(&Provider::new([response]));
        Arc::new(verifier.audience(AUDIENCE)) as Arc<dyn TokenVerifier>
    };
    let of_type_jwt = key.sign(&header(json!({"typ": "JWT"})), &claims(json!({})));
    let scopes_in_scp = claims(json!({"scope": null, "scp": ["accounts"]}));
    let scopes_in_scp = key.sign(&header(json!({})), &scopes_in_scp);
    let cases: Vec<(&str, Arc<dyn TokenVerifier>, &str, &str)> = vec![
        ("issuer", Arc::new(with("https://idp.example/", AUDIENCE)), &good, "`issuer`"),
        ("audience", Arc::new(with(ISSUER, "plaid")), &good, "`audience`"),
        ("typ", Arc::new(jwt()), &of_type_jwt, "`TokenProfile::header_types`"),
        ("type claim", Arc::new(jwt().profile(Preset::Keycloak)), &good, "type_claim`"),
        ("user", Arc::new(jwt().profile(Preset::Okta)), &good, "`TokenProfile::user_claim`"),
        ("scopes", Arc::new(jwt()), &scopes_in_scp, "`TokenProfile::scope_claims`"),
        ("algorithms", Arc::new(jwt().algorithms([JwtAlgorithm::Rs256])), &good, "`algorithms`"),
        ("format", Arc::new(jwt()), "an-opaque-token", "`IntrospectionVerifier`"),
        ("keys of another provider", Arc::new(other_keys), &good, "`jwks`"),
        ("address of the keys", Arc::new(no_keys), &good, "`jwks`"),
        ("endpoint", introspect(ScriptedResponse::Json(404, json!({}))), "t", "`endpoint`"),
        ("secret", introspect(ScriptedResponse::Json(401, json!({}))), "t", "`secret`"),
        (
            "token_type",
            introspect(active(json!({"token_type": null}))),
            "t",
            "introspection_types`",
        ),
        ("aud", introspect(active(json!({"aud": "x"}))), "t", "`audience`"),
        (
            "realm",
            introspect(ScriptedResponse::Json(200, json!({"active": false}))),
            "t",
            "`endpoint`",
        ),
    ];
    for (name, verifier, token, setting) in cases {
        let (log, guard) = crate::log::Log::capture();
        assert_eq!(status(verifier, token).await, 503, "{name}");
        drop(guard);
        let text = log.text();
        assert!(text.contains(setting) && text.contains("check the setting"), "{name}: {text}");
        let signature = token.rsplit('.').next().filter(|part| part.len() > 20);
        assert!(signature.is_none_or(|part| !text.contains(part)), "{name}: the token is in it");
        for secret in ["u-1", "s%25", "s%"] {
            assert!(!text.contains(secret), "{name}: {secret} in {text}");
        }
    }
}

#[tokio::test]
async fn a_refused_token_says_why() {
    let (key, other) = (Key::new("k1"), Key::new("k1"));
    let clock = ManualClock::new(start());
    let good = key.sign(&header(json!({})), &claims(json!({})));
    let signed = |h: Value, c: Value| key.sign(&header(h), &claims(c));
    for (name, token, reason) in [
        ("audience", signed(json!({}), json!({"aud": "x\n"})), r#"`aud` is ["x"]"#),
        ("issuer", signed(json!({}), json!({"iss": "https://x.example"})), "`iss` is \"https://x"),
        ("type", signed(json!({"typ": "JWT"}), json!({})), "`typ` is \"JWT\" instead of `at+jwt`"),
        ("expired", signed(json!({}), json!({"exp": NOW - 60})), "expired at 2023-11-14T22:12:20Z"),
        ("signature", other.sign(&header(json!({})), &claims(json!({}))), "signature is wrong"),
        ("algorithm", signed(json!({"alg": "HS256"}), json!({})), "`alg` is \"HS256\""),
        ("format", "opaque".into(), "not a signed JWT"),
        ("binding", signed(json!({}), json!({"cnf": {"jkt": "x"}})), "bound to something other"),
    ] {
        let verifier = jwt(&Provider::new([jwks_response(&[&key])]), &clock);
        let verifier = Arc::new(after_accepting(verifier, &good).await);
        let (log, guard) = crate::log::Log::capture();
        assert_eq!(status(verifier.clone(), &token).await, 401, "{name}");
        drop(guard);
        let text = log.text();
        assert!(text.contains(reason), "{name}: {text}");
        assert!(!text.contains("u-1") && !text.contains(&token), "{name}: {text}");
        // Until the keys may be fetched again, a wrong signature is in doubt.
        clock.advance(TimeDelta::minutes(1));
        let error = verify(&*verifier, &token).await.unwrap_err();
        let debug = format!("{error:?}");
        assert!(debug.starts_with("Invalid(") && !debug.contains("u-1"), "{name}: {debug}");
    }
}

/// Anyone can write claims into a token, so they are checked after its signature.
#[tokio::test]
async fn the_claims_of_a_forged_token_are_not_judged() {
    let (key, forger) = (Key::new("k1"), Key::new("k1"));
    let clock = ManualClock::new(start());
    for changes in [
        json!({"iss": "https://x.example"}),
        json!({"aud": "x"}),
        json!({"exp": NOW - 60}),
        json!({"sub": null}),
        json!({"scope": null}),
    ] {
        let verifier = jwt(&Provider::new([jwks_response(&[&key])]), &clock);
        let forged = forger.sign(&header(json!({})), &claims(changes.clone()));
        match verify(&verifier, &forged).await {
            Err(VerifyError::Invalid(refusal)) => {
                assert_eq!(refusal, TokenRefusal::Signature, "{changes}");
            }
            other => panic!("{changes}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_token_of_any_characters_reaches_the_verifier() {
    struct Sanctum;

    #[async_trait::async_trait]
    impl TokenVerifier for Sanctum {
        async fn verify(&self, token: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError> {
            match token.expose() {
                "12|abc" | "{\"a\": 1}" => {
                    let user = UserId::new("u-1").unwrap();
                    Ok(Arc::new(TokenGrant::new(user, ScopeSet::defaults())))
                }
                _ => Err(VerifyError::Invalid(TokenRefusal::Unknown)),
            }
        }
    }
    for (token, expected) in [("12|abc", 200), ("{\"a\": 1}", 200), ("12|abd", 401), ("", 401)] {
        assert_eq!(status(Arc::new(Sanctum), token).await, expected, "{token}");
    }
}

/// Verified tokens are not sent to the provider again for 10 s, unless they are purged.
#[tokio::test]
async fn caching_is_on_by_default() {
    let provider = Provider::new([active(json!({}))]);
    let clock = ManualClock::new(start());
    let cached = || {
        let verifier = introspection(&provider).audience(AUDIENCE);
        verifier.clock(Arc::new(clock.clone()))
    };
    let verifier = cached();
    for _ in 0..3 {
        assert_eq!(outcome(&verifier, "t").await, "good");
    }
    assert_eq!(provider.calls(), 1);
    verifier.purge_token(&AccessToken::new("t"));
    assert_eq!(outcome(&verifier, "t").await, "good");
    verifier.purge_all();
    assert_eq!(outcome(&verifier, "t").await, "good");
    clock.advance(TimeDelta::seconds(10));
    assert_eq!(outcome(&verifier, "t").await, "good");
    assert_eq!(provider.calls(), 4);
    let uncached = cached().cache_ttl(Duration::ZERO);
    for _ in 0..2 {
        assert_eq!(outcome(&uncached, "t").await, "good");
    }
    assert_eq!(provider.calls(), 6);
    let small = cached().cache_capacity(1);
    for token in ["a", "b", "a"] {
        assert_eq!(outcome(&small, token).await, "good");
    }
    assert_eq!(provider.calls(), 9);
}
