//! Transactions: what a window that was read whole changes.
//!
//! What is known and what is to be written, and the merge itself. The rules that look at more
//! than one id: `churn`, `renumber`, `shift`, `join`.

mod churn;
mod join;
mod renumber;
mod shift;
mod twin;

use super::{DATE_SLACK_DAYS, Digest, UnreadRows, another_id};
use crate::{
    faults::FaultTally,
    life::{Walk, WalkNotes},
    plan,
};
use chrono::{DateTime, Utc};
pub use churn::Question;
use px_client::Window;
use px_types::{AccountId, Amount, Date, TransactionId, model::transaction::Transaction};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::LazyLock,
};

/// A transaction that is stored, or was and is gone; without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownTransaction {
    /// The Item's own id of it, which applications see.
    pub id: TransactionId,
    /// The partner's present id of it.
    pub partner_id: TransactionId,
    /// The Item's own id of its account.
    pub account_id: AccountId,
    /// The amount.
    pub amount: Amount,
    /// What the amount is counted in, as the wire spells it.
    pub unit: String,
    /// The date on which it was made.
    pub transacted: Date,
    /// The date on which it posted; `None` while pending.
    pub settled: Option<Date>,
    /// Of the institution's text; `None` when there is none.
    pub description: Option<Digest>,
    /// Of its contents without the id.
    pub digest: Digest,
    /// When the walk began that it was stored from: what is older says nothing of it.
    pub read_at: DateTime<Utc>,
    /// When it was found to be gone; a tombstone then.
    pub removed_at: Option<DateTime<Utc>>,
}

impl KnownTransaction {
    /// What is known of a transaction once it is stored. Its account's id is the Item's own.
    #[must_use]
    pub fn of(id: TransactionId, row: &Transaction, read_at: DateTime<Utc>) -> Self {
        Self::with_digest(id, row, content_digest(&mut row.clone()), read_at)
    }

    fn with_digest(
        id: TransactionId,
        row: &Transaction,
        digest: Digest,
        read_at: DateTime<Utc>,
    ) -> Self {
        Self {
            id,
            partner_id: row.id.clone(),
            account_id: row.account_id.clone(),
            amount: row.amount,
            unit: row.unit.as_str().to_owned(),
            transacted: row.transacted_at.date(),
            settled: row.settled_at.map(|at| at.date()),
            description: Self::text_digest(row),
            digest,
            read_at,
            removed_at: None,
        }
    }

    fn text_digest(row: &Transaction) -> Option<Digest> {
        row.description.as_ref().map(|text| Digest::of(text.as_bytes()))
    }

    /// Whether it was stored or removed from what was read later than that. An older answer, come
    /// late or twice, says nothing of it then.
    fn is_younger_than(&self, began_at: DateTime<Utc>) -> bool {
        self.removed_at.unwrap_or(self.read_at).max(self.read_at) > began_at
    }

    /// The date by which windows and pages sort it; see [`Transaction::date`].
    #[must_use]
    pub fn date(&self) -> Date {
        self.settled.unwrap_or(self.transacted)
    }

    /// Whether a row that came under its id can be the same transaction.
    ///
    /// All may change while it is pending, but for the account. A posted one that has another
    /// amount and another date at once is another transaction.
    fn can_become(&self, row: &Transaction) -> bool {
        let amount_stays = self.amount == row.amount && self.unit == row.unit.as_str();
        self.account_id == row.account_id
            && (self.settled.is_none() || amount_stays || self.date() == row.date())
    }

    /// The earlier and the later of its dates.
    fn dates(&self) -> (Date, Date) {
        let settled = self.settled.unwrap_or(self.transacted);
        (self.transacted.min(settled), self.transacted.max(settled))
    }
}

