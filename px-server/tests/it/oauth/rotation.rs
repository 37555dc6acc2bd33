//! Refresh tokens: rotation, lost responses, reuse, races.

use super::*;

#[tokio::test]
async fn rotation() {
    let bank = bank();
    let first = bank.tokens().await;
    let second = bank.refresh(refresh_token(&first)).await.unwrap();
    assert_ne!(refresh_token(&first), refresh_token(&second));
    assert!(bank.is_valid(&first.access_token).await, "lives until its own end");
    let third = bank.refresh(refresh_token(&second)).await.unwrap();
    // A late retry: nothing is issued, and nothing ends.
    assert_eq!(refusal(bank.refresh(refresh_token(&first)).await), invalid_grant());
    assert!(bank.is_valid(&third.access_token).await);
    // More than 30 s after its first use it counts as theft: the family ends.
    bank.clock.advance(TimeDelta::seconds(31));
    assert_eq!(refusal(bank.refresh(refresh_token(&first)).await), invalid_grant());
    for tokens in [&first, &second, &third] {
        assert!(!bank.is_valid(&tokens.access_token).await);
        assert_eq!(refusal(bank.refresh(refresh_token(tokens)).await), invalid_grant());
    }
}

#[tokio::test]
async fn a_lost_answer_is_given_again_within_30_s_and_3_times() {
    let bank = bank();
    let first = bank.tokens().await;
    let lost = bank.refresh(refresh_token(&first)).await.unwrap();
    bank.clock.advance(TimeDelta::seconds(30));
    let second = bank.refresh(refresh_token(&first)).await.unwrap();
    let third = bank.refresh(refresh_token(&first)).await.unwrap();
    // The pair that is used first remains, here by its access token.
    assert!(bank.is_valid(&second.access_token).await);
    for sibling in [&lost, &third] {
        assert!(!bank.is_valid(&sibling.access_token).await);
        assert_eq!(refusal(bank.refresh(refresh_token(sibling)).await), invalid_grant());
    }
    // Presenting the siblings ended nothing.
    assert!(bank.is_valid(&second.access_token).await);
    assert!(bank.is_valid(&first.access_token).await);
    let next = bank.refresh(refresh_token(&second)).await.unwrap();
    // And by its refresh token.
    let again = bank.refresh(refresh_token(&second)).await.unwrap();
    bank.refresh(refresh_token(&next)).await.unwrap();
    assert!(!bank.is_valid(&again.access_token).await);
    assert!(bank.is_valid(&next.access_token).await);
}

/// Within 30 s, a use that issues nothing ends nothing, whether or not a pair was used; after that
/// it ends the family.
#[tokio::test]
async fn a_spent_refresh_token_ends_the_family_after_30_s_and_not_before() {
    for (name, uses, use_pair) in [
        ("once", 1, false),
        ("a fourth time", 3, false),
        ("after one of its pairs was used", 1, true),
        ("a fourth time, after one of its pairs was used", 3, true),
    ] {
        let bank = bank();
        let first = bank.tokens().await;
        let mut pairs = Vec::new();
        for _ in 0..uses {
            pairs.push(bank.refresh(refresh_token(&first)).await.unwrap());
        }
        if use_pair {
            assert!(bank.is_valid(&pairs[0].access_token).await);
        }
        bank.clock.advance(TimeDelta::seconds(30));
        if uses == 3 || use_pair {
            let refused = bank.refresh(refresh_token(&first)).await;
            assert_eq!(refusal(refused), invalid_grant(), "{name}");
            assert!(bank.is_valid(&pairs[0].access_token).await, "{name}");
        }
        bank.clock.advance(TimeDelta::seconds(1));
        let reused = bank.refresh(refresh_token(&first)).await;
        assert_eq!(refusal(reused), invalid_grant(), "{name}");
        for tokens in pairs.iter().chain([&first]) {
            assert!(!bank.is_valid(&tokens.access_token).await, "{name}");
            let ended = bank.refresh(refresh_token(tokens)).await;
            assert_eq!(refusal(ended), invalid_grant(), "{name}");
        }
    }
}

