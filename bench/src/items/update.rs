//! Updates: what one costs whatever the Item has stored, and how many there are in a second.
//!
//! The first Item is linked and fetched by the library; the others of a line are copies of its
//! rows that SQL makes. An update is the whole of it: claim, tokens, two calls of the partner (in
//! process, its answers ready), merge, commit, and the webhooks for one application put into the
//! outbox.

use super::{
    database::{self, Place},
    partner::{self, PATIENCE, Shelf},
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

/// Workers, and threads for them.
const WORKERS: usize = 4;
const THREADS: usize = 2;

/// Updates of each side before they count, and then.
const WARM_UP: usize = 20;
const ROUNDS: usize = 300;

/// Transactions of one Item, and how many of them are others at each update: one of a hundred.
const HISTORY: usize = 2000;
const CHANGED: usize = HISTORY / 100;

/// Turns in which all Items are updated, and one that does not count.
const TURNS: usize = 3;

/// What is aimed at.
const GROWTH_AIM: f64 = 1.2;
const BARE_AIM: f64 = 0.5;

/// Which database, and updates per second that are aimed at.
const DATABASES: [(&str, f64); 2] = [("SQLite", 500.0), ("PostgreSQL", 300.0)];

pub(crate) fn growth(report: &mut Report) {
    for (database, _) in DATABASES {
        let name = format!("items-growth: an update, 100000 stored / 1000 stored, {database}");
        if !report.wants(&name) {
            continue;
        }
        match on_threads(async || cost_by_history(Place::open(database).await?).await) {
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
        match on_threads(async || rates(Place::open(database).await?, items).await) {
            Ok((updates, upserts)) => {
                let measured = format!("{updates:.0} per second of wall clock");
                report.figure(&name, measured, &format!("≥ {aim:.0}"), updates >= aim);
                let measured = format!("{updates:.0}, {upserts:.0} transactions per second");
                report.at_least(&bare, measured, updates / upserts, BARE_AIM);
            }
            Err(error) => report.not_run(&name, &error.to_string()),
        }
    }
}

/// Runs on threads of its own, as a service does.
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

/// Milliseconds of an update of an Item with 100,000 transactions, and of one with 1,000. The last
/// weeks are the same.
async fn cost_by_history(place: Place) -> Result<(f64, f64), Failure> {
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
    let large = OneItem::fetched(&place.store, Shelf::new(large, 1)?, "large").await?;
    let small = OneItem::fetched(&place.store, Shelf::new(small, 1)?, "small").await?;
    place.settle().await?;
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

/// Under an id of its own.
fn renamed(mut row: Transaction) -> Transaction {
    if let Ok(id) = format!("old-{}", row.id).parse() {
        row.id = id;
    }
    row
}

/// An Item, its partner and an engine.
struct OneItem {
    shelf: Arc<Shelf>,
    engine: Engine,
    linked: LinkedApplication,
}

impl OneItem {
    async fn fetched(
        store: &Arc<dyn Store>,
        shelf: Arc<Shelf>,
        user: &str,
    ) -> Result<Self, Failure> {
        let (institution, partners) = partner::partners("https://bank.example", shelf.clone())?;
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
        let one = Self { shelf, engine, linked };
        one.work().await?;
        Ok(one)
    }

    async fn work(&self) -> Result<u64, Failure> {
        let report = self.engine.update(&self.linked.item_id).await?;
        match report.outcome {
            Outcome::Finished => Ok(report.counts.modified),
            outcome => Err(format!("{outcome:?}: {:?}", report.failure).into()),
        }
    }

    /// Milliseconds of an update that finds something changed.
    async fn update(&self) -> Result<f64, Failure> {
        self.shelf.next_turn();
        let begun = Instant::now();
        let modified = self.work().await?;
        let time = begun.elapsed();
        if modified == 0 {
            return Err("the update found nothing changed".into());
        }
        Ok(time.as_secs_f64() * 1000.0)
    }
}

/// Updates per second of many Items, and transactions per second that upsert the same rows and do
/// nothing else. They take turns.
async fn rates(place: Place, items: usize) -> Result<(f64, f64), Failure> {
    let shelf = Shelf::new(data::transactions(HISTORY), CHANGED)?;
    let one = OneItem::fetched(&place.store, shelf.clone(), "user-1").await?;
    database::copy(&place, &one.linked.item_id, items).await?;
    let (_, partners) = partner::partners("https://bank.example", shelf.clone())?;
    let (ended, mut all) = watch::channel((0, 0));
    let engine = Engine::builder(place.store.clone(), Arc::new(partners))
        .clock(partner::clock()?)
        .observer(Arc::new(Ended(ended)))
        .build();
    let (mut updates, mut upserts) = (Vec::new(), Vec::new());
    for turn in 0..=TURNS {
        place.all_due().await?;
        shelf.next_turn();
        let before = *all.borrow_and_update();
        let begun = Instant::now();
        let enough = async {
            // The sender lives as long as the engine.
            let _ = all.wait_for(|(ended, _)| *ended >= before.0 + items).await;
        };
        tokio::time::timeout(PATIENCE, engine.run(WORKERS, enough)).await?;
        let per_second = items as f64 / begun.elapsed().as_secs_f64();
        let modified = all.borrow().1 - before.1;
        if modified != (items * CHANGED) as u64 {
            return Err(format!("{modified} rows changed in turn {turn}").into());
        }
        shelf.next_turn();
        let bare = database::upserts(&place, &shelf.changed(), items, WORKERS).await?;
        if turn > 0 {
            updates.push(per_second);
            upserts.push(bare);
        }
    }
    Ok((median(updates), median(upserts)))
}

/// Counts updates that ended well, and the rows that they changed.
#[derive(Debug)]
struct Ended(watch::Sender<(usize, u64)>);

impl Observer for Ended {
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