/// A window that was read whole.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReadWindow {
    /// The window.
    pub window: Window,
    /// All its rows, as the partner gave them.
    pub rows: Vec<Transaction>,
    /// The time at which the walk that read it began: nothing in it is younger.
    pub began_at: DateTime<Utc>,
    /// How rows are treated that came under other ids.
    pub rule: RowRule,
    /// The accounts whose rows are in question already; see [`MergedTransactions::question`].
    pub open: BTreeSet<AccountId>,
    /// The date of the last good read: while rows are in question, a row of an unknown id is new
    /// if it is not earlier.
    pub last_good: Option<Date>,
    /// Whether rows of the same work came under known ids, so that an empty window is not another
    /// customer's.
    pub recognized: bool,
    /// The walk that the window is part of, and what it remembers of newer windows.
    pub walk: Option<(Walk, WalkNotes)>,
    /// Whether rows are lacking by the partner's own `total`: then nothing is gone.
    pub lacks_rows: bool,
    /// Which rows are [withheld](MergedTransactions::withheld) that may be stored ones under other
    /// ids; `None` for none.
    pub withholding: Option<Withholding>,
    /// Number of rows, the last ones, that a newer window of the walk had and withheld.
    pub carried: usize,
    /// The date of the oldest pending row, wherever it lies.
    pub oldest_pending: Option<Date>,
    /// The rows that were set aside. A stored row that may be one of them is not judged.
    pub unread: UnreadRows,
    /// Number of rows that the partner sent, with those that are not among `rows`: set aside, or the
    /// same as another one.
    pub rows_sent: u64,
    /// The faults of its pages.
    pub faults: FaultTally,
}

/// Who decides on rows that are withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withholding {
    /// One later window, of at most so many days, that has all of their dates.
    OneWindow(u64),
    /// The next windows, to which the rows are carried.
    Carried {
        /// The first date of the history: earlier ones are not read.
        history_start: Date,
    },
}

/// How rows are treated that came under other ids than those that are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowRule {
    /// They are judged; where ids seem to have changed, rows are on hold.
    #[default]
    Judge,
    /// An operator decided that they are the same rows: stored rows are followed by their contents,
    /// and what has other contents is new or gone.
    Follow,
    /// An operator decided that they are what they seem: what came is new, what did not is gone.
    AsGiven,
    /// The program decided that some accounts were rebooked: a row with a twin of equal contents
    /// keeps the Item's id, the others wait for the deep resync.
    Rebooked {
        /// The time of the decision.
        at: DateTime<Utc>,
        /// The accounts, by the Item's own ids.
        accounts: BTreeSet<AccountId>,
    },
}

impl ReadWindow {
    /// A window that was read whole, on its own.
    #[must_use]
    pub fn new(window: Window, rows: Vec<Transaction>, began_at: DateTime<Utc>) -> Self {
        Self {
            rows_sent: rows.len() as u64,
            window,
            rows,
            began_at,
            rule: RowRule::Judge,
            open: BTreeSet::new(),
            last_good: None,
            recognized: false,
            walk: None,
            lacks_rows: false,
            withholding: None,
            carried: 0,
            oldest_pending: None,
            unread: UnreadRows::default(),
            faults: FaultTally::default(),
        }
    }

    /// Returns the dates of stored rows that the merge of a window looks at: those of the window, and
    /// of rows that may be filed in it under a date near it.
    #[must_use]
    pub fn reach(window: Window) -> Window {
        let start = window.start().minus_days(DATE_SLACK_DAYS);
        Window::new(start, window.end().plus_days(DATE_SLACK_DAYS)).unwrap_or(window)
    }

    /// Sets the walk that the window is part of, and what it remembers of newer windows.
    #[must_use]
    pub fn of_walk(mut self, walk: Walk, notes: WalkNotes) -> Self {
        self.walk = Some((walk, notes));
        self
    }

    /// Sets how rows are treated that came under other ids.
    #[must_use]
    pub fn rule(mut self, rule: RowRule) -> Self {
        self.rule = rule;
        self
    }

    /// Sets whether rows are lacking by the partner's own `total`.
    #[must_use]
    pub fn lacking(mut self, lacks_rows: bool) -> Self {
        self.lacks_rows = lacks_rows;
        self
    }

    /// Sets the rows that were set aside, by the Item's own ids of accounts.
    #[must_use]
    pub fn unread(mut self, unread: UnreadRows) -> Self {
        self.unread = unread;
        self
    }

    /// Sets which rows are withheld.
    #[must_use]
    pub fn withholding(mut self, withholding: Option<Withholding>) -> Self {
        self.withholding = withholding;
        self
    }

