//! The rule for 401 in all its branches, and two refreshes at once.

use super::{
    bank::{cut, ok, refusal, wait},
    world::{EventLog, World, engine, polls, seconds},
};
use chrono::TimeDelta;
use px_client::oauth::TokenSet;
use px_items::{
    engine::{EngineErrorKind, Outcome, RestoreSettings, Settings},
    item::State,
    partners::CallLimits,
    store::{NotificationRequest, Store as _, StoreErrorKind},
    sync_state::FailureKind,
};
use px_types::{AccessToken, RefreshToken, model::product::Product};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

async fn idle() -> (World, px_types::ItemId) {
    let world = World::new();
    let item = world.link_with_refresh().await;
    world.engine.run_due().await;
    assert_eq!(world.record(&item).await.state, State::Idle);
    world.queued_webhooks().await;
    world.bank.forget_calls();
    (world, item)
}

async fn stored_access(world: &World, item: &px_types::ItemId) -> String {
    let (tokens, _) = world.store.inner.tokens(item).await.unwrap().unwrap();
    tokens.access_token.expose().to_owned()
}

#[tokio::test(start_paused = true)]
async fn tokens_are_refreshed_before_they_expire_and_kept() {
    let (world, item) = idle().await;
    world.pass(TimeDelta::minutes(20)).await;
    let report = world.engine.update(&item).await.unwrap();
    assert_eq!(report.outcome, Outcome::Finished);
    assert_eq!(world.bank.count("token"), 1);
    assert_eq!(stored_access(&world, &item).await, "access-1");
    world.engine.update(&item).await.unwrap();
    assert_eq!(world.bank.count("token"), 1, "the new ones are still good");
}

/// The bank ended the access token early: one refresh is sufficient.
#[tokio::test(start_paused = true)]
async fn a_refused_token_is_refreshed_once() {
    let (world, item) = idle().await;
    world.bank.data().access.clear();
    let report = world.engine.update(&item).await.unwrap();
    assert_eq!(report.outcome, Outcome::Finished, "{:?}", report.failure);
    assert_eq!((world.bank.count("user"), world.bank.count("token")), (2, 1));
    assert_eq!(stored_access(&world, &item).await, "access-1");
    assert_eq!(world.queued_webhooks().await, Vec::<String>::new());
}

/// The same in the middle of a window: it is read again from its first page.
#[tokio::test(start_paused = true)]
async fn a_token_that_ends_in_the_middle_of_a_window_is_refreshed() {
    let (world, item) = idle().await;
    for number in 0..700 {
        let id = format!("t-{number:03}");
        world.bank.put(super::bank::row(&id, "1.00", world.days_ago(number % 5)));
    }
    world.bank.script(|call, data| {
        if call.what == "transactions" && call.of_kind == 1 {
            data.access.clear();
        }
        None
    });
    let report = world.engine.update(&item).await.unwrap();
    assert_eq!(report.outcome, Outcome::Finished, "{:?}", report.failure);
    world.assert_equal(&item).await;
}

