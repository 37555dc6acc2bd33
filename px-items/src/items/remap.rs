//! Decisions of an operator about accounts that came back under other ids.
//!
//! An account under a new id that resembles another one is put on hold: no application sees it and
//! none of its transactions are imported, so that nothing is duplicated. There are two decisions:
//! it is an account that the Item already has, or it is a new one. Other data on hold, and
//! decisions for whole Items and institutions, are in `review`.

use super::{Items, ItemsError, ItemsErrorKind};
use crate::{
    item::{self, Event},
    merge::{self, AccountStanding, KnownAccount, RemapError, Remapped},
    review::{self, Decision},
    store::{AccountsWrite, Commit, DecisionOutcome, ItemRecord, LeaseOutcome},
};
use chrono::TimeDelta;
use px_types::{AccountId, ItemId, model::account::Account};

/// Lease of the Item during a decision.
const DECISION_LEASE: TimeDelta = TimeDelta::seconds(60);

impl Items {
    /// Returns the accounts of an Item that are on hold.
    ///
    /// # Errors
    /// [`Unavailable`](ItemsErrorKind::Unavailable) or [`Internal`](ItemsErrorKind::Internal) if
    /// the store fails.
    pub async fn accounts_on_hold(&self, item: &ItemId) -> Result<Vec<Account>, ItemsError> {
        let known = self.store.accounts(item).await?;
        let held = known.into_iter().filter(|known| known.standing == AccountStanding::Held);
        Ok(held.map(|known| known.account).collect())
    }

    /// Decides that an account on hold is one that the Item has, and that the partner no longer
    /// lists under its old id. It keeps the id that applications know. A scan of all its dates is
    /// scheduled.
    ///
    /// # Errors
    /// - [`InvalidAccount`](ItemsErrorKind::InvalidAccount) if `held` is not on hold, the partner
    ///   still lists `onto`, or the two have different types or units;
    /// - [`ItemNotFound`](ItemsErrorKind::ItemNotFound) if the Item does not exist;
    /// - [`Busy`](ItemsErrorKind::Busy) if a worker has the Item, or its authorization has ended;
    /// - [`Unavailable`](ItemsErrorKind::Unavailable) or [`Internal`](ItemsErrorKind::Internal) if
    ///   the store fails.
    pub async fn remap_account(
        &self,
        item: &ItemId,
        held: &AccountId,
        onto: &AccountId,
    ) -> Result<(), ItemsError> {
        self.decide(item, |record, known| {
            let write = account_writes(merge::remap(known, onto, held))?;
            self.decision_commit(
                record,
                known,
                (held, DecisionOutcome::Remapped, Some(onto)),
                write,
            )
        })
        .await
    }

    /// Decides that an account on hold is a new one. It is added to connections, and a scan of all
    /// its dates is scheduled.
    ///
    /// # Errors
    /// See [`remap_account`](Self::remap_account).
    pub async fn accept_account(&self, item: &ItemId, held: &AccountId) -> Result<(), ItemsError> {
        self.decide(item, |record, known| {
            let write = account_writes(merge::accept(known, held))?;
            self.decision_commit(record, known, (held, DecisionOutcome::Accepted, None), write)
        })
        .await
    }

    /// Claims the Item like a worker, stores the decision, and leaves the rest to a worker.
    pub(super) async fn decide(
        &self,
        item: &ItemId,
        decision: impl FnOnce(&ItemRecord, &[KnownAccount]) -> Result<Commit, ItemsError>,
    ) -> Result<(), ItemsError> {
        let now = self.clock.now();
        let Some(record) = self.store.claim_one(item, now, now + DECISION_LEASE).await? else {
            return Err(match self.store.item(item).await? {
                None => ItemsError::item_not_found(),
                Some(_) => ItemsError::new(
                    ItemsErrorKind::Busy,
                    "a worker has the Item, or its user must authorize again; nothing was changed, try again",
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
        tracing::info!(%item, "decided about data on hold");
        Ok(())
    }

    /// Returns a commit that hands the Item back, due at once.
    pub(super) fn hand_back_commit(&self, record: &ItemRecord) -> Result<Commit, ItemsError> {
        let now = self.clock.now();
        let (state, _) = item::step(record.state, Event::HandedBack).map_err(|invalid| {
            ItemsError::new(ItemsErrorKind::Internal, "the Item cannot be handed back")
                .with_source(invalid)
        })?;
        let then = LeaseOutcome::Release {
            due_at: Some(now),
            not_before: record.not_before,
            seen: NO_NOTIFICATION_SEEN,
        };
        Ok(Commit::new(record, state, now, then))
    }

    /// Returns the commit for a decision about an account.
    fn decision_commit(
        &self,
        record: &ItemRecord,
        known: &[KnownAccount],
        (held, outcome, onto): (&AccountId, DecisionOutcome, Option<&AccountId>),
        write: AccountsWrite,
    ) -> Result<Commit, ItemsError> {
        let mut commit = self.hand_back_commit(record)?;
        let now = self.clock.now();
        let like = commit.sync_state.review.accounts.get(held).map(|hold| hold.like.clone());
        let like = onto.cloned().or(like).unwrap_or_else(|| held.clone());
        let decision =
            commit.sync_state.review.decide_account(held, &like, (outcome, review::OPERATOR), now);
        // Its transactions were not imported while it was on hold.
        commit.sync_state.read_all(&self.plan, now);
        let mut after = known.to_vec();
        after.retain(|known| known.account.id != *held);
        commit.sync_state.refresh_review(&after);
        let new = write.accounts.iter().filter(|write| write.new);
        commit.changes.new_accounts = new.map(|write| write.known.account.id.clone()).collect();
        commit.accounts = Some(write);
        self.add_review(&mut commit, record, &[decision]);
        Ok(commit)
    }

    /// Adds the remaining data on hold, and the audit entries of decisions, to a commit.
    pub(super) fn add_review(
        &self,
        commit: &mut Commit,
        record: &ItemRecord,
        decisions: &[Decision],
    ) {
        commit.reviews = Some(review::entries(record, &commit.sync_state.review));
        let of = |decision| Some(review::activity(decision, super::random_id(&*self.random)?));
        commit.activities = decisions.iter().filter_map(of).collect();
    }
}

/// Nothing was read, so no notification was taken into account.
const NO_NOTIFICATION_SEEN: i64 = 0;

/// Returns the writes of a decision, or the reason why it cannot be made.
fn account_writes(decision: Result<Remapped, RemapError>) -> Result<AccountsWrite, ItemsError> {
    let Remapped { writes: accounts, forgotten } = decision
        .map_err(|error| ItemsError::new(ItemsErrorKind::InvalidAccount, error.to_string()))?;
    Ok(AccountsWrite { accounts, forgotten, ..AccountsWrite::default() })
}
