//! Attacks on verifiers: junk tokens for the provider, and tokens that are bound to another
//! certificate.

use super::*;
use px_server::{
    guard::{ClientCertificate, ClientCertificatesRequested},
    verify::TokenContext,
};

fn inactive() -> ScriptedResponse {
    ScriptedResponse::Json(200, json!({"active": false}))
}

/// Returns an introspection verifier and its clock.
fn verifier(provider: &Arc<Provider>) -> (IntrospectionVerifier, ManualClock) {
    let clock = ManualClock::new(start());
    let verifier = introspection(provider).audience(AUDIENCE).clock(Arc::new(clock.clone()));
    (verifier, clock)
}

#[tokio::test]
async fn an_inactive_token_is_asked_for_once_in_10_s_and_again_when_one_was_given() {
    let provider = Provider::new([active(json!({})), inactive()]);
    let (verifier, clock) = verifier(&provider);
    let verifier = after_accepting(verifier, "good").await;
    provider.calls.store(0, Ordering::SeqCst);
    for _ in 0..1000 {
        assert_eq!(outcome(&verifier, "junk").await, "invalid");
    }
    assert_eq!(provider.calls(), 1);
    clock.advance(TimeDelta::milliseconds(9_999));
    assert_eq!(outcome(&verifier, "junk").await, "invalid");
    assert_eq!(provider.calls(), 1);
    clock.advance(TimeDelta::milliseconds(1));
    assert_eq!(outcome(&verifier, "junk").await, "invalid");
    assert_eq!(provider.calls(), 2, "10 s at most");
    // The token was tried before the provider issued it.
    verifier.token_issued();
    assert_eq!(outcome(&verifier, "junk").await, "invalid");
    assert_eq!(provider.calls(), 3);
    // A longer time than 10 s cannot be set; zero can.
    for (ttl, calls) in [(3600, 2), (0, 3)] {
        let provider = Provider::new([active(json!({})), inactive()]);
        let clock = ManualClock::new(start());
        let verifier = introspection(&provider).audience(AUDIENCE);
        let verifier = verifier.clock(Arc::new(clock.clone()));
        let verifier = verifier.inactive_ttl(Duration::from_secs(ttl));
        let verifier = after_accepting(verifier, "good").await;
        provider.calls.store(0, Ordering::SeqCst);
        for _ in 0..2 {
            assert_eq!(outcome(&verifier, "junk").await, "invalid");
        }
        clock.advance(TimeDelta::seconds(10));
        assert_eq!(outcome(&verifier, "junk").await, "invalid");
        assert_eq!(provider.calls(), calls, "{ttl}");
    }
}

