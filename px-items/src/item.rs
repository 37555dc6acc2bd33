//! State machine of an Item: its transitions and their effects.
//!
//! Pure. Data, dates and tokens are in [`crate::sync_state`], [`crate::plan`] and [`crate::store`].
//! `diagram` draws the machine. Contract: `px.md` section 7.

mod diagram;

pub use diagram::diagram;

use serde::{Deserialize, Serialize};
use std::fmt;

/// State of an Item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    /// Authorized; the initial fetch is waiting or running.
    Created,
    /// As [`Created`](Self::Created), but the partner refuses the token.
    CreatedLoginRequired,
    /// Complete and readable; waits for its next update.
    Idle,
    /// As [`Idle`](Self::Idle), but the partner refuses the token.
    IdleLoginRequired,
    /// Complete and readable; a worker is updating it.
    Updating,
    /// The last application has left; no data is stored.
    Removed,
}

/// Phase of an Item in the terms of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// The initial fetch is not complete.
    Created,
    /// Complete; waits for its next update.
    Idle,
    /// Being updated.
    Updating,
}

/// Event that happens to an Item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// A worker claimed the due Item, possibly taking over from a worker that stopped.
    Claimed,
    /// A part of a long fetch was stored, and more is to come.
    PartStored,
    /// Everything that was to be read was stored.
    Finished,
    /// The attempt failed, and another one may succeed.
    Failed,
    /// The worker stops and gives the Item back unchanged.
    HandedBack,
    /// The partner refuses the token for good.
    Refused,
    /// The partner, or an application that joins and needs more data, requested an update.
    Notified,
    /// The user authorized again.
    Repaired,
    /// The last application left.
    LastLeft,
}

/// Effect of a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// Fetch accounts, then the history if an application needs it.
    FetchAll,
    /// Read accounts and recent transactions.
    ReadRecent,
    /// Keep the lease.
    KeepLease,
    /// Be due at once, but not before the partner's `Retry-After`.
    ScheduleNow,
    /// Be due once more when this attempt ends.
    ScheduleAgain,
    /// Be due after 24–48 hours.
    ScheduleUpdate,
    /// Be due after a backoff, not before the partner's `Retry-After`.
    ScheduleRetry,
    /// Never be due.
    Unschedule,
    /// Delete the tokens.
    DeleteTokens,
    /// Notify every application: `INITIAL_UPDATE`, `HISTORICAL_UPDATE`.
    NotifyComplete,
    /// Notify every affected application: `DEFAULT_UPDATE` and related webhooks.
    NotifyChanges,
    /// Notify every application: `ERROR`.
    NotifyError,
    /// Notify every application: `LOGIN_REPAIRED`.
    NotifyRepaired,
    /// Revoke the tokens at the partner.
    RevokeTokens,
    /// Delete the data.
    DeleteData,
}

/// Error of [`step`]: the event cannot happen in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an Item that is {from} cannot be {event}")]
pub struct InvalidTransition {
    /// State of the Item.
    pub from: State,
    /// Event that cannot happen in it.
    pub event: Event,
}

