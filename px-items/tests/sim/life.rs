//! Whether a machine runs, stands still or is gone. Everything that a worker does outside of its
//! own memory passes a gate here, on its way there and on its way back. So a machine can end
//! between any two of its steps, and a task that outlives its machine does nothing more.

use crate::{time::SimClock, trace::Trace};
use px_core::Clock as _;
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// The name of what reads everything once more when nothing goes wrong any more.
pub(crate) const THE_END: &str = "the end";

/// One start of a machine, up to its end.
pub(crate) struct Life {
    /// Its name, with the number of the start.
    pub(crate) name: String,
    clock: SimClock,
    trace: Arc<Trace>,
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Default)]
struct State {
    dead: bool,
    /// So many gates, then it is dead.
    gates_left: Option<u64>,
    /// So many gates, then it stands still for that long.
    gates_to_stand: Option<(u64, Duration)>,
    /// Whether it ever stood still.
    stood: bool,
    stands_until: Duration,
    /// Its network does not reach anyone before that.
    cut_off_until: Duration,
}

impl Life {
    pub(crate) fn new(name: String, clock: SimClock, trace: Arc<Trace>) -> Self {
        Self { name, clock, trace, state: Mutex::default(), ended: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it does nothing.
    pub(crate) fn end(&self) {
        self.state().dead = true;
        self.ended.notify_one();
    }

    /// It ends at that gate from now on.
    pub(crate) fn end_at_gate(&self, gate: u64) {
        self.state().gates_left = Some(gate);
    }

    /// Waits for its end.
    pub(crate) async fn until_end(&self) {
        self.ended.notified().await;
    }

    /// It stands still for a while, as a virtual machine that is moved does.
    fn stand(&self, time: Duration) {
        self.trace.note(&self.name, format_args!("stands still for {time:?}"));
        let until = self.clock.elapsed() + time;
        let mut state = self.state();
        (state.stood, state.stands_until) = (true, until);
    }

    /// It stands still for a while from that gate on.
    pub(crate) fn stand_at_gate(&self, gate: u64, time: Duration) {
        self.state().gates_to_stand = Some((gate, time));
    }

    /// Nothing that was planned for a gate happens any more.
    pub(crate) fn spare(&self) {
        let mut state = self.state();
        (state.gates_left, state.gates_to_stand) = (None, None);
    }

    /// Its network is cut for a while.
    pub(crate) fn cut_off(&self, time: Duration) {
        self.state().cut_off_until = self.clock.elapsed() + time;
    }

    /// Whether its network is cut.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.clock.elapsed() < self.state().cut_off_until
    }

    /// Whether it was ended.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// Whether it ever stood still.
    pub(crate) fn stood(&self) -> bool {
        self.state().stood
    }

    /// Passes when it runs; never, once it is dead. Gates on the way to a look for work, of which
    /// there are many, are not counted.
    pub(crate) async fn gate(&self, counts: bool) {
        if counts {
            self.count_gate();
        }
        loop {
            if self.is_dead() {
                std::future::pending::<()>().await;
            }
            let until = self.state().stands_until;
            match until.checked_sub(self.clock.elapsed()) {
                Some(left) if !left.is_zero() => self.clock.sleep(left).await,
                _ => return,
            }
        }
    }
}

impl Life {
    fn count_gate(&self) {
        let mut state = self.state();
        let dies = match &mut state.gates_left {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        let stands = match &mut state.gates_to_stand {
            Some((0, time)) => Some(*time),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        if stands.is_some() {
            state.gates_to_stand = None;
        }
        drop(state);
        if let Some(time) = stands {
            self.stand(time);
        }
        if dies {
            self.end();
        }
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Life").field(&self.name).finish()
    }
}
