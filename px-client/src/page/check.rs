//! Whether the pages of one walk fit together. Pure.

use crate::error::PagingFault;
use px_core::{Digest, text::printable};
use px_types::{
    ElementKind, Fault, FaultSeverity,
    model::transaction::Transaction,
    partner::{Position, TransactionsResponse},
    wire,
};
use std::{
    collections::{HashMap, HashSet, hash_map::RandomState},
    fmt,
    hash::BuildHasher as _,
};

/// Pages without a transaction that may follow each other.
const MOST_EMPTY_PAGES: u32 = 100;

/// One walk through a window.
#[derive(Debug)]
pub(super) struct Check {
    limit: u64,
    /// Whether the rows may be more or fewer than `total`.
    any_total: bool,
    /// Whether an offset walk goes on beyond `total` until nothing more comes.
    beyond_total: bool,
    /// Whether ids may be repeated: then the rows so far, by id.
    repeats: Option<HashMap<u64, Vec<Contents>>>,
    /// Rows that were left out because another one is the same.
    left_out: u64,
    /// The repeated id that broke the walk.
    repeated: Option<Repeated>,
    /// The longest page so far.
    longest: u64,
    total: Option<u64>,
    rows: u64,
    empty_pages: u32,
    by_cursor: bool,
    /// The last row of the page before, which the next page of an offset walk begins with.
    last: Option<Row>,
    /// Hashes of ids and cursors, not the texts: a walk may be long. A collision makes the
    /// walk begin again; it never hides a row.
    ids: HashSet<u64>,
    cursors: HashSet<u64>,
    hasher: RandomState,
}

/// Hashes of what tells a row from others of its id.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Contents {
    account: u64,
    all: u64,
}

/// An id that came twice.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Repeated {
    /// The id, if it is that of a row that was read.
    pub(super) id: Option<Box<str>>,
    /// Number of the row in the walk, and a digest of its contents: the same if the same row came.
    place: (u64, [u8; 32]),
}

/// A row of a page, by a hash of its id.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Row {
    Read(u64),
    /// It was set aside; the id, if that could be read.
    SetAside(Option<u64>),
}

impl Repeated {
    /// The id in a sentence.
    pub(super) fn name(&self) -> String {
        match &self.id {
            Some(id) => format!("the id {}", printable(id, 100)),
            None => "an id".to_owned(),
        }
    }

    fn of(row: &Transaction, number: u64) -> Self {
        let digest = *Digest::of(wire::encode(row)).as_bytes();
        Self { id: Some(row.id.as_str().into()), place: (number, digest) }
    }
}

impl Row {
    fn id(self) -> Option<u64> {
        match self {
            Self::Read(id) => Some(id),
            Self::SetAside(id) => id,
        }
    }

    /// Whether two rows can be the same one.
    fn can_be(self, other: Self) -> bool {
        match (self.id(), other.id()) {
            (Some(one), Some(other)) => one == other,
            // Of a row without an id nothing can be said.
            _ => true,
        }
    }
}

/// Where a walk goes on.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Page(Position),
    Done,
}

/// Why a walk is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// Begin again.
    Inconsistent(Inconsistency),
    /// Give up.
    Hopeless(PagingFault),
}

/// How a window was not the same on all its pages.
///
/// Contract: `px.md` section 2.2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Inconsistency {
    /// A page had more transactions than were asked for.
    PageOverLimit,
    /// A page did not begin with the last transaction of the page before.
    Shifted,
    /// A transaction came twice.
    RepeatedId,
    /// `total` was not the same on every page.
    TotalMoved,
    /// There were more or fewer transactions than `total`.
    CountOff,
    /// The partner no longer knows the cursor.
    CursorExpired,
}

impl fmt::Display for Inconsistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PageOverLimit => "a page was longer than its limit",
            Self::Shifted => "a page did not go on where the one before it ended",
            Self::RepeatedId => "a transaction came twice",
            Self::TotalMoved => "the total was not the same on every page",
            Self::CountOff => "the transactions were not as many as the total says",
            Self::CursorExpired => "the cursor expired",
        })
    }
}

