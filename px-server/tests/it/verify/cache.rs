//! The cache of verified tokens: expiry, bounds, purges.

use super::*;

/// Accepts every token and counts the calls; blocks without a permit.
struct Counting {
    calls: AtomicUsize,
    gate: tokio::sync::Semaphore,
    response: Mutex<Option<VerifyError>>,
    expires_at: Option<DateTime<Utc>>,
}

impl Counting {
    fn new(permits: usize, expires_at: Option<DateTime<Utc>>) -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicUsize::new(0),
            gate: tokio::sync::Semaphore::new(permits),
            response: Mutex::new(None),
            expires_at,
        })
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

#[async_trait::async_trait]
impl TokenVerifier for Counting {
    async fn verify(&self, token: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        if let Some(error) = self.response.lock().unwrap().take() {
            return Err(error);
        }
        let mut grant = TokenGrant::new(UserId::new("u").unwrap(), ScopeSet::defaults());
        grant.grant_id = Some(format!("grant of {}", token.expose()));
        grant.expires_at = self.expires_at;
        Ok(Arc::new(grant))
    }
}

fn cached(inner: &Arc<Counting>, clock: &ManualClock) -> CachedVerifier {
    CachedVerifier::new(inner.clone()).ttl(Duration::from_secs(10)).clock(Arc::new(clock.clone()))
}

#[tokio::test]
async fn the_cache_ends_with_the_token_and_with_its_time_to_live() {
    for (expires, lives) in [(3, 3), (100, 10)] {
        let clock = ManualClock::new(start());
        let inner = Counting::new(100, Some(start() + TimeDelta::seconds(expires)));
        let cache = cached(&inner, &clock);
        for _ in 0..3 {
            assert_eq!(outcome(&cache, "a").await, "good");
        }
        clock.advance(TimeDelta::milliseconds(lives * 1000 - 1));
        assert_eq!(outcome(&cache, "a").await, "good");
        assert_eq!(inner.calls(), 1);
        clock.advance(TimeDelta::milliseconds(1));
        assert_eq!(outcome(&cache, "a").await, "good");
        assert_eq!(inner.calls(), 2);
    }
}

#[tokio::test]
async fn the_cache_keeps_no_refusal_and_no_more_than_its_capacity() {
    let (inner, clock) = (Counting::new(100, None), ManualClock::new(start()));
    let cache = cached(&inner, &clock).capacity(2);
    *inner.response.lock().unwrap() = Some(VerifyError::invalid());
    assert_eq!(outcome(&cache, "a").await, "invalid");
    *inner.response.lock().unwrap() = Some(VerifyError::unavailable("down"));
    assert_eq!(outcome(&cache, "a").await, "unavailable");
    for token in ["a", "b", "c", "b", "c"] {
        assert_eq!(outcome(&cache, token).await, "good");
    }
    assert_eq!(inner.calls(), 5);
    assert_eq!(outcome(&cache, "a").await, "good");
    assert_eq!(inner.calls(), 6, "a was the least used");
}

#[tokio::test]
async fn a_purge_counts_at_once() {
    let (inner, clock) = (Counting::new(100, None), ManualClock::new(start()));
    let cache = cached(&inner, &clock);
    for token in ["a", "b"] {
        verify(&cache, token).await.unwrap();
    }
    cache.purge_token(&AccessToken::new("a"));
    verify(&cache, "b").await.unwrap();
    assert_eq!(inner.calls(), 2);
    verify(&cache, "a").await.unwrap();
    assert_eq!(inner.calls(), 3);
    cache.purge_grant("grant of b");
    verify(&cache, "a").await.unwrap();
    verify(&cache, "b").await.unwrap();
    assert_eq!(inner.calls(), 4);
    cache.purge_all();
    verify(&cache, "a").await.unwrap();
    assert_eq!(inner.calls(), 5);
}

#[tokio::test]
async fn what_was_being_verified_during_a_purge_is_not_kept() {
    type Purge = fn(&CachedVerifier);
    let purges: [(&str, Purge); 3] = [
        ("token", |cache| cache.purge_token(&AccessToken::new("a"))),
        ("grant", |cache| cache.purge_grant("grant of a")),
        ("all", CachedVerifier::purge_all),
    ];
    for (name, purge) in purges {
        let (inner, clock) = (Counting::new(0, None), ManualClock::new(start()));
        let cache = Arc::new(cached(&inner, &clock));
        let running = tokio::spawn({
            let cache = cache.clone();
            async move { verify(&*cache, "a").await.is_ok() }
        });
        while inner.calls() == 0 {
            tokio::task::yield_now().await;
        }
        purge(&cache);
        inner.gate.add_permits(100);
        assert!(running.await.unwrap());
        verify(&*cache, "a").await.unwrap();
        assert_eq!(inner.calls(), 2, "{name}");
    }
}