/// Returns the next state of an Item and the effects of the transition.
///
/// # Errors
/// Returns an error if the event cannot happen in the state.
pub fn step(from: State, event: Event) -> Result<(State, &'static [Effect]), InvalidTransition> {
    use {Effect as Do, Event as On, State as Is};
    Ok(match (from, event) {
        (Is::Created, On::Claimed) => (Is::Created, &[Do::FetchAll, Do::KeepLease]),
        (Is::Created, On::PartStored) => (Is::Created, &[Do::KeepLease, Do::NotifyComplete]),
        (Is::Created, On::Finished) => (Is::Idle, &[Do::NotifyComplete, Do::ScheduleUpdate]),
        (Is::Created, On::Failed) => (Is::Created, &[Do::ScheduleRetry]),
        (Is::Created, On::HandedBack) => (Is::Created, &[Do::ScheduleNow]),
        (Is::Created, On::Refused) => {
            (Is::CreatedLoginRequired, &[Do::DeleteTokens, Do::NotifyError, Do::Unschedule])
        }
        // The Item is due already, or being fetched: one more update reads what is new.
        (Is::Created, On::Notified) => (Is::Created, &[Do::ScheduleNow, Do::ScheduleAgain]),
        (Is::Created, On::Repaired) => (Is::Created, &[Do::ScheduleNow]),

        (Is::Idle, On::Claimed) => (Is::Updating, &[Do::ReadRecent, Do::KeepLease]),
        (Is::Idle, On::Notified) => (Is::Idle, &[Do::ScheduleNow]),
        (Is::Idle, On::Repaired) => (Is::Idle, &[Do::ScheduleNow]),
        (Is::Idle, On::Refused) => {
            (Is::IdleLoginRequired, &[Do::DeleteTokens, Do::NotifyError, Do::Unschedule])
        }

        (Is::Updating, On::Claimed) => (Is::Updating, &[Do::ReadRecent, Do::KeepLease]),
        (Is::Updating, On::PartStored) => (Is::Updating, &[Do::KeepLease, Do::NotifyChanges]),
        (Is::Updating, On::Finished) => (Is::Idle, &[Do::NotifyChanges, Do::ScheduleUpdate]),
        (Is::Updating, On::Failed) => (Is::Idle, &[Do::ScheduleRetry]),
        (Is::Updating, On::HandedBack) => (Is::Idle, &[Do::ScheduleNow]),
        (Is::Updating, On::Refused) => {
            (Is::IdleLoginRequired, &[Do::DeleteTokens, Do::NotifyError, Do::Unschedule])
        }
        (Is::Updating, On::Notified) => (Is::Updating, &[Do::ScheduleAgain]),
        (Is::Updating, On::Repaired) => (Is::Updating, &[Do::ScheduleAgain]),

        // A notification does not restore the token.
        (
            stays @ (Is::CreatedLoginRequired | Is::IdleLoginRequired),
            On::Notified | On::Refused,
        ) => (stays, &[Do::Unschedule]),
        (Is::CreatedLoginRequired, On::Repaired) => {
            (Is::Created, &[Do::NotifyRepaired, Do::ScheduleNow])
        }
        (Is::IdleLoginRequired, On::Repaired) => (Is::Idle, &[Do::NotifyRepaired, Do::ScheduleNow]),

        (
            Is::Created
            | Is::CreatedLoginRequired
            | Is::Idle
            | Is::IdleLoginRequired
            | Is::Updating,
            On::LastLeft,
        ) => (Is::Removed, &[Do::RevokeTokens, Do::DeleteData]),

        // Only a worker with a lease stores, fails or gives back. No worker claims an Item that is
        // never due. Nothing happens to a removed Item.
        (
            Is::Idle | Is::CreatedLoginRequired | Is::IdleLoginRequired,
            On::PartStored | On::Finished | On::Failed | On::HandedBack,
        )
        | (Is::CreatedLoginRequired | Is::IdleLoginRequired, On::Claimed)
        | (Is::Removed, _) => return Err(InvalidTransition { from, event }),
    })
}

impl State {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Created,
        Self::CreatedLoginRequired,
        Self::Idle,
        Self::IdleLoginRequired,
        Self::Updating,
        Self::Removed,
    ];

    /// Returns the phase of the contract, or `None` for a removed Item.
    #[must_use]
    pub fn phase(self) -> Option<Phase> {
        match self {
            Self::Created | Self::CreatedLoginRequired => Some(Phase::Created),
            Self::Idle | Self::IdleLoginRequired => Some(Phase::Idle),
            Self::Updating => Some(Phase::Updating),
            Self::Removed => None,
        }
    }

    /// Returns whether the user must authorize again before anything can be read from the partner.
    #[must_use]
    pub fn login_required(self) -> bool {
        matches!(self, Self::CreatedLoginRequired | Self::IdleLoginRequired)
    }

    /// Returns the stored name of the state.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::CreatedLoginRequired => "created_login_required",
            Self::Idle => "idle",
            Self::IdleLoginRequired => "idle_login_required",
            Self::Updating => "updating",
            Self::Removed => "removed",
        }
    }

    /// Returns the state with a stored name, or `None` if there is no such state.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl Phase {
    /// Returns the contract's name of the phase.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Idle => "idle",
            Self::Updating => "updating",
        }
    }
}

impl Event {
    /// All events.
    pub const ALL: [Self; 9] = [
        Self::Claimed,
        Self::PartStored,
        Self::Finished,
        Self::Failed,
        Self::HandedBack,
        Self::Refused,
        Self::Notified,
        Self::Repaired,
        Self::LastLeft,
    ];
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Claimed => "claimed",
            Self::PartStored => "stored in part",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::HandedBack => "handed back",
            Self::Refused => "refused",
            Self::Notified => "notified",
            Self::Repaired => "repaired",
            Self::LastLeft => "left by the last application",
        })
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FetchAll => "fetch all",
            Self::ReadRecent => "read recent data",
            Self::KeepLease => "keep the lease",
            Self::ScheduleNow => "schedule at once",
            Self::ScheduleAgain => "schedule again afterwards",
            Self::ScheduleUpdate => "schedule in 24 to 48 h",
            Self::ScheduleRetry => "schedule after a backoff",
            Self::Unschedule => "unschedule",
            Self::DeleteTokens => "delete tokens",
            Self::NotifyComplete => "notify completion",
            Self::NotifyChanges => "notify changes",
            Self::NotifyError => "notify the error",
            Self::NotifyRepaired => "notify the repair",
            Self::RevokeTokens => "revoke tokens",
            Self::DeleteData => "delete data",
        })
    }
}
