//! Data on hold, and the decisions of operators about it: for one Item or a whole institution.

use super::{Items, ItemsError, ItemsErrorKind};
use crate::{
    merge::{AccountStanding, AccountWrite, KnownAccount, RowRule},
    review::{self, AccountOnHold, Decision, RowsOnHold, Subject},
    store::{AccountsWrite, Commit, DecisionOutcome, ItemRecord, Moves, Review, Ruling},
    sync_state::Freshness,
};
use px_client::Window;
use px_types::{AccountId, InstitutionId, ItemId};

/// Number of Items per read of entries.
const PAGE_ITEMS: usize = 200;

/// Maximum number of Items that an outcome names.
const MAX_BUSY_ITEMS: usize = 100;

/// Scope of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReviewScope {
    /// One Item, with all its data on hold.
    Item(ItemId),
    /// All Items of an institution, including those with transactions put on hold within the
    /// next 30 days. Responses that may be another customer's are decided for each Item.
    Institution(InstitutionId),
}

/// Outcome of a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReviewOutcome {
    /// Number of Items to which the decision was applied.
    pub items: u64,
    /// Items to which it could not be applied because a worker has them or their user must sign in;
    /// at most 100. In the case of an institution, the next update of each Item applies it.
    pub busy: Vec<ItemId>,
}

