//! Updates: the cost of one by the size of the Item's history, and the number per second.
//!
//! The library links and fetches the first Item of a line; the others are copies of its rows by
//! SQL. An update is complete: claim, tokens, two requests to the partner (in process, with
//! prepared responses), merge, commit, and the webhooks for one application in the outbox.

use super::{
    database::{self, TestStore},
    partner::{self, FastPartner, TURN_TIMEOUT},
};
use crate::{
    Failure, data,
    report::{Report, median},
};
use px_client::oauth::TokenSet;
use px_items::{
    connection::Connection,
    engine::{Engine, Observed, Observer, Outcome},
    items::{Items, LinkedApplication},
    store::Store,
};
use px_types::{
    AccessToken, ApplicationId, UserId,
    model::{product::Product, transaction::Transaction},
};
use std::{sync::Arc, time::Instant};
use tokio::sync::watch;

/// The number of workers, and of their threads.
const WORKERS: usize = 4;
const THREADS: usize = 2;

/// The number of updates of each side before the measurement, and during it.
const WARM_UP: usize = 20;
const ROUNDS: usize = 300;

/// The number of transactions of one Item, and of those that change at each update: one in a
/// hundred.
const HISTORY: usize = 2000;
const CHANGED: usize = HISTORY / 100;

/// The number of measured turns in which all Items are updated, after one that does not count.
const TURNS: usize = 3;

/// The aims.
const GROWTH_AIM: f64 = 1.2;
const BARE_AIM: f64 = 0.5;

/// The databases, and the aims in updates per second.
const DATABASES: [(&str, f64); 2] = [("SQLite", 500.0), ("PostgreSQL", 300.0)];

pub(crate) fn growth(report: &mut Report) {
    for (database, _) in DATABASES {
        let name = format!("items-growth: an update, 100000 stored / 1000 stored, {database}");
        if !report.wants(&name) {
            continue;
        }
        match on_threads(async || cost_by_history(TestStore::open(database).await?).await) {
            Ok((large, small)) => {
                let measured = format!("{large:.2} ms, {small:.2} ms");
                report.at_most(&name, measured, large / small, GROWTH_AIM);
            }
            Err(error) => report.not_run(&name, &error.to_string()),
        }
    }
}

pub(crate) fn rate(report: &mut Report, items: usize) {
    for (database, aim) in DATABASES {
        let name =
            format!("items-rate: updates of {items} with {HISTORY}, {CHANGED} changed, {database}");
        let bare = format!("items-rate: the same / bare upserts of the same rows, {database}");
        if !report.wants(&name) && !report.wants(&bare) {
            continue;
        }
        match on_threads(async || rates(TestStore::open(database).await?, items).await) {
            Ok((updates, upserts)) => {
                let measured = format!("{updates:.0} per second of wall clock");
                report.value(&name, measured, &format!("≥ {aim:.0}"), updates >= aim);
                let measured = format!("{updates:.0}, {upserts:.0} transactions per second");
                report.at_least(&bare, measured, updates / upserts, BARE_AIM);
            }
            Err(error) => report.not_run(&name, &error.to_string()),
        }
    }
}

/// Runs on separate threads, as a service does.
fn on_threads<T: Send>(
    work: impl AsyncFnOnce() -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.worker_threads(THREADS).enable_all().build()?;
            runtime.block_on(work())
        });
        thread.join().map_err(|_| "the measurement panicked")?
    })
}

/// Returns the milliseconds of an update of an Item with 100,000 transactions, and of one with
/// 1,000. Both have the same recent weeks.
async fn cost_by_history(test_store: TestStore) -> Result<(f64, f64), Failure> {
    let recent = data::transactions(HISTORY);
    let cut = data::end().minus_days(60);
    let with_older = |count: usize| {
        let mut rows = recent.clone();
        rows.retain(|row| row.date() >= cut);
        let older = data::transactions(count + count / 8);
        rows.extend(older.into_iter().filter(|row| row.date() < cut).map(renamed));
        rows.truncate(count);
        rows
    };
    let (large, small) = (with_older(100_000), with_older(1000));
    let large =
        FetchedItem::fetched(&test_store.store, FastPartner::new(large, 1)?, "large").await?;
    let small =
        FetchedItem::fetched(&test_store.store, FastPartner::new(small, 1)?, "small").await?;
    test_store.settle().await?;
    let (mut of_large, mut of_small) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        let (a, b) = (large.update().await?, small.update().await?);
        if round >= WARM_UP {
            of_large.push(a);
            of_small.push(b);
        }
    }
    Ok((median(of_large), median(of_small)))
}

