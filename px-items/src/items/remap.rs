//! Accounts and transactions that came back under other ids: a person decides what they are.
//!
//! A merge that finds an account that looks like another one under a new id holds it: no
//! application sees it and none of its transactions are imported, so that nothing is there
//! twice. These are the two ways out: it is the one that the Item has, or it is a new one.
//! Transactions that all come back under new ids are not imported either; that way out is to say
//! that they are the same.

use super::{Items, ItemsError, ItemsErrorKind};
use crate::{
    item::{self, Event},
    life::{History, Suspicion},
    merge::{self, AccountStanding, KnownAccount, RemapError, Remapped},
    plan,
    store::{AccountsWrite, Commit, ItemRecord, Then},
};
use chrono::TimeDelta;
use px_types::{AccountId, ItemId, model::account::Account};

/// How long the decision holds an Item at most.
const LEASE: TimeDelta = TimeDelta::seconds(60);

impl Items {
    /// The accounts of an Item that wait for a decision.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn held_accounts(&self, item: &ItemId) -> Result<Vec<Account>, ItemsError> {
        let known = self.store.accounts(item).await?;
        let held = known.into_iter().filter(|known| known.standing == AccountStanding::Held);
        Ok(held.map(|known| known.account).collect())
    }

    /// Says that a held account is one that the Item has, which the partner lists under its old
    /// id no more. It goes on under the id that applications know; all its dates are read again.
    ///
    /// # Errors
    /// [`InvalidAccount`](ItemsErrorKind::InvalidAccount) when `held` does not wait for a
    /// decision, the partner still lists `onto`, or the two are of different types or counted in
    /// different units; [`Busy`](ItemsErrorKind::Busy) when a worker
    /// has the Item, or it has lost its authorization.
    pub async fn remap_account(
        &self,
        item: &ItemId,
        held: &AccountId,
        onto: &AccountId,
    ) -> Result<(), ItemsError> {
        self.decide(item, |record, known| {
            let write = written(merge::remap(known, onto, held))?;
            self.decided(record, known, write)
        })
        .await
    }

    /// Says that a held account is a new one. Connections take it in; all its dates are read.
    ///
    /// # Errors
    /// As [`remap_account`](Self::remap_account).
    pub async fn accept_account(&self, item: &ItemId, held: &AccountId) -> Result<(), ItemsError> {
        self.decide(item, |record, known| {
            let write = written(merge::accept(known, held))?;
            self.decided(record, known, write)
        })
        .await
    }

    /// Says that an Item's transactions are the ones that it has, though the partner gave all of
    /// them other ids. All dates are read again: what has the same contents goes on under the id
    /// that applications know, what has others is what it is to the partner, new or gone.
    ///
    /// Without it such an Item imports no transactions until the partner's old ids are back.
    ///
    /// # Errors
    /// [`InvalidField`](ItemsErrorKind::InvalidField) when the Item is not under
    /// [that suspicion](Suspicion::TransactionIdsChanged); [`Busy`](ItemsErrorKind::Busy) as
    /// [`remap_account`](Self::remap_account).
    pub async fn accept_transaction_ids(&self, item: &ItemId) -> Result<(), ItemsError> {
        self.decide(item, |record, _| {
            if record.life.suspicion != Some(Suspicion::TransactionIdsChanged) {
                return Err(ItemsError::new(
                    ItemsErrorKind::InvalidField,
                    "no transactions of this Item wait for a decision",
                ));
            }
            let mut commit = self.handed_back(record)?;
            commit.life.suspicion = None;
            commit.life.renumbered = true;
            self.read_all(&mut commit);
            Ok(commit)
        })
        .await
    }

    /// Takes the Item as a worker does, stores the decision, and leaves the rest to a worker.
    async fn decide(
        &self,
        item: &ItemId,
        decision: impl FnOnce(&ItemRecord, &[KnownAccount]) -> Result<Commit, ItemsError>,
    ) -> Result<(), ItemsError> {
        let now = self.clock.now();
        let Some(record) = self.store.claim_one(item, now, now + LEASE).await? else {
            return Err(match self.store.item(item).await? {
                None => ItemsError::item_not_found(),
                Some(_) => ItemsError::new(
                    ItemsErrorKind::Busy,
                    "a worker has the Item, or it waits for its user; nothing was changed, try again",
                ),
            });
        };
        let known = self.store.accounts(item).await?;
        match decision(&record, &known) {
            Ok(commit) => self.store.commit(commit).await?,
            Err(error) => {
                let due_at = record.due_at.unwrap_or(now);
                self.store.hand_back(&[(item.clone(), record.fence, due_at)]).await?;
                return Err(error);
            }
        }
        tracing::info!(%item, "decided what came under another id");
        (self.wake)();
        Ok(())
    }

    /// Gives the Item back, due at once.
    fn handed_back(&self, record: &ItemRecord) -> Result<Commit, ItemsError> {
        let now = self.clock.now();
        let (state, _) = item::step(record.state, Event::HandedBack).map_err(|impossible| {
            ItemsError::new(ItemsErrorKind::Internal, "the Item cannot be given back")
                .caused_by(impossible)
        })?;
        let then =
            Then::Release { due_at: Some(now), not_before: record.not_before, seen: NONE_SEEN };
        Ok(Commit::new(record, state, now, then))
    }

    /// Whatever was not imported meanwhile may lie far back.
    fn read_all(&self, commit: &mut Commit) {
        commit.life.deep = Some(plan::history(&self.plan, self.clock.now()));
        commit.life.absent.clear();
    }

    /// What is to be stored of a decision about an account.
    fn decided(
        &self,
        record: &ItemRecord,
        known: &[KnownAccount],
        write: AccountsWrite,
    ) -> Result<Commit, ItemsError> {
        let mut commit = self.handed_back(record)?;
        let held = known.iter().filter(|known| known.standing == AccountStanding::Held).count();
        if held <= 1 && commit.life.suspicion == Some(Suspicion::AccountIdsChanged) {
            commit.life.suspicion = None;
        }
        // Its transactions were not imported while it was held.
        if commit.life.history != History::Missing {
            self.read_all(&mut commit);
        }
        let new = write.accounts.iter().filter(|write| write.new);
        commit.news.new_accounts = new.map(|write| write.known.account.id.clone()).collect();
        commit.accounts = Some(write);
        Ok(commit)
    }
}

/// Nothing was read, so no notification was taken into account.
const NONE_SEEN: i64 = 0;

/// What a decision writes, or why it cannot be made.
fn written(decision: Result<Remapped, RemapError>) -> Result<AccountsWrite, ItemsError> {
    let Remapped { writes: accounts, forgotten } = decision
        .map_err(|error| ItemsError::new(ItemsErrorKind::InvalidAccount, error.to_string()))?;
    Ok(AccountsWrite { accounts, forgotten, ..AccountsWrite::default() })
}
