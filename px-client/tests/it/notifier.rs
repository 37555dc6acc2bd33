//! The notifier: no entry is lost, and a bad entry does not delay others.

mod crash;
mod refused;
mod renewed;

use crate::plaid_world::{Fate, Notified, World, now, sleep};
use async_trait::async_trait;
use px_client::notifier::{
    Entry, Lane, MemoryNotificationStore, NotificationStore, Notifier, NotifierObserver, Stall,
    StallCause, StoredEntry,
};
use px_client::{Error, ErrorKind};
use px_types::{
    AccountId, ItemAccessToken, Timestamp,
    plaid::{AccountEvent, TokenAction},
};
use std::{
    collections::BTreeSet,
    error::Error as StdError,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

type Source = Box<dyn StdError + Send + Sync>;

fn token(text: &str) -> ItemAccessToken {
    ItemAccessToken::new(text)
}

fn account(n: usize) -> AccountId {
    AccountId::new(format!("a{n}")).unwrap()
}

/// Returns the time that many seconds before the world begins.
fn ago(seconds: i64) -> Timestamp {
    (now() - chrono::TimeDelta::seconds(seconds)).into()
}

/// An observer that records all events.
#[derive(Debug, Default)]
struct Seen {
    accepted: AtomicUsize,
    /// Token and code of refused entries.
    refused: Mutex<Vec<(String, Option<String>)>>,
    /// Lane and cause of each wait.
    stalls: Mutex<Vec<(Lane, String)>>,
}

impl Seen {
    fn refused(&self) -> Vec<String> {
        self.refused.lock().unwrap().iter().map(|(token, _)| token.clone()).collect()
    }

    fn stalls(&self) -> Vec<(Lane, String)> {
        self.stalls.lock().unwrap().clone()
    }
}

impl NotifierObserver for Seen {
    fn accepted(&self, _: Lane, entries: usize) {
        self.accepted.fetch_add(entries, Ordering::SeqCst);
    }

    fn refused(&self, entry: &Entry, why: &Error) {
        let code = why.plaid_error_code().map(str::to_owned);
        let token = entry.access_token().expose().to_owned();
        self.refused.lock().unwrap().push((token, code));
    }

    fn stalled(&self, stall: &Stall<'_>) {
        let cause = match stall.cause {
            StallCause::Call(error) => format!("call {:?}", error.kind()),
            StallCause::Refused(error) => format!("refused {:?}", error.status()),
            StallCause::Store(source) => format!("store {source}"),
            _ => "other".into(),
        };
        assert!(stall.failures > 0 && stall.until >= now());
        self.stalls.lock().unwrap().push((stall.lane, cause));
    }
}

struct Set {
    world: World,
    store: MemoryNotificationStore,
    seen: Arc<Seen>,
    notifier: Notifier,
}

async fn set_up() -> Set {
    let world = World::new();
    let store = MemoryNotificationStore::default();
    let seen: Arc<Seen> = Arc::default();
    let notifier = Notifier::builder(world.client())
        .store(Arc::new(store.clone()))
        .observer(seen.clone())
        .start();
    // The lanes read the store first, then wait.
    sleep(Duration::from_millis(1)).await;
    Set { world, store, seen, notifier }
}

impl Set {
    /// Waits until the store is empty.
    async fn all_notified(&self) {
        for _ in 0..1_000_000 {
            if self.notifier.waiting().await.unwrap() == 0 {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("{:?} wait", self.notifier.waiting().await);
    }

    fn accounts(&self) -> BTreeSet<String> {
        self.world.notified().into_iter().map(|one| one.account).collect()
    }
}

fn names(accounts: impl Iterator<Item = usize>) -> BTreeSet<String> {
    accounts.map(|n| account(n).to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn five_thousand_entries_are_three_calls_with_the_earliest_new_since() {
    let set = set_up().await;
    set.world.knows(["t"]);
    let entries =
        (0..5000).map(|n| Entry::transactions(token("t"), account(n), ago(n as i64 % 60)));
    set.notifier.notify(entries.collect()).await.unwrap();
    set.all_notified().await;
    assert_eq!(set.world.with(|state| state.batches.clone()), [2000, 2000, 1000]);
    assert_eq!(set.accounts(), names(0..5000));
    let since: BTreeSet<_> = set.world.notified().into_iter().map(|one| one.what).collect();
    assert_eq!(since, BTreeSet::from([ago(59).to_string()]));
    let metrics = set.notifier.metrics();
    assert_eq!((metrics.stored, metrics.accepted, metrics.calls), (5000, 5000, 3));
    assert_eq!((metrics.failed_calls, metrics.refused, metrics.stalls), (0, 0, 0));
    assert_eq!(set.seen.accepted.load(Ordering::SeqCst), 5000);
}

#[tokio::test(start_paused = true)]
async fn what_is_booked_in_a_moment_is_one_entry() {
    let set = set_up().await;
    set.world.knows(["t", "u"]);
    for (seconds, name) in [(1, "t"), (9, "u"), (5, "t"), (2, "t")] {
        set.notifier.transactions(token(name), account(0), ago(seconds)).await.unwrap();
    }
    set.all_notified().await;
    assert_eq!(set.world.with(|state| state.batches.clone()), [2]);
    assert!(set.world.notified().iter().all(|one| one.what == ago(9).to_string()));
    assert_eq!((set.notifier.metrics().stored, set.notifier.metrics().accepted), (4, 4));
    // A later one is sent again, because the first may have been read already.
    set.notifier.transactions(token("t"), account(0), ago(0)).await.unwrap();
    set.all_notified().await;
    assert_eq!(set.world.with(|state| state.batches.clone()), [2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_moment_is_waited_for_but_not_with_a_full_batch() {
    let set = set_up().await;
    set.world.knows(["t"]);
    let start = tokio::time::Instant::now();
    set.notifier.transactions(token("t"), account(0), ago(0)).await.unwrap();
    sleep(Duration::from_millis(99)).await;
    assert_eq!(set.world.calls(), 0);
    sleep(Duration::from_millis(2)).await;
    assert_eq!(set.world.calls(), 1);
    let full = (0..2000).map(|n| Entry::transactions(token("t"), account(n), ago(0)));
    let before = start.elapsed();
    set.notifier.notify(full.collect()).await.unwrap();
    while set.notifier.waiting().await.unwrap() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((set.world.calls(), start.elapsed()), (2, before));
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_entry_goes_its_way() {
    let set = set_up().await;
    set.world.knows(["t"]);
    set.notifier.account(token("t"), account(1), AccountEvent::StatementReady).await.unwrap();
    set.notifier.token(token("t"), TokenAction::Cycle).await.unwrap();
    set.notifier.transactions(token("t"), account(2), ago(0).date()).await.unwrap();
    set.all_notified().await;
    let mut what: Vec<_> = set.world.notified().into_iter().map(|one| one.what).collect();
    what.sort();
    assert_eq!(what, ["2024-05-06", "cycle", "statement_ready"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again() {
    let set = set_up().await;
    set.world.knows(["t"]);
    // Every second response is lost, and some requests never arrive.
    set.world.network(|number, _| match number % 3 {
        0 => Fate::AnswerIsLost,
        1 => Fate::NotConnected,
        _ => Fate::Arrives,
    });
    for n in 0..30 {
        set.notifier.transactions(token("t"), account(n), ago(0)).await.unwrap();
        sleep(Duration::from_millis(150)).await;
    }
    set.all_notified().await;
    assert_eq!(set.accounts(), names(0..30));
    assert!(set.seen.refused().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_six_hours_loses_nothing_and_is_not_hammered() {
    let set = set_up().await;
    set.world.knows(["t"]);
    set.world.network(|_, _| Fate::Response(503, &[], ""));
    for n in 0..6 * 60 {
        set.notifier.transactions(token("t"), account(n), ago(-60 * n as i64)).await.unwrap();
        sleep(Duration::from_secs(60)).await;
    }
    // Each attempt of the notifier is at most four of the client; the delays are up to five minutes.
    assert!((20..1200).contains(&set.world.calls()), "{}", set.world.calls());
    assert_eq!(set.notifier.waiting().await.unwrap(), 360);
    assert!(
        set.seen.stalls().iter().all(|stall| *stall == (Lane::Transactions, "call Api".into()))
    );
    set.world.network(|_, _| Fate::Arrives);
    set.all_notified().await;
    assert_eq!(set.accounts(), names(0..360));
    // No account is read further back than its day, and fresh entries are sent separately.
    assert!(set.world.notified().iter().all(|one| one.what >= ago(0).to_string()));
    assert!(set.notifier.metrics().stalls > 0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_plaid_asks_for_is_kept() {
    let set = set_up().await;
    set.world.knows(["t"]);
    set.world.network(|number, _| match number {
        0 => Fate::Response(429, &[("retry-after", "1800")], ""),
        _ => Fate::Arrives,
    });
    set.notifier.transactions(token("t"), account(0), ago(0)).await.unwrap();
    sleep(Duration::from_secs(1790)).await;
    // Entries that arrive meanwhile do not end the wait.
    set.notifier.transactions(token("t"), account(1), ago(0)).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(set.world.calls(), 1);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(set.accounts(), names(0..2));
}

#[tokio::test(start_paused = true)]
async fn events_of_an_account_keep_their_order() {
    let set = set_up().await;
    set.world.knows(["t"]);
    set.world.network(|number, _| match number {
        2 | 5 => Fate::AnswerIsLost,
        n if n % 2 == 0 => Fate::Response(500, &[], ""),
        _ => Fate::Arrives,
    });
    use AccountEvent::{Changed, Closed, Opened};
    let story = [Opened, Changed, Changed, Closed, Opened, Closed];
    for event in &story {
        for n in 0..40 {
            set.notifier.account(token("t"), account(n), event.clone()).await.unwrap();
        }
        sleep(Duration::from_millis(120)).await;
    }
    set.all_notified().await;
    for n in 0..40 {
        let mut events: Vec<_> = set.world.notified();
        events.retain(|one| one.account == account(n).as_str());
        let calls: Vec<_> = events.iter().map(|one| one.call).collect();
        assert!(calls.is_sorted());
        // Parts may be sent twice; each is in order, and the last event is sent last.
        assert_eq!(events.first().unwrap().what, "opened");
        assert_eq!(events.last().unwrap().what, "closed");
        let mut story = story.iter().map(AccountEvent::as_str).peekable();
        for notified in &events {
            if story.peek() == Some(&notified.what.as_str()) {
                story.next();
                while story.peek() == Some(&notified.what.as_str()) {
                    story.next();
                }
            }
        }
        assert_eq!(story.next(), None, "{events:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_tells_what_is_kept_or_says_what_is_left() {
    let set = set_up().await;
    set.world.knows(["t"]);
    set.notifier.transactions(token("t"), account(0), ago(0)).await.unwrap();
    // It does not wait for the end of the collection time, and does not lose the latest entries.
    assert_eq!(set.notifier.shutdown(Duration::from_secs(10)).await.unwrap(), 0);
    assert_eq!(set.accounts(), names(0..1));
    let error = set.notifier.transactions(token("t"), account(1), ago(0)).await.unwrap_err();
    assert!(error.is_shut_down(), "{error}");
    assert_eq!(set.notifier.shutdown(Duration::from_secs(10)).await.unwrap(), 0);

    let set = set_up().await;
    set.world.knows(["t"]);
    set.world.network(|_, _| Fate::Response(503, &[], ""));
    set.notifier.transactions(token("t"), account(0), ago(0)).await.unwrap();
    let start = tokio::time::Instant::now();
    assert_eq!(set.notifier.shutdown(Duration::from_secs(10)).await.unwrap(), 1);
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    assert_eq!(set.store.entries(), [Entry::transactions(token("t"), account(0), ago(0))]);
    let calls = set.world.calls();
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(set.world.calls(), calls, "its tasks have ended");
}

#[tokio::test(start_paused = true)]
async fn a_notifier_that_is_dropped_tries_once_more_and_ends() {
    let Set { world, store, notifier, .. } = set_up().await;
    world.knows(["t"]);
    notifier.transactions(token("t"), account(0), ago(0)).await.unwrap();
    drop(notifier);
    sleep(Duration::from_secs(1)).await;
    assert_eq!((world.notified().len(), store.entries().len()), (1, 0));

    let Set { world, store, notifier, .. } = set_up().await;
    world.network(|_, _| Fate::Response(404, &[], ""));
    notifier.transactions(token("t"), account(0), ago(0)).await.unwrap();
    drop(notifier);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!((world.calls(), store.entries().len()), (1, 1));
}

/// A store with slow writes that may fail.
#[derive(Debug, Default)]
struct Disk {
    rows: MemoryNotificationStore,
    appends: AtomicUsize,
    broken: AtomicBool,
}

impl Disk {
    fn check(&self) -> Result<(), Source> {
        match self.broken.load(Ordering::SeqCst) {
            true => Err("the disk is gone".into()),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl NotificationStore for Disk {
    async fn append(&self, entries: &[Entry]) -> Result<(), Source> {
        self.check()?;
        self.appends.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(5)).await;
        self.rows.append(entries).await
    }

    async fn next_batch(&self, lane: Lane, at_most: usize) -> Result<Vec<StoredEntry>, Source> {
        self.check()?;
        self.rows.next_batch(lane, at_most).await
    }

    async fn done(&self, lane: Lane, numbers: &[u64]) -> Result<(), Source> {
        self.check()?;
        self.rows.done(lane, numbers).await
    }

    async fn waiting(&self) -> Result<usize, Source> {
        self.check()?;
        self.rows.waiting().await
    }
}

#[tokio::test(start_paused = true)]
async fn many_callers_share_a_write() {
    let world = World::new();
    world.knows(["t"]);
    let disk: Arc<Disk> = Arc::default();
    let notifier = Notifier::builder(world.client()).store(disk.clone()).start();
    let start = tokio::time::Instant::now();
    let calls = (0..20_000).map(|n| notifier.transactions(token("t"), account(n), ago(0)));
    futures_util::future::try_join_all(calls).await.unwrap();
    // One by one they would take 100 s and 20,000 writes.
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(disk.appends.load(Ordering::SeqCst) < 50, "{:?}", disk.appends);
    assert_eq!(notifier.shutdown(Duration::from_secs(60)).await.unwrap(), 0);
    let notified: BTreeSet<_> =
        world.notified().into_iter().map(|Notified { account, .. }| account).collect();
    assert_eq!(notified, names(0..20_000));
    assert!(world.with(|state| state.batches.len()) < 25);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_kept_is_said_and_a_store_that_comes_back_is_gone_on_with() {
    let world = World::new();
    world.knows(["t"]);
    let (disk, seen): (Arc<Disk>, Arc<Seen>) = Default::default();
    let builder = Notifier::builder(world.client()).store(disk.clone());
    let notifier = builder.observer(seen.clone()).start();
    // The write succeeded, but the store fails before it is read.
    notifier.transactions(token("t"), account(0), ago(0)).await.unwrap();
    disk.broken.store(true, Ordering::SeqCst);
    let error = notifier.transactions(token("t"), account(1), ago(0)).await.unwrap_err();
    assert!(!error.is_shut_down());
    assert_eq!(error.source().unwrap().to_string(), "the disk is gone");
    assert!(!error.to_string().contains("disk"));
    sleep(Duration::from_secs(60)).await;
    assert!(notifier.waiting().await.is_err());
    let lost = (Lane::Transactions, "store the disk is gone".to_owned());
    assert!(seen.stalls().contains(&lost), "{:?}", seen.stalls());
    disk.broken.store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(120)).await;
    assert_eq!(notifier.waiting().await.unwrap(), 0);
    assert_eq!(world.notified().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_store_in_memory_refuses() {
    let world = World::new();
    world.network(|_, _| Fate::Response(503, &[], ""));
    let store = MemoryNotificationStore::with_capacity(3);
    let notifier = Notifier::builder(world.client()).store(Arc::new(store.clone())).start();
    for n in 0..3 {
        notifier.transactions(token("t"), account(n), ago(0)).await.unwrap();
    }
    let error = notifier.transactions(token("t"), account(3), ago(0)).await.unwrap_err();
    assert_eq!(error.source().unwrap().to_string(), "the store is full with 3 entries");
    assert_eq!(store.entries().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_it_shows_a_token() {
    let set = set_up().await;
    set.notifier.transactions(token("access-s3cret"), account(0), ago(0)).await.unwrap();
    let shown = format!("{:?} {:?} {:?}", set.notifier, set.store, set.store.entries());
    assert!(!shown.contains("s3cret"), "{shown}");
    let shown = format!("{:?}", Notifier::builder(set.world.client()));
    assert!(!shown.contains("s3cret"), "{shown}");
}