impl Check {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            any_total: false,
            beyond_total: false,
            repeats: None,
            left_out: 0,
            repeated: None,
            longest: 0,
            total: None,
            rows: 0,
            empty_pages: 0,
            by_cursor: false,
            last: None,
            ids: HashSet::new(),
            cursors: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    /// Lets the rows be more or fewer than `total`, which must still be the same on every page.
    pub(super) fn with_any_total(mut self, any_total: bool) -> Self {
        self.any_total = any_total;
        self
    }

    /// Lets an id come more than once: rows with the same contents count once, and those of different
    /// accounts are two.
    pub(super) fn with_repeats(mut self, repeats: bool) -> Self {
        self.repeats = repeats.then(HashMap::new);
        self
    }

    /// The repeated id that broke the walk.
    pub(super) fn take_repeated(&mut self) -> Option<Repeated> {
        self.repeated.take()
    }

    /// Goes on beyond `total`, where pages are by offset.
    pub(super) fn with_rows_beyond_total(mut self, beyond_total: bool) -> Self {
        self.beyond_total = beyond_total;
        self
    }

    /// Takes a page in, leaves in it what is new, and says where the walk goes on.
    ///
    /// Pages by offset overlap by one row. When one row comes and another goes between two pages,
    /// the total stays and no row comes twice: only the seam tells that one was skipped.
    pub(super) fn accept(&mut self, page: &mut TransactionsResponse) -> Result<Next, Broken> {
        use Inconsistency as I;
        let broken = |how| Err(Broken::Inconsistent(how));
        let mut rows = self.rows_of(page);
        let whole = rows.len() as u64;
        // First of all: the same page for ever is not a window that changes.
        if let Some(cursor) = &page.next_cursor
            && !self.cursors.insert(self.hasher.hash_one(cursor))
        {
            return Err(Broken::Hopeless(PagingFault::RepeatedCursor));
        }
        if whole > self.limit {
            return broken(I::PageOverLimit);
        }
        if *self.total.get_or_insert(page.total) != page.total {
            return broken(I::TotalMoved);
        }
        let mut skipped = 0;
        if let Some(last) = self.last.take() {
            match rows.first() {
                Some(first) if first.can_be(last) => {}
                _ => return broken(I::Shifted),
            }
            skipped = 1;
            if let Row::Read(_) = rows.remove(0) {
                page.transactions.remove(0);
            }
            // Its faults were reported with the page before.
            page.faults.retain(|fault| {
                let element = fault.element();
                !element.is_some_and(|e| e.kind == ElementKind::Transaction && e.index == Some(0))
            });
        }
        let length = rows.len() as u64;
        if self.repeats.is_some() {
            self.take_repeats(page, skipped)?;
        } else {
            for (at, row) in rows.iter().enumerate() {
                if row.id().is_some_and(|id| !self.ids.insert(id)) {
                    let number = self.rows + at as u64;
                    self.repeated = Some(self.repeated_row(page, *row, number));
                    return broken(I::RepeatedId);
                }
            }
        }
        self.rows += length;
        let is_full = whole >= self.limit || (self.longest > 0 && whole >= self.longest);
        self.longest = self.longest.max(whole);
        // The same rows for ever are no rows that the partner has twice.
        if self.left_out > page.total {
            return Err(Broken::Hopeless(PagingFault::NoProgress));
        }
        if self.rows - self.left_out > page.total && !self.any_total {
            return broken(I::CountOff);
        }
        if length > 0 {
            self.empty_pages = 0;
        } else {
            self.empty_pages += 1;
        }
        if let Some(cursor) = &page.next_cursor {
            if self.empty_pages >= MOST_EMPTY_PAGES {
                return Err(Broken::Hopeless(PagingFault::NoProgress));
            }
            self.by_cursor = true;
            return Ok(Next::Page(Position::Cursor(cursor.clone())));
        }
        let ends = self.by_cursor || length == 0;
        // A row that came twice may be two by the partner's `total`, or one.
        if self.rows == page.total && (ends || !self.looks_beyond_total(is_full)) {
            return Ok(Next::Done);
        }
        // A cursor walk has ended too soon; an offset walk cannot go on from an empty page, and need
        // not go on from a page that is not full once it has as many rows as there should be.
        let is_last = ends || whole < self.limit;
        if is_last && self.left_out > 0 && self.rows - self.left_out == page.total {
            return Ok(Next::Done);
        }
        if self.any_total && (ends || (self.rows > page.total && !self.looks_beyond_total(is_full)))
        {
            return Ok(Next::Done);
        }
        if ends {
            return broken(I::CountOff);
        }
        // A partner that gives one row at a time would give the same one for ever.
        if whole < 2 {
            return Ok(Next::Page(Position::Offset(self.rows)));
        }
        self.last = rows.last().copied();
        Ok(Next::Page(Position::Offset(self.rows - 1)))
    }