    /// Adds rows that a newer window of the walk had and withheld.
    #[must_use]
    pub fn carrying(mut self, rows: Vec<Transaction>) -> Self {
        let ids: HashSet<_> = self.rows.iter().map(|row| row.id.clone()).collect();
        let rows: Vec<_> = rows.into_iter().filter(|row| !ids.contains(&row.id)).collect();
        self.carried = rows.len();
        self.rows.extend(rows);
        self
    }
}

/// How a stored transaction changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The Item did not have it, or had it and lost it.
    Added,
    /// It is another now.
    Modified,
    /// The partner has another id for it. Its contents are the same.
    Renumbered,
}

/// A transaction to be stored.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TransactionWrite {
    /// What is known of it from then on.
    pub known: KnownTransaction,
    /// Its text as applications read it: under the Item's own ids.
    pub row: Transaction,
    /// How it changed.
    pub change: Change,
}

impl TransactionWrite {
    /// A transaction to be stored, read under the partner's id by a walk that began then.
    #[must_use]
    pub fn new(
        id: TransactionId,
        mut row: Transaction,
        change: Change,
        read_at: DateTime<Utc>,
    ) -> Self {
        let digest = content_digest(&mut row);
        Self::with_digest(id, row, digest, change, read_at)
    }

    fn with_digest(
        id: TransactionId,
        mut row: Transaction,
        digest: Digest,
        change: Change,
        read_at: DateTime<Utc>,
    ) -> Self {
        let known = KnownTransaction::with_digest(id.clone(), &row, digest, read_at);
        row.id = id;
        Self { known, row, change }
    }
}

/// What a window changes.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct MergedTransactions {
    /// What is new or changed.
    pub writes: Vec<TransactionWrite>,
    /// What is gone: the account, and the Item's own id.
    pub removed: Vec<(AccountId, TransactionId)>,
    /// Posted transactions that were joined with a pending one of another id.
    pub joined: u64,
    /// Posted transactions for which more than one pending one fitted, or the reverse.
    pub ambiguous: u64,
    /// Ids that came back as another transaction: of another account, or posted before and now
    /// with another amount and date at once, or with the contents of a neighbour. What came is
    /// kept apart from what was there.
    pub collisions: u64,
    /// Rows that came under other ids and are on hold, if there are any.
    pub question: Option<Question>,
    /// Rows that go on under the Item's own id though the partner's id is another one by a
    /// decision: the Item's own id, and the partner's id before.
    pub moved: Vec<(TransactionId, TransactionId)>,
    /// Stored rows that were not read though they have a date in the window, but that may be filed
    /// under an earlier one: with the date back to which the walk must read before they are gone.
    pub absent: Vec<(TransactionId, Date)>,
    /// The same where rows lack.
    pub absent_where_lacking: Vec<(TransactionId, Date)>,
    /// The rows that were read, by the Item's own ids, with their dates.
    pub read: Vec<(TransactionId, Date)>,
    /// Rows that were not taken because each may be a stored row under another id.
    pub withheld: Option<Withheld>,
    /// The withheld rows themselves.
    pub withheld_rows: Vec<Transaction>,
    /// Whether rows are lacking by the partner's own `total`.
    pub lacks_rows: bool,
    /// The rows that were set aside.
    pub unread: UnreadRows,
    /// Whether one of them may be a stored pending row, or a posted one, under another id.
    pub unread_under_other_ids: ByState<bool>,
    /// Whether stored rows were read.
    pub recognized: bool,
}

/// A value for pending rows and one for posted rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByState<T> {
    /// Of pending rows.
    pub pending: T,
    /// Of posted rows.
    pub posted: T,
}

impl<T> ByState<T> {
    fn of(&self, known: &KnownTransaction) -> &T {
        if known.settled.is_none() { &self.pending } else { &self.posted }
    }

    fn of_mut(&mut self, known: &KnownTransaction) -> &mut T {
        if known.settled.is_none() { &mut self.pending } else { &mut self.posted }
    }
}

/// Rows that were not taken: each may be a stored row that the window cannot judge under another id
/// and with other contents, or a new one. What is read of all of these dates decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Withheld {
    /// Number of rows.
    pub rows: u64,
    /// The first date that the deciding window needs.
    pub from: Date,
    /// The last date that it needs.
    pub until: Date,
}