/// The refreshed token is refused as well: the authorization has ended, and nothing is called any
/// more until the user comes back.
#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_after_a_refresh_ends_the_authorization() {
    let (world, item) = idle().await;
    world.bank.script(|call, _| (call.what == "user").then(|| refusal(401, "invalid_token")));
    let report = world.engine.update(&item).await.unwrap();
    assert_eq!(report.outcome, Outcome::LoginRequired);
    assert_eq!((world.bank.count("user"), world.bank.count("token")), (2, 1));
    let record = world.record(&item).await;
    assert_eq!((record.state, record.due_at), (State::IdleLoginRequired, None));
    assert_eq!(world.store.inner.tokens(&item).await.unwrap(), None, "the tokens are gone");
    assert_eq!(world.queued_webhooks().await, ["app-1 ERROR"]);

    world.notify(NotificationRequest::Update { since: None }).await;
    world.pass(TimeDelta::days(10)).await;
    world.bank.forget_calls();
    assert_eq!(world.engine.run_due().await, 0);
    let refused = world.engine.update(&item).await.unwrap_err();
    assert_eq!(refused.kind(), EngineErrorKind::LoginRequired);
    assert!(world.bank.data().calls.is_empty());

    // A new authorization repairs it, and the changes since are read.
    world.bank.behaves();
    world.bank.put(super::bank::row("t-1", "1.00", world.days_ago(9)));
    world.link_with_refresh().await;
    assert_eq!(world.queued_webhooks().await, ["app-1 LOGIN_REPAIRED"]);
    assert_eq!(world.engine.run_due().await, 1);
    assert_eq!(world.record(&item).await.state, State::Idle);
    world.assert_equal(&item).await;
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_is_refused_ends_the_authorization() {
    let (world, item) = idle().await;
    world.bank.data().access.clear();
    world.bank.data().refresh.clear();
    let report = world.engine.update(&item).await.unwrap();
    assert_eq!(report.outcome, Outcome::LoginRequired);
    assert_eq!((world.bank.count("user"), world.bank.count("token")), (1, 1));
}

/// Without a refresh token there is nothing to try.
#[tokio::test(start_paused = true)]
async fn a_refused_token_without_a_refresh_token_ends_the_authorization() {
    let world = World::new();
    let item = world.link().await;
    world.bank.data().access.clear();
    world.engine.run_due().await;
    assert_eq!(world.record(&item).await.state, State::CreatedLoginRequired);
    assert_eq!((world.bank.count("user"), world.bank.count("token")), (1, 0));
    assert_eq!(world.queued_webhooks().await, ["app-1 ERROR"]);
}

/// A refresh that fails for another reason than the grant proves nothing.
#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_is_tried_again_and_loses_nothing() {
    for (reply, kind) in [(500, FailureKind::Network), (401, FailureKind::Tokens)] {
        let (world, item) = idle().await;
        world.bank.data().access.clear();
        world.bank.script(move |call, _| {
            (call.what == "token").then(|| refusal(reply, "invalid_client"))
        });
        let report = world.engine.update(&item).await.unwrap();
        assert_eq!(report.outcome, Outcome::Failed, "{reply}");
        let record = world.record(&item).await;
        assert_eq!(record.state, State::Idle);
        assert_eq!(record.sync_state.last_failure.unwrap().kind, kind, "{reply}");
        world.bank.behaves();
        world.pass(record.due_at.unwrap() - world.now()).await;
        assert_eq!(world.engine.run_due().await, 1);
        assert_eq!(world.record(&item).await.sync_state.failures, 0);
    }
}

/// Another process refreshed meanwhile: its tokens are used, none are refreshed.
#[tokio::test(start_paused = true)]
async fn case_33_tokens_that_another_process_refreshed_are_used() {
    let (world, item) = idle().await;
    let store = Arc::clone(&world.store);
    let (in_script, now) = (item.clone(), world.now());
    world.bank.script(move |call, data| {
        // While the first call is under way, the other process completes its refresh.
        if call.what == "user" && call.of_kind == 0 {
            data.access.clear();
            data.refresh.clear();
            let (access, refresh) = data.next_pair();
            let mut tokens = TokenSet::new(AccessToken::new(access), now);
            tokens.refresh_token = Some(RefreshToken::new(refresh));
            let saved = store.inner.save_tokens(&in_script, 1, &tokens);
            assert!(futures_util::FutureExt::now_or_never(saved).unwrap().unwrap());
        }
        None
    });
    let report = world.engine.update(&item).await.unwrap();
    assert_eq!(report.outcome, Outcome::Finished, "{:?}", report.failure);
    assert_eq!((world.bank.count("user"), world.bank.count("token")), (2, 0));
    assert_eq!(stored_access(&world, &item).await, "access-1");
}

