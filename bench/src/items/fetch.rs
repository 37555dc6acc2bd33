//! The memory of an initial fetch, in a process of its own.

use super::{database::Place, partner};
use crate::{Failure, bank, memory, process::Server, report::Report, serve::Kind};
use px_client::oauth::TokenSet;
use px_core::ReqwestTransport;
use px_items::{
    connection::Connection,
    engine::{Engine, Observed, Observer, Outcome},
    items::Items,
};
use px_types::{AccessToken, ApplicationId, UserId, model::product::Product};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// What it may have at most.
const MOST_MIB: u64 = 100;

pub(crate) async fn measure(report: &mut Report, transactions: usize) {
    let name = format!("items-fetch: memory of an initial fetch of {transactions}, SQLite");
    if !report.wants(&name) {
        return;
    }
    match watch(transactions).await {
        Ok(seen) => {
            let aim = format!("flat, < {MOST_MIB} MiB");
            report.figure(&name, seen.to_string(), &aim, seen.is_flat() && seen.is_below(MOST_MIB));
        }
        Err(error) => report.not_run(&name, &error.to_string()),
    }
}

async fn watch(transactions: usize) -> Result<memory::Memory, Failure> {
    // Not the client's bank in this process: its rows would count.
    let server = Server::start(Kind::Hyper, transactions).await?;
    memory::of_child("fetch", &server, transactions).await
}

/// Fetches everything into a new file; prints the count and the resident memory after a tenth,
/// at the end, and at its peak.
pub(crate) async fn fetch(address: SocketAddr, token: &str) -> Result<(), Failure> {
    let place = Place::open("SQLite").await?;
    let transport = ReqwestTransport::new()?;
    let (institution, partners) = partner::partners(&format!("http://{address}"), transport)?;
    let watching = Arc::new(Watching::default());
    let engine = Engine::builder(place.store.clone(), Arc::new(partners))
        .clock(partner::clock()?)
        .observer(watching.clone())
        .build();
    let items = Items::builder(place.store.clone()).clock(partner::clock()?).build();
    let now = partner::now()?;
    let connection = Connection::new(ApplicationId::new("app")?, [Product::Transactions], now);
    let tokens = TokenSet::new(AccessToken::new(token), now);
    let user = UserId::new(bank::USER)?;
    let linked = items.link(&institution, &user, tokens, connection).await?;
    let report = engine.update(&linked.item_id).await?;
    if report.outcome != Outcome::Finished {
        return Err(format!("{:?}: {:?}", report.outcome, report.failure).into());
    }
    let early = watching.early.load(Ordering::Relaxed);
    let (late, peak) = (memory::resident("VmRSS:")?, memory::resident("VmHWM:")?);
    println!("{} {early} {late} {peak}", report.counts.added);
    Ok(())
}

/// Looks at the memory once, after the first windows.
#[derive(Debug, Default)]
struct Watching {
    windows: AtomicU64,
    early: AtomicU64,
}

impl Observer for Watching {
    fn observe(&self, event: &Observed) {
        // The first ones have the last 30 days; three are a tenth of what there is.
        if matches!(event, Observed::WindowRead { .. })
            && self.windows.fetch_add(1, Ordering::Relaxed) == 2
        {
            self.early.store(memory::resident("VmRSS:").unwrap_or(0), Ordering::Relaxed);
        }
    }
}
