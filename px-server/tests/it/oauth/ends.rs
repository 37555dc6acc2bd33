//! Events that end tokens (a replayed code, a revocation), and events that do not.

use super::*;
use crate::log::Log;

#[tokio::test]
async fn code_replay() {
    let bank = bank();
    let code = bank.code(&query(&[])).await;
    let tokens = bank.redeem(&code).await.unwrap();
    let next = bank.refresh(refresh_token(&tokens)).await.unwrap();
    // A code presented by another client ends nothing.
    let foreign = bank.redeem_with(&odd(), &code, Some(REDIRECT), Some(VERIFIER)).await;
    assert_eq!(refusal(foreign), invalid_grant());
    assert!(bank.is_valid(&tokens.access_token).await);
    // Long after the lifetime of the code.
    bank.clock.advance(TimeDelta::seconds(800));
    assert_eq!(refusal(bank.redeem(&code).await), invalid_grant());
    assert!(!bank.is_valid(&tokens.access_token).await);
    assert!(!bank.is_valid(&next.access_token).await);
    let ended = bank.refresh(refresh_token(&next)).await;
    assert_eq!(refusal(ended), invalid_grant());
}

#[tokio::test]
async fn of_many_redemptions_one_succeeds_and_then_ends() {
    let bank = bank();
    let code = bank.code(&query(&[])).await;
    let all = futures_util::future::join_all((0..8).map(|_| bank.redeem(&code))).await;
    let given: Vec<_> = all.into_iter().filter_map(Result::ok).collect();
    assert_eq!(given.len(), 1);
    assert!(!bank.is_valid(&given[0].access_token).await);
}

#[tokio::test]
async fn revocation() {
    let bank = bank();
    let tokens = bank.tokens().await;
    let next = bank.refresh(refresh_token(&tokens)).await.unwrap();
    // Unknown tokens, and tokens of another client.
    bank.revoke(&plaid(), "unknown").await.unwrap();
    bank.revoke(&plaid(), "unknown.unknown").await.unwrap();
    bank.revoke(&odd(), next.access_token.expose()).await.unwrap();
    bank.revoke(&odd(), refresh_token(&next).expose()).await.unwrap();
    assert!(bank.is_valid(&next.access_token).await);
    // An access token ends alone.
    bank.revoke(&plaid(), next.access_token.expose()).await.unwrap();
    assert!(!bank.is_valid(&next.access_token).await);
    assert!(bank.is_valid(&tokens.access_token).await);
    let next = bank.refresh(refresh_token(&next)).await.unwrap();
    // A refresh token, here a spent one, ends everything.
    bank.revoke(&plaid(), refresh_token(&tokens).expose()).await.unwrap();
    for tokens in [&tokens, &next] {
        assert!(!bank.is_valid(&tokens.access_token).await);
        assert_eq!(refusal(bank.refresh(refresh_token(tokens)).await), invalid_grant());
    }
    let body = b"token_type_hint=access_token";
    let missing = bank.oauth.revoke(&plaid(), body).await;
    assert_eq!(refusal(missing), (400, "invalid_request".into()));
    let twice = bank.oauth.revoke(&plaid(), b"token=a&token=b").await;
    assert_eq!(refusal(twice), (400, "invalid_request".into()));
    let nobody = bank.revoke(&headers(None), "unknown").await;
    assert_eq!(refusal(nobody), (401, "invalid_client".into()));
}

