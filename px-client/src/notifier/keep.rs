//! Puts entries into the store: what comes at the same time is kept in one go.

use super::{
    NotKept,
    entry::{Entry, Lane},
    lane::Signals,
    observer::{Counters, count},
    store::NotificationStore,
};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// How many callers may wait; more wait to be let in.
pub(super) const QUEUE: usize = 1024;

/// The most entries that one write holds, if no single caller has more.
const WRITE: usize = 4096;

/// What the keeper is asked.
pub(super) enum Ask {
    Keep(Vec<Entry>, oneshot::Sender<Result<(), NotKept>>),
    /// Keep what was asked before, then end.
    Stop,
}

/// Keeps what is asked, until it is stopped or nobody can ask any more.
pub(super) async fn run(
    mut asks: mpsc::Receiver<Ask>,
    store: Arc<dyn NotificationStore>,
    signals: Arc<[Signals; 3]>,
    counters: Arc<Counters>,
) {
    while let Some(ask) = asks.recv().await {
        let mut entries = Vec::new();
        let mut callers = Vec::new();
        let mut next = Some(ask);
        while let Some(ask) = next.take() {
            match ask {
                Ask::Keep(more, caller) => {
                    entries.extend(more);
                    callers.push(caller);
                }
                Ask::Stop => asks.close(),
            }
            if entries.len() < WRITE {
                next = asks.try_recv().ok();
            }
        }
        if entries.is_empty() {
            answer(callers, Ok(()));
            continue;
        }
        match store.append(&entries).await {
            Ok(()) => {
                count(&counters.kept, entries.len());
                answer(callers, Ok(()));
                for lane in Lane::ALL {
                    let more = entries.iter().filter(|entry| entry.lane() == lane).count();
                    signals[lane as usize].kept(more);
                }
            }
            Err(why) => {
                tracing::warn!(entries = entries.len(), "notifications could not be kept");
                answer(callers, Err(NotKept::store(why)));
            }
        }
    }
}

fn answer(callers: Vec<oneshot::Sender<Result<(), NotKept>>>, answer: Result<(), NotKept>) {
    for caller in callers {
        // A caller that waits no longer does not hear of it; the entry is kept all the same.
        let _ = caller.send(answer.clone());
    }
}
