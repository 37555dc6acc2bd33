//! Change notifications for open pages, and locks per user.

use px_types::UserId;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch};

/// Notifications of one user's changes, for a page that refreshes itself.
///
/// Only changes made by this process are reported. A page that another process serves is up to date when it
/// is loaded again.
pub struct Changes {
    user: UserId,
    receiver: watch::Receiver<u64>,
    all: Arc<Watchers>,
}

impl Changes {
    /// Waits for the next change. Changes in quick succession may be reported as one.
    pub async fn next(&mut self) {
        if self.receiver.changed().await.is_err() {
            // The sender exists as long as there is a receiver.
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Changes")
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        let mut senders = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        // This receiver is still counted.
        if senders.get(&self.user).is_some_and(|sender| sender.receiver_count() <= 1) {
            senders.remove(&self.user);
        }
    }
}

/// The senders of changes to open pages, by user.
#[derive(Debug, Default)]
pub(super) struct Watchers(Mutex<HashMap<UserId, watch::Sender<u64>>>);

impl Watchers {
    pub(super) fn watch(self: &Arc<Self>, user: &UserId) -> Changes {
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = senders.entry(user.clone()).or_insert_with(|| watch::Sender::new(0));
        Changes { user: user.clone(), receiver: sender.subscribe(), all: Arc::clone(self) }
    }

    pub(super) fn notify(&self, user: &UserId) {
        let senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = senders.get(user) {
            sender.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

/// A lock per user, so that an import, a list and a disconnection of one user do not overlap.
#[derive(Debug, Default)]
pub(super) struct Locks(Mutex<HashMap<UserId, Weak<AsyncMutex<()>>>>);

/// Number of locks at which unused ones are removed.
const LOCK_CLEANUP_THRESHOLD: usize = 1024;

impl Locks {
    pub(super) async fn lock(&self, user: &UserId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if locks.len() >= LOCK_CLEANUP_THRESHOLD {
                locks.retain(|_, lock| lock.strong_count() > 0);
            }
            let stored = locks.get(user).and_then(Weak::upgrade);
            stored.unwrap_or_else(|| {
                let lock = Arc::new(AsyncMutex::new(()));
                locks.insert(user.clone(), Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_hears_of_its_own_user_alone_and_leaves_nothing_behind() {
        let watchers = Arc::new(Watchers::default());
        let (ann, bob) = (UserId::new("ann").unwrap(), UserId::new("bob").unwrap());
        let (mut first, second) = (watchers.watch(&ann), watchers.watch(&ann));
        let bobs = watchers.watch(&bob);
        watchers.notify(&ann);
        first.next().await;
        assert!(second.receiver.has_changed().unwrap());
        assert!(!bobs.receiver.has_changed().unwrap());
        drop((first, second, bobs));
        assert!(watchers.0.lock().unwrap().is_empty());
        watchers.notify(&ann);
    }

    #[tokio::test]
    async fn locks_that_nobody_holds_are_swept_out() {
        let locks = Locks::default();
        let in_use = locks.lock(&UserId::new("in-use").unwrap()).await;
        for n in 0..3 * LOCK_CLEANUP_THRESHOLD {
            drop(locks.lock(&UserId::new(n.to_string()).unwrap()).await);
        }
        let stored = locks.0.lock().unwrap();
        assert!(stored.len() <= LOCK_CLEANUP_THRESHOLD && stored.contains_key("in-use"));
        drop((stored, in_use));
    }
}
