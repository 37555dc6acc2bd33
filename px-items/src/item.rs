//! The state machine of an Item: which moves there are, and what each one asks for.
//!
//! Pure. Data, dates and tokens are not here; see [`crate::life`], [`crate::plan`] and
//! [`crate::store`]. The picture of it is made in `diagram`. Contract: `px.md` section 7.

mod diagram;

pub use diagram::diagram;

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where an Item is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    /// Authorized; the initial fetch waits or runs.
    Created,
    /// As [`Created`](Self::Created), but the partner refuses the token.
    CreatedLoginRequired,
    /// Complete and readable; it ages.
    Idle,
    /// As [`Idle`](Self::Idle), but the partner refuses the token.
    IdleLoginRequired,
    /// Complete and readable, while a worker brings it up to date.
    Updating,
    /// The last application has left; nothing of it is kept.
    Removed,
}

/// The phase of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// The initial fetch is not complete.
    Created,
    /// Complete; it ages.
    Idle,
    /// Being brought up to date.
    Updating,
}

/// What happens to an Item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// It was due and a worker took it; also one that takes over from a worker that stopped.
    Claimed,
    /// A part of a long fetch was stored, and more is to come.
    PartStored,
    /// All that was to be read was stored.
    Finished,
    /// The attempt failed, and another one may succeed.
    Failed,
    /// The worker stops and gives the Item back unchanged.
    HandedBack,
    /// The partner refuses the token for good.
    Refused,
    /// The partner, or an application that joins and needs more, asks for an update.
    Notified,
    /// The user authorized again.
    Repaired,
    /// The last application left.
    LastLeft,
}

/// What a move asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// Fetch accounts, then the history if an application needs it.
    FetchAll,
    /// Read accounts and recent transactions.
    ReadRecent,
    /// Keep the lease.
    KeepLease,
    /// Be due at once, though not before the partner's `Retry-After`.
    BeDue,
    /// When this attempt ends, be due once more.
    OnceMore,
    /// Be due after 24–48 hours.
    PlanTimeout,
    /// Be due after a back-off, not before the partner's `Retry-After`.
    PlanRetry,
    /// Never be due.
    Rest,
    /// Delete the tokens.
    DeleteTokens,
    /// Tell every application: `INITIAL_UPDATE`, `HISTORICAL_UPDATE`.
    TellComplete,
    /// Tell every application that is touched: `DEFAULT_UPDATE` and what goes with it.
    TellChanges,
    /// Tell every application: `ERROR`.
    TellError,
    /// Tell every application: `LOGIN_REPAIRED`.
    TellRepaired,
    /// Revoke the tokens at the partner.
    RevokeTokens,
    /// Delete the data.
    DeleteData,
}

/// A move that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an Item that is {from} cannot be {event}")]
pub struct Impossible {
    /// Where the Item is.
    pub from: State,
    /// What was to happen.
    pub event: Event,
}