/// Merges a window into what is stored.
///
/// `known` has what lies inside [`reach`](ReadWindow::reach), and what has an id of the response, as
/// the partner's or as the Item's own, tombstones among them. `silent` are accounts whose rows
/// are not judged; see [`AccountIds`](super::AccountIds), which has also put the Item's own
/// account ids into what was read. A stored row that may be among those that were
/// [set aside](ReadWindow::unread) is not judged either: it is not gone, and no other row is it.
///
/// The rules, in the order in which they are applied:
///
/// 1. A row is the stored one of that id, whatever changed in it, unless it cannot be: see
///    [`collisions`](MergedTransactions::collisions). Younger rows and tombstones win over an
///    older answer.
/// 2. Where most of the rows that should have been read came under unknown ids with the same
///    contents, the partner changed its ids: these rows are on hold. Where it was decided what they
///    are, [`RowRule`] says so. Where nothing came of what must be there, nothing is taken.
/// 3. Posted rows whose ids shifted among them keep the Item's own ids by their contents.
/// 4. A row of an unknown id is the stored one of the same contents that was not read.
/// 5. A posted row of an unknown id that is like a stored one that this window cannot judge is
///    withheld; another row of an unknown id is the pending one that vanished, if only these two fit.
/// 6. What is left is new; what should have been read and was not is gone.
#[must_use]
pub fn merge_transactions(
    known: &[KnownTransaction],
    read: ReadWindow,
    silent: &BTreeSet<AccountId>,
) -> MergedTransactions {
    let mut stock = Stock::new(known, &read, silent);
    let rule = read.rule;
    let withholding = read.withholding.filter(|_| rule != RowRule::AsGiven);
    let oldest_pending = read.oldest_pending;
    let rows = ReadRow::of_answer(read.rows);
    let mut fates: Vec<Fate> = rows.iter().map(|row| stock.fate(row)).collect();
    let followed = renumber::follow(&stock, &rows, &mut fates, &rule);
    let question = churn::hold(&mut stock, &rows, &mut fates, &rule);
    if question.as_ref().is_some_and(|question| question.another_customer) {
        return MergedTransactions { question, ..MergedTransactions::default() };
    }
    shift::follow(&stock, &rows, &mut fates);
    if rule != RowRule::AsGiven {
        twin::follow(&stock, &rows, &mut fates, withholding.is_some());
    }
    let mut withholder = withholding
        .map(|withholding| twin::Withholder::new(&stock, &fates, withholding, oldest_pending));
    if let Some(withholder) = &mut withholder {
        withholder.withhold_posted(&rows, &mut fates);
    }
    let (joined, ambiguous) = join::join(&stock, &rows, &mut fates);
    if rule != RowRule::AsGiven {
        twin::leave_unjudged(&stock, &rows, &mut fates);
    }
    let withheld =
        withholder.and_then(|withholder| withholder.withhold_others(&stock, &rows, &mut fates));
    let moved = followed.into_iter().map(|place| &stock.known[place]);
    let mut merged = MergedTransactions {
        joined,
        ambiguous,
        question,
        withheld,
        moved: moved.map(|known| (known.id.clone(), known.partner_id.clone())).collect(),
        lacks_rows: stock.lacks_rows,
        unread: stock.unread.clone(),
        recognized: fates.iter().any(|fate| fate.known().is_some()) || stock.has_unread(),
        ..MergedTransactions::default()
    };
    stock.judge_unread(&fates, &mut merged);
    // A row that was set aside was there, whatever is in it.
    merged.read.extend(stock.set_aside().map(|known| (known.id.clone(), known.date())));
    let mut given = HashSet::new();
    for (row, fate) in rows.into_iter().zip(fates) {
        if fate.collides() {
            merged.collisions += 1;
        }
        if fate == Fate::Withheld {
            merged.withheld_rows.push(row.row);
            continue;
        }
        let date = row.row.date();
        let write = stock.write(row, fate, &mut given);
        let id = match (&write, fate.known()) {
            (Some(write), _) => Some(write.known.id.clone()),
            (None, place) => place.map(|place| stock.known[place].id.clone()),
        };
        merged.read.extend(id.map(|id| (id, date)));
        merged.writes.extend(write);
    }
    merged
}