/// Gives a row a different id.
fn renamed(mut row: Transaction) -> Transaction {
    if let Ok(id) = format!("old-{}", row.id).parse() {
        row.id = id;
    }
    row
}

/// An Item with its partner and engine.
struct FetchedItem {
    fast_partner: Arc<FastPartner>,
    engine: Engine,
    linked: LinkedApplication,
}

impl FetchedItem {
    async fn fetched(
        store: &Arc<dyn Store>,
        fast_partner: Arc<FastPartner>,
        user: &str,
    ) -> Result<Self, Failure> {
        let (institution, partners) =
            partner::partners("https://bank.example", fast_partner.clone())?;
        let engine =
            Engine::builder(store.clone(), Arc::new(partners)).clock(partner::clock()?).build();
        let items = Items::builder(store.clone()).clock(partner::clock()?).build();
        let now = partner::now()?;
        let mut connection =
            Connection::new(ApplicationId::new("app")?, [Product::Transactions], now);
        connection.webhook = Some("https://app.example/hook".to_owned());
        let tokens = TokenSet::new(AccessToken::new("token"), now);
        let user = UserId::new(user)?;
        let linked = items.link(&institution, &user, tokens, connection).await?;
        let item = Self { fast_partner, engine, linked };
        item.work().await?;
        Ok(item)
    }

    async fn work(&self) -> Result<u64, Failure> {
        let report = self.engine.update(&self.linked.item_id).await?;
        match report.outcome {
            Outcome::Finished => Ok(report.counts.modified),
            outcome => Err(format!("{outcome:?}: {:?}", report.failure).into()),
        }
    }

    /// Returns the milliseconds of an update that finds changes.
    async fn update(&self) -> Result<f64, Failure> {
        self.fast_partner.next_turn();
        let begun = Instant::now();
        let modified = self.work().await?;
        let time = begun.elapsed();
        if modified == 0 {
            return Err("the update found no changes".into());
        }
        Ok(time.as_secs_f64() * 1000.0)
    }
}

/// Returns the updates per second of many Items, and the transactions per second that only upsert
/// the same rows. They alternate.
async fn rates(test_store: TestStore, items: usize) -> Result<(f64, f64), Failure> {
    let fast_partner = FastPartner::new(data::transactions(HISTORY), CHANGED)?;
    let one = FetchedItem::fetched(&test_store.store, fast_partner.clone(), "user-1").await?;
    database::copy(&test_store, &one.linked.item_id, items).await?;
    let (_, partners) = partner::partners("https://bank.example", fast_partner.clone())?;
    let (ended, mut all) = watch::channel((0, 0));
    let engine = Engine::builder(test_store.store.clone(), Arc::new(partners))
        .clock(partner::clock()?)
        .observer(Arc::new(UpdateCounter(ended)))
        .build();
    let (mut updates, mut upserts) = (Vec::new(), Vec::new());
    for turn in 0..=TURNS {
        test_store.all_due().await?;
        fast_partner.next_turn();
        let before = *all.borrow_and_update();
        let begun = Instant::now();
        let enough = async {
            // The sender lives as long as the engine.
            let _ = all.wait_for(|(ended, _)| *ended >= before.0 + items).await;
        };
        tokio::time::timeout(TURN_TIMEOUT, engine.run(WORKERS, enough)).await?;
        let per_second = items as f64 / begun.elapsed().as_secs_f64();
        let modified = all.borrow().1 - before.1;
        if modified != (items * CHANGED) as u64 {
            return Err(format!("{modified} rows changed in turn {turn}").into());
        }
        fast_partner.next_turn();
        let bare = database::upserts(&test_store, &fast_partner.changed(), items, WORKERS).await?;
        if turn > 0 {
            updates.push(per_second);
            upserts.push(bare);
        }
    }
    Ok((median(updates), median(upserts)))
}

/// Counts successful updates, and the rows that they changed.
#[derive(Debug)]
struct UpdateCounter(watch::Sender<(usize, u64)>);

impl Observer for UpdateCounter {
    fn observe(&self, event: &Observed) {
        if let Observed::Ended(report) = event
            && report.outcome == Outcome::Finished
        {
            self.0.send_modify(|(ended, modified)| {
                *ended += 1;
                *modified += report.counts.modified;
            });
        }
    }
}
