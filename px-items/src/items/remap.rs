//! Accounts and transactions that came back under other ids: a person decides what they are.
//!
//! A merge that finds an account that looks like another one under a new id holds it: no
//! application sees it and none of its transactions are imported, so that nothing is there
//! twice. These are the two ways out: it is the one that the Item has, or it is a new one.
//! What else waits, and decisions for whole Items and institutions, are in `review`.

use super::{Items, ItemsError, ItemsErrorKind};
use crate::{
    item::{self, Event},
    merge::{self, AccountStanding, KnownAccount, RemapError, Remapped},
    review::{self, Decision},
    store::{AccountsWrite, Commit, ItemRecord, Then, Verdict},
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
            self.decided(record, known, (held, Verdict::Remapped, Some(onto)), write)
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
            self.decided(record, known, (held, Verdict::Accepted, None), write)
        })
        .await
    }

    /// Takes the Item as a worker does, stores the decision, and leaves the rest to a worker.
    pub(super) async fn decide(
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
        Ok(())
    }

    /// Gives the Item back, due at once.
    pub(super) fn handed_back(&self, record: &ItemRecord) -> Result<Commit, ItemsError> {
        let now = self.clock.now();
        let (state, _) = item::step(record.state, Event::HandedBack).map_err(|impossible| {
            ItemsError::new(ItemsErrorKind::Internal, "the Item cannot be given back")
                .caused_by(impossible)
        })?;
        let then =
            Then::Release { due_at: Some(now), not_before: record.not_before, seen: NONE_SEEN };
        Ok(Commit::new(record, state, now, then))
    }

    /// What is to be stored of a decision about an account.
    fn decided(
        &self,
        record: &ItemRecord,
        known: &[KnownAccount],
        (held, verdict, onto): (&AccountId, Verdict, Option<&AccountId>),
        write: AccountsWrite,
    ) -> Result<Commit, ItemsError> {
        let mut commit = self.handed_back(record)?;
        let now = self.clock.now();
        let like = commit.life.review.accounts.get(held).map(|hold| hold.like.clone());
        let like = onto.cloned().or(like).unwrap_or_else(|| held.clone());
        let decision =
            commit.life.review.decide_account(held, &like, (verdict, review::OPERATOR), now);
        // Its transactions were not imported while it was held.
        commit.life.read_all(&self.plan, now);
        let mut after = known.to_vec();
        after.retain(|known| known.account.id != *held);
        commit.life.refresh_review(&after);
        let new = write.accounts.iter().filter(|write| write.new);
        commit.news.new_accounts = new.map(|write| write.known.account.id.clone()).collect();
        commit.accounts = Some(write);
        self.reviewed(&mut commit, record, &[decision]);
        Ok(commit)
    }

    /// Has a commit store what waits from then on, and the audit entries of decisions.
    pub(super) fn reviewed(
        &self,
        commit: &mut Commit,
        record: &ItemRecord,
        decisions: &[Decision],
    ) {
        commit.reviews = Some(review::entries(record, &commit.life.review));
        let of = |decision| Some(review::activity(decision, super::random_id(&*self.random)?));
        commit.activities = decisions.iter().filter_map(of).collect();
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