/// Two refreshes at once: the loser of the race uses the stored pair, and no user has to sign in.
#[tokio::test(start_paused = true)]
async fn case_33_the_loser_of_a_refresh_race_uses_the_stored_pair() {
    for loser_is_refused in [false, true] {
        let (world, item) = idle().await;
        world.pass(TimeDelta::minutes(20)).await;
        let store = Arc::clone(&world.store);
        let (in_script, now) = (item.clone(), world.now());
        world.bank.script(move |call, data| {
            if call.what != "token" || call.of_kind > 0 {
                return None;
            }
            // The winner's pair is stored before the loser's response arrives.
            let (access, refresh) = data.next_pair();
            let mut tokens = TokenSet::new(AccessToken::new(access), now);
            tokens.refresh_token = Some(RefreshToken::new(refresh));
            let saved = store.inner.save_tokens(&in_script, 1, &tokens);
            assert!(futures_util::FutureExt::now_or_never(saved).unwrap().unwrap());
            if loser_is_refused {
                return Some(refusal(400, "invalid_grant"));
            }
            // A sibling pair, which the bank returns for the second use, would be valid too.
            let reply = super::bank::ok(&serde_json::json!({
                "access_token": "sibling", "refresh_token": "sibling-refresh",
                "token_type": "Bearer", "expires_in": 900,
            }));
            Some(reply)
        });
        let report = world.engine.update(&item).await.unwrap();
        assert_eq!(report.outcome, Outcome::Finished, "{:?}", report.failure);
        assert_eq!(stored_access(&world, &item).await, "access-1");
        let data = world.bank.data();
        assert!(data.calls.iter().all(|call| call.token != "sibling"), "not stored, not used");
    }
}

/// The user authorized again while the old token was refused: nothing is lost, and the update
/// continues with the new one.
#[tokio::test(start_paused = true)]
async fn a_new_authorization_wins_over_a_refusal_under_way() {
    // At every point of the update.
    let mut came_in = 0;
    for after in 0..200 {
        let (world, item) = idle().await;
        world.bank.data().access.clear();
        world.bank.data().refresh.clear();
        let update = world.engine.update(&item);
        let mut update = std::pin::pin!(update);
        let mut report = None;
        for poll in 0..2000 {
            if poll == after {
                world.bank.data().next_pair();
                world.link_with_refresh().await;
            }
            if let std::task::Poll::Ready(done) = futures_util::poll!(update.as_mut()) {
                report = Some(done.unwrap());
                came_in = came_in.max(poll);
                break;
            }
            tokio::task::yield_now().await;
        }
        let report = report.unwrap();
        if after > came_in {
            break;
        }
        // Refused before the user came, or not at all; the new tokens are never lost.
        if report.outcome == Outcome::LoginRequired {
            world.bank.data().next_pair();
            world.link_with_refresh().await;
        }
        world.engine.run_due().await;
        let record = world.record(&item).await;
        assert_eq!(record.state, State::Idle, "after {after} polls: {:?}", report.outcome);
        assert!(world.store.inner.tokens(&item).await.unwrap().is_some());
        assert_eq!(record.sync_state.failures, 0);
    }
    assert!(came_in > 5);
}

/// A refresh with a lost response is repeated with the old token.
#[tokio::test(start_paused = true)]
async fn case_34_a_lost_refresh_answer_loses_nothing() {
    let (world, item) = idle().await;
    world.pass(TimeDelta::minutes(20)).await;
    world.bank.script(|call, data| {
        if call.what != "token" || call.of_kind > 0 {
            return None;
        }
        // The bank has rotated; the response is cut off. The old token is valid for 30 s more.
        let _ = data.response(call);
        data.refresh.push("refresh-0".into());
        Some(cut())
    });
    let report = world.engine.update(&item).await.unwrap();
    assert_eq!(report.outcome, Outcome::Finished, "{:?}", report.failure);
    assert_eq!(world.bank.count("token"), 2);
    assert_eq!(stored_access(&world, &item).await, "access-2", "saved before it is used");
}

