//! Detection of changed transaction ids, and of responses with the data of another customer.
//!
//! Rows with suspected id changes are on hold until a decision is made: they are not imported, and
//! none of the stored rows counts as removed. Other new rows are still imported.

use super::{IncomingRow, KnownTransaction, MergeContext, RowOutcome, RowRule};
use px_types::{AccountId, Date, model::transaction::Transaction};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

/// Minimum number of rows with new ids for a suspicion: fewer may be a coincidence.
const MIN_RENUMBERED_ROWS: usize = 3;

/// Minimum share of the missing rows that must have a twin, in percent. It is below 100 because a bank
/// that changes its ids may change a text at the same time.
const MIN_TWINS_PERCENT: usize = 80;

/// Minimum number of missing rows for the suspicion that the response is another customer's.
const MIN_MISSING_ROWS: usize = 10;

/// Maximum number of days between the date of a row and that of its edited form.
const MAX_EDIT_DAYS: u64 = 3;

/// Rows of a window that may be stored rows under other ids, or the data of another customer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SuspectRows {
    /// Whether the response may be another customer's. If so, nothing of the window is imported.
    pub another_customer: bool,
    /// Accounts with rows on hold, by the Item's own ids.
    pub accounts: BTreeSet<AccountId>,
    /// Number of stored rows on hold.
    pub rows: u64,
}

/// The evidence for changed ids in one account.
#[derive(Default)]
struct IdEvidence {
    /// Indexes of stored posted rows that the response must contain but does not.
    missing: Vec<usize>,
    /// Missing rows that have a twin, an incoming row of an unknown id with the same contents: index
    /// of the stored row and index of the incoming row.
    twins: Vec<(usize, usize)>,
    /// Number of incoming rows with known ids.
    recognized: usize,
}

impl IdEvidence {
    /// Returns whether the ids changed. `is_on_hold`: rows of the account are on hold already. Then
    /// one twin is enough, because rows imported in the meantime would otherwise outweigh those on
    /// hold.
    fn changed(&self, is_on_hold: bool) -> bool {
        let twins = self.twins.len();
        let enough_twins = twins * 100 >= self.missing.len() * MIN_TWINS_PERCENT;
        match is_on_hold {
            true => twins > 0,
            false => twins >= MIN_RENUMBERED_ROWS && enough_twins && twins > self.recognized,
        }
    }

    fn extend(&mut self, other: &Self) {
        self.missing.extend(&other.missing);
        self.twins.extend(&other.twins);
        self.recognized += other.recognized;
    }
}

/// Puts rows with changed ids on hold.
///
/// Each account is checked on its own, and all accounts together, because a bank may renumber a single
/// account, and an Item may have few rows in each account.
pub(super) fn hold(
    context: &mut MergeContext<'_>,
    rows: &[IncomingRow],
    outcomes: &mut [RowOutcome],
    rule: &RowRule,
) -> Option<SuspectRows> {
    if matches!(rule, RowRule::Follow | RowRule::AsGiven) {
        return None;
    }
    let evidence = collect_evidence(context, rows, outcomes);
    let mut all = IdEvidence::default();
    evidence.values().for_each(|account_evidence| all.extend(account_evidence));
    if is_another_customers(context, rows, outcomes, &all) {
        let accounts = BTreeSet::new();
        let rows = all.missing.len() as u64;
        return Some(SuspectRows { another_customer: true, accounts, rows });
    }
    let decided = match rule {
        RowRule::Rebooked { accounts, .. } => accounts,
        _ => &BTreeSet::new(),
    };
    let is_on_hold = |account: &AccountId| context.accounts_on_hold.contains(account);
    let together = all.changed(false);
    let accounts: BTreeSet<AccountId> = evidence
        .iter()
        .filter(|(account, _)| !decided.contains::<AccountId>(account))
        .filter(|(account, account_evidence)| {
            account_evidence.changed(is_on_hold(account))
                || (together && !account_evidence.missing.is_empty())
        })
        .map(|(account, _)| (*account).clone())
        .collect();
    let mut ids_on_hold = HashSet::new();
    let mut rows_on_hold = 0;
    for (account, account_evidence) in &evidence {
        let missing = match rule {
            // Missing rows that were stored before the decision wait for the deep resync.
            RowRule::Rebooked { at, .. } if decided.contains(*account) => {
                let before = |known_index: &&usize| context.known[**known_index].read_at < *at;
                account_evidence.missing.iter().filter(before).copied().collect()
            }
            _ if accounts.contains(*account) => {
                rows_on_hold += account_evidence.missing.len() as u64;
                account_evidence.missing.clone()
            }
            _ => continue,
        };
        hold_rows(context, rows, outcomes, (account, &account_evidence.twins, &missing));
        ids_on_hold
            .extend(missing.iter().map(|known_index| context.known[*known_index].id.clone()));
    }
    context.on_hold = ids_on_hold;
    (!accounts.is_empty()).then_some(SuspectRows {
        another_customer: false,
        accounts,
        rows: rows_on_hold,
    })
}

