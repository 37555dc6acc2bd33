//! Sees every change that took effect in the store, in order, and holds it against the promises:
//! fences, permissions, webhooks, authorizations.
//!
//! It knows nothing of how a store or a worker is made. What it says of permissions it works out
//! itself, from what users chose.

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
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokens::ClaimMade;
use webhooks::{Delivery, Promise, Subject, Told};

/// The shortest lease of a worker.
const LEASE: TimeDelta = TimeDelta::seconds(10);
/// How long a webhook is tried before it may be given up.
const TRIED_FOR: TimeDelta = TimeDelta::hours(24);

/// Sees everything.
pub(crate) struct Witness {
    banks: BTreeMap<InstitutionId, Arc<Bank>>,
    clock: SimClock,
    trace: Arc<Trace>,
    /// How far the clocks of two machines are apart at most.
    skew: TimeDelta,
    /// The damage of what the banks serve.
    damage: Damage,
    /// Held for as long as a call takes that it sees.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    facts: Mutex<Facts>,
}

#[derive(Default)]
struct Facts {
    items: BTreeMap<ItemId, ItemFacts>,
    webhooks: BTreeMap<Told, Delivery>,
    promises: BTreeMap<Subject, Promise>,
    /// The numbers of those that left the outbox.
    settled: BTreeSet<i64>,
    /// Refreshes that a bank answered and no store has, or had late: the grant, who asked, and
    /// when.
    unsaved: BTreeMap<String, Vec<Refresh>>,
    /// Who used a refresh token too late, so that the bank ended the grant.
    reused: BTreeMap<String, Arc<Life>>,
    /// The latest claims.
    claims: VecDeque<ClaimMade>,
    observed: shown::Observed,
    stats: Stats,
}

/// Who asked for a pair of tokens, and when.
type Refresh = (Arc<Life>, DateTime<Utc>);

/// What a run did; to see that seeds do something.
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

/// What is known of an Item.
struct ItemFacts {
    institution: InstitutionId,
    user: UserId,
    fence: Fence,
    held: Option<Held>,
    accounts: BTreeSet<AccountId>,
    /// Whether the bank's first answer is stored, be there accounts in it or not.
    answered: bool,
    choices: BTreeMap<ApplicationId, Choice>,
    /// The account of each transaction that was ever stored.
    rows: BTreeMap<TransactionId, AccountId>,
    /// The bank's id of each.
    partner_ids: BTreeMap<TransactionId, TransactionId>,
    /// Those that were gone and came back.
    returned: BTreeSet<TransactionId>,
    /// What each application may be told is gone: it could see it when it went.
    gone_rows: BTreeMap<ApplicationId, BTreeSet<TransactionId>>,
    /// The grants that it was given.
    grants: BTreeSet<String>,
    /// When it was taken over from a worker that did not release it, and since when it was free.
    takeovers: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    gone: bool,
}

struct Held {
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
        Self { banks, clock, trace, skew, damage, turn: Arc::default(), facts: Mutex::default() }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bank(&self, id: &InstitutionId) -> Option<Arc<Bank>> {
        self.banks.get(id).cloned()
    }

    /// What the run did.
    pub(crate) fn stats(&self) -> Stats {
        self.facts().stats
    }

    /// Counts something.
    pub(crate) fn count(&self, count: impl FnOnce(&mut Stats)) {
        count(&mut self.facts().stats);
    }
}
