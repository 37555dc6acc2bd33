//! The memory of an initial fetch, in a separate process.

use super::{database::TestStore, partner};
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

/// Memory limit, in MiB.
const MAX_MIB: u64 = 100;

pub(crate) async fn measure(report: &mut Report, transactions: usize) {
    let name = format!("items-fetch: memory of an initial fetch of {transactions}, SQLite");
    if !report.wants(&name) {
        return;
    }
    match watch(transactions).await {
        Ok(seen) => {
            let aim = format!("flat, < {MAX_MIB} MiB");
            report.value(&name, seen.to_string(), &aim, seen.is_flat() && seen.is_below(MAX_MIB));
        }
        Err(error) => report.not_run(&name, &error.to_string()),
    }
}

async fn watch(transactions: usize) -> Result<memory::Memory, Failure> {
    // The bank runs in another process, because its rows would count here.
    let server = Server::start(Kind::Hyper, transactions).await?;
    memory::of_child("fetch", &server, transactions).await
}

/// Fetches everything into a new file. Prints the count and the resident memory after a tenth, at
/// the end, and at its peak.
pub(crate) async fn fetch(address: SocketAddr, token: &str) -> Result<(), Failure> {
    let test_store = TestStore::open("SQLite").await?;
    let transport = ReqwestTransport::new()?;
    let (institution, partners) = partner::partners(&format!("http://{address}"), transport)?;
    let memory_observer = Arc::new(MemoryObserver::default());
    let engine = Engine::builder(test_store.store.clone(), Arc::new(partners))
        .clock(partner::clock()?)
        .observer(memory_observer.clone())
        .build();
    let items = Items::builder(test_store.store.clone()).clock(partner::clock()?).build();
    let now = partner::now()?;
    let connection = Connection::new(ApplicationId::new("app")?, [Product::Transactions], now);
    let tokens = TokenSet::new(AccessToken::new(token), now);
    let user = UserId::new(bank::USER)?;
    let linked = items.link(&institution, &user, tokens, connection).await?;
    let report = engine.update(&linked.item_id).await?;
    if report.outcome != Outcome::Finished {
        return Err(format!("{:?}: {:?}", report.outcome, report.failure).into());
    }
    let early = memory_observer.early.load(Ordering::Relaxed);
    let (late, peak) = (memory::resident("VmRSS:")?, memory::resident("VmHWM:")?);
    println!("{} {early} {late} {peak}", report.counts.added);
    Ok(())
}

/// Measures the memory once, after the first windows.
#[derive(Debug, Default)]
struct MemoryObserver {
    windows: AtomicU64,
    early: AtomicU64,
}

impl Observer for MemoryObserver {
    fn observe(&self, event: &Observed) {
        // The first windows have the last 30 days; three are a tenth of the history.
        if matches!(event, Observed::WindowRead { .. })
            && self.windows.fetch_add(1, Ordering::Relaxed) == 2
        {
            self.early.store(memory::resident("VmRSS:").unwrap_or(0), Ordering::Relaxed);
        }
    }
}
