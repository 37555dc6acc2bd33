//! Witness of every change that took effect in the store, in order. Checks the promises about
//! fences, permissions, webhooks and authorizations.
//!
//! It does not depend on the implementation of stores or workers. It computes permissions itself,
//! from the choices of users.

mod connections;
pub(crate) mod rows;
mod shown;
pub(crate) mod tokens;
mod webhooks;
mod work;

use crate::{bank::Bank, damage::Damage, life::Life, time::SimClock, trace::Trace};
use chrono::{DateTime, TimeDelta, Utc};
use connections::Choice;
use px_items::store::Fence;
use px_types::{AccountId, ApplicationId, InstitutionId, ItemId, TransactionId, UserId};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};
use tokens::ClaimMade;
use webhooks::{Delivery, Promise, Subject, WebhookKey};

/// Minimum lease of a worker.
const LEASE: TimeDelta = TimeDelta::seconds(10);
/// Time for which attempts of a webhook continue before it may be given up.
const TRIED_FOR: TimeDelta = TimeDelta::hours(24);

/// Witness of a run.
pub(crate) struct Witness {
    banks: BTreeMap<InstitutionId, Arc<Bank>>,
    clock: SimClock,
    trace: Arc<Trace>,
    /// Maximum difference between the clocks of two machines.
    skew: TimeDelta,
    /// Damage of the responses of the banks.
    damage: Damage,
    /// Whether what an Item shows is compared after each update. Only the store in memory has no threads
    /// of its own, so that nothing else happens between a commit and the comparison.
    pub(crate) compares_shown: AtomicBool,
    /// Lock that is held for the duration of a watched call.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    facts: Mutex<Facts>,
}

#[derive(Default)]
struct Facts {
    items: BTreeMap<ItemId, ItemFacts>,
    webhooks: BTreeMap<WebhookKey, Delivery>,
    promises: BTreeMap<Subject, Promise>,
    /// Numbers of the webhooks that left the outbox.
    settled: BTreeSet<i64>,
    /// Refreshes that succeeded at a bank and that are not stored, or were stored late: the grant, the
    /// requesting machine, and the time.
    unsaved: BTreeMap<String, Vec<Refresh>>,
    /// Machines that used a refresh token too late, so that the bank ended the grant.
    reused: BTreeMap<String, Arc<Life>>,
    /// The latest claims.
    claims: VecDeque<ClaimMade>,
    observed: shown::Observed,
    stats: Stats,
}

/// Machine that requested a pair of tokens, and the time.
type Refresh = (Arc<Life>, DateTime<Utc>);

/// Statistics of a run, to verify that seeds cause activity.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) commits: u64,
    pub(crate) takeovers: u64,
    pub(crate) excused: u64,
    pub(crate) lost: u64,
    pub(crate) webhooks: u64,
    pub(crate) given_up: u64,
    pub(crate) passes: u64,
    pub(crate) refreshes: u64,
    pub(crate) crashes: u64,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.commits += other.commits;
        self.takeovers += other.takeovers;
        self.excused += other.excused;
        self.lost += other.lost;
        self.webhooks += other.webhooks;
        self.given_up += other.given_up;
        self.passes += other.passes;
        self.refreshes += other.refreshes;
        self.crashes += other.crashes;
    }
}

/// Facts about an Item.
struct ItemFacts {
    institution: InstitutionId,
    user: UserId,
    fence: Fence,
    lease: Option<Lease>,
    accounts: BTreeSet<AccountId>,
    /// Whether the bank's first response is stored, even one without accounts.
    has_response: bool,
    choices: BTreeMap<ApplicationId, Choice>,
    /// Account of each transaction that was ever stored.
    rows: BTreeMap<TransactionId, AccountId>,
    /// The bank's id of each transaction.
    partner_ids: BTreeMap<TransactionId, TransactionId>,
    /// Transactions that were removed and restored.
    returned: BTreeSet<TransactionId>,
    /// Removed transactions that each application may be notified of: it could see them when they
    /// were removed.
    gone_rows: BTreeMap<ApplicationId, BTreeSet<TransactionId>>,
    /// Grants that it was given.
    grants: BTreeSet<String>,
    /// Times at which it was taken over from a worker that did not release it, and since when it
    /// was free.
    takeovers: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    gone: bool,
}

struct Lease {
    by: String,
    until: DateTime<Utc>,
}

impl Witness {
    pub(crate) fn new(
        banks: &[Arc<Bank>],
        clock: SimClock,
        trace: Arc<Trace>,
        (skew, damage): (TimeDelta, Damage),
    ) -> Self {
        let banks = banks.iter().map(|bank| (bank.id.clone(), bank.clone())).collect();
        Self {
            banks,
            clock,
            trace,
            skew,
            damage,
            compares_shown: AtomicBool::new(true),
            turn: Arc::default(),
            facts: Mutex::default(),
        }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bank(&self, id: &InstitutionId) -> Option<Arc<Bank>> {
        self.banks.get(id).cloned()
    }

    /// Returns the statistics of the run.
    pub(crate) fn stats(&self) -> Stats {
        self.facts().stats
    }

    /// Updates the statistics.
    pub(crate) fn count(&self, count: impl FnOnce(&mut Stats)) {
        count(&mut self.facts().stats);
    }
}
