//! Deliberate faults, to verify that the simulation finds them. They are injected between the store
//! and its callers: the tested program is unchanged.

use px_client::Window;
use px_items::{
    changes::ItemChanges,
    merge::{DATE_SLACK_DAYS, KnownTransaction},
    store::{Commit, NewLink, Result, Revocation, Store, StoreError, StoreErrorKind},
};
use px_types::{AccountId, Date, TransactionId};
use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// One of this number of commits with notifications loses them.
const LOSES_ONE_OF: u64 = 4;

/// Deliberate fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Rows that vanished at a bank are not noticed.
    Merge,
    /// Commits of an earlier claim are accepted.
    Fencing,
    /// The webhooks of some commits are lost.
    Outbox,
    /// An unreadable Item stops all claims.
    Unreadable,
    /// Interrupted refreshes are not claimed before other work.
    Refresh,
    /// Rows near the edges of a window count as inside.
    Edges,
    /// An account that is filed by posting date decides for its whole Item.
    Filing,
    /// A machine's clock is compared with itself, and the store does not cap times by its own.
    Clock,
    /// A link does not cancel the revocation of the token that it brings, and the token's use is
    /// not checked when the revocation is sent.
    Revocation,
    /// Elements that cannot be read are treated as removed: see [`Damage`](crate::damage::Damage).
    SetAside,
}

impl Sabotage {
    /// All sabotages.
    pub(crate) const ALL: [Self; 10] = [
        Self::Merge,
        Self::Fencing,
        Self::Outbox,
        Self::Unreadable,
        Self::Refresh,
        Self::Edges,
        Self::Filing,
        Self::Clock,
        Self::Revocation,
        Self::SetAside,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Fencing => "fencing",
            Self::Outbox => "outbox",
            Self::Unreadable => "unreadable",
            Self::Refresh => "refresh",
            Self::Edges => "edges",
            Self::Filing => "filing",
            Self::Clock => "clock",
            Self::Revocation => "revocation",
            Self::SetAside => "set-aside",
        }
    }
}

/// Breaks a store.
#[derive(Debug)]
pub(crate) struct Saboteur {
    what: Sabotage,
    commits: AtomicU64,
    revocations: Mutex<Revocations>,
}

/// Revocations that links do not find.
#[derive(Debug, Default)]
struct Revocations {
    waiting: Vec<Revocation>,
    ids: BTreeSet<i64>,
}

impl Saboteur {
    pub(crate) fn new(what: Sabotage) -> Self {
        Self { what, commits: AtomicU64::new(0), revocations: Mutex::default() }
    }

    pub(crate) fn known(
        &self,
        mut known: Vec<KnownTransaction>,
        window: Window,
        ids: &[TransactionId],
    ) -> Vec<KnownTransaction> {
        match self.what {
            Sabotage::Merge => {
                // Rows that were not read are unknown, so that their absence is not noticed.
                let read: HashSet<_> = ids.iter().collect();
                known.retain(|known| read.contains(&known.partner_id));
            }
            Sabotage::Edges => known.iter_mut().for_each(|row| move_inside(row, window)),
            Sabotage::Filing => file_by_posting(&mut known, window, ids),
            _ => {}
        }
        known
    }

    pub(crate) async fn commit(&self, store: &dyn Store, commit: &mut Commit) -> Result<()> {
        match self.what {
            Sabotage::Fencing => {
                if let Some(present) = store.item(&commit.item_id).await? {
                    commit.fence = present.fence;
                }
            }
            Sabotage::Outbox if commit.changes != ItemChanges::default() => {
                let number = self.commits.fetch_add(1, Ordering::Relaxed);
                if number % LOSES_ONE_OF == LOSES_ONE_OF - 1 {
                    commit.changes = ItemChanges::default();
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns an error if Items cannot be claimed because some are unreadable.
    pub(crate) fn claim(&self, has_unreadable: bool) -> Result<()> {
        if self.what == Sabotage::Unreadable && has_unreadable {
            return Err(StoreError::new(StoreErrorKind::Corrupt, "an Item cannot be read"));
        }
        Ok(())
    }

    pub(crate) fn claims_refreshes(&self) -> bool {
        self.what != Sabotage::Refresh
    }

    /// Hides pending revocations from a link, and sends them nevertheless.
    pub(crate) async fn before_link(&self, store: &dyn Store, new: &NewLink) -> Result<()> {
        if self.what == Sabotage::Revocation && new.tokens.is_some() {
            // No revocation is due later than that, and none returns before it.
            let (late, later) =
                (new.now + chrono::TimeDelta::days(60), new.now + chrono::TimeDelta::days(90));
            let claimed = store.claim_revocations(late, later, 100).await?;
            let mut revocations = self.revocations();
            revocations.ids.extend(claimed.iter().map(|one| one.id));
            revocations.waiting.extend(claimed);
        }
        Ok(())
    }

    pub(crate) fn claim_revocations(&self, claimed: &mut Vec<Revocation>) {
        claimed.append(&mut self.revocations().waiting);
    }

    /// Returns whether a revocation is sent without a check whether an Item uses its tokens.
    pub(crate) fn revokes_blindly(&self, revocation: &Revocation) -> bool {
        self.revocations().ids.contains(&revocation.id)
    }

    fn revocations(&self) -> std::sync::MutexGuard<'_, Revocations> {
        self.revocations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves a stored row off the edge of a window, so that the window can judge it. `reach` is the
/// window with the dates near it.
fn move_inside(row: &mut KnownTransaction, reach: Window) {
    let last = row.settled.map_or(row.transacted, |settled| settled.max(row.transacted));
    let first = row.settled.map_or(row.transacted, |settled| settled.min(row.transacted));
    let starts = reach.start().plus_days(DATE_SLACK_DAYS);
    let ends = reach.end().minus_days(DATE_SLACK_DAYS);
    if (starts..starts.plus_days(DATE_SLACK_DAYS)).contains(&first) {
        row.transacted = row.transacted.plus_days(DATE_SLACK_DAYS);
        row.settled = row.settled.map(|settled| settled.plus_days(DATE_SLACK_DAYS));
    } else if ends.minus_days(DATE_SLACK_DAYS) < last && last <= ends {
        row.transacted = row.transacted.minus_days(DATE_SLACK_DAYS);
        row.settled = row.settled.map(|settled| settled.minus_days(DATE_SLACK_DAYS));
    }
}

/// Treats all rows as filed by posting date, once one row was read that can only be filed by it.
fn file_by_posting(known: &mut [KnownTransaction], reach: Window, ids: &[TransactionId]) {
    let read: HashSet<_> = ids.iter().collect();
    let starts = reach.start().plus_days(DATE_SLACK_DAYS);
    let inside = |date: Date| starts <= date && date <= reach.end().minus_days(DATE_SLACK_DAYS);
    let is_evidence = |row: &&KnownTransaction| {
        row.transacted < reach.start()
            && row.settled.is_some_and(inside)
            && read.contains(&row.partner_id)
    };
    let accounts: HashSet<AccountId> =
        known.iter().filter(is_evidence).map(|row| row.account_id.clone()).collect();
    if accounts.is_empty() {
        return;
    }
    for row in known.iter_mut().filter(|row| !accounts.contains(&row.account_id)) {
        row.transacted = row.settled.filter(|date| inside(*date)).unwrap_or(row.transacted);
    }
}
