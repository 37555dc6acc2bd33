//! Data that a bank has all the time must never be removed: rows that a commit removes, and
//! accounts that it closes, are compared with the bank's books at that time.

use super::{Facts, Witness};
use crate::{bank::Bank, life::Life};
use chrono::TimeDelta;
use px_core::Clock as _;
use px_items::{
    merge::{AccountStanding, TransactionWrite},
    store::Commit,
};
use px_types::{TransactionId, UserId};
use std::sync::Arc;

/// Time after which a moved row, or an account that was listed again, is compared: a scan that
/// began before may have seen the earlier state of the bank.
const SETTLED_AFTER: TimeDelta = TimeDelta::days(2);

impl Witness {
    /// Reports data that a commit removes although the bank has it.
    pub(super) fn check_losses(&self, life: &Life, commit: &Commit) {
        let Some((bank, user)) = self.bank_of(commit) else { return };
        let since = self.clock.now() - SETTLED_AFTER;
        let mut wrong = Vec::new();
        {
            let (facts, ledgers) = (self.facts(), bank.ledgers());
            let Some(ledger) = ledgers.get(&user) else { return };
            for (_, id) in &commit.transactions.removed {
                let Some(stored_id) = facts.partner_id(commit, id) else { continue };
                let partner_id = stable(&stored_id);
                // A pending row with an id for one read has posted. If several rows fit, none is
                // joined: the posted row is added, and the pending one is removed.
                if stored_id != partner_id && ledger.is_posted(&partner_id) {
                    continue;
                }
                // If several pending rows fit, none is paired: the row is removed, and added again.
                let is_added_again = |write: &TransactionWrite| {
                    write.known.id != *id && stable(&write.known.partner_id) == partner_id
                };
                if stored_id != partner_id && commit.transactions.writes.iter().any(is_added_again)
                {
                    continue;
                }
                if ledger.stayed(&partner_id, since) {
                    wrong.push(format!(
                        "{} removed {id} ({partner_id}), which {} has",
                        life.name, bank.id
                    ));
                }
            }
            for write in commit.accounts.iter().flat_map(|accounts| &accounts.accounts) {
                let id = &write.known.partner_id;
                let closed = write.known.standing == AccountStanding::Closed;
                if closed && ledger.account_stayed(id, since) {
                    wrong.push(format!(
                        "{} closed account {id}, which {} lists",
                        life.name, bank.id
                    ));
                }
            }
        }
        wrong.into_iter().for_each(|what| self.trace.wrong(what));
    }

    pub(super) fn bank_of(&self, commit: &Commit) -> Option<(Arc<Bank>, UserId)> {
        let facts = self.facts();
        let item = facts.items.get(&commit.item_id)?;
        Some((self.bank(&item.institution)?, item.user.clone()))
    }
}

impl Facts {
    /// Returns the bank's id of a row, as it was last stored.
    fn partner_id(&self, commit: &Commit, id: &TransactionId) -> Option<TransactionId> {
        self.items.get(&commit.item_id)?.partner_ids.get(id).cloned()
    }

    /// Records the bank's ids of the rows of a commit.
    pub(super) fn note_partner_ids(&mut self, commit: &Commit) {
        let Some(item) = self.items.get_mut(&commit.item_id) else { return };
        for write in &commit.transactions.writes {
            item.partner_ids.insert(write.known.id.clone(), write.known.partner_id.clone());
        }
    }
}

/// Returns the bank's id of a transaction, without the part that changes on every read at some
/// banks.
pub(crate) fn stable(id: &TransactionId) -> TransactionId {
    match id.as_str().split_once('~') {
        Some((stable, _)) => TransactionId::new(stable).unwrap(),
        None => id.clone(),
    }
}