/// The store is unreachable when a new pair is to be saved. Discarding the pair would lose the
/// authorization: the bank no longer accepts the stored refresh token.
#[tokio::test(start_paused = true)]
async fn case_34_a_pair_that_cannot_be_kept_at_once_is_kept_later() {
    let (world, item) = idle().await;
    world.pass(TimeDelta::minutes(20)).await;
    let mut tries = 0;
    world.store.fails(move |what| {
        tries += u32::from(what == "save_tokens");
        (what == "save_tokens" && tries < 6).then_some(StoreErrorKind::Unavailable)
    });
    let report = world.engine.update(&item).await.unwrap();
    assert_eq!(report.outcome, Outcome::Finished, "{:?}", report.failure);
    assert_eq!(world.bank.count("token"), 1);
    assert_eq!(stored_access(&world, &item).await, "access-1");
}

/// A worker dies with the new pair under way: the next one takes over within the 30 s in which the
/// bank returns another pair for the old token.
#[tokio::test(start_paused = true)]
async fn case_34_a_pair_that_died_with_its_worker_is_asked_for_again_in_time() {
    let (world, item) = idle().await;
    world.pass(TimeDelta::hours(48)).await;
    let first_use = world.now();
    // A living worker would save the pair a little later.
    world.store.fails(|what| match what {
        "save_tokens" => Some(StoreErrorKind::Corrupt),
        "commit" => Some(StoreErrorKind::Unavailable),
        _ => None,
    });
    world.bank.script(move |call, data| {
        if call.what == "token" && call.of_kind == 0 {
            let reply = data.response(call);
            data.refresh.push("refresh-0".into());
            return Some(reply);
        }
        None
    });
    assert!(!polls(world.engine.run_due(), 40).await || world.bank.count("token") > 0);
    assert_eq!(world.bank.count("token"), 1);
    world.store.works();
    let stop = world.clock.clone();
    let second = world.another_engine();
    second
        .run(1, async move {
            px_core::Clock::sleep(&*stop, super::world::seconds(25)).await;
        })
        .await;
    let again = world.bank.data().calls.iter().filter(|call| call.token == "refresh-0").count();
    assert_eq!(again, 2);
    let record = world.record(&item).await;
    assert_eq!(record.state, State::Idle);
    let read = record.sync_state.fresh.accounts.unwrap();
    assert!(read > first_use && read - first_use < TimeDelta::seconds(30));
}

#[tokio::test(start_paused = true)]
async fn tokens_are_cycled_when_the_partner_asks_for_it() {
    let (world, item) = idle().await;
    world.notify(NotificationRequest::Cycle).await;
    assert_eq!(world.engine.run_due().await, 1);
    assert_eq!(world.bank.count("token"), 1);
    assert_eq!(stored_access(&world, &item).await, "access-1");
    assert!(!world.record(&item).await.cycle_tokens);

    // Tokens that cannot be cycled now are cycled later; the present ones are used until then.
    world.notify(NotificationRequest::Cycle).await;
    world.bank.script(|call, _| (call.what == "token").then(|| wait(503, 10)));
    assert_eq!(world.engine.run_due().await, 1);
    assert_eq!(world.notes.reports().pop().unwrap().outcome, Outcome::Finished);
    assert!(world.record(&item).await.cycle_tokens);
    world.bank.behaves();
    world.engine.update(&item).await.unwrap();
    assert_eq!(stored_access(&world, &item).await, "access-2");
}