/// Moves an Item: where it is then, and what that asks for.
///
/// # Errors
/// When the event cannot happen there. The Item stays as it is.
pub fn step(from: State, event: Event) -> Result<(State, &'static [Effect]), Impossible> {
    use {Effect as Do, Event as On, State as Is};
    Ok(match (from, event) {
        (Is::Created, On::Claimed) => (Is::Created, &[Do::FetchAll, Do::KeepLease]),
        (Is::Created, On::PartStored) => (Is::Created, &[Do::KeepLease, Do::TellComplete]),
        (Is::Created, On::Finished) => (Is::Idle, &[Do::TellComplete, Do::PlanTimeout]),
        (Is::Created, On::Failed) => (Is::Created, &[Do::PlanRetry]),
        (Is::Created, On::HandedBack) => (Is::Created, &[Do::BeDue]),
        (Is::Created, On::Refused) => {
            (Is::CreatedLoginRequired, &[Do::DeleteTokens, Do::TellError, Do::Rest])
        }
        // It is due already, or being fetched: then what is new is read by one more update.
        (Is::Created, On::Notified) => (Is::Created, &[Do::BeDue, Do::OnceMore]),
        (Is::Created, On::Repaired) => (Is::Created, &[Do::BeDue]),

        (Is::Idle, On::Claimed) => (Is::Updating, &[Do::ReadRecent, Do::KeepLease]),
        (Is::Idle, On::Notified) => (Is::Idle, &[Do::BeDue]),
        (Is::Idle, On::Repaired) => (Is::Idle, &[Do::BeDue]),
        (Is::Idle, On::Refused) => {
            (Is::IdleLoginRequired, &[Do::DeleteTokens, Do::TellError, Do::Rest])
        }

        (Is::Updating, On::Claimed) => (Is::Updating, &[Do::ReadRecent, Do::KeepLease]),
        (Is::Updating, On::PartStored) => (Is::Updating, &[Do::KeepLease, Do::TellChanges]),
        (Is::Updating, On::Finished) => (Is::Idle, &[Do::TellChanges, Do::PlanTimeout]),
        (Is::Updating, On::Failed) => (Is::Idle, &[Do::PlanRetry]),
        (Is::Updating, On::HandedBack) => (Is::Idle, &[Do::BeDue]),
        (Is::Updating, On::Refused) => {
            (Is::IdleLoginRequired, &[Do::DeleteTokens, Do::TellError, Do::Rest])
        }
        (Is::Updating, On::Notified) => (Is::Updating, &[Do::OnceMore]),
        (Is::Updating, On::Repaired) => (Is::Updating, &[Do::OnceMore]),

        // A notification cannot bring the token back.
        (
            stays @ (Is::CreatedLoginRequired | Is::IdleLoginRequired),
            On::Notified | On::Refused,
        ) => (stays, &[Do::Rest]),
        (Is::CreatedLoginRequired, On::Repaired) => (Is::Created, &[Do::TellRepaired, Do::BeDue]),
        (Is::IdleLoginRequired, On::Repaired) => (Is::Idle, &[Do::TellRepaired, Do::BeDue]),

        (
            Is::Created
            | Is::CreatedLoginRequired
            | Is::Idle
            | Is::IdleLoginRequired
            | Is::Updating,
            On::LastLeft,
        ) => (Is::Removed, &[Do::RevokeTokens, Do::DeleteData]),

        // Only a worker that holds the Item stores, fails or gives back; no worker takes one
        // that rests; nothing happens to one that is gone.
        (
            Is::Idle | Is::CreatedLoginRequired | Is::IdleLoginRequired,
            On::PartStored | On::Finished | On::Failed | On::HandedBack,
        )
        | (Is::CreatedLoginRequired | Is::IdleLoginRequired, On::Claimed)
        | (Is::Removed, _) => return Err(Impossible { from, event }),
    })
}

impl State {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::Created,
        Self::CreatedLoginRequired,
        Self::Idle,
        Self::IdleLoginRequired,
        Self::Updating,
        Self::Removed,
    ];

    /// The phase of the contract; `None` when it is gone.
    #[must_use]
    pub fn phase(self) -> Option<Phase> {
        match self {
            Self::Created | Self::CreatedLoginRequired => Some(Phase::Created),
            Self::Idle | Self::IdleLoginRequired => Some(Phase::Idle),
            Self::Updating => Some(Phase::Updating),
            Self::Removed => None,
        }
    }

    /// Whether the user must authorize again before anything can be read at the partner.
    #[must_use]
    pub fn login_required(self) -> bool {
        matches!(self, Self::CreatedLoginRequired | Self::IdleLoginRequired)
    }

    /// The name that stores keep.
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

    /// The state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl Phase {
    /// The contract's name of it.
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
    /// Every event.
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
            Self::ReadRecent => "read what is recent",
            Self::KeepLease => "keep the lease",
            Self::BeDue => "be due at once",
            Self::OnceMore => "once more afterwards",
            Self::PlanTimeout => "be due in 24 to 48 h",
            Self::PlanRetry => "be due after a back-off",
            Self::Rest => "rest",
            Self::DeleteTokens => "delete tokens",
            Self::TellComplete => "tell what is complete",
            Self::TellChanges => "tell what changed",
            Self::TellError => "tell the error",
            Self::TellRepaired => "tell it is repaired",
            Self::RevokeTokens => "revoke tokens",
            Self::DeleteData => "delete data",
        })
    }
}
