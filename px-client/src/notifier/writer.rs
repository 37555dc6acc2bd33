//! The task that stores entries. Entries that arrive at the same time are stored together.

use super::{
    NotifierError,
    entry::{Entry, Lane},
    lane::Signals,
    observer::{Counters, count},
    store::NotificationStore,
};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Maximum number of callers in the queue; others wait to enter it.
pub(super) const MAX_QUEUED_CALLERS: usize = 1024;

/// Maximum number of entries of one write, unless a single caller has more.
const MAX_WRITE_ENTRIES: usize = 4096;

/// A request to the task.
pub(super) enum StoreRequest {
    Append(Vec<Entry>, oneshot::Sender<Result<(), NotifierError>>),
    /// Stores the entries that were sent before, then ends the task.
    Stop,
}

/// Stores entries until it is stopped or the last sender is dropped.
pub(super) async fn run(
    mut requests: mpsc::Receiver<StoreRequest>,
    store: Arc<dyn NotificationStore>,
    signals: Arc<[Signals; 3]>,
    counters: Arc<Counters>,
) {
    while let Some(request) = requests.recv().await {
        let mut entries = Vec::new();
        let mut callers = Vec::new();
        let mut next = Some(request);
        while let Some(request) = next.take() {
            match request {
                StoreRequest::Append(more, caller) => {
                    entries.extend(more);
                    callers.push(caller);
                }
                StoreRequest::Stop => requests.close(),
            }
            if entries.len() < MAX_WRITE_ENTRIES {
                next = requests.try_recv().ok();
            }
        }
        if entries.is_empty() {
            respond(callers, Ok(()));
            continue;
        }
        match store.append(&entries).await {
            Ok(()) => {
                count(&counters.stored, entries.len());
                respond(callers, Ok(()));
                for lane in Lane::ALL {
                    let more = entries.iter().filter(|entry| entry.lane() == lane).count();
                    signals[lane as usize].stored(more);
                }
            }
            Err(why) => {
                tracing::warn!(entries = entries.len(), "notifications could not be stored");
                respond(callers, Err(NotifierError::store(why)));
            }
        }
    }
}

fn respond(
    callers: Vec<oneshot::Sender<Result<(), NotifierError>>>,
    response: Result<(), NotifierError>,
) {
    for caller in callers {
        // The caller may no longer wait for the response. Its entries are stored anyway.
        let _ = caller.send(response.clone());
    }
}
