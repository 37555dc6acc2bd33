//! What waits for a decision, and the decisions of operators: for one Item or a whole institution.

use super::{Items, ItemsError, ItemsErrorKind};
use crate::{
    life::Freshness,
    merge::{AccountStanding, AccountWrite, KnownAccount, RowRule},
    review::{self, AccountOnHold, Decision, RowsOnHold, Subject},
    store::{AccountsWrite, Commit, ItemRecord, Moves, Review, Ruling, Verdict},
};
use px_client::Window;
use px_types::{AccountId, InstitutionId, ItemId};

/// Number of Items whose entries are read at a time.
const PAGE: usize = 200;

/// Maximum number of Items that an outcome names.
const MAX_NAMED: usize = 100;

/// What a decision is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReviewScope {
    /// One Item, with everything of it that waits.
    Item(ItemId),
    /// All Items of an institution, and those whose transactions are found to wait within the
    /// next 30 days. Responses that may be another customer's are decided Item by Item.
    Institution(InstitutionId),
}

/// What became of a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReviewOutcome {
    /// The number of Items that it was carried out for.
    pub items: u64,
    /// Items that it could not be carried out for, as a worker has them or their user must sign in;
    /// 100 at most. For an institution, the next update of each carries it out.
    pub busy: Vec<ItemId>,
}

impl Items {
    /// Returns what waits for a decision and what can be taken back, by Item: of so many Items
    /// after one, of an institution or of all.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn reviews(
        &self,
        institution: Option<&InstitutionId>,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<Review>, ItemsError> {
        Ok(self.store.reviews(institution, after, limit).await?)
    }

    /// Decides that what is on hold is what it seems: accounts are new, transactions under other
    /// ids are new and the old ones gone, and a response is the customer's. All dates are read
    /// again.
    ///
    /// # Errors
    /// [`InvalidField`](ItemsErrorKind::InvalidField) if nothing of the Item waits;
    /// [`Busy`](ItemsErrorKind::Busy) if a worker has the Item, or it has lost its authorization.
    pub async fn accept(&self, scope: &ReviewScope, by: &str) -> Result<ReviewOutcome, ItemsError> {
        self.rule(scope, Verdict::Accepted, by).await
    }

