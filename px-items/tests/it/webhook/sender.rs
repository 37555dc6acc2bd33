//! The sender: schedule, endpoints, and handling of responses.

use super::{
    at, kid,
    world::{Reply, START, Seen, World, changes, connection},
};
use crate::engine::clock::WrongClock;
use chrono::TimeDelta;
use px_core::Clock as _;
use px_items::store::Store as _;
use px_items::webhook::{SenderSettings, SigningKey};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::oneshot;

fn ok(_: &Seen) -> Reply {
    Reply::Status(200)
}

#[tokio::test(start_paused = true)]
async fn a_webhook_is_sent_signed_and_once() {
    let world = World::new(ok);
    world.queue("app", 3).await;
    assert_eq!(world.sender().deliver_due().await, 3);
    let verifier = world.verifier();
    for seen in world.seen() {
        verifier.verify(&seen.header, seen.body.as_bytes(), None).await.unwrap();
        assert!(seen.body.contains("NEW_ACCOUNTS_AVAILABLE"), "{}", seen.body);
        assert_eq!(seen.url, "https://app.example/hook?token=hunter2");
    }
    assert_eq!((world.seen().len(), world.waiting().await), (3, 0));
    assert_eq!(world.sender().deliver_due().await, 0);
}

/// The recipient is the client id, if the sender knows it.
#[tokio::test(start_paused = true)]
async fn a_webhook_names_the_application_that_it_is_for() {
    let world = World::new(ok);
    world.queue("app", 1).await;
    world.queue("other", 1).await;
    let transport = Arc::new(world.net().clone());
    let known = [("app".parse().unwrap(), "client-app".parse().unwrap())];
    let sender =
        px_items::webhook::Sender::builder(world.store.clone(), transport, world.signer.clone());
    sender.clock(world.clock.clone()).client_ids(known).build().deliver_due().await;
    for seen in world.seen() {
        let expected = seen.url.contains("//app.").then_some(true);
        assert_eq!(super::claims(&seen.header).names_recipient("client-app"), expected);
    }
    assert_eq!(world.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn case_42_it_is_sent_again_on_schedule_for_a_day_and_then_given_up() {
    for response in [100, 301, 302, 307, 308, 400, 401, 404, 408, 410, 500, 503] {
        let world = World::new(move |_| Reply::Status(response));
        world.queue("app", 1).await;
        let sender = world.sender();
        world.send_for(&sender, 30).await;
        assert_eq!(world.seconds(), [0, 30, 150, 630, 2_550, 10_230, 40_950], "{response}");
        assert_eq!(world.waiting().await, 0, "{response}");
        // Each attempt has its own signature: an old one would be refused.
        let headers: BTreeSet<_> = world.seen().into_iter().map(|seen| seen.header).collect();
        assert_eq!(headers.len(), 7);
    }
}

/// Many receivers respond with 202 or 204 after accepting it. Sent again, it would arrive twice at
/// each.
#[tokio::test(start_paused = true)]
async fn every_status_of_success_has_received_it() {
    for response in [200, 201, 202, 204, 206, 299] {
        let world = World::new(move |_| Reply::Status(response));
        world.queue("app", 1).await;
        let sender = world.sender();
        world.send_for(&sender, 2).await;
        assert_eq!((world.seconds(), world.waiting().await), (vec![0], 0), "{response}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_hundred_within_ten_seconds_is_in_time_and_later_is_not() {
    for (millis, attempts) in [(9_900, 1), (10_100, 2)] {
        let first = AtomicBool::new(true);
        let world = World::new(move |_| match first.swap(false, Ordering::SeqCst) {
            true => Reply::After(millis),
            false => Reply::Status(200),
        });
        world.queue("app", 1).await;
        let sender = world.sender();
        for _ in 0..10 {
            sender.deliver_due().await;
            world.pass(10).await;
        }
        assert_eq!(world.seen().len(), attempts, "{millis}");
        assert_eq!(world.waiting().await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_never_answers_is_cut_after_ten_seconds() {
    let world = World::new(|seen| match seen.second {
        0..10 => Reply::Never,
        _ => Reply::NoConnection,
    });
    world.queue("app", 1).await;
    world.sender().deliver_due().await;
    assert_eq!(world.now(), at("2024-05-01T12:00:10Z"));
    assert_eq!(world.waiting().await, 1);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_asks_to_wait_is_left_alone_for_up_to_four_hours() {
    for (requested, expected_delay) in [
        ("600", 600),
        ("5", 30),
        ("100000", 14_400),
        ("Wed, 01 May 2024 13:00:00 GMT", 3_600),
        ("soon", 30),
    ] {
        let world = World::new(move |seen| match seen.second {
            0 => Reply::RetryAfter(429, requested),
            _ => Reply::Status(200),
        });
        world.queue("app", 1).await;
        let sender = world.sender();
        world.send_for(&sender, 5).await;
        assert_eq!(world.seconds(), [0, expected_delay], "{requested}");
    }
    // Only a 429 can request a delay.
    let world = World::new(|seen| match seen.second {
        0 => Reply::RetryAfter(503, "600"),
        _ => Reply::Status(200),
    });
    world.queue("app", 1).await;
    let sender = world.sender();
    world.send_for(&sender, 1).await;
    assert_eq!(world.seconds(), [0, 30]);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_behind_a_slow_endpoint() {
    let world = World::new(|seen| match seen.url.starts_with("https://slow.") {
        true => Reply::After(9_000),
        false => Reply::Status(200),
    });
    world.queue("slow", 2_000).await;
    world.queue("quick", 20).await;
    let sender = world.sender();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn({
        let sender = sender.clone();
        async move { sender.run(async { drop(stopped.await) }).await }
    });
    world.pass(1).await;
    let quick = world.seen().iter().filter(|seen| seen.url.contains("quick")).count();
    assert_eq!(quick, 20);
    let slow = world.seen().iter().filter(|seen| seen.url.contains("slow")).count();
    assert_eq!(slow, 4, "four at once, and no more");
    // The slow endpoint gets all of its own webhooks nevertheless, and no attempt was counted
    // without a request.
    world.pass(5_000).await;
    assert_eq!((world.waiting().await, world.seen().len()), (0, 2_020));
    stop.send(()).unwrap();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_down_is_probed_and_gets_everything_when_it_is_back() {
    let world = World::new(|seen| match seen.second {
        ..7_200 => Reply::NoConnection,
        _ => Reply::Status(200),
    });
    world.queue("down", 500).await;
    let sender = world.sender();
    world.send_for(&sender, 2).await;
    let calls = world.seen().len();
    assert!((10..60).contains(&calls), "{calls} calls in two hours for 500 webhooks");
    world.send_for(&sender, 24).await;
    let delivered: BTreeSet<_> = world
        .seen()
        .into_iter()
        .filter_map(|seen| (seen.second >= 7_200).then_some(seen.body))
        .collect();
    assert_eq!((delivered.len(), world.waiting().await), (500, 0));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_an_endpoint_that_stays_down_ends_after_a_day() {
    let world = World::new(|_| Reply::Status(500));
    world.queue("down", 200).await;
    let sender = world.sender();
    world.send_for(&sender, 26).await;
    assert_eq!(world.waiting().await, 0);
    // A webhook that was never sent before may be the probe of the last quarter of an hour.
    let last = *world.seconds().last().unwrap();
    assert!(last <= 86_400 + 900, "{last}");
}

#[tokio::test(start_paused = true)]
async fn one_application_at_a_host_does_not_hold_up_another() {
    let world = World::new(|seen| match seen.body.contains("bad-") {
        true => Reply::Status(404),
        false => Reply::Status(200),
    });
    for application in ["bad", "good"] {
        for n in 0..20 {
            let mut connection = connection(application);
            connection.webhook = Some("https://hooks.example/in".into());
            let item = format!("{application}-{n}");
            world.link(&item, connection).await;
            world.notify(&item, changes()).await;
        }
    }
    world.sender().deliver_due().await;
    let good = world.seen().iter().filter(|seen| seen.body.contains("good-")).count();
    let bad = world.seen().len() - good;
    assert_eq!(good, 20);
    assert!(bad < 10, "{bad}");
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_sent_at_once_without_wiring() {
    let world = World::new(ok);
    let mut settings = SenderSettings::default();
    settings.poll = Duration::from_secs(3_600);
    let sender = world.sender_with(settings);
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn({
        let sender = sender.clone();
        async move { sender.run(async { drop(stopped.await) }).await }
    });
    world.pass(100).await;
    for second in [100, 101, 102] {
        world.queue("app", 1).await;
        world.pass(1).await;
        assert_eq!(world.seconds().last(), Some(&second), "with the commit, not with a timer");
    }
    stop.send(()).unwrap();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_what_is_under_way_and_gives_the_rest_back() {
    let world = World::new(|_| Reply::After(5_000));
    world.queue("app", 10).await;
    let sender = world.sender();
    sender.run(world.clock.sleep(Duration::from_secs(1))).await;
    assert_eq!(world.now(), at("2024-05-01T12:00:05Z"), "not before the response");
    assert_eq!((world.seen().len(), world.waiting().await), (4, 6));
    // Another sender need not wait for a lease, and no attempt was counted.
    let lease = world.now() + Duration::from_secs(60);
    let rest = world.store.claim_webhooks(world.now(), lease, 100).await.unwrap();
    assert_eq!(rest.iter().map(|webhook| webhook.attempt).collect::<Vec<_>>(), [1; 6]);
}

#[tokio::test(start_paused = true)]
async fn what_a_crash_left_is_sent_when_its_lease_ends() {
    let world = World::new(|seen| match seen.second {
        0 => Reply::Never,
        _ => Reply::Status(200),
    });
    world.queue("app", 1).await;
    {
        let sender = world.sender();
        let crashes = tokio::time::timeout(Duration::from_secs(1), sender.deliver_due()).await;
        assert!(crashes.is_err());
    }
    let sender = world.sender();
    world.send_for(&sender, 1).await;
    assert_eq!(world.seen().len(), 2);
    assert!((120..140).contains(world.seconds().last().unwrap()), "{:?}", world.seconds());
}

#[tokio::test(start_paused = true)]
async fn several_senders_send_each_webhook_once() {
    let world = World::new(|_| Reply::After(50));
    world.queue("one", 300).await;
    world.queue("two", 300).await;
    let senders = [world.sender(), world.sender(), world.sender()];
    let stop = || world.clock.sleep(Duration::from_secs(600));
    let [one, two, three] = &senders;
    tokio::join!(one.run(stop()), two.run(stop()), three.run(stop()));
    assert_eq!((world.seen().len(), world.waiting().await), (600, 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_key_nothing_is_sent_and_no_attempt_is_lost() {
    let world = World::new(ok);
    let key = SigningKey::generate(kid("k1"), at(START)).unwrap();
    world.signer.add(key.expires_at(at(START)));
    world.queue("app", 1).await;
    let sender = world.sender();
    world.send_for(&sender, 1).await;
    assert!(world.seen().is_empty());
    world.signer.add(SigningKey::generate(kid("k2"), world.now()).unwrap());
    world.pass(60).await;
    sender.deliver_due().await;
    assert_eq!((world.seen().len(), world.waiting().await), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_none_is_given_up_at_once() {
    let world = World::new(ok);
    for (n, url) in ["", "no url", "/hook", "https://"].into_iter().enumerate() {
        let mut connection = connection("app");
        connection.webhook = Some(url.to_owned());
        world.link(&format!("i{n}"), connection).await;
        world.notify(&format!("i{n}"), changes()).await;
    }
    world.sender().deliver_due().await;
    assert_eq!((world.seen().len(), world.waiting().await), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_sends_the_same_at_the_same_moments() {
    let mut traces = Vec::new();
    for _ in 0..2 {
        let world = World::new(|seen| match (seen.second, &*seen.url) {
            (..900, _) => Reply::Status(500),
            (_, url) if url.contains("slow") => Reply::After(3_000),
            _ => Reply::Status(200),
        });
        world.queue("slow", 60).await;
        world.queue("app", 60).await;
        let sender = world.sender();
        world.send_for(&sender, 24).await;
        assert_eq!(world.waiting().await, 0);
        let trace: Vec<_> =
            world.seen().into_iter().map(|seen| (seen.second, seen.url, seen.body)).collect();
        traces.push(trace);
    }
    assert_eq!(traces[0], traces[1]);
}

#[tokio::test(start_paused = true)]
async fn a_poll_finds_what_another_process_put_there_under_load_too() {
    // An attempt ends every few milliseconds; the outbox must be polled nevertheless.
    let world = Arc::new(World::new(|_| Reply::After(400)));
    world.queue("busy", 400).await;
    let sender = world.sender();
    let running = tokio::spawn({
        let (sender, world) = (sender.clone(), world.clone());
        async move { sender.run(world.clock.sleep(Duration::from_secs(60))).await }
    });
    world.pass(5).await;
    world.queue("late", 1).await;
    world.pass(2).await;
    assert!(world.seen().iter().any(|seen| seen.url.contains("late")));
    running.await.unwrap();
}

/// A quarter of a lease is 30 s.
#[tokio::test(start_paused = true)]
async fn a_machine_sends_nothing_while_its_clock_is_wrong() {
    for ahead in [
        TimeDelta::days(3),
        TimeDelta::hours(25),
        TimeDelta::milliseconds(30_001),
        TimeDelta::milliseconds(-30_001),
        TimeDelta::days(-2),
    ] {
        let world = World::new(|seen| match seen.second {
            ..600 => Reply::Status(500),
            _ => Reply::Status(200),
        });
        world.queue("app", 1).await;
        let clock = WrongClock::new(world.clock.clone(), ahead);
        let transport = Arc::new(world.net().clone());
        let settings = SenderSettings::default();
        let sender = world.sender_by(Arc::new(clock.clone()), transport, settings);
        for _ in 0..60 {
            sender.deliver_due().await;
            world.pass(10).await;
        }
        assert_eq!((world.seen().len(), world.waiting().await), (0, 1), "{ahead}");
        clock.set_ahead(TimeDelta::zero());
        world.pass(11).await;
        assert_eq!(sender.deliver_due().await, 1, "{ahead}");
        assert_eq!(world.waiting().await, 0, "{ahead}");
    }
}

/// The attempt fails, and by the clock that was set meanwhile the webhook is days old.
#[tokio::test(start_paused = true)]
async fn a_webhook_is_not_given_up_because_a_clock_is_set() {
    for ahead in [TimeDelta::days(2), TimeDelta::days(-2)] {
        let set = Arc::new(std::sync::OnceLock::<WrongClock>::new());
        let to_set = set.clone();
        let world = World::new(move |seen| match seen.second {
            0 => {
                to_set.get().unwrap().set_ahead(ahead);
                Reply::Status(500)
            }
            _ => Reply::Status(200),
        });
        world.queue("app", 1).await;
        let clock = WrongClock::new(world.clock.clone(), TimeDelta::zero());
        set.set(clock.clone()).unwrap();
        let transport = Arc::new(world.net().clone());
        let settings = SenderSettings::default();
        let sender = world.sender_by(Arc::new(clock.clone()), transport, settings);
        assert_eq!(sender.deliver_due().await, 1);
        assert_eq!(world.waiting().await, 1, "{ahead}");
        world.pass(60).await;
        clock.set_ahead(TimeDelta::zero());
        // Its lease of two minutes ends by itself.
        world.pass(61).await;
        assert_eq!(sender.deliver_due().await, 1, "{ahead}");
        assert_eq!((world.seconds(), world.waiting().await), (vec![0, 121], 0), "{ahead}");
        assert_eq!(clock.now(), world.now());
    }
}