#[tokio::test]
async fn a_person_or_a_grant_is_ended_at_once_in_the_cache_too() {
    let bank = bank();
    let cached = bank.oauth.cached_verifier(100, Duration::from_secs(60));
    let lives = async |tokens: &TokenResponse| cached.verify(&tokens.access_token).await.is_ok();
    let (one, two, three) = (bank.tokens().await, bank.tokens().await, bank.tokens().await);
    assert!(lives(&one).await && lives(&two).await && lives(&three).await);
    let grant = cached.verify(&one.access_token).await.unwrap();
    let id = grant.grant_id.clone().unwrap();
    bank.oauth.revoke_grant(&id).await.unwrap();
    bank.oauth.revoke_grant("unknown").await.unwrap();
    assert!(!lives(&one).await && lives(&two).await);
    bank.revoke(&plaid(), three.access_token.expose()).await.unwrap();
    assert!(!lives(&three).await && lives(&two).await);
    let unredeemed = bank.code(&query(&[])).await;
    bank.oauth.revoke_principal(&user()).await.unwrap();
    assert!(!lives(&two).await);
    assert_eq!(refusal(bank.refresh(refresh_token(&two)).await), invalid_grant());
    assert_eq!(refusal(bank.redeem(&unredeemed).await), invalid_grant());
}

#[tokio::test]
async fn a_store_that_fails_is_503_and_ends_nothing() {
    let bank = bank();
    let code = bank.code(&query(&[])).await;
    let request = bank.authorization_request(&query(&[])).await;
    let tokens = bank.tokens().await;
    bank.store.down.store(true, Ordering::SeqCst);
    let unavailable = || (503, "temporarily_unavailable".to_owned());
    let failed = bank.redeem(&code).await;
    assert!(failed.as_ref().unwrap_err().retry_after().is_some());
    assert_eq!(refusal(failed), unavailable());
    assert_eq!(refusal(bank.refresh(refresh_token(&tokens)).await), unavailable());
    let revoked = bank.revoke(&plaid(), tokens.access_token.expose()).await;
    assert_eq!(refusal(revoked), unavailable());
    let verified = bank.oauth.verifier().verify(&tokens.access_token).await;
    assert!(matches!(verified, Err(VerifyError::Unavailable(_))));
    let approved = bank.oauth.approve(&request, user(), PermittedAccounts::All).await;
    assert_eq!(approved.unwrap_err().status(), 503);
    bank.store.down.store(false, Ordering::SeqCst);
    assert!(bank.is_valid(&tokens.access_token).await);
    bank.redeem(&code).await.unwrap();
}

#[tokio::test]
async fn use_of_a_revoked_token_is_logged_and_no_secret_is() {
    let (log, _guard) = Log::capture();
    let bank = bank();
    let code = bank.code(&query(&[])).await;
    let tokens = bank.redeem(&code).await.unwrap();
    bank.revoke(&plaid(), tokens.access_token.expose()).await.unwrap();
    assert!(!bank.is_valid(&tokens.access_token).await);
    assert_eq!(refusal(bank.redeem(&code).await), invalid_grant());
    let text = log.text();
    assert!(text.contains("a revoked access token was used"), "{text}");
    assert!(text.contains("the grant is revoked"), "{text}");
    let refresh = refresh_token(&tokens).expose();
    for secret in
        [&*code, refresh, tokens.access_token.expose(), VERIFIER, "plaid-secret-of-the-tests"]
    {
        assert!(!text.contains(secret));
    }
}

#[tokio::test]
async fn secrets_of_one_kind_are_not_taken_for_another() {
    let bank = bank();
    let code = bank.code(&query(&[])).await;
    let tokens = bank.tokens().await;
    let (access, refresh) = (tokens.access_token.expose(), refresh_token(&tokens).expose());
    let (family, secret) = refresh.split_once('.').unwrap();
    for text in [&*code, refresh, family, secret, ""] {
        assert!(!bank.is_valid(&AccessToken::new(text)).await);
    }
    for text in [access, refresh, family, secret] {
        assert_eq!(refusal(bank.redeem(text).await), invalid_grant());
    }
    for text in [access, &*code, family, secret, &format!("{access}.{secret}")] {
        let refused = bank.refresh(&RefreshToken::new(text)).await;
        assert_eq!(refusal(refused), invalid_grant());
    }
    for text in [family, secret, &*code, &format!("{access}.{secret}"), &format!("{code}.x")] {
        bank.revoke(&plaid(), text).await.unwrap();
    }
    assert!(bank.is_valid(&tokens.access_token).await);
    bank.redeem(&code).await.unwrap();
    bank.refresh(refresh_token(&tokens)).await.unwrap();
}