/// No client presents the tokens of a lost response: a pair that lost and is presented a minute
/// later was stolen.
#[tokio::test]
async fn a_pair_that_lost_ends_the_family_after_a_minute_and_not_before() {
    for by_access in [true, false] {
        let bank = bank();
        let first = bank.tokens().await;
        let used = bank.refresh(refresh_token(&first)).await.unwrap();
        let lost = bank.refresh(refresh_token(&first)).await.unwrap();
        assert!(bank.is_valid(&used.access_token).await);
        let show = async || {
            if by_access {
                assert!(!bank.is_valid(&lost.access_token).await);
            } else {
                assert_eq!(refusal(bank.refresh(refresh_token(&lost)).await), invalid_grant());
            }
            bank.is_valid(&used.access_token).await
        };
        assert!(show().await);
        bank.clock.advance(TimeDelta::seconds(60));
        assert!(show().await, "by access token: {by_access}");
        bank.clock.advance(TimeDelta::seconds(1));
        assert!(!show().await, "by access token: {by_access}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn retries_at_once_give_3_pairs_and_do_not_cost_the_connection() {
    let bank = Arc::new(bank());
    for _ in 0..20 {
        let first = Arc::new(bank.tokens().await);
        let tasks = (0..16).map(|_| {
            let (bank, first) = (bank.clone(), first.clone());
            tokio::spawn(async move { bank.refresh(refresh_token(&first)).await })
        });
        let all = futures_util::future::join_all(tasks).await;
        let given: Vec<_> = all.into_iter().filter_map(|task| task.unwrap().ok()).collect();
        assert_eq!(given.len(), 3);
        assert!(bank.is_valid(&given[1].access_token).await);
        assert!(bank.refresh(refresh_token(&given[1])).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_siblings_that_are_used_at_once_one_stays() {
    let bank = Arc::new(bank());
    for _ in 0..50 {
        let first = bank.tokens().await;
        let mut pairs = Vec::new();
        for _ in 0..3 {
            pairs.push(bank.refresh(refresh_token(&first)).await.unwrap());
        }
        let tasks = pairs.iter().map(|pair| {
            let (bank, token) = (bank.clone(), pair.access_token.clone());
            tokio::spawn(async move { bank.is_valid(&token).await })
        });
        let alive = futures_util::future::join_all(tasks).await;
        let alive = alive.into_iter().filter(|task| *task.as_ref().unwrap()).count();
        assert_eq!(alive, 1);
    }
}

#[tokio::test]
async fn refresh_narrows_and_never_widens() {
    let bank = bank();
    let code = bank.code(&query(&[("scope", Some("accounts transactions offline_access"))])).await;
    let first = bank.redeem(&code).await.unwrap();
    let token = refresh_token(&first);
    for scope in ["accounts identity", "everything", "\""] {
        let wider = bank.refresh_with(&plaid(), token, Some(scope)).await;
        assert_eq!(refusal(wider), (400, "invalid_scope".into()), "{scope}");
    }
    let narrow = bank.refresh_with(&plaid(), token, Some("accounts")).await.unwrap();
    assert_eq!(narrow.scope.as_deref(), Some("accounts"));
    let grant = bank.oauth.verifier().verify(&narrow.access_token).await.unwrap();
    assert_eq!(grant.scopes.to_string(), "accounts");
    let whole = bank.refresh(refresh_token(&narrow)).await.unwrap();
    assert_eq!(whole.scope.as_deref(), Some("accounts offline_access transactions"));
}

#[tokio::test]
async fn who_gets_a_refresh_token_and_for_how_long() {
    let bank = bank();
    let code = bank.code(&query(&[("scope", Some("accounts"))])).await;
    assert!(bank.redeem(&code).await.unwrap().refresh_token.is_none());
    let tokens = bank.tokens().await;
    let foreign = bank.refresh_with(&odd(), refresh_token(&tokens), None).await;
    assert_eq!(refusal(foreign), invalid_grant());
    // 13 months from the end of January, without an inactivity limit.
    let end: DateTime<Utc> = "2025-02-28T12:00:00Z".parse().unwrap();
    bank.clock.advance(end - start() - TimeDelta::seconds(10));
    let last = bank.refresh(refresh_token(&tokens)).await.unwrap();
    assert_eq!(last.expires_in, Some(10), "no access token outlives the grant");
    bank.clock.advance(TimeDelta::seconds(10));
    assert_eq!(bank.clock.now(), end);
    let over = bank.refresh(refresh_token(&last)).await;
    assert_eq!(refusal(over), invalid_grant());
    assert!(!bank.is_valid(&last.access_token).await);
    bank.oauth.purge().await.unwrap();
    assert!(bank.store.find_by_principal(&user()).await.unwrap().is_empty());
}

/// A clock that advances while a request is processed, as a real one does.
#[derive(Debug)]
struct Running(ManualClock);

#[async_trait::async_trait]
impl px_core::Clock for Running {
    fn now(&self) -> DateTime<Utc> {
        self.0.advance(TimeDelta::milliseconds(1));
        self.0.now()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        self.0.sleep(duration).await;
    }
}

#[tokio::test]
async fn the_time_that_the_answer_takes_is_not_cut_off_a_lifetime() {
    let clock = ManualClock::new(start());
    let oauth = OAuth::builder(ISSUER, clients(), Arc::new(MemoryGrantStore::new()))
        .clock(Arc::new(Running(clock.clone())))
        .build()
        .unwrap();
    let bank = Bank { oauth, store: Arc::default(), clock };
    let tokens = bank.tokens().await;
    assert_eq!(tokens.expires_in, Some(900));
    assert_eq!(bank.refresh(refresh_token(&tokens)).await.unwrap().expires_in, Some(900));
}

#[tokio::test]
async fn the_first_access_token_does_not_outlive_the_grant_either() {
    let clock = ManualClock::new(start());
    let oauth = OAuth::builder(ISSUER, clients(), Arc::new(MemoryGrantStore::new()))
        .clock(Arc::new(clock.clone()))
        .access_token_lifetime(Duration::from_secs(366 * 86_400))
        .refresh_lifetime(chrono::Months::new(1))
        .build()
        .unwrap();
    let bank = Bank { oauth, store: Arc::default(), clock };
    assert_eq!(bank.tokens().await.expires_in, Some(29 * 86_400));
}