    /// Whether there may be rows that `total` does not count: it is known to be too small, or a page is
    /// full just where it ends.
    fn looks_beyond_total(&self, is_full: bool) -> bool {
        self.beyond_total || (self.any_total && is_full)
    }

    /// Takes rows in whose ids may have come before, and leaves out those that are the same row.
    fn take_repeats(
        &mut self,
        page: &mut TransactionsResponse,
        skipped: usize,
    ) -> Result<(), Broken> {
        let Some(before) = &mut self.repeats else { return Ok(()) };
        let mut faults = Vec::new();
        let mut kept = Vec::with_capacity(page.transactions.len());
        for (index, row) in std::mem::take(&mut page.transactions).into_iter().enumerate() {
            let id = self.hasher.hash_one(row.id.as_str());
            let account = self.hasher.hash_one(row.account_id.as_str());
            let all = self.hasher.hash_one(wire::encode(&row));
            let same_id = before.entry(id).or_default();
            if same_id.iter().any(|other| other.all == all) {
                faults.push(Fault::of_repeated_id(index + skipped, &row, true));
                self.left_out += 1;
                continue;
            }
            if same_id.iter().any(|other| other.account == account) {
                // Two rows of one account under one id: nothing tells which of them it is.
                self.repeated = Some(Repeated::of(&row, 0));
                return Err(Broken::Hopeless(PagingFault::NeverSettled));
            }
            if !same_id.is_empty() {
                faults.push(Fault::of_repeated_id(index + skipped, &row, false));
            }
            same_id.push(Contents { account, all });
            kept.push(row);
        }
        page.transactions = kept;
        for fault in faults {
            page.faults.push(fault);
        }
        Ok(())
    }

    /// The row with a repeated id.
    fn repeated_row(&self, page: &TransactionsResponse, row: Row, number: u64) -> Repeated {
        let is_it =
            |found: &&Transaction| row == Row::Read(self.hasher.hash_one(found.id.as_str()));
        match page.transactions.iter().rfind(is_it) {
            Some(found) => Repeated::of(found, number),
            None => Repeated { id: None, place: (number, [0; 32]) },
        }
    }