#[tokio::test]
async fn only_a_clear_refusal_is_remembered() {
    for (name, response, expected) in [
        ("expired", active(json!({"exp": NOW})), "invalid"),
        ("another audience", active(json!({"aud": "x"})), "invalid"),
        ("a fault", ScriptedResponse::Fault, "unavailable"),
        ("junk", ScriptedResponse::Bytes(b"<html>".to_vec()), "misconfigured"),
        ("500", ScriptedResponse::Json(500, json!({"active": false})), "unavailable"),
    ] {
        let provider = Provider::new([active(json!({})), response]);
        let (verifier, _) = verifier(&provider);
        let verifier = after_accepting(verifier, "good").await;
        for _ in 0..3 {
            assert_eq!(outcome(&verifier, "token").await, expected, "{name}");
        }
        assert_eq!(provider.calls(), 4, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_at_once_are_one_call_and_one_that_gives_up_leaves_it_to_the_next() {
    let provider = Provider::new([active(json!({})), ScriptedResponse::Never, inactive()]);
    let (verifier, _) = verifier(&provider);
    let verifier = Arc::new(after_accepting(verifier, "good").await);
    provider.calls.store(0, Ordering::SeqCst);
    let ask = || {
        let verifier = verifier.clone();
        tokio::spawn(async move { outcome(&*verifier, "junk").await })
    };
    let first = ask();
    tokio::task::yield_now().await;
    assert_eq!(provider.calls(), 1);
    let others: Vec<_> = (0..50).map(|_| ask()).collect();
    tokio::task::yield_now().await;
    first.abort();
    for other in others {
        assert_eq!(other.await.unwrap(), "invalid");
    }
    assert_eq!(provider.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn calls_to_the_provider_are_limited() {
    let provider = Provider::new([ScriptedResponse::Never]);
    let (verifier, _) = verifier(&provider);
    let verifier = Arc::new(verifier.max_open_calls(3));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let verifier = verifier.clone();
        tasks.spawn(async move { outcome(&*verifier, &format!("junk-{n}")).await });
    }
    tokio::task::yield_now().await;
    assert_eq!(provider.calls(), 3);
    while let Some(outcome) = tasks.join_next().await {
        // Not 401, because the token was not checked.
        assert_eq!(outcome.unwrap(), "unavailable");
    }
}

const CERTIFICATE: &[u8] = b"a certificate";

fn thumbprint(der: &[u8]) -> String {
    ClientCertificate::from_der(der).x5t_s256()
}

/// The contexts of a call, with the outcome for a token that is bound to `CERTIFICATE`.
fn contexts() -> [(&'static str, TokenContext, &'static str); 4] {
    let context = |certificate: Option<&[u8]>, is_requested: bool| {
        let mut extensions = http::Extensions::new();
        if let Some(der) = certificate {
            extensions.insert(ClientCertificate::from_der(der));
        }
        if is_requested {
            extensions.insert(ClientCertificatesRequested);
        }
        TokenContext::of(&extensions)
    };
    [
        ("the right one", context(Some(CERTIFICATE), true), "good"),
        ("another's", context(Some(b"another certificate"), true), "invalid"),
        ("none", context(None, true), "invalid"),
        ("not requested", context(None, false), "misconfigured"),
    ]
}

async fn outcome_of(
    verifier: &dyn TokenVerifier,
    token: &str,
    call: &TokenContext,
) -> &'static str {
    match verifier.verify_call(&AccessToken::new(token), call).await {
        Ok(_) => "good",
        Err(VerifyError::Invalid(_)) => "invalid",
        Err(VerifyError::Misconfigured(_)) => "misconfigured",
        Err(_) => "unavailable",
    }
}

#[tokio::test]
async fn a_bound_token_is_good_with_its_certificate_alone_and_never_from_the_cache() {
    let key = Key::new("k1");
    let bound = json!({"cnf": {"x5t#S256": thumbprint(CERTIFICATE)}});
    let signed = key.sign(&header(json!({})), &claims(bound.clone()));
    let clock = ManualClock::new(start());
    let jwt = || Arc::new(jwt(&Provider::new([jwks_response(&[&key])]), &clock));
    let introspected = || {
        let verifier = introspection(&Provider::new([active(bound.clone())]));
        Arc::new(verifier.audience(AUDIENCE))
    };
    let cached = |inner: Arc<dyn TokenVerifier>| Arc::new(CachedVerifier::new(inner));
    let verifiers: [(&str, Arc<dyn TokenVerifier>); 4] = [
        ("JWT", jwt()),
        ("introspection", introspected()),
        ("cached JWT", cached(jwt())),
        ("cached introspection", cached(introspected())),
    ];
    for (name, verifier) in &verifiers {
        // Twice, so that the second result comes from the cache; then in the other order.
        for round in 0..2 {
            for (call, context, expected) in contexts() {
                let outcome = outcome_of(&**verifier, &signed, &context).await;
                assert_eq!(outcome, expected, "{name}, {call}, {round}");
            }
        }
        for (call, context, expected) in contexts().into_iter().rev() {
            assert_eq!(
                outcome_of(&**verifier, &signed, &context).await,
                expected,
                "{name}, {call}"
            );
        }
        // Without the call, nothing is known of the peer.
        assert_eq!(outcome(&**verifier, &signed).await, "misconfigured", "{name}");
    }
}

#[tokio::test]
async fn a_token_that_is_bound_to_something_else_is_invalid() {
    let key = Key::new("k1");
    let clock = ManualClock::new(start());
    let [(_, context, _), ..] = contexts();
    for confirmation in [
        json!({}),
        json!({"jkt": "x"}),
        json!({"x5t#S256": thumbprint(CERTIFICATE), "jkt": "x"}),
        json!({"x5t#S256": 1}),
        json!({"x5t#S256": "short"}),
        json!({"x5t#S256": format!("{}=", thumbprint(CERTIFICATE))}),
        json!("x"),
        json!([]),
    ] {
        let bound = json!({"cnf": confirmation});
        let signed = key.sign(&header(json!({})), &claims(bound.clone()));
        let verifier = jwt(&Provider::new([jwks_response(&[&key])]), &clock);
        // Like every token of a client that the provider binds in this way.
        assert_eq!(outcome_of(&verifier, &signed, &context).await, "misconfigured", "{bound}");
        let good = key.sign(&header(json!({})), &claims(json!({})));
        let verifier = after_accepting(verifier, &good).await;
        assert_eq!(outcome_of(&verifier, &signed, &context).await, "invalid", "{bound}");
        let provider = Provider::new([active(json!({})), active(bound.clone())]);
        let verifier = after_accepting(introspection(&provider).audience(AUDIENCE), "good").await;
        assert_eq!(outcome_of(&verifier, "token", &context).await, "invalid", "{bound}");
    }
    // An unbound token is valid for every peer.
    let signed = key.sign(&header(json!({})), &claims(json!({"cnf": null})));
    let verifier = jwt(&Provider::new([jwks_response(&[&key])]), &clock);
    for (name, context, _) in contexts() {
        assert_eq!(outcome_of(&verifier, &signed, &context).await, "good", "{name}");
    }
}

#[tokio::test]
async fn tokens_for_any_audience_are_warned_of_once() {
    let warnings = |change: fn(IntrospectionVerifier) -> IntrospectionVerifier| async move {
        let (log, guard) = crate::log::Log::capture();
        let verifier = change(introspection(&Provider::new([active(json!({}))])));
        for _ in 0..3 {
            assert_eq!(outcome(&verifier, "token").await, "good");
        }
        drop(guard);
        log.text().matches("any audience").count()
    };
    assert_eq!(warnings(|verifier| verifier).await, 1);
    assert_eq!(warnings(|verifier| verifier.audience(AUDIENCE)).await, 0);
    assert_eq!(warnings(IntrospectionVerifier::any_audience).await, 0);
}
