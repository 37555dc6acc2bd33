//! What can be read must be shown: after each update, transactions that have not changed for days and
//! that the bank serves undamaged are compared with the bank's ledger.

use super::{Facts, Witness, rows::stable};
use crate::life::Life;
use chrono::{DateTime, TimeDelta, Utc};
use px_client::Window;
use px_core::Clock as _;
use px_items::{
    item::State,
    merge::AccountStanding,
    store::{Commit, LeaseOutcome, Store, TransactionQuery},
    sync_state::History,
};
use px_types::{
    AccountId, Date, InstitutionId, TransactionId, UserId, model::transaction::Transaction,
};
use std::{collections::BTreeMap, sync::atomic::Ordering};

/// A transaction is compared if it was the same for so long.
const UNCHANGED_FOR: TimeDelta = TimeDelta::days(2);
/// An update takes less time than that: what was damaged at its beginning is not compared.
const UPDATE_TIME: TimeDelta = TimeDelta::hours(1);
/// Every update reads this number of days, whichever date the bank files by.
const READ_DAYS: u64 = 4;

/// Each transaction of a bank as it was last observed, and since when it is like that.
pub(super) type Observed =
    BTreeMap<(InstitutionId, UserId, TransactionId), (Transaction, DateTime<Utc>)>;

impl Witness {
    /// Compares what an Item shows after an update with the bank's ledger.
    pub(super) async fn check_shown(&self, store: &dyn Store, life: &Life, commit: &Commit) {
        // A decision of an operator is a commit without an update.
        let is_decision = life.name == "good";
        if is_decision
            || !self.compares_shown.load(Ordering::Relaxed)
            || !is_finished_update(commit)
        {
            return;
        }
        let Some((bank, user)) = self.bank_of(commit).filter(|(bank, _)| bank.has_transactions())
        else {
            return;
        };
        let record = store.item(&commit.item_id).await.unwrap();
        if !record.is_some_and(|record| record.needs_transactions) {
            return;
        }
        let window = all_dates();
        let known = store.known(&commit.item_id, window, &[]).await.unwrap();
        let query = TransactionQuery::new(window, 100_000);
        let page = store.transactions(&commit.item_id, &query).await.unwrap();
        let rows: BTreeMap<_, _> = page.rows.into_iter().map(|row| (row.id.clone(), row)).collect();
        let accounts: BTreeMap<AccountId, AccountId> = store
            .accounts(&commit.item_id)
            .await
            .unwrap()
            .into_iter()
            .filter(|known| known.standing == AccountStanding::Listed)
            .map(|known| (known.partner_id, known.account.id))
            .collect();
        // Where nothing is removed, a pending transaction may stay beside the one that posted.
        let mut shown = BTreeMap::<_, Vec<_>>::new();
        for known in &known {
            if let Some(row) = rows.get(&known.id) {
                shown.entry(stable(&known.partner_id)).or_default().push(row);
            }
        }
        let now = self.clock.now();
        let since = now - UNCHANGED_FOR;
        let earliest = bank.today().minus_days(READ_DAYS);
        let mut wrong = Vec::new();
        {
            let (mut facts, ledgers) = (self.facts(), bank.ledgers());
            let Some(ledger) = ledgers.get(&user) else { return };
            for row in ledger.shown() {
                let key = (bank.id.clone(), user.clone(), row.id.clone());
                let is_old = facts.observe(key, row, now) <= since;
                let dates = [Some(row.transacted_at), row.settled_at];
                let is_read = dates.iter().flatten().all(|at| at.date() >= earliest);
                let is_served = [now, now - UPDATE_TIME]
                    .iter()
                    .all(|at| self.damage.serves(*at, &row.id, &row.account_id));
                if !is_old || !is_read || !is_served || !ledger.stayed(&row.id, since) {
                    continue;
                }
                let Some(account) = accounts.get(&row.account_id) else { continue };
                let mut expected = row.clone();
                expected.account_id = account.clone();
                let is_equal = shown.get(&row.id).into_iter().flatten().any(|shown| {
                    expected.id = shown.id.clone();
                    **shown == expected
                });
                if !is_equal {
                    wrong.push(format!(
                        "{} updated {} and shows transaction {} otherwise than {} has it: {:?}",
                        life.name,
                        commit.item_id,
                        row.id,
                        bank.id,
                        shown.get(&row.id)
                    ));
                }
            }
        }
        wrong.into_iter().for_each(|what| self.trace.wrong(what));
    }
}

impl Facts {
    /// Notes a transaction as the bank has it. Returns the time since which it is like that.
    fn observe(
        &mut self,
        key: (InstitutionId, UserId, TransactionId),
        row: &Transaction,
        now: DateTime<Utc>,
    ) -> DateTime<Utc> {
        let entry = self.observed.entry(key).or_insert_with(|| (row.clone(), now));
        if entry.0 != *row {
            *entry = (row.clone(), now);
        }
        entry.1
    }
}

fn is_finished_update(commit: &Commit) -> bool {
    let life = &commit.sync_state;
    matches!(commit.lease, LeaseOutcome::Release { .. })
        && commit.state == State::Idle
        && life.last_failure.is_none()
        && life.suspicion.is_none()
        && life.history == History::Complete
}

fn all_dates() -> Window {
    Window::new(Date::from_ymd(2000, 1, 1).unwrap(), Date::from_ymd(2100, 1, 1).unwrap()).unwrap()
}