#[tokio::test(start_paused = true)]
async fn tokens_of_an_item_that_is_gone_are_revoked_until_it_works() {
    let (world, item) = idle().await;
    world.store.inner.unlink(&item, Some(&"app-1".parse().unwrap()), world.now()).await.unwrap();
    world.bank.script(|call, _| (call.what == "revoke" && call.of_kind < 3).then(|| wait(503, 60)));
    for _ in 0..3 {
        world.engine.run_due().await;
        assert!(world.bank.data().revoked.is_empty());
        world.pass(TimeDelta::minutes(10)).await;
    }
    world.engine.run_due().await;
    assert_eq!(world.bank.data().revoked, ["refresh-0"]);
    world.pass(TimeDelta::days(1)).await;
    world.engine.run_due().await;
    assert_eq!(world.bank.count("revoke"), 4, "and never again");

    // A partner that never revokes is called for 30 days.
    let tokens = world.bank.tokens(true);
    let item = world.link_as(("bank", "u-2"), "app-1", &[Product::Identity], tokens).await;
    world.store.inner.unlink(&item, Some(&"app-1".parse().unwrap()), world.now()).await.unwrap();
    world.bank.script(|call, _| (call.what == "revoke").then(|| refusal(500, "no")));
    for _ in 0..31 * 24 {
        world.engine.run_due().await;
        world.pass(TimeDelta::hours(1)).await;
    }
    let requests = world.bank.count("revoke");
    assert!((50..1000).contains(&requests), "{requests}");
    world.pass(TimeDelta::days(30)).await;
    world.engine.run_due().await;
    assert_eq!(world.bank.count("revoke"), requests);
}

