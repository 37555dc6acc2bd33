//! Requests that the endpoints refuse, each case by name, and requests that are accepted.

use super::*;

#[tokio::test]
async fn what_is_refused_on_a_page_and_never_redirected() {
    let bank = bank();
    let cases = [
        ("no client", query(&[("client_id", None)])),
        ("an empty client", query(&[("client_id", Some(""))])),
        ("an unknown client", query(&[("client_id", Some("nobody"))])),
        ("a client that is no id", query(&[("client_id", Some("\n"))])),
        ("two clients", format!("{}&client_id=plaid", query(&[]))),
        ("no redirect URI", query(&[("redirect_uri", None)])),
        ("two redirect URIs", format!("{}&redirect_uri=https%3A%2F%2Fevil.example", query(&[]))),
        ("an unknown redirect URI", query(&[("redirect_uri", Some("https://evil.example"))])),
        ("a longer path", query(&[("redirect_uri", Some("https://plaid.example/back/x"))])),
        ("another case", query(&[("redirect_uri", Some("https://PLAID.example/back"))])),
        ("an added query", query(&[("redirect_uri", Some("https://plaid.example/back?x=1"))])),
        ("an added fragment", query(&[("redirect_uri", Some("https://plaid.example/back#x"))])),
        ("broken encoding", format!("{}&x=%zz", query(&[]))),
    ];
    for (name, query) in cases {
        match bank.oauth.authorize(&query).await {
            Authorization::Refused(refusal) => assert_eq!(refusal.status(), 400, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_refused_by_a_redirect() {
    let bank = bank();
    let invalid = "invalid_request";
    let one = |name, value| query(&[(name, value)]);
    let twice = |name: &str| format!("{}&{name}=x", query(&[(name, Some("x"))]));
    let cases = [
        ("no response type", one("response_type", None), invalid),
        ("response type token", one("response_type", Some("token")), "unsupported_response_type"),
        ("no PKCE", query(&[("code_challenge", None), ("code_challenge_method", None)]), invalid),
        ("no challenge", one("code_challenge", None), invalid),
        ("no method, which means plain", one("code_challenge_method", None), invalid),
        ("plain", one("code_challenge_method", Some("plain")), invalid),
        ("a short challenge", one("code_challenge", Some(&CHALLENGE[1..])), invalid),
        ("a padded challenge", one("code_challenge", Some(&format!("{CHALLENGE}="))), invalid),
        (
            "a challenge in base64",
            one("code_challenge", Some(&CHALLENGE.replace('-', "+"))),
            invalid,
        ),
        ("an unknown scope", one("scope", Some("accounts everything")), "invalid_scope"),
        ("a malformed scope", one("scope", Some("accounts \"")), "invalid_scope"),
        ("a scope of spaces", one("scope", Some("  ")), "invalid_scope"),
        ("an application that is no id", one("application_id", Some("..")), invalid),
        ("a name of control characters", one("application_name", Some("a\nb")), invalid),
        ("two response types", twice("response_type"), invalid),
        ("two scopes", twice("scope"), invalid),
        ("two challenges", twice("code_challenge"), invalid),
        ("two methods", twice("code_challenge_method"), invalid),
        ("two applications", twice("application_id"), invalid),
        ("two application names", twice("application_name"), invalid),
    ];
    for (name, query, error) in cases {
        let Authorization::Redirect(url) = bank.oauth.authorize(&query).await else {
            panic!("{name}: not redirected");
        };
        assert!(url.starts_with("https://plaid.example/back?"), "{name}: {url}");
        assert_eq!(parameter(&url, "error").unwrap(), error, "{name}");
        assert!(parameter(&url, "error_description").is_some(), "{name}");
        assert_eq!(parameter(&url, "state").unwrap(), "a state & more", "{name}");
        assert_eq!(parameter(&url, "iss").unwrap(), ISSUER, "{name}");
        assert_eq!(parameter(&url, "code"), None, "{name}");
    }
    let query = format!("{}&state=other", query(&[]));
    let Authorization::Redirect(url) = bank.oauth.authorize(&query).await else {
        panic!("two states: not redirected");
    };
    assert_eq!(parameter(&url, "error").unwrap(), invalid);
    assert_eq!(parameter(&url, "state"), None);
}

#[tokio::test]
async fn state_redirect_query_and_refusal_of_the_user() {
    let bank = bank();
    let long = "s/+ %ü=&".repeat(1000);
    let redirect = "https://plaid.example/query?kept=1";
    let changes = [("state", Some(&*long)), ("redirect_uri", Some(redirect))];
    let request = bank.authorization_request(&query(&changes)).await;
    assert_eq!(request.scopes, ScopeSet::defaults());
    let url = bank.oauth.deny(&request);
    assert!(url.starts_with("https://plaid.example/query?kept=1&error=access_denied&"));
    assert_eq!(parameter(&url, "state").unwrap(), long);
    let none = PermittedAccounts::Only([].into());
    let asked_again = bank.oauth.approve(&request, user(), none).await;
    assert_eq!(asked_again.unwrap_err().status(), 400);
    let request = bank.authorization_request(&query(&[("state", None)])).await;
    let url = bank.oauth.approve(&request, user(), PermittedAccounts::All).await;
    assert_eq!(parameter(&url.unwrap(), "state"), None);
}

#[tokio::test]
async fn what_the_token_endpoint_refuses() {
    let bank = bank();
    let code = bank.code(&query(&[])).await;
    let good = [
        ("grant_type", "authorization_code"),
        ("code", &*code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ];
    let good = form(&good);
    let with = |more: &str| format!("{good}&{more}");
    let none = || headers(None);
    let authorized = |value: &str| headers(Some(value));
    let mut two_headers = plaid();
    two_headers.append(
        header::AUTHORIZATION,
        basic("plaid", "plaid-secret-of-the-tests").parse().unwrap(),
    );
    let mut json = plaid();
    json.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut untyped = plaid();
    untyped.remove(header::CONTENT_TYPE);
    let in_body = "client_id=plaid&client_secret=plaid-secret-of-the-tests";
    let (request, client) = ((400, "invalid_request"), (401, "invalid_client"));
    let cases = [
        ("a JSON body", json, good.clone(), request),
        ("no media type", untyped, good.clone(), request),
        ("broken encoding", plaid(), with("x=%zz"), request),
        ("a parameter twice", plaid(), with("code=x"), request),
        ("too many parameters", plaid(), with(&"a&".repeat(1_000)), request),
        ("a parameter twice, once empty", plaid(), with("code_verifier="), request),
        ("a parameter of the other grant twice", plaid(), with("scope=a&scope=a"), request),
        ("two ways of authentication", plaid(), with(in_body), request),
        ("an assertion beside Basic", plaid(), with("client_assertion=x"), request),
        ("another client in the body", plaid(), with("client_id=odd+client"), request),
        ("two Authorization headers", two_headers, good.clone(), request),
        ("no grant type", plaid(), good.replace("grant_type", "x"), request),
        ("no code", plaid(), good.replace("code=", "x="), request),
        ("no refresh token", plaid(), "grant_type=refresh_token".into(), request),
        ("no credentials", none(), good.clone(), client),
        ("a client id alone", none(), with("client_id=plaid"), client),
        ("a secret alone", none(), with("client_secret=plaid-secret-of-the-tests"), client),
        ("a wrong secret", authorized(&basic("plaid", "wrong")), good.clone(), client),
        ("a wrong secret in the body", none(), with("client_id=plaid&client_secret=x"), client),
        ("an empty secret", authorized(&basic("plaid", "")), good.clone(), client),
        (
            "an unknown client",
            authorized(&basic("nobody", "plaid-secret-of-the-tests")),
            good.clone(),
            client,
        ),
        (
            "an id that is none",
            authorized(&basic("", "plaid-secret-of-the-tests")),
            good.clone(),
            client,
        ),
        ("no colon", authorized("Basic cGxhaWQ="), good.clone(), client),
        ("no base64", authorized("Basic ~~~"), good.clone(), client),
        ("no UTF-8", authorized("Basic //86/w=="), good.clone(), client),
        ("Basic alone", authorized("Basic"), good.clone(), client),
        ("another scheme", authorized("Bearer cGxhaWQ6cGxhaWQtc2VjcmV0"), good.clone(), client),
        ("an assertion", none(), with("client_assertion=x"), client),
        (
            "another grant type",
            plaid(),
            "grant_type=password&username=u&password=p".into(),
            (400, "unsupported_grant_type"),
        ),
        ("an unknown code", plaid(), good.replace(&*code, "unknown"), (400, "invalid_grant")),
        (
            "an unknown refresh token",
            plaid(),
            "grant_type=refresh_token&refresh_token=a.b".into(),
            (400, "invalid_grant"),
        ),
        (
            "no refresh token of ours",
            plaid(),
            "grant_type=refresh_token&refresh_token=ab".into(),
            (400, "invalid_grant"),
        ),
    ];
    for (name, headers, body, (status, error)) in cases {
        let refused = bank.oauth.token(&headers, body.as_bytes()).await;
        assert_eq!(refusal(refused), (status, error.into()), "{name}");
    }
    let refused = bank.oauth.token(&plaid(), b"grant_type=\xff").await;
    assert_eq!(refusal(refused), (400, "invalid_request".into()));
    // None of these spent the code.
    let mut charset = plaid();
    let media_type = "Application/X-WWW-form-urlencoded; charset=UTF-8";
    charset.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    bank.oauth.token(&charset, good.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn ways_of_authentication() {
    let bank = bank();
    let unencoded = headers(Some(&basic("odd client", "a:b+c%/d-of-the-tests")));
    let percent = headers(Some(&basic("per%41cent", "x%zz-of-the-tests")));
    let lower =
        headers(Some(&basic("plaid", "plaid-secret-of-the-tests").replace("Basic", "basic")));
    for (name, headers, id) in [
        ("Basic", plaid(), "plaid"),
        ("Basic in lower case", lower, "plaid"),
        ("encoded", odd(), "odd client"),
        ("not encoded", unencoded, "odd client"),
        ("not encoded and looking as if", percent, "per%41cent"),
    ] {
        let client = bank.oauth.authenticate_client(&headers).await;
        assert_eq!(client.unwrap().id.as_str(), id, "{name}");
    }
    let missing = bank.oauth.authenticate_client(&headers(None)).await;
    assert_eq!(refusal(missing), (401, "invalid_client".into()));
    let code = bank.code(&query(&[])).await;
    let body = form(&[
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("client_id", "plaid"),
        ("client_secret", "plaid-secret-of-the-tests"),
    ]);
    bank.oauth.token(&headers(None), body.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn what_a_code_is_bound_to() {
    let other = "https://plaid.example/query?kept=1";
    let wrong = VERIFIER.replace('d', "e");
    let long = "a".repeat(129);
    let verifier = Some(VERIFIER);
    let cases = [
        ("a wrong verifier", plaid(), Some(REDIRECT), Some(&*wrong), true),
        ("no verifier", plaid(), Some(REDIRECT), None, true),
        ("a short verifier", plaid(), Some(REDIRECT), Some("short"), true),
        ("a long verifier", plaid(), Some(REDIRECT), Some(&*long), true),
        ("the challenge as verifier", plaid(), Some(REDIRECT), Some(CHALLENGE), true),
        ("another redirect URI", plaid(), Some(other), verifier, true),
        ("no redirect URI", plaid(), None, verifier, true),
        ("another client", odd(), Some(REDIRECT), verifier, false),
    ];
    for (name, headers, redirect_uri, verifier, spent) in cases {
        let bank = bank();
        let code = bank.code(&query(&[])).await;
        let refused = bank.redeem_with(&headers, &code, redirect_uri, verifier).await;
        assert_eq!(refusal(refused), invalid_grant(), "{name}");
        assert_eq!(bank.redeem(&code).await.is_err(), spent, "{name}");
    }
    let bank = bank();
    let code = bank.code(&query(&[])).await;
    bank.clock.advance(TimeDelta::seconds(60));
    assert_eq!(refusal(bank.redeem(&code).await), invalid_grant(), "expired");
}

#[tokio::test]
async fn pkce_may_be_optional_and_never_plain() {
    let clock = ManualClock::new(start());
    let oauth = OAuth::builder(ISSUER, clients(), Arc::new(MemoryGrantStore::new()))
        .clock(Arc::new(clock.clone()))
        .pkce_optional()
        .build()
        .unwrap();
    let bank = Bank { oauth, store: Arc::default(), clock };
    let without = query(&[("code_challenge", None), ("code_challenge_method", None)]);
    let code = bank.code(&without).await;
    bank.redeem_with(&plaid(), &code, Some(REDIRECT), None).await.unwrap();
    let code = bank.code(&without).await;
    // The challenge was removed from the request (RFC 9700, 4.8.2).
    assert_eq!(refusal(bank.redeem(&code).await), invalid_grant());
    let plain = query(&[("code_challenge_method", Some("plain"))]);
    let refused = bank.oauth.authorize(&plain).await;
    assert!(matches!(refused, Authorization::Redirect(url) if url.contains("invalid_request")));
}

#[test]
fn settings_that_are_not_safe_are_refused() {
    let builder = |issuer| OAuth::builder(issuer, clients(), Arc::new(MemoryGrantStore::new()));
    for issuer in
        ["bank.example", "ftp://bank.example", "https://bank.example?x", "https://bank.example/#"]
    {
        assert!(builder(issuer).build().is_err(), "{issuer}");
    }
    // Tokens without encryption are for loopback only.
    for issuer in ["http://bank.example", "http://10.0.0.1", "http://localhost.example"] {
        assert!(builder(issuer).build().is_err(), "{issuer}");
    }
    for issuer in ["http://127.0.0.1:8080", "http://[::1]:1", "http://localhost"] {
        assert!(builder(issuer).build().is_ok(), "{issuer}");
    }
    let good = || builder("https://bank.example/px/");
    assert!(good().code_lifetime(Duration::from_secs(600)).build().is_ok());
    assert!(good().code_lifetime(Duration::from_secs(601)).build().is_err());
    assert!(good().code_lifetime(Duration::ZERO).build().is_err());
    assert!(good().access_token_lifetime(Duration::ZERO).build().is_err());
    assert!(good().access_token_lifetime(Duration::MAX).build().is_err());
    assert!(good().refresh_lifetime(chrono::Months::new(0)).build().is_err());
    assert!(good().scopes(ScopeSet::default()).build().is_err());
    let metadata = good().build().unwrap().metadata();
    assert_eq!(metadata["issuer"], "https://bank.example/px/");
    assert_eq!(metadata["token_endpoint"], "https://bank.example/px/oauth2/token");
    assert_eq!(metadata["code_challenge_methods_supported"], serde_json::json!(["S256"]));
    assert_eq!(metadata["authorization_response_iss_parameter_supported"], true);
}

/// The URL of a refusal contains `state`, which binds the response to a session.
#[tokio::test]
async fn a_refusal_shows_no_state_when_it_is_printed() {
    let query = query(&[("scope", Some("unknown")), ("state", Some("s3cret"))]);
    let refused = bank().oauth.authorize(&query).await;
    let printed = format!("{refused:?}");
    assert!(matches!(refused, Authorization::Redirect(url) if url.contains("s3cret")));
    assert!(printed.contains("Redirect") && !printed.contains("s3cret"), "{printed}");
}

#[test]
fn long_access_tokens_are_warned_of() {
    for (seconds, warnings) in [(900, 0), (901, 1), (366 * 86_400, 1)] {
        let (log, guard) = crate::log::Log::capture();
        let builder = OAuth::builder(ISSUER, clients(), Arc::new(MemoryGrantStore::new()));
        let built = builder.access_token_lifetime(Duration::from_secs(seconds)).build();
        drop(guard);
        assert!(built.is_ok());
        assert_eq!(log.text().matches("longer than 900 s").count(), warnings, "{seconds}");
    }
}

#[tokio::test]
async fn a_state_has_a_maximum() {
    let bank = bank();
    for (state, is_accepted) in [
        ("x".repeat(8 << 10), true),
        ("x".repeat(10 << 10), true),
        ("x".repeat((10 << 10) + 1), false),
        ("x".repeat(60 << 10), false),
        ("a\u{0}b".to_owned(), false),
        ("a\nb".to_owned(), false),
    ] {
        let query = query(&[("state", Some(&*state))]);
        match bank.oauth.authorize(&query).await {
            Authorization::Prompt(request) => {
                assert!(is_accepted, "{} bytes are accepted", state.len());
                let url = bank.oauth.deny(&request);
                assert_eq!(parameter(&url, "state").unwrap(), state);
            }
            Authorization::Redirect(url) => {
                assert!(!is_accepted, "{} bytes are refused", state.len());
                assert_eq!(parameter(&url, "error").unwrap(), "invalid_request");
                assert_eq!(parameter(&url, "state"), None);
            }
            Authorization::Refused(refusal) => panic!("{refusal:?}"),
        }
    }
}
