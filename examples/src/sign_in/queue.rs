//! A concurrency limit with a queue that is fair between origins.
//!
//! A fixed number of callers hold a turn at once. The others wait, each origin in a queue of its own.
//! The queues are served in rotation, so that a crowd at one origin delays only itself. Each queue
//! and their total are bounded.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// Maximum number of waiting callers of one origin.
const MAX_WAITING_OF_ORIGIN: usize = 16;
/// Maximum number of waiting callers.
const MAX_WAITING: usize = 256;

/// The error of a full queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueFull;

/// A fair queue.
#[derive(Debug)]
pub(super) struct FairQueue<K: Clone + Eq + Hash>(Arc<Mutex<State<K>>>);

struct State<K: Clone + Eq + Hash> {
    free: usize,
    queues: HashMap<K, VecDeque<oneshot::Sender<Turn<K>>>>,
    /// Origins with a queue, the next one first.
    order: VecDeque<K>,
}

impl<K: Clone + Eq + Hash> fmt::Debug for State<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting: usize = self.queues.values().map(VecDeque::len).sum();
        f.debug_struct("State").field("free", &self.free).field("waiting", &waiting).finish()
    }
}

/// A turn. It ends when the value is dropped.
pub(super) struct Turn<K: Clone + Eq + Hash>(Option<Arc<Mutex<State<K>>>>);

impl<K: Clone + Eq + Hash> FairQueue<K> {
    /// Creates a queue with that many turns at once.
    pub(super) fn new(turns: usize) -> Self {
        let state = State { free: turns, queues: HashMap::new(), order: VecDeque::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// If the queue of the origin is full, or the total of all queues.
    pub(super) async fn turn(&self, origin: K) -> Result<Turn<K>, QueueFull> {
        let turn = {
            let mut state = locked(&self.0);
            if state.free > 0 {
                state.free -= 1;
                return Ok(Turn(Some(self.0.clone())));
            }
            state.drop_closed();
            let waiting: usize = state.queues.values().map(VecDeque::len).sum();
            let (give, turn) = oneshot::channel();
            let of_origin = state.queues.get(&origin).map_or(0, VecDeque::len);
            if waiting >= MAX_WAITING || of_origin >= MAX_WAITING_OF_ORIGIN {
                return Err(QueueFull);
            }
            if of_origin == 0 {
                state.order.push_back(origin.clone());
            }
            state.queues.entry(origin).or_default().push_back(give);
            turn
        };
        // A sender stays in its queue until it sends a turn, so this cannot fail.
        turn.await.map_err(|_| QueueFull)
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn drop_closed(&mut self) {
        for queue in self.queues.values_mut() {
            queue.retain(|waiting| !waiting.is_closed());
        }
        self.queues.retain(|_, queue| !queue.is_empty());
        let queues = &self.queues;
        self.order.retain(|origin| queues.contains_key(origin));
    }

    /// Takes the next waiting caller, by rotation.
    fn next(&mut self) -> Option<oneshot::Sender<Turn<K>>> {
        while let Some(origin) = self.order.pop_front() {
            let Some(waiting) = self.queues.get_mut(&origin) else { continue };
            let next = waiting.pop_front();
            match waiting.is_empty() {
                true => drop(self.queues.remove(&origin)),
                false => self.order.push_back(origin),
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }
}

impl<K: Clone + Eq + Hash> Drop for Turn<K> {
    fn drop(&mut self) {
        let Some(shared) = self.0.take() else { return };
        let mut state = locked(&shared);
        while let Some(next) = state.next() {
            match next.send(Turn(Some(shared.clone()))) {
                Ok(()) => return,
                // The caller has disconnected. The turn passes to the next one instead of ending.
                Err(mut turn) => turn.0 = None,
            }
        }
        state.free += 1;
    }
}

fn locked<K: Clone + Eq + Hash>(state: &Mutex<State<K>>) -> MutexGuard<'_, State<K>> {
    // Each change is complete before anything can panic, so a poisoned lock is sound.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt as _, future::join_all};

    #[tokio::test]
    async fn origins_are_served_in_rotation() {
        let queue = FairQueue::new(1);
        let first = queue.turn("crowd").await.unwrap();
        let order = Mutex::new(Vec::new());
        let wait = async |origin: &'static str| {
            let _turn = queue.turn(origin).await.unwrap();
            order.lock().unwrap().push(origin);
        };
        let crowd = join_all((0..5).map(|_| wait("crowd")));
        let all = async { tokio::join!(crowd, wait("owner"), wait("other")) };
        let end = async { drop(first) };
        tokio::join!(all, end);
        let order = order.into_inner().unwrap();
        assert_eq!(order[..3], ["crowd", "owner", "other"], "{order:?}");
        assert_eq!(order.len(), 7);
    }

    #[tokio::test]
    async fn queues_are_bounded_each_and_together() {
        let queue = FairQueue::new(1);
        let turn = queue.turn(0).await.unwrap();
        let mut waiting: Vec<_> = Vec::new();
        for origin in 0..20 {
            for n in 0..MAX_WAITING_OF_ORIGIN + 2 {
                let mut waiter = Box::pin(queue.turn(origin));
                let full = waiter.as_mut().now_or_never();
                let is_full = n >= MAX_WAITING_OF_ORIGIN || waiting.len() >= MAX_WAITING;
                assert_eq!(full.is_some(), is_full, "{origin} {n}");
                if full.is_none() {
                    waiting.push(waiter);
                }
            }
        }
        assert_eq!(waiting.len(), MAX_WAITING);
        // Callers that leave free their slots, and no turn is lost.
        waiting.clear();
        let waiter = queue.turn(7);
        drop(turn);
        waiter.await.unwrap();
        assert_eq!(locked(&queue.0).free, 1);
        assert!(locked(&queue.0).queues.is_empty() && locked(&queue.0).order.is_empty());
    }

    #[tokio::test]
    async fn a_turn_of_a_caller_that_left_passes_to_the_next() {
        let queue = FairQueue::new(1);
        let turn = queue.turn(1).await.unwrap();
        let mut gone = Box::pin(queue.turn(1));
        assert!(gone.as_mut().now_or_never().is_none());
        let mut given = Box::pin(queue.turn(2));
        assert!(given.as_mut().now_or_never().is_none());
        let mut last = Box::pin(queue.turn(3));
        assert!(last.as_mut().now_or_never().is_none());
        drop(gone);
        drop(turn);
        // This caller leaves after its turn was sent and before it received it.
        drop(given);
        last.now_or_never().unwrap().unwrap();
    }
}