/// Refreshes a pair at the bank and stops the worker before it is stored: the store accepts nothing
/// more. Returns the time of the bank's response.
async fn cut_off_a_refresh(world: &World) -> chrono::DateTime<chrono::Utc> {
    world.store.fails(|what| match what {
        "save_tokens" => Some(StoreErrorKind::Corrupt),
        "commit" => Some(StoreErrorKind::Unavailable),
        _ => None,
    });
    world.bank.script(|call, data| {
        if call.what == "token" && call.of_kind == 0 {
            let reply = data.response(call);
            // For a while the bank returns the pair once more.
            data.refresh.push("refresh-0".into());
            return Some(reply);
        }
        None
    });
    let mut work = Box::pin(world.engine.run_due());
    while world.bank.count("token") == 0 {
        assert!(futures_util::poll!(work.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    let given = world.now();
    for _ in 0..5 {
        assert!(futures_util::poll!(work.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    drop(work);
    world.store.works();
    given
}

/// A worker dies between the bank's rotation and the save, while many Items of the same bank are
/// due: the refresh is repeated within the bank's 30 s nevertheless, and the rest of the Item waits
/// for its turn.
#[tokio::test(start_paused = true)]
async fn a_refresh_that_was_cut_off_passes_a_crowd() {
    let mut narrow = CallLimits::default();
    (narrow.per_second, narrow.at_once) = (1, 1);
    let world = World::with(Settings::default(), narrow);
    let victim = world.link_with_refresh().await;
    world.engine.run_due().await;
    world.pass(TimeDelta::hours(48)).await;
    world.bank.forget_calls();
    let first_use = cut_off_a_refresh(&world).await;
    // All of them have been due for longer.
    let before = world.now() - TimeDelta::days(3);
    for number in 2..102 {
        let (user, tokens) = (format!("u-{number}"), world.bank.tokens(false));
        world.link_at(before, ("bank", &user), "app-1", &[Product::Identity], tokens).await;
    }
    world.bank.data().slow = seconds(4);
    let notes = Arc::new(EventLog::default());
    let banks = [("bank", &world.bank, narrow)];
    let second = engine(&world.store, &world.clock, &banks, Settings::default(), &notes);
    let uses = Arc::new(Mutex::new(Vec::new()));
    let (seen, clock) = (Arc::clone(&uses), Arc::clone(&world.clock));
    world.bank.script(move |call, _| {
        if call.token == "refresh-0" {
            seen.lock().unwrap().push(px_core::Clock::now(&*clock));
        }
        None
    });
    let stop = Arc::clone(&world.clock);
    second.run(1, async move { px_core::Clock::sleep(&*stop, seconds(27)).await }).await;
    assert!(world.now() - first_use < TimeDelta::seconds(60));
    let uses = uses.lock().unwrap().clone();
    assert_eq!(uses.len(), 1, "{uses:?}");
    // The lease of the dead worker ends after 20 s, workers look every 5 s, and the bank returns the
    // pair for 30 s.
    assert!(uses[0] - first_use < TimeDelta::seconds(26), "{}", uses[0] - first_use);
    let record = world.record(&victim).await;
    assert_eq!((record.refresh_begun_at, record.state), (None, State::Idle));
    assert!(world.store.inner.tokens(&victim).await.unwrap().is_some());
    assert_eq!(stored_access(&world, &victim).await, "access-2");
    let done = notes.reports();
    // The permit of the dead worker counts as used until its lease ends.
    assert!(!done.is_empty() && done.len() < 20, "the others went on beside it: {}", done.len());
}

/// A failing bank is not called for that either; afterwards the schedule decides.
#[tokio::test(start_paused = true)]
async fn a_refresh_that_was_cut_off_waits_for_an_open_circuit_and_not_for_ever() {
    let world = World::new();
    let item = world.link_with_refresh().await;
    world.engine.run_due().await;
    world.pass(TimeDelta::hours(48)).await;
    world.bank.forget_calls();
    cut_off_a_refresh(&world).await;
    let second = world.another_engine();
    world.bank.script(|_, _| Some(refusal(500, "down")));
    for number in 2..8 {
        let (user, tokens) = (format!("u-{number}"), world.bank.tokens(false));
        world.link_as(("bank", &user), "app-1", &[Product::Identity], tokens).await;
    }
    second.run_due().await;
    world.bank.forget_calls();
    world.pass(TimeDelta::seconds(21)).await;
    second.run_due().await;
    assert_eq!(world.bank.count("token"), 0, "the circuit is open");
    assert!(world.record(&item).await.refresh_begun_at.is_some());
    world.pass(TimeDelta::minutes(5)).await;
    world.bank.behaves();
    second.run_due().await;
    world.pass(TimeDelta::minutes(5)).await;
    second.run_due().await;
    assert_eq!(world.record(&item).await.refresh_begun_at, None);
    assert_eq!(world.record(&item).await.state, State::Idle);
}

/// A pair that loses against a new authorization of the user is revoked at the bank.
#[tokio::test(start_paused = true)]
async fn a_refreshed_pair_that_loses_against_a_link_is_revoked() {
    let (world, item) = idle().await;
    world.pass(TimeDelta::minutes(20)).await;
    let store = Arc::clone(&world.store);
    let now = world.now();
    world.bank.script(move |call, data| {
        if call.what != "token" || call.of_kind > 0 {
            return None;
        }
        // While the new pair is under way, the user authorizes again.
        let reply = data.response(call);
        data.access.push("linked".into());
        let tokens = TokenSet::new(AccessToken::new("linked"), now);
        let user = ("bank".parse().unwrap(), "u-1".parse().unwrap());
        let connection = px_items::connection::Connection::new(
            "app-1".parse().unwrap(),
            [Product::Transactions],
            now,
        );
        let holder = px_items::store::NewHolder::Application(connection);
        let new = px_items::store::NewLink::new(
            user,
            "unused".parse().unwrap(),
            tokens,
            holder,
            None,
            now,
        );
        let linked = store.inner.link(new);
        assert!(futures_util::FutureExt::now_or_never(linked).unwrap().is_ok());
        Some(reply)
    });
    let report = world.engine.update(&item).await.unwrap();
    assert_eq!(report.outcome, Outcome::Finished, "{:?}", report.failure);
    assert_eq!(stored_access(&world, &item).await, "linked");
    world.engine.run_due().await;
    let revoked = world.bank.data().revoked.clone();
    assert!(revoked.iter().any(|token| token.ends_with("-1")), "{revoked:?}");
}

/// After a restore the stored refresh tokens may be spent. Valid access tokens are used although
/// they are about to expire, and the tokens that the bank refuses are refreshed slowly, one by one.
#[tokio::test(start_paused = true)]
async fn after_a_restore_access_tokens_come_first_and_refreshes_slowly() {
    for restored in [false, true] {
        let world = World::new();
        let items: Vec<_> = (0..30).map(|number| format!("u-{number}")).collect();
        for user in &items {
            let tokens = world.bank.tokens(true);
            world.link_as(("bank", user), "app-1", &[Product::Identity], tokens).await;
        }
        world.pass(TimeDelta::seconds(14 * 60 + 30)).await;
        let mut settings = Settings::default();
        settings.after_restore = restored.then(RestoreSettings::default);
        let banks = [("bank", &world.bank, CallLimits::default())];
        let engine = engine(&world.store, &world.clock, &banks, settings, &world.notes);
        // Each refresh succeeds, as at a bank that was not restored.
        let refreshes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&refreshes);
        world.bank.script(move |call, data| match call.what {
            "token" => {
                counted.fetch_add(1, Ordering::Relaxed);
                let (access_token, refresh_token) = data.next_pair();
                Some(ok(&serde_json::json!({
                    "access_token": access_token, "refresh_token": refresh_token,
                    "token_type": "Bearer", "expires_in": 900,
                })))
            }
            _ => None,
        });
        engine.run_due().await;
        let first = refreshes.load(Ordering::Relaxed);
        assert_eq!(first, if restored { 0 } else { 30 });
        assert_eq!(world.bank.count("user"), 30);
        if !restored {
            continue;
        }
        // The next day the access tokens have expired.
        world.pass(TimeDelta::hours(48)).await;
        world.bank.data().access.clear();
        for minutes in 1..=12 {
            let stop = Arc::clone(&world.clock);
            engine.run(8, async move { px_core::Clock::sleep(&*stop, seconds(60)).await }).await;
            let count = refreshes.load(Ordering::Relaxed);
            assert!(count <= 6 * minutes + 1, "{count} refreshes in {minutes} min");
            assert!(count >= 30.min(3 * minutes), "{count} refreshes in {minutes} min");
        }
        assert_eq!(refreshes.load(Ordering::Relaxed), 30);
        for user in &items {
            let item = format!("item-{user}").parse().unwrap();
            assert_eq!(world.record(&item).await.state, State::Idle, "{user}");
            assert_eq!(world.record(&item).await.sync_state.failures, 0);
        }
    }
}

/// Returns a response of the token endpoint with given tokens.
fn pair_of(access: &str, more: &serde_json::Value) -> super::bank::Reply {
    let mut body = serde_json::json!({
        "access_token": access, "refresh_token": format!("refresh-of-{access}"),
        "token_type": "Bearer", "expires_in": 900,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ok(&body)
}

/// Tokens of another user, or of another type, are stored and never used.
#[tokio::test(start_paused = true)]
async fn a_pair_that_is_not_the_users_is_kept_apart_and_reads_nothing() {
    use px_items::{
        health::{self, HealthIssueKind},
        store::{TicketDigest, TicketKind, UnlinkedTokens},
    };
    for (more, defect) in [
        (serde_json::json!({ "user_id": "u-2" }), "another_user"),
        (serde_json::json!({ "token_type": "mac", "user_id": "u-1" }), "not_bearer"),
    ] {
        let (world, item) = idle().await;
        world.pass(TimeDelta::minutes(20)).await;
        let before = world.store.inner.tokens(&item).await.unwrap();
        world.bank.script(move |call, _| (call.what == "token").then(|| pair_of("strange", &more)));
        // The store is unreachable for a moment, and nothing is lost.
        let mut times = 0;
        world.store.fails(move |what| {
            times += usize::from(what == "put_ticket");
            (what == "put_ticket" && times < 3).then_some(StoreErrorKind::Unavailable)
        });
        let report = world.engine.update(&item).await.unwrap();
        assert_eq!(report.outcome, Outcome::Failed);
        let note = report.failure.unwrap();
        assert!(note.what.contains("kept apart") && note.kind == FailureKind::Tokens, "{note:?}");
        assert_eq!(world.store.inner.tokens(&item).await.unwrap(), before);
        let calls = world.bank.data().calls.clone();
        assert!(calls.iter().all(|call| call.token != "strange"), "{calls:?}");

        let digest = TicketDigest(*px_core::Digest::of("strange").as_bytes());
        let later = world.now() + TimeDelta::days(80);
        let ticket = world.store.inner.ticket(&digest, TicketKind::Tokens, later).await.unwrap();
        let kept: UnlinkedTokens = serde_json::from_slice(&ticket.unwrap().payload).unwrap();
        assert_eq!(kept.tokens.refresh_token.unwrap().expose(), "refresh-of-strange");
        assert_eq!((kept.item_id.as_ref(), kept.user_id.unwrap().as_str()), (Some(&item), "u-1"));
        assert_eq!(serde_json::to_value(kept.defect).unwrap(), defect);
        let health = health::of(&world.record(&item).await);
        assert_eq!(health.issue(&HealthIssueKind::TokensApart).unwrap().count, Some(1));

        // Once the partner returns the user's own tokens, no trace of the others remains.
        world.bank.behaves();
        let due = world.record(&item).await.due_at.unwrap();
        world.pass(due - world.now()).await;
        assert_eq!(world.engine.run_due().await, 1);
        let record = world.record(&item).await;
        assert!(health::of(&record).issues.is_empty(), "{:?}", health::of(&record));
        assert_eq!(record.sync_state.refused_refresh, None);
    }
}

/// A refresh that is refused for another reason than the grant does not require a sign-in, unless
/// refreshes of other Items of the partner succeed for a day.
#[tokio::test(start_paused = true)]
async fn a_refresh_that_only_one_item_is_refused_asks_the_user_after_a_day() {
    for (status, id) in [(400, "invalid_request"), (401, "invalid_client"), (403, "forbidden")] {
        for others_do in [true, false] {
            let (world, item) = idle().await;
            world.bank.script(move |call, data| match (call.what, &*call.token) {
                ("token", "refresh-0") => Some(refusal(status, id)),
                ("token", _) => {
                    let (access, refresh) = data.next_pair();
                    Some(ok(&serde_json::json!({
                        "access_token": access, "refresh_token": refresh,
                        "token_type": "Bearer", "expires_in": 900,
                    })))
                }
                _ => None,
            });
            let mut other = None;
            if others_do {
                world.bank.data().next_pair();
                let tokens = world.bank.tokens(true);
                let products = [Product::Identity];
                other = Some(world.link_as(("bank", "u-2"), "app-1", &products, tokens).await);
                world.engine.run_due().await;
            }
            let begun = world.now();
            let mut sign_in_after = None;
            for _ in 0..60 {
                world.pass(TimeDelta::hours(1)).await;
                world.notify(NotificationRequest::Update { since: None }).await;
                if let Some(other) = &other {
                    world.engine.update(other).await.unwrap();
                    assert_eq!(world.record(other).await.state, State::Idle);
                }
                world.engine.run_due().await;
                let record = world.record(&item).await;
                if record.state.login_required() {
                    sign_in_after = Some(world.now() - begun);
                    break;
                }
            }
            let calls = world.bank.data().calls.clone();
            let tries = calls.iter().filter(|call| call.token == "refresh-0").count();
            assert!(tries <= 2 * 60, "{tries} tries");
            match sign_in_after {
                Some(after) => {
                    assert!(
                        others_do,
                        "{status}: no user has to sign in while no refresh succeeds"
                    );
                    assert!(after >= TimeDelta::hours(24) && after <= TimeDelta::hours(30));
                    assert!(world.queued_webhooks().await.contains(&"app-1 ERROR".to_owned()));
                }
                None => assert!(!others_do, "{status}: the user never has to sign in"),
            }
        }
    }
}