/// A row of the answer, with the digest of its contents.
struct ReadRow {
    row: Transaction,
    digest: Digest,
}

impl ReadRow {
    /// The rows of an answer. A window that was read whole has no id twice in an account; if one has,
    /// the first row is taken.
    fn of_answer(rows: Vec<Transaction>) -> Vec<Self> {
        let mut ids = HashSet::with_capacity(rows.len());
        let first =
            rows.into_iter().filter(|row| ids.insert((row.id.clone(), row.account_id.clone())));
        first.map(|mut row| Self { digest: content_digest(&mut row), row }).collect()
    }
}

/// What becomes of a row of the answer. Numbers are places in what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is stored as it is.
    Same(usize),
    /// It is the stored one, changed or back again.
    Changed(usize),
    /// It is the stored one, under another id of the partner's.
    Moved { to: usize, collides: bool },
    /// It is not stored.
    New { collides: bool },
    /// It may be a stored one under another id; it is not taken.
    Withheld,
    /// It may be a stored one that was set aside; it is not taken before all rows can be read.
    Unjudged,
    /// What is stored is younger.
    Stale,
    /// It waits for a decision.
    Held,
}

impl Fate {
    fn known(self) -> Option<usize> {
        match self {
            Self::Same(known) | Self::Changed(known) | Self::Moved { to: known, .. } => Some(known),
            Self::New { .. } | Self::Withheld | Self::Unjudged | Self::Stale | Self::Held => None,
        }
    }

    fn collides(self) -> bool {
        matches!(self, Self::New { collides: true } | Self::Moved { collides: true, .. })
    }
}

/// What is known, and the read that it is compared with.
struct Stock<'a> {
    known: &'a [KnownTransaction],
    by_partner_id: HashMap<&'a TransactionId, Vec<usize>>,
    own_ids: HashMap<&'a TransactionId, &'a KnownTransaction>,
    window: Window,
    began_at: DateTime<Utc>,
    walk: Option<(Walk, WalkNotes)>,
    lacks_rows: bool,
    /// Accounts whose posted rows are filed by the date on which they posted.
    filed_by_posting: HashSet<AccountId>,
    silent: &'a BTreeSet<AccountId>,
    /// The accounts whose rows are in question already.
    open: BTreeSet<AccountId>,
    /// The date of the last good read.
    last_good: Option<Date>,
    /// Whether rows of the same work came under known ids.
    recognized: bool,
    /// Number of rows that a newer window had.
    carried: usize,
    /// Stored rows on hold, by the Item's own ids: that they were not read says nothing.
    held: HashSet<TransactionId>,
    /// Rows that were set aside: a stored row that may be one of them is not judged.
    unread: UnreadRows,
}

impl<'a> Stock<'a> {
    fn new(
        known: &'a [KnownTransaction],
        read: &ReadWindow,
        silent: &'a BTreeSet<AccountId>,
    ) -> Self {
        let (window, began_at) = (read.window, read.began_at);
        let mut by_partner_id = HashMap::<_, Vec<_>>::with_capacity(known.len());
        for (place, known) in known.iter().enumerate() {
            by_partner_id.entry(&known.partner_id).or_default().push(place);
        }
        let own_ids = known.iter().map(|known| (&known.id, known)).collect();
        let mut stock = Self {
            known,
            by_partner_id,
            own_ids,
            window,
            began_at,
            open: read.open.clone(),
            last_good: read.last_good,
            recognized: read.recognized,
            carried: read.carried,
            held: HashSet::new(),
            walk: read.walk.clone(),
            lacks_rows: read.lacks_rows,
            unread: read.unread.clone(),
            filed_by_posting: HashSet::new(),
            silent,
        };
        stock.filed_by_posting = stock.accounts_filed_by_posting(&read.rows);
        stock
    }