    /// Decides that what is on hold is what the Item has, under other ids of the partner's:
    /// accounts and transactions go on under the ids that applications know. All dates are read
    /// again: what has the same contents is the same transaction, what has others is new or gone.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub async fn remap(&self, scope: &ReviewScope, by: &str) -> Result<ReviewOutcome, ItemsError> {
        self.rule(scope, Verdict::Remapped, by).await
    }

    /// Takes the last decision back: what was on hold is so again, and waits for an operator.
    ///
    /// That can be done until the next deep resync. It is refused for what has been replaced
    /// meanwhile: transactions that an operator accepted as new, and accounts that an operator
    /// remapped, once they were read.
    ///
    /// # Errors
    /// As [`accept`](Self::accept), and if the decision cannot be taken back.
    pub async fn undo(&self, scope: &ReviewScope, by: &str) -> Result<ReviewOutcome, ItemsError> {
        match scope {
            ReviewScope::Item(item) => {
                self.undo_one(item, by).await?;
                Ok(ReviewOutcome { items: 1, busy: Vec::new() })
            }
            ReviewScope::Institution(institution) => {
                self.store.end_ruling(institution).await?;
                let can_be = |reviews: &[&Review]| reviews.iter().any(|one| one.decision.is_some());
                let mut outcome = ReviewOutcome::default();
                for item in self.reviewed_items(institution, can_be).await? {
                    outcome.note(&item, self.undo_one(&item, by).await)?;
                }
                Ok(outcome)
            }
        }
    }

    async fn rule(
        &self,
        scope: &ReviewScope,
        verdict: Verdict,
        by: &str,
    ) -> Result<ReviewOutcome, ItemsError> {
        match scope {
            ReviewScope::Item(item) => {
                self.rule_one(item, verdict, by, true).await?;
                Ok(ReviewOutcome { items: 1, busy: Vec::new() })
            }
            ReviewScope::Institution(institution) => {
                let now = self.clock.now();
                self.store.put_ruling(&Ruling::new(institution.clone(), verdict, by, now)).await?;
                let waits = |reviews: &[&Review]| {
                    let mut open = reviews.iter().filter(|one| one.decision.is_none());
                    open.any(|one| one.subject != Subject::Customer)
                };
                let mut outcome = ReviewOutcome::default();
                for item in self.reviewed_items(institution, waits).await? {
                    outcome.note(&item, self.rule_one(&item, verdict, by, false).await)?;
                }
                Ok(outcome)
            }
        }
    }

    /// The Items of an institution with entries of a kind.
    async fn reviewed_items(
        &self,
        institution: &InstitutionId,
        wanted: impl Fn(&[&Review]) -> bool,
    ) -> Result<Vec<ItemId>, ItemsError> {
        let mut items: Vec<ItemId> = Vec::new();
        let mut after: Option<ItemId> = None;
        loop {
            let page = self.store.reviews(Some(institution), after.as_ref(), PAGE).await?;
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

    async fn rule_one(
        &self,
        item: &ItemId,
        verdict: Verdict,
        by: &str,
        with_customer: bool,
    ) -> Result<(), ItemsError> {
        self.decide(item, |record, known| {
            let at = (&self.plan, self.clock.now());
            let decided = review::decide(&record.life, known, (verdict, by), at, with_customer);
            let Some(decided) = decided else { return Err(nothing("nothing of it waits")) };
            let mut commit = self.handed_back(record)?;
            commit.life = decided.life;
            commit.news.new_accounts = decided.new_accounts;
            commit.accounts = decided.accounts;
            self.reviewed(&mut commit, record, &decided.decisions);
            Ok(commit)
        })
        .await
    }

    async fn undo_one(&self, item: &ItemId, by: &str) -> Result<(), ItemsError> {
        let (west, east) = crate::plan::today(self.clock.now());
        let all = Window::new(west.minus_days(self.plan.history_days), east);
        let all = all.ok_or_else(|| nothing("the plan reads no dates"))?;
        let rows = self.store.known(item, all, &[]).await?;
        self.decide(item, |record, known| {
            let mut commit = self.handed_back(record)?;
            let Some(decision) = commit.life.review.decisions.pop() else {
                return Err(nothing("no decision about it can be taken back"));
            };
            match &decision.subject {
                Subject::Account { held, like } => {
                    undo_account(&mut commit, known, &decision, (held, like))?;
                    let of_held = rows.iter().filter(|row| row.account_id == *held);
                    let of_held = of_held.map(|row| (row.account_id.clone(), row.id.clone()));
                    commit.transactions.removed = of_held.collect();
                    commit.news.removed.clone_from(&commit.transactions.removed);
                }
                Subject::Transactions | Subject::Customer => {
                    undo_rows(&mut commit, record, &decision, all)?;
                }
            }
            commit.life.review.operator_only = true;
            commit.life.read_all(&self.plan, self.clock.now());
            commit.life.refresh_review(known);
            tracing::info!(%item, by, "a decision about data on hold was taken back");
            self.reviewed(&mut commit, record, std::slice::from_ref(&decision));
            Ok(commit)
        })
        .await
    }
}

impl ReviewOutcome {
    fn note(&mut self, item: &ItemId, result: Result<(), ItemsError>) -> Result<(), ItemsError> {
        match result {
            Ok(()) => self.items += 1,
            // It was decided, or unlinked, since it was listed; or it cannot be taken back.
            Err(error) if is_passed_over(error.kind()) => {}
            Err(error) if error.kind() == ItemsErrorKind::Busy => {
                if self.busy.len() < MAX_NAMED {
                    self.busy.push(item.clone());
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn is_passed_over(kind: ItemsErrorKind) -> bool {
    matches!(kind, ItemsErrorKind::InvalidField | ItemsErrorKind::ItemNotFound)
}

fn nothing(what: &str) -> ItemsError {
    ItemsError::new(ItemsErrorKind::InvalidField, what)
}

/// Whether nothing was read since a decision.
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
    if decision.verdict != Verdict::Accepted {
        return Err(nothing(
            "an account that was remapped cannot be parted again; unlink the Item and link it anew",
        ));
    }
    let account = known.iter().find(|known| known.account.id == *held);
    let account = account.ok_or_else(|| nothing("the account is gone"))?;
    let mut account = account.clone();
    account.standing = AccountStanding::Held;
    let mut write = AccountsWrite::default();
    write.accounts.push(AccountWrite::new(account, false));
    commit.accounts = Some(write);
    // The program does not release it again: only what is alike by name is.
    let hold = AccountOnHold::new(commit.now, like.clone(), false);
    commit.life.review.accounts.insert(held.clone(), hold);
    Ok(())
}

/// Puts transactions on hold again: those that went on under other ids get the partner's earlier
/// ones back.
fn undo_rows(
    commit: &mut Commit,
    record: &ItemRecord,
    decision: &Decision,
    all: Window,
) -> Result<(), ItemsError> {
    let is_final = decision.verdict == Verdict::Accepted;
    if is_final && !is_unread(&record.life.fresh, decision) {
        return Err(nothing(
            "transactions that were accepted as new cannot be taken back once they were read",
        ));
    }
    let review = &mut commit.life.review;
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