/// Puts incoming posted rows of unknown ids on hold that may be missing stored rows: twins, and rows
/// that may be the edited form of a missing row without a twin. A row that is older than the last
/// successful read is on hold as well, since it cannot be new.
fn hold_rows(
    context: &MergeContext<'_>,
    rows: &[IncomingRow],
    outcomes: &mut [RowOutcome],
    (account, twins, missing): (&AccountId, &[(usize, usize)], &[usize]),
) {
    let paired: HashSet<usize> = twins.iter().map(|(_, row_index)| *row_index).collect();
    let with_twin: HashSet<usize> = twins.iter().map(|(known_index, _)| *known_index).collect();
    let without_twin: Vec<_> = missing
        .iter()
        .filter(|known_index| !with_twin.contains(known_index))
        .map(|known_index| &context.known[*known_index])
        .collect();
    for (row_index, read) in rows.iter().enumerate() {
        let row = &read.row;
        let is_unknown = outcomes[row_index] == RowOutcome::New { collides: false };
        if !is_unknown || row.account_id != *account || row.settled_at.is_none() {
            continue;
        }
        let is_later = context.last_good.is_some_and(|date| row.date() >= date);
        let is_edited = without_twin.iter().any(|known| may_be_edited(known, row));
        if paired.contains(&row_index) || is_edited || !is_later {
            outcomes[row_index] = RowOutcome::OnHold;
        }
    }
}

fn may_be_edited(known: &KnownTransaction, row: &Transaction) -> bool {
    let text = KnownTransaction::text_digest(row);
    let same_text = text.is_some() && text == known.description;
    let made = row.transacted_at.date();
    let near = |date: Date| {
        known.transacted.minus_days(MAX_EDIT_DAYS) <= date
            && date <= known.transacted.plus_days(MAX_EDIT_DAYS)
    };
    known.unit == row.unit.as_str() && (known.amount == row.amount || same_text) && near(made)
}

fn collect_evidence<'a>(
    context: &MergeContext<'a>,
    rows: &'a [IncomingRow],
    outcomes: &[RowOutcome],
) -> BTreeMap<&'a AccountId, IdEvidence> {
    let mut evidence = BTreeMap::<&AccountId, IdEvidence>::new();
    let mut unknown = HashMap::<_, VecDeque<usize>>::new();
    for (row_index, (read, outcome)) in rows.iter().zip(outcomes).enumerate() {
        match outcome {
            RowOutcome::New { collides: false } if read.row.settled_at.is_some() => {
                unknown.entry(read.digest).or_default().push_back(row_index);
            }
            RowOutcome::New { .. }
            | RowOutcome::Withheld
            | RowOutcome::Deferred
            | RowOutcome::OnHold => {}
            RowOutcome::Unchanged(_)
            | RowOutcome::Changed(_)
            | RowOutcome::Matched { .. }
            | RowOutcome::Stale => {
                evidence.entry(&read.row.account_id).or_default().recognized += 1;
            }
        }
    }
    let read: HashSet<_> = rows.iter().map(|row| &row.row.id).collect();
    let was_read = context.were_read(outcomes);
    for (known_index, known) in context.known.iter().enumerate() {
        let missing = known.settled.is_some()
            && !was_read[known_index]
            && !read.contains(&known.partner_id)
            && context.must_be_read(known);
        if !missing {
            continue;
        }
        let account_evidence = evidence.entry(&known.account_id).or_default();
        account_evidence.missing.push(known_index);
        if let Some(row_index) = unknown.get_mut(&known.digest).and_then(VecDeque::pop_front) {
            account_evidence.twins.push((known_index, row_index));
        }
    }
    evidence
}

/// Returns whether no expected row was read, neither by its id nor by a twin.
///
/// An empty window does not count if newer rows of the same update were recognized, because banks drop
/// old rows.
fn is_another_customers(
    context: &MergeContext<'_>,
    rows: &[IncomingRow],
    outcomes: &[RowOutcome],
    all: &IdEvidence,
) -> bool {
    let none_came = all.twins.is_empty()
        && outcomes.iter().all(|outcome| matches!(outcome, RowOutcome::New { .. }))
        && !rows.iter().any(|row| context.under(&row.row.id).next().is_some());
    let is_empty = rows.len() == context.carried;
    all.missing.len() >= MIN_MISSING_ROWS && none_came && !(is_empty && context.recognized)
}