    /// Finds accounts whose rows are filed by the date on which they posted, from this response
    /// alone: it has rows that were made well before the window, and lacks no more of them than it
    /// has. If in doubt, an account is not among them.
    fn accounts_filed_by_posting(&self, rows: &[Transaction]) -> HashSet<AccountId> {
        let made_before = self.window.start().minus_days(DATE_SLACK_DAYS);
        let mut ids = HashSet::with_capacity(rows.len());
        let mut read = HashMap::<_, usize>::new();
        for row in rows {
            ids.insert(&row.id);
            let settled = row.settled_at.map(|at| at.date());
            let inside = settled.is_some_and(|on| self.holds(on) && self.is_clear(on));
            if row.transacted_at.date() < made_before && inside {
                *read.entry(&row.account_id).or_default() += 1;
            }
        }
        let mut lacking = HashMap::<_, usize>::new();
        for known in self.known.iter().filter(|known| self.is_judged(known)) {
            let inside = known.settled.is_some_and(|on| self.holds(on) && self.is_clear(on));
            if known.transacted < made_before && inside && !ids.contains(&known.partner_id) {
                *lacking.entry(&known.account_id).or_default() += 1;
            }
        }
        let enough = |(account, read): &(&AccountId, usize)| {
            lacking.get(account).is_none_or(|lacking| lacking <= read)
        };
        read.into_iter().filter(enough).map(|(account, _)| account.clone()).collect()
    }

    /// What the walk remembers of its newer windows.
    fn notes(&self) -> Option<&WalkNotes> {
        self.walk.as_ref().map(|(_, notes)| notes)
    }

    /// Everything that was ever stored under an id of the partner's.
    fn under(&self, partner_id: &TransactionId) -> impl Iterator<Item = usize> {
        self.by_partner_id.get(partner_id).into_iter().flatten().copied()
    }

    /// What becomes of a row, as far as its id tells.
    fn fate(&self, row: &ReadRow) -> Fate {
        let mut unknown = true;
        let mut younger = false;
        let mut best = None;
        for place in self.under(&row.row.id) {
            let known = &self.known[place];
            unknown = false;
            younger |= known.is_younger_than(self.began_at);
            if !known.can_become(&row.row) {
                continue;
            }
            let removed = known.removed_at.is_some();
            let differs = (known.digest != row.digest, known.date() != row.row.date());
            let this = (removed, differs, &known.id, place);
            best = Some(best.map_or(this, |best| this.min(best)));
        }
        match best {
            // Its row has gone over to another id of the partner's since, when it posted.
            _ if unknown && self.moved_on(&row.row.id) => Fate::Stale,
            _ if unknown => Fate::New { collides: false },
            Some((.., place)) if self.known[place].is_younger_than(self.began_at) => Fate::Stale,
            Some((false, (false, _), _, place)) => Fate::Same(place),
            Some((.., place)) => Fate::Changed(place),
            None if younger => Fate::Stale,
            None => Fate::New { collides: true },
        }
    }

    fn moved_on(&self, id: &TransactionId) -> bool {
        self.own_ids.get(id).is_some_and(|known| known.is_younger_than(self.began_at))
    }

    /// Whether a stored row is there and this read says something of it.
    fn is_judged(&self, known: &KnownTransaction) -> bool {
        known.removed_at.is_none()
            && !known.is_younger_than(self.began_at)
            && !self.silent.contains(&known.account_id)
            && !self.held.contains(&known.id)
            && !self.may_be_unread(known)
    }

    /// Whether a stored row may be one that was set aside, in this window or in a newer one of the
    /// same walk.
    fn may_be_unread(&self, known: &KnownTransaction) -> bool {
        let unread = &self.unread;
        let before = self.notes().and_then(|notes| {
            let of_account = notes.unread_from.get(&known.account_id);
            of_account.into_iter().chain(&notes.any_unread_from).min()
        });
        unread.any
            || unread.accounts.contains(&known.account_id)
            || unread.ids.contains(&known.partner_id)
            || before.is_some_and(|from| known.dates().1.plus_days(DATE_SLACK_DAYS) >= *from)
    }

    /// Whether there are rows that were set aside and of which the id could not be read.
    fn lacks_ids(&self) -> bool {
        let before = self
            .notes()
            .is_some_and(|notes| notes.any_unread_from.is_some() || !notes.unread_from.is_empty());
        self.unread.any || !self.unread.accounts.is_empty() || before
    }

    /// Whether a row that was set aside has the id of a stored one.
    fn has_unread(&self) -> bool {
        self.unread.ids.iter().any(|id| self.by_partner_id.contains_key(id))
    }