    /// The rows of a page as the partner sent them, with those that were set aside.
    fn rows_of(&self, page: &TransactionsResponse) -> Vec<Row> {
        let mut rows: Vec<_> = page
            .transactions
            .iter()
            .map(|row| Row::Read(self.hasher.hash_one(row.id.as_str())))
            .collect();
        for fault in page.faults().iter().filter(|f| f.severity() == FaultSeverity::SetAside) {
            if let Some(element) = fault.element()
                && element.kind == ElementKind::Transaction
                && let Some(index) = element.index
            {
                let id = element.id.as_deref().map(|id| self.hasher.hash_one(id));
                rows.insert(index.min(rows.len()), Row::SetAside(id));
            }
        }
        // Those that are counted only, because there were too many to tell.
        let all = page.transactions.len() as u64 + page.faults.set_aside(ElementKind::Transaction);
        while (rows.len() as u64) < all {
            rows.push(Row::SetAside(None));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::walk::tests_support::page;

    fn inconsistent(how: Inconsistency) -> Result<Next, Broken> {
        Err(Broken::Inconsistent(how))
    }

    #[test]
    fn by_offset() {
        let mut check = Check::new(2);
        let next = check.accept(&mut page(3, &["a", "b"], None)).unwrap();
        assert_eq!(next, Next::Page(Position::Offset(1)));
        let mut last = page(3, &["b", "c"], None);
        assert_eq!(check.accept(&mut last), Ok(Next::Done));
        assert_eq!(last.transactions, page(3, &["c"], None).transactions, "each row once");
        assert_eq!(Check::new(2).accept(&mut page(0, &[], None)), Ok(Next::Done));
    }

    /// The page is full just where a `total` that is one too small ends.
    #[test]
    fn beyond_a_total_where_a_page_is_full_there_may_be_more() {
        let mut check = Check::new(2).with_any_total(true);
        let next = check.accept(&mut page(2, &["a", "b"], None));
        assert_eq!(next, Ok(Next::Page(Position::Offset(1))));
        let mut more = page(2, &["b", "c"], None);
        assert_eq!(check.accept(&mut more), Ok(Next::Page(Position::Offset(2))));
        assert_eq!(more.transactions, page(2, &["c"], None).transactions);
        assert_eq!(check.accept(&mut page(2, &["c"], None)), Ok(Next::Done));
        let mut check = Check::new(2).with_any_total(true);
        check.accept(&mut page(2, &["a", "b"], None)).unwrap();
        assert_eq!(check.accept(&mut page(2, &["b"], None)), Ok(Next::Done), "there was not");
    }

    /// A partner may have shorter pages than the limit: the second one tells.
    #[test]
    fn a_page_as_long_as_the_one_before_is_full() {
        let mut check = Check::new(500).with_any_total(true);
        let next = check.accept(&mut page(3, &["a", "b"], None));
        assert_eq!(next, Ok(Next::Page(Position::Offset(1))));
        let next = check.accept(&mut page(3, &["b", "c"], None));
        assert_eq!(next, Ok(Next::Page(Position::Offset(2))), "full, at the total");
        assert_eq!(
            check.accept(&mut page(3, &["c", "d"], None)),
            Ok(Next::Page(Position::Offset(3)))
        );
        assert_eq!(check.accept(&mut page(3, &["d"], None)), Ok(Next::Done));
    }

    #[test]
    fn a_total_that_is_known_to_be_too_small_ends_no_window() {
        let mut check = Check::new(500).with_any_total(true);
        assert_eq!(check.accept(&mut page(2, &["a", "b"], None)), Ok(Next::Done), "a short page");
        let mut check = Check::new(500).with_any_total(true).with_rows_beyond_total(true);
        let next = check.accept(&mut page(2, &["a", "b"], None));
        assert_eq!(next, Ok(Next::Page(Position::Offset(1))));
        assert_eq!(check.accept(&mut page(2, &["b"], None)), Ok(Next::Done));
    }

    #[test]
    fn a_short_page_goes_on_and_an_empty_one_does_not() {
        let mut check = Check::new(5);
        let next = check.accept(&mut page(3, &["a"], None)).unwrap();
        assert_eq!(next, Next::Page(Position::Offset(1)));
        let next = check.accept(&mut page(3, &[], None));
        assert_eq!(next, inconsistent(Inconsistency::CountOff));
        let mut check = Check::new(5);
        check.accept(&mut page(3, &["a", "b"], None)).unwrap();
        let next = check.accept(&mut page(3, &["b"], None));
        assert_eq!(next, inconsistent(Inconsistency::CountOff));
    }

    #[test]
    fn by_cursor() {
        let mut check = Check::new(2);
        let cursor = |c: &str| Ok(Next::Page(Position::Cursor(c.into())));
        assert_eq!(check.accept(&mut page(2, &["a"], Some("1"))), cursor("1"));
        assert_eq!(check.accept(&mut page(2, &[], Some("2"))), cursor("2"));
        assert_eq!(check.accept(&mut page(2, &["b"], Some("3"))), cursor("3"));
        assert_eq!(check.accept(&mut page(2, &[], None)), Ok(Next::Done));
    }

    #[test]
    fn every_breach() {
        use Inconsistency as I;
        let mut check = Check::new(1);
        let first = check.accept(&mut page(9, &["a", "b"], None));
        assert_eq!(first, inconsistent(I::PageOverLimit));

        let mut check = Check::new(2);
        check.accept(&mut page(9, &["a", "b"], None)).unwrap();
        let again = check.accept(&mut page(9, &["b", "a"], None));
        assert_eq!(again, inconsistent(I::RepeatedId));

        // One came in front and one went at the end: the total is the same, a row was skipped.
        let mut check = Check::new(2);
        check.accept(&mut page(4, &["a", "b"], None)).unwrap();
        let shifted = check.accept(&mut page(4, &["c", "d"], None));
        assert_eq!(shifted, inconsistent(I::Shifted));
        let mut check = Check::new(2);
        check.accept(&mut page(4, &["a", "b"], None)).unwrap();
        assert_eq!(check.accept(&mut page(4, &[], None)), inconsistent(I::Shifted));

        let mut check = Check::new(2);
        check.accept(&mut page(9, &["a", "b"], None)).unwrap();
        let moved = check.accept(&mut page(8, &["c"], None));
        assert_eq!(moved, inconsistent(I::TotalMoved));

        let more = Check::new(2).accept(&mut page(1, &["a", "b"], None));
        assert_eq!(more, inconsistent(I::CountOff));

        let mut check = Check::new(2);
        check.accept(&mut page(9, &["a"], Some("1"))).unwrap();
        let short = check.accept(&mut page(9, &["b"], None));
        assert_eq!(short, inconsistent(I::CountOff));
    }

    #[test]
    fn any_total_is_taken_where_it_may_be_wrong() {
        let lenient = || Check::new(2).with_any_total(true);
        // One row fewer than the total, by offset and by cursor.
        let mut check = lenient();
        check.accept(&mut page(3, &["a", "b"], None)).unwrap();
        assert_eq!(check.accept(&mut page(3, &["b"], None)), Ok(Next::Done));
        let mut check = lenient();
        check.accept(&mut page(3, &["a"], Some("1"))).unwrap();
        assert_eq!(check.accept(&mut page(3, &["b"], None)), Ok(Next::Done));
        assert_eq!(lenient().accept(&mut page(1, &[], None)), Ok(Next::Done));
        // One more: a full page goes on.
        let mut check = lenient();
        let next = check.accept(&mut page(1, &["a", "b"], None));
        assert_eq!(next, Ok(Next::Page(Position::Offset(1))));
        assert_eq!(check.accept(&mut page(1, &["b"], None)), Ok(Next::Done));
        // A total that changes is still a window that changes.
        let mut check = lenient();
        check.accept(&mut page(9, &["a", "b"], None)).unwrap();
        let moved = check.accept(&mut page(8, &["b"], None));
        assert_eq!(moved, inconsistent(Inconsistency::TotalMoved));
    }

    #[test]
    fn the_same_row_twice_is_one_and_the_same_rows_for_ever_are_an_error() {
        let twice = || Check::new(5).with_repeats(true);
        // By the partner's `total` they are two, or one.
        for total in [3, 2] {
            let mut rows = page(total, &["a", "a", "b"], None);
            assert_eq!(twice().accept(&mut rows), Ok(Next::Done), "{total}");
            assert_eq!(rows.transactions.len(), 2);
            assert_eq!((rows.rows_sent(), rows.rows_repeated()), (3, 1));
        }
        let mut legs = page(2, &["a", "a"], None);
        legs.transactions[1].account_id = px_types::AccountId::new("other").unwrap();
        assert_eq!(twice().accept(&mut legs), Ok(Next::Done));
        assert_eq!((legs.transactions.len(), legs.faults().len()), (2, 1));
        let mut other = page(2, &["a", "a"], None);
        other.transactions[1].description = Some("another".into());
        let mut check = twice();
        let hopeless = Err(Broken::Hopeless(PagingFault::NeverSettled));
        assert_eq!(check.accept(&mut other), hopeless);
        assert_eq!(check.take_repeated().unwrap().name(), "the id a");

        let mut check = twice();
        let end = (0..200)
            .find_map(|i| check.accept(&mut page(9, &["a", "b"], Some(&i.to_string()))).err());
        assert_eq!(end, Some(Broken::Hopeless(PagingFault::NoProgress)));
    }

    #[test]
    fn what_never_ends_is_ended() {
        let mut check = Check::new(2);
        check.accept(&mut page(9, &["a"], Some("1"))).unwrap();
        let again = check.accept(&mut page(9, &["b"], Some("1")));
        assert_eq!(again, Err(Broken::Hopeless(PagingFault::RepeatedCursor)));

        let mut check = Check::new(2);
        let end =
            (0..200).find_map(|i| check.accept(&mut page(9, &[], Some(&i.to_string()))).err());
        assert_eq!(end, Some(Broken::Hopeless(PagingFault::NoProgress)));
    }
}
