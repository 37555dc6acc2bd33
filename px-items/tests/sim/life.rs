//! State of a machine: running, standing still or ended. Everything that a worker does outside of
//! its own memory passes a gate here, on its way there and on its way back. So a machine can end
//! between any two of its steps, and a task that outlives its machine does nothing more.

use crate::{time::SimClock, trace::Trace};
use px_core::Clock as _;
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// Name of the machine that reads everything once more after the faults.
pub(crate) const THE_END: &str = "the end";

/// One start of a machine, until its end.
pub(crate) struct Life {
    /// Name with the number of the start.
    pub(crate) name: String,
    clock: SimClock,
    trace: Arc<Trace>,
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Default)]
struct State {
    dead: bool,
    /// Number of gates until it ends.
    gates_left: Option<u64>,
    /// Number of gates until it stands still, and for how long.
    gates_to_stand: Option<(u64, Duration)>,
    /// Whether it ever stood still.
    stood: bool,
    stands_until: Duration,
    /// Time until which its network is cut.
    cut_off_until: Duration,
}

impl Life {
    pub(crate) fn new(name: String, clock: SimClock, trace: Arc<Trace>) -> Self {
        Self { name, clock, trace, state: Mutex::default(), ended: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the machine: it does nothing from now on.
    pub(crate) fn end(&self) {
        self.state().dead = true;
        self.ended.notify_one();
    }

    /// Ends the machine at a later gate.
    pub(crate) fn end_at_gate(&self, gate: u64) {
        self.state().gates_left = Some(gate);
    }

    /// Waits until the machine has ended.
    pub(crate) async fn until_end(&self) {
        self.ended.notified().await;
    }

    /// Makes it stand still for a while, like a virtual machine that is migrated.
    fn stand(&self, time: Duration) {
        self.trace.note(&self.name, format_args!("stands still for {time:?}"));
        let until = self.clock.elapsed() + time;
        let mut state = self.state();
        (state.stood, state.stands_until) = (true, until);
    }

    /// Makes it stand still for a while from a later gate on.
    pub(crate) fn stand_at_gate(&self, gate: u64, time: Duration) {
        self.state().gates_to_stand = Some((gate, time));
    }

    /// Cancels everything that was planned for a gate.
    pub(crate) fn spare(&self) {
        let mut state = self.state();
        (state.gates_left, state.gates_to_stand) = (None, None);
    }

    /// Cuts its network for a while.
    pub(crate) fn cut_off(&self, time: Duration) {
        self.state().cut_off_until = self.clock.elapsed() + time;
    }

    /// Returns whether its network is cut.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.clock.elapsed() < self.state().cut_off_until
    }

    /// Returns whether it was ended.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// Returns whether it ever stood still.
    pub(crate) fn stood(&self) -> bool {
        self.state().stood
    }

    /// Passes if the machine runs, and never if it has ended. Frequent gates on the way to a poll
    /// are not counted.
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