    /// The stored rows that were set aside by their id.
    fn set_aside(&self) -> impl Iterator<Item = &KnownTransaction> {
        let unread = |known: &&KnownTransaction| self.unread.ids.contains(&known.partner_id);
        self.known.iter().filter(|known| known.removed_at.is_none()).filter(unread)
    }

    /// Whether a stored row is gone if it was not read: nothing is where rows lack.
    fn must_be_read(&self, known: &KnownTransaction) -> bool {
        let (first, last) = known.dates();
        let absent = || self.notes().is_some_and(|notes| notes.absent.contains_key(&known.id));
        let is_clear = || self.is_clear(last) || (absent() && self.is_clear(first));
        !self.lacks_rows && self.is_expected(known) && is_clear()
    }

    /// Whether a response that lacks nothing has a stored row, whichever of its dates the bank
    /// files it by, and in whichever time zone.
    fn is_expected(&self, known: &KnownTransaction) -> bool {
        self.is_judged(known)
            && !self.was_read_before(known)
            && (self.is_covered(known) || self.is_filed_here(known))
    }

    /// Whether a row of an unknown id with the same contents can only be this one: it is expected, or
    /// was read under another id by a window of the same walk that this one overlaps.
    fn is_followed(&self, known: &KnownTransaction) -> bool {
        let read_from = self.notes().and_then(|notes| notes.read_from);
        let overlaps = read_from.is_some_and(|from| from <= self.window.end());
        let again = overlaps && self.is_judged(known) && self.was_read_before(known);
        again || self.is_expected(known)
    }

    /// Whether the windows that were read so far cover all dates under which a row may be filed.
    fn is_covered(&self, known: &KnownTransaction) -> bool {
        let (first, last) = known.dates();
        first.minus_days(DATE_SLACK_DAYS) >= self.window.start()
            && (self.ends_after(last) || self.was_absent_before(known))
    }

    /// Whether a newer window of the same walk had a date of a row, and not the row.
    fn was_absent_before(&self, known: &KnownTransaction) -> bool {
        self.notes().is_some_and(|notes| {
            notes.absent.contains_key(&known.id)
                || notes.absent_where_lacking.contains_key(&known.id)
        })
    }

    /// Whether a posted row belongs into the window by the way in which its account is filed.
    fn is_filed_here(&self, known: &KnownTransaction) -> bool {
        known.settled.is_some_and(|settled| self.holds(settled))
            && self.filed_by_posting.contains(&known.account_id)
    }

    /// Whether rows of a date, as it is written, can only be in the window.
    fn holds(&self, date: Date) -> bool {
        date.minus_days(DATE_SLACK_DAYS) >= self.window.start() && self.ends_after(date)
    }

    /// Whether no row of a date, as it is written, can be filed after the windows that were read.
    /// Newer windows of the same walk were read; and nothing is filed after today.
    fn ends_after(&self, date: Date) -> bool {
        let end = self.window.end();
        let goes_on = self.walk.as_ref().is_some_and(|(walk, _)| walk.next_end < walk.end);
        if goes_on || end >= plan::today(self.began_at).1 {
            return date <= end;
        }
        date.plus_days(DATE_SLACK_DAYS) <= end
    }

    /// Whether no newer window in which a row of a date may be filed lacked rows.
    fn is_clear(&self, date: Date) -> bool {
        let lacking_from = self.notes().and_then(|notes| notes.lacking_from);
        lacking_from.is_none_or(|from| date.plus_days(DATE_SLACK_DAYS) < from)
    }

    /// Whether the walk has read a row since it began, in a newer window or in another walk.
    fn was_read_before(&self, known: &KnownTransaction) -> bool {
        self.walk.as_ref().is_some_and(|(walk, notes)| {
            notes.seen.contains_key(&known.id) || known.read_at > walk.began_at
        })
    }

    fn is_in_window(&self, date: Date) -> bool {
        self.window.start() <= date && date <= self.window.end()
    }

    /// Which of the known rows were read.
    fn were_read(&self, fates: &[Fate]) -> Vec<bool> {
        let mut read = vec![false; self.known.len()];
        for place in fates.iter().filter_map(|fate| fate.known()) {
            read[place] = true;
        }
        read
    }

