//! Entries that Plaid refuses, and refusals for which no entry is at fault.

use super::*;

#[tokio::test(start_paused = true)]
async fn entries_without_an_item_are_taken_out_and_the_rest_goes_on() {
    for silent in [false, true] {
        let set = set_up().await;
        set.world.knows(["t"]);
        set.world.with(|state| state.silent = silent);
        let bad = [0, 7, 777, 1999, 2000];
        let entries = (0..2500).map(|n| {
            let name = if bad.contains(&n) { format!("gone-{n}") } else { "t".into() };
            Entry::transactions(token(&name), account(n), ago(0))
        });
        set.notifier.notify(entries.collect()).await.unwrap();
        set.all_notified().await;
        assert_eq!(set.accounts(), names((0..2500).filter(|n| !bad.contains(n))));
        let mut out = set.seen.refused();
        out.sort();
        assert_eq!(out, ["gone-0", "gone-1999", "gone-2000", "gone-7", "gone-777"], "{silent}");
        assert_eq!(set.notifier.metrics().refused, 5);
        // Each is found by its index with one call, or by halving with about twenty.
        let calls = set.world.calls();
        assert!(calls <= if silent { 110 } else { 7 }, "{calls}");
        assert!(set.seen.stalls().is_empty());
        // Every entry is sent once: accepted ones are not sent again with refused ones.
        assert_eq!(set.world.notified().len(), 2495);
    }
}

#[tokio::test(start_paused = true)]
async fn when_everything_is_refused_nothing_is_taken_out() {
    // A client that is set up for another environment: no token is known there.
    for silent in [false, true] {
        let set = set_up().await;
        set.world.with(|state| state.silent = silent);
        let entries =
            (0..80).map(|n| Entry::transactions(token(&format!("t{n}")), account(n), ago(0)));
        set.notifier.notify(entries.collect()).await.unwrap();
        sleep(Duration::from_secs(3600)).await;
        assert!(set.seen.refused().is_empty());
        assert_eq!(set.notifier.waiting().await.unwrap(), 80);
        let refused = (Lane::Transactions, "refused Some(400)".to_owned());
        assert!(set.seen.stalls().iter().all(|stall| *stall == refused));
        // 65 calls each time, about twenty times in an hour.
        assert!((65..2600).contains(&set.world.calls()), "{}", set.world.calls());
        set.world.knows((0..80).map(|n| format!("t{n}")));
        set.all_notified().await;
        assert_eq!(set.accounts(), names(0..80));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_bad_entry_waits_for_a_witness_and_holds_nobody_up() {
    let set = set_up().await;
    set.world.knows(["t"]);
    set.notifier.transactions(token("gone"), account(0), ago(0)).await.unwrap();
    sleep(Duration::from_secs(7200)).await;
    assert!(set.seen.refused().is_empty(), "it is not certain that the entry is at fault");
    let start = tokio::time::Instant::now();
    set.notifier.transactions(token("t"), account(1), ago(-7200)).await.unwrap();
    set.all_notified().await;
    assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
    assert_eq!((set.accounts(), set.seen.refused()), (names(1..2), vec!["gone".to_owned()]));
    // From then on it is certain that client and address are right.
    set.notifier.transactions(token("gone too"), account(2), ago(-7200)).await.unwrap();
    set.all_notified().await;
    assert_eq!(set.seen.refused(), ["gone", "gone too"]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_says_nothing_of_a_token_needs_a_witness_in_its_own_round() {
    let set = set_up().await;
    set.world.knows(["t"]);
    set.notifier.transactions(token("t"), account(0), ago(0)).await.unwrap();
    set.all_notified().await;
    // A faulty release of Plaid: it considers every request malformed.
    set.world.network(|_, _| {
        let body = r#"{"error_type":"INVALID_REQUEST","error_code":"INVALID_FIELD",
            "error_message":"notifications[0].account_id is not known","display_message":null}"#;
        Fate::Response(400, &[("content-type", "application/json")], body)
    });
    let entries = (0..80).map(|n| Entry::transactions(token("t"), account(n), ago(0)));
    set.notifier.notify(entries.collect()).await.unwrap();
    sleep(Duration::from_secs(3600)).await;
    assert!(set.seen.refused().is_empty());
    set.world.network(|_, _| Fate::Arrives);
    set.all_notified().await;
    assert_eq!(set.accounts(), names(0..80));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_is_reported_and_not_tried_without_end() {
    let world = World::new();
    world.knows(["t"]);
    let store = MemoryNotificationStore::default();
    let seen: Arc<Seen> = Arc::default();
    let wrong = Notifier::builder(world.client_with("wrong"))
        .store(Arc::new(store.clone()))
        .observer(seen.clone())
        .start();
    for n in 0..100 {
        wrong.transactions(token("t"), account(n), ago(0)).await.unwrap();
        sleep(Duration::from_secs(36)).await;
    }
    assert!((5..40).contains(&world.calls()), "{}", world.calls());
    let auth = (Lane::Transactions, format!("call {:?}", ErrorKind::Auth));
    assert!(seen.stalls().iter().all(|stall| *stall == auth), "{:?}", seen.stalls());
    assert_eq!(wrong.shutdown(Duration::from_secs(1)).await.unwrap(), 100);
    // An operator restarts it with the right secret.
    let right = Notifier::builder(world.client()).store(Arc::new(store)).start();
    assert_eq!(right.shutdown(Duration::from_secs(60)).await.unwrap(), 0);
    assert_eq!(world.notified().len(), 100);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_plaid_does_not_have_holds_up_no_other() {
    let set = set_up().await;
    set.world.knows(["t"]);
    set.world.network(|_, path| match path {
        "/items/accounts/notify" => Fate::Response(404, &[], ""),
        "/items/tokens/notify" => Fate::Slow(Duration::from_secs(25)),
        _ => Fate::Arrives,
    });
    set.notifier.account(token("t"), account(0), AccountEvent::Opened).await.unwrap();
    set.notifier.token(token("t"), TokenAction::Revoked).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    set.notifier.transactions(token("t"), account(1), ago(0)).await.unwrap();
    sleep(Duration::from_millis(200)).await;
    assert_eq!(set.accounts(), names(1..2));
    sleep(Duration::from_secs(600)).await;
    assert_eq!(set.notifier.waiting().await.unwrap(), 1);
    assert!(set.seen.stalls().iter().all(|(lane, _)| *lane == Lane::Accounts));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_too_large_for_plaid_is_halved() {
    let set = set_up().await;
    set.world.knows(["t"]);
    // The first two calls meet a proxy with a small limit; the halves are accepted.
    set.world.network(|number, _| match number {
        0 | 1 => Fate::Response(413, &[], ""),
        _ => Fate::Arrives,
    });
    let entries = (0..1000).map(|n| Entry::transactions(token("t"), account(n), ago(0)));
    set.notifier.notify(entries.collect()).await.unwrap();
    set.all_notified().await;
    assert_eq!(set.world.with(|state| state.batches.clone()), [250, 250, 500]);
    assert_eq!(set.accounts(), names(0..1000));
}
