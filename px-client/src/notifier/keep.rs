//! The task that stores entries. Entries that arrive at the same time are stored together.

use super::{
    NotKept,
    entry::{Entry, Lane},
    lane::Signals,
    observer::{Counters, count},
    store::NotificationStore,
};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Maximum number of callers in the queue; others wait to enter it.
pub(super) const QUEUE: usize = 1024;

/// Maximum number of entries of one write, unless a single caller has more.
const WRITE: usize = 4096;

/// A request to the task.
pub(super) enum Ask {
    Keep(Vec<Entry>, oneshot::Sender<Result<(), NotKept>>),
    /// Stores what was requested before, then ends the task.
    Stop,
}

/// Stores entries until it is stopped or the last sender is dropped.
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
        // A caller that no longer waits gets no response; its entries are stored all the same.
        let _ = caller.send(answer.clone());
    }
}