    /// Whether a row that was set aside may be a stored one under another id: its id is unknown, and
    /// no stored row came under the id that it had.
    fn unread_under_other_ids(&self, fates: &[Fate]) -> ByState<bool> {
        let mut ids = self.unread.ids.iter();
        let has_unknown = ids.any(|id| !self.by_partner_id.contains_key(id));
        let mut may_be = ByState { pending: has_unknown, posted: has_unknown };
        for fate in fates {
            if let Fate::Same(place) | Fate::Changed(place) = fate {
                *may_be.of_mut(&self.known[*place]) = false;
            }
        }
        may_be
    }

    /// Finds what is gone, and what older windows have to show before it is.
    fn judge_unread(&self, fates: &[Fate], merged: &mut MergedTransactions) {
        let read = self.were_read(fates);
        let here = self.unread_under_other_ids(fates);
        merged.unread_under_other_ids = here;
        let before = self.notes().map(|notes| notes.unread_under_other_ids_from);
        let may_be_unread = |known: &KnownTransaction| {
            let from = before.and_then(|before| *before.of(known));
            let latest = known.dates().1.plus_days(DATE_SLACK_DAYS);
            *here.of(known) || from.is_some_and(|from| latest >= from)
        };
        let unread = self.known.iter().zip(read).filter(|(_, read)| !read).map(|(known, _)| known);
        for known in unread.filter(|known| self.is_judged(known) && !may_be_unread(known)) {
            let reaches = known.dates().0.minus_days(DATE_SLACK_DAYS);
            if self.must_be_read(known) {
                merged.removed.push((known.account_id.clone(), known.id.clone()));
            } else if !self.was_read_before(known)
                && self.is_in_window(known.date())
                && self.ends_after(known.date())
                && reaches < self.window.start()
            {
                let lacks = self.lacks_rows || !self.is_clear(known.date());
                let absent =
                    if lacks { &mut merged.absent_where_lacking } else { &mut merged.absent };
                absent.push((known.id.clone(), reaches));
            }
        }
        merged.removed.sort_by(|(_, a), (_, b)| a.cmp(b));
    }

    /// What is to be stored of a row.
    fn write(
        &self,
        read: ReadRow,
        fate: Fate,
        given: &mut HashSet<TransactionId>,
    ) -> Option<TransactionWrite> {
        let ReadRow { row, digest } = read;
        let (id, change) = match fate {
            Fate::Same(_) | Fate::Withheld | Fate::Unjudged | Fate::Stale | Fate::Held => {
                return None;
            }
            Fate::Changed(place) if self.known[place].removed_at.is_some() => {
                (self.known[place].id.clone(), Change::Added)
            }
            Fate::Moved { to: place, .. } if self.known[place].digest == digest => {
                (self.known[place].id.clone(), Change::Renumbered)
            }
            Fate::Changed(place) | Fate::Moved { to: place, .. } => {
                (self.known[place].id.clone(), Change::Modified)
            }
            Fate::New { .. } => (self.new_id(&row, digest, given), Change::Added),
        };
        Some(TransactionWrite::with_digest(id, row, digest, change, self.began_at))
    }

    /// An id for a row that is new: the partner's, unless the Item has given that one away, to
    /// another row of the same response perhaps.
    fn new_id(
        &self,
        row: &Transaction,
        digest: Digest,
        given: &mut HashSet<TransactionId>,
    ) -> TransactionId {
        let partner_id = &row.id;
        if !self.own_ids.contains_key(partner_id) && given.insert(partner_id.clone()) {
            return partner_id.clone();
        }
        let instant = self.began_at.timestamp_micros().to_be_bytes();
        let text = another_id(partner_id.as_str(), &[digest.as_bytes(), &instant]);
        TransactionId::new(text).unwrap_or_else(|_| partner_id.clone())
    }
}

/// The digest of a transaction's contents without its id.
///
/// The id is taken out while it is made, and put back: a copy of each row would cost more.
pub(super) fn content_digest(row: &mut Transaction) -> Digest {
    static NONE: LazyLock<TransactionId> =
        LazyLock::new(|| TransactionId::new("-").expect("a hyphen is an id"));
    let id = std::mem::replace(&mut row.id, NONE.clone());
    let digest = Digest::of_json(row);
    row.id = id;
    digest
}