/// Tokens under a consent end with it, immediately and for any reason.
#[tokio::test]
async fn what_was_given_under_a_consent_ends_with_it() {
    for (n, how) in ["revoked", "stolen", "ended", "by client"].into_iter().enumerate() {
        let bank = bank();
        let tokens = bank.tokens().await;
        let client = ClientId::new("plaid").unwrap();
        let consent = bank.oauth.consents(&client, &user()).await.unwrap().remove(0);
        let under = bank.oauth.issue_under(&consent.id).await.unwrap().unwrap();
        assert!(bank.is_valid(&under).await, "{how}");
        // It is not a consent itself, and issues no tokens.
        let consents = bank.oauth.consents(&client, &user()).await.unwrap();
        assert_eq!(consents.len(), 1);
        match n {
            0 => bank.revoke(&plaid(), refresh_token(&tokens).expose()).await.unwrap(),
            1 => {
                bank.refresh(refresh_token(&tokens)).await.unwrap();
                bank.clock.advance(TimeDelta::seconds(31));
                bank.refresh(refresh_token(&tokens)).await.unwrap_err();
            }
            2 => bank.clock.advance(TimeDelta::days(400)),
            _ => {
                let now = bank.clock.now();
                bank.oauth.revoke_client(&client, &user(), now).await.unwrap();
            }
        }
        assert!(!bank.is_valid(&under).await, "{how}");
        assert_eq!(bank.oauth.issue_under(&consent.id).await.unwrap(), None, "{how}");
        assert!(bank.oauth.consents(&client, &user()).await.unwrap().is_empty(), "{how}");
    }
}

#[tokio::test]
async fn a_later_consent_outlives_the_end_of_an_earlier_one() {
    let bank = bank();
    let client = ClientId::new("plaid").unwrap();
    let (before, end) = (bank.tokens().await, bank.clock.now());
    bank.clock.advance(TimeDelta::seconds(1));
    let after = bank.tokens().await;
    bank.oauth.revoke_client(&client, &user(), end).await.unwrap();
    assert!(!bank.is_valid(&before.access_token).await);
    assert!(bank.is_valid(&after.access_token).await);
}

#[tokio::test]
async fn tokens_under_a_consent_are_few() {
    let bank = bank();
    bank.tokens().await;
    let client = ClientId::new("plaid").unwrap();
    let consent = bank.oauth.consents(&client, &user()).await.unwrap().remove(0);
    let mut given = Vec::new();
    for _ in 0..40 {
        bank.clock.advance(TimeDelta::seconds(1));
        given.push(bank.oauth.issue_under(&consent.id).await.unwrap().unwrap());
    }
    let mut living = 0;
    for token in &given {
        living += usize::from(bank.is_valid(token).await);
    }
    assert_eq!(living, 16);
    assert!(bank.is_valid(given.last().unwrap()).await);
}

#[tokio::test]
async fn what_is_pending_ends_unless_it_is_confirmed() {
    let client = ClientId::new("plaid").unwrap();
    for confirmed in [false, true] {
        let bank = bank();
        let (user, hour) = (user(), Duration::from_secs(3600));
        let issued = bank.oauth.issue_pending(&client, user.clone(), PermittedAccounts::All, hour);
        let token = issued.await.unwrap();
        if confirmed {
            bank.oauth.confirm(&client, &user).await.unwrap();
        }
        bank.clock.advance(TimeDelta::seconds(3599));
        assert!(bank.is_valid(&token).await);
        bank.clock.advance(TimeDelta::seconds(1));
        assert_eq!(bank.is_valid(&token).await, confirmed);
        bank.oauth.confirm(&client, &user).await.unwrap();
        assert_eq!(bank.is_valid(&token).await, confirmed, "too late");
    }
}