impl Items {
    /// Returns data on hold, and decisions that can be taken back, by Item: for up to `limit` Items
    /// after the Item `after`, of an institution or of all.
    ///
    /// # Errors
    /// [`Unavailable`](ItemsErrorKind::Unavailable) or [`Internal`](ItemsErrorKind::Internal) if
    /// the store fails.
    pub async fn reviews(
        &self,
        institution: Option<&InstitutionId>,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<Review>, ItemsError> {
        Ok(self.store.reviews(institution, after, limit).await?)
    }

    /// Decides that data on hold is what it seems: accounts are new, transactions under other ids
    /// are new and the old ones gone, and a response is the customer's. A scan of all dates is
    /// scheduled.
    ///
    /// # Errors
    /// - [`InvalidField`](ItemsErrorKind::InvalidField) if no data of the Item is on hold;
    /// - [`ItemNotFound`](ItemsErrorKind::ItemNotFound) if the Item does not exist;
    /// - [`Busy`](ItemsErrorKind::Busy) if a worker has the Item, or its authorization has ended;
    /// - [`Unavailable`](ItemsErrorKind::Unavailable) or [`Internal`](ItemsErrorKind::Internal) if
    ///   the store fails.
    pub async fn accept(&self, scope: &ReviewScope, by: &str) -> Result<ReviewOutcome, ItemsError> {
        self.decide_all(scope, DecisionOutcome::Accepted, by).await
    }

    /// Decides that data on hold is known data under other ids of the partner: accounts and
    /// transactions keep the ids that applications know. A scan of all dates is scheduled. Rows
    /// with equal contents are the same transactions, others are new or gone.
    ///
    /// # Errors
    /// See [`accept`](Self::accept).
    pub async fn remap(&self, scope: &ReviewScope, by: &str) -> Result<ReviewOutcome, ItemsError> {
        self.decide_all(scope, DecisionOutcome::Remapped, by).await
    }

    /// Takes the last decision back: its data is on hold again, and waits for an operator.
    ///
    /// Possible until the next deep resync. It is refused for data that has been replaced
    /// meanwhile: transactions that an operator accepted as new, and accounts that an operator
    /// remapped, once they were read.
    ///
    /// # Errors
    /// See [`accept`](Self::accept). Additionally [`InvalidField`](ItemsErrorKind::InvalidField) if
    /// the decision cannot be taken back.
    pub async fn undo(&self, scope: &ReviewScope, by: &str) -> Result<ReviewOutcome, ItemsError> {
        match scope {
            ReviewScope::Item(item) => {
                self.undo_item(item, by).await?;
                Ok(ReviewOutcome { items: 1, busy: Vec::new() })
            }
            ReviewScope::Institution(institution) => {
                self.store.end_ruling(institution).await?;
                let can_be = |reviews: &[&Review]| reviews.iter().any(|one| one.decision.is_some());
                let mut outcome = ReviewOutcome::default();
                for item in self.reviewed_items(institution, can_be).await? {
                    outcome.record(&item, self.undo_item(&item, by).await)?;
                }
                Ok(outcome)
            }
        }
    }

    async fn decide_all(
        &self,
        scope: &ReviewScope,
        decision: DecisionOutcome,
        by: &str,
    ) -> Result<ReviewOutcome, ItemsError> {
        match scope {
            ReviewScope::Item(item) => {
                self.decide_item(item, decision, by, true).await?;
                Ok(ReviewOutcome { items: 1, busy: Vec::new() })
            }
            ReviewScope::Institution(institution) => {
                let now = self.clock.now();
                self.store.put_ruling(&Ruling::new(institution.clone(), decision, by, now)).await?;
                let pending = |reviews: &[&Review]| {
                    let mut open = reviews.iter().filter(|one| one.decision.is_none());
                    open.any(|one| one.subject != Subject::Customer)
                };
                let mut outcome = ReviewOutcome::default();
                for item in self.reviewed_items(institution, pending).await? {
                    outcome.record(&item, self.decide_item(&item, decision, by, false).await)?;
                }
                Ok(outcome)
            }
        }
    }

    /// Returns the Items of an institution with wanted entries.
    async fn reviewed_items(
        &self,
        institution: &InstitutionId,
        wanted: impl Fn(&[&Review]) -> bool,
    ) -> Result<Vec<ItemId>, ItemsError> {
        let mut items: Vec<ItemId> = Vec::new();
        let mut after: Option<ItemId> = None;
        loop {
            let page = self.store.reviews(Some(institution), after.as_ref(), PAGE_ITEMS).await?;
            let Some(last) = page.last() else { return Ok(items) };
            after = Some(last.item_id.clone());
            for of_item in page.chunk_by(|a, b| a.item_id == b.item_id) {
                let entries: Vec<_> = of_item.iter().collect();
                if wanted(&entries) {
                    items.push(of_item[0].item_id.clone());
                }
            }
        }
    }

    async fn decide_item(
        &self,
        item: &ItemId,
        decision: DecisionOutcome,
        by: &str,
        with_customer: bool,
    ) -> Result<(), ItemsError> {
        self.decide(item, |record, known| {
            let at = (&self.plan, self.clock.now());
            let decided =
                review::decide(&record.sync_state, known, (decision, by), at, with_customer);
            let Some(decided) = decided else {
                return Err(invalid_decision("no data of the Item is on hold"));
            };
            let mut commit = self.hand_back_commit(record)?;
            commit.sync_state = decided.sync_state;
            commit.changes.new_accounts = decided.new_accounts;
            commit.accounts = decided.accounts;
            self.add_review(&mut commit, record, &decided.decisions);
            Ok(commit)
        })
        .await
    }

    async fn undo_item(&self, item: &ItemId, by: &str) -> Result<(), ItemsError> {
        let (west, east) = crate::plan::today(self.clock.now());
        let all = Window::new(west.minus_days(self.plan.history_days), east);
        let all =
            all.ok_or_else(|| invalid_decision("the settings of the plan have no dates to read"))?;
        let rows = self.store.known(item, all, &[]).await?;
        self.decide(item, |record, known| {
            let mut commit = self.hand_back_commit(record)?;
            let Some(decision) = commit.sync_state.review.decisions.pop() else {
                return Err(invalid_decision("no decision about the Item can be taken back"));
            };
            match &decision.subject {
                Subject::Account { held, like } => {
                    undo_account(&mut commit, known, &decision, (held, like))?;
                    let of_held = rows.iter().filter(|row| row.account_id == *held);
                    let of_held = of_held.map(|row| (row.account_id.clone(), row.id.clone()));
                    commit.transactions.removed = of_held.collect();
                    commit.changes.removed.clone_from(&commit.transactions.removed);
                }
                Subject::Transactions | Subject::Customer => {
                    undo_rows(&mut commit, record, &decision, all)?;
                }
            }
            commit.sync_state.review.operator_only = true;
            commit.sync_state.read_all(&self.plan, self.clock.now());
            commit.sync_state.refresh_review(known);
            tracing::info!(%item, by, "a decision about data on hold was taken back");
            self.add_review(&mut commit, record, std::slice::from_ref(&decision));
            Ok(commit)
        })
        .await
    }
}

impl ReviewOutcome {
    fn record(&mut self, item: &ItemId, result: Result<(), ItemsError>) -> Result<(), ItemsError> {
        match result {
            Ok(()) => self.items += 1,
            // It was decided or unlinked since it was listed, or the decision cannot be taken back.
            Err(error) if is_skipped(error.kind()) => {}
            Err(error) if error.kind() == ItemsErrorKind::Busy => {
                if self.busy.len() < MAX_BUSY_ITEMS {
                    self.busy.push(item.clone());
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn is_skipped(kind: ItemsErrorKind) -> bool {
    matches!(kind, ItemsErrorKind::InvalidField | ItemsErrorKind::ItemNotFound)
}

fn invalid_decision(message: &str) -> ItemsError {
    ItemsError::new(ItemsErrorKind::InvalidField, message)
}

/// Returns whether nothing was read since a decision.
fn is_unread(fresh: &Freshness, decision: &Decision) -> bool {
    let earlier = |at: Option<_>| at.is_none_or(|at| at < decision.at);
    earlier(fresh.accounts) && earlier(fresh.transactions)
}

/// Puts an account on hold again.
fn undo_account(
    commit: &mut Commit,
    known: &[KnownAccount],
    decision: &Decision,
    (held, like): (&AccountId, &AccountId),
) -> Result<(), ItemsError> {
    if decision.outcome != DecisionOutcome::Accepted {
        return Err(invalid_decision(
            "an account that was remapped cannot be separated again; unlink the Item and link it again",
        ));
    }
    let account = known.iter().find(|known| known.account.id == *held);
    let account = account.ok_or_else(|| invalid_decision("the account does not exist any more"))?;
    let mut account = account.clone();
    account.standing = AccountStanding::Held;
    let mut write = AccountsWrite::default();
    write.accounts.push(AccountWrite::new(account, false));
    commit.accounts = Some(write);
    // The program does not release it again, since it only releases accounts that are alike by
    // name.
    let hold = AccountOnHold::new(commit.now, like.clone(), false);
    commit.sync_state.review.accounts.insert(held.clone(), hold);
    Ok(())
}

/// Puts transactions on hold again. Those that continued under other ids get the partner's earlier
/// ones back.
fn undo_rows(
    commit: &mut Commit,
    record: &ItemRecord,
    decision: &Decision,
    all: Window,
) -> Result<(), ItemsError> {
    let is_final = decision.outcome == DecisionOutcome::Accepted;
    if is_final && !is_unread(&record.sync_state.fresh, decision) {
        return Err(invalid_decision(
            "transactions that were accepted as new cannot be taken back after they were read",
        ));
    }
    let review = &mut commit.sync_state.review;
    review.rule = RowRule::Judge;
    review.trusts_next = false;
    if decision.subject == Subject::Transactions {
        let mut rows = RowsOnHold::new(commit.now, all.start());
        rows.accounts.clone_from(&decision.accounts);
        review.rows = Some(rows);
    }
    commit.moves = Moves::Restore;
    Ok(())
}
