//! The consistency of the pages of one window. Pure.

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

/// Maximum number of consecutive pages without a transaction.
const MAX_CONSECUTIVE_EMPTY_PAGES: u32 = 100;

/// The consistency check of one reading of a window.
#[derive(Debug)]
pub(super) struct PageCheck {
    limit: u64,
    /// Whether the rows may be more or fewer than `total`.
    any_total: bool,
    /// Whether to read on by offset beyond `total`, until no more rows are returned.
    beyond_total: bool,
    /// The rows so far by id, if ids may be repeated.
    repeats: Option<HashMap<u64, Vec<RowHashes>>>,
    /// Number of rows that were left out because another row is the same.
    left_out: u64,
    /// The repeated id that ended the reading.
    repeated: Option<RepeatedRow>,
    /// Number of rows of the longest page so far.
    longest: u64,
    total: Option<u64>,
    rows: u64,
    empty_pages: u32,
    by_cursor: bool,
    /// The last row of the previous page; with offsets, the next page begins with it.
    last: Option<PageRow>,
    /// Hashes of ids and cursors instead of the texts, because a window may be long. A collision causes a
    /// restart; it never hides a row.
    ids: HashSet<u64>,
    cursors: HashSet<u64>,
    hasher: RandomState,
}

/// Hashes that distinguish rows with the same id.
#[derive(Clone, Copy, Debug, PartialEq)]
struct RowHashes {
    account: u64,
    all: u64,
}

/// An id that occurred twice.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RepeatedRow {
    /// The id, if it is that of a row that was read.
    pub(super) id: Option<Box<str>>,
    /// Number of the row in the window, and a digest of its contents; equal if the same row was returned
    /// again.
    fingerprint: (u64, [u8; 32]),
}

/// A row of a page, by the hash of its id.
#[derive(Clone, Copy, Debug, PartialEq)]
enum PageRow {
    Read(u64),
    /// A row that was set aside, with its id if that could be read.
    SetAside(Option<u64>),
}

impl RepeatedRow {
    /// Returns the id for an error message.
    pub(super) fn name(&self) -> String {
        match &self.id {
            Some(id) => format!("the id {}", printable(id, 100)),
            None => "an id".to_owned(),
        }
    }

    fn of(row: &Transaction, number: u64) -> Self {
        let digest = *Digest::of(wire::encode(row)).as_bytes();
        Self { id: Some(row.id.as_str().into()), fingerprint: (number, digest) }
    }
}

impl PageRow {
    fn id(self) -> Option<u64> {
        match self {
            Self::Read(id) => Some(id),
            Self::SetAside(id) => id,
        }
    }

    /// Returns whether two rows may be the same row.
    fn can_be(self, other: Self) -> bool {
        match (self.id(), other.id()) {
            (Some(one), Some(other)) => one == other,
            // A row without an id may be any row.
            _ => true,
        }
    }
}

/// The next step of the reading.
#[derive(Debug, PartialEq)]
pub(super) enum NextStep {
    Page(Position),
    Done,
}

/// The reason why the pages cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageError {
    /// Start over.
    Inconsistent(Inconsistency),
    /// Fail.
    Fatal(PagingFault),
}

/// An inconsistency between the pages of a window.
///
/// Contract: `px.md` section 2.2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Inconsistency {
    /// A page has more transactions than requested.
    PageOverLimit,
    /// A page does not begin with the last transaction of the previous page.
    Shifted,
    /// A transaction was returned twice.
    RepeatedId,
    /// `total` differs between pages.
    TotalMoved,
    /// There are more or fewer transactions than `total`.
    CountOff,
    /// The partner no longer accepts the cursor.
    CursorExpired,
}

impl fmt::Display for Inconsistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PageOverLimit => "a page has more transactions than its limit",
            Self::Shifted => "a page does not continue where the previous one ended",
            Self::RepeatedId => "a transaction was returned twice",
            Self::TotalMoved => "the total differs between pages",
            Self::CountOff => "the number of transactions differs from the total",
            Self::CursorExpired => "the cursor expired",
        })
    }
}

impl PageCheck {
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

    /// Accepts more or fewer rows than `total`, which must still be the same on every page.
    pub(super) fn with_any_total(mut self, any_total: bool) -> Self {
        self.any_total = any_total;
        self
    }

    /// Accepts repeated ids: rows with the same contents count once, and rows of different accounts are two.
    pub(super) fn with_repeats(mut self, repeats: bool) -> Self {
        self.repeats = repeats.then(HashMap::new);
        self
    }

    /// Takes the repeated id that ended the reading.
    pub(super) fn take_repeated(&mut self) -> Option<RepeatedRow> {
        self.repeated.take()
    }

    /// Reads on beyond `total`, if pages are by offset.
    pub(super) fn with_rows_beyond_total(mut self, beyond_total: bool) -> Self {
        self.beyond_total = beyond_total;
        self
    }

    /// Accepts a page, removes the overlapping row from it, and returns the next step.
    ///
    /// Pages by offset overlap by one row. If one row is added and another one removed between two requests,
    /// `total` stays the same and no row is repeated: only the overlap shows that a row was skipped.
    pub(super) fn accept(
        &mut self,
        page: &mut TransactionsResponse,
    ) -> Result<NextStep, PageError> {
        use Inconsistency as I;
        let broken = |how| Err(PageError::Inconsistent(how));
        let mut rows = self.rows_of(page);
        let whole = rows.len() as u64;
        // First, because a partner that repeats a page forever is not a window that changes.
        if let Some(cursor) = &page.next_cursor
            && !self.cursors.insert(self.hasher.hash_one(cursor))
        {
            return Err(PageError::Fatal(PagingFault::RepeatedCursor));
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
            if let PageRow::Read(_) = rows.remove(0) {
                page.transactions.remove(0);
            }
            // Its faults were reported with the previous page.
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
        // The same rows again and again are not rows that the partner has twice.
        if self.left_out > page.total {
            return Err(PageError::Fatal(PagingFault::NoProgress));
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
            if self.empty_pages >= MAX_CONSECUTIVE_EMPTY_PAGES {
                return Err(PageError::Fatal(PagingFault::NoProgress));
            }
            self.by_cursor = true;
            return Ok(NextStep::Page(Position::Cursor(cursor.clone())));
        }
        let ends = self.by_cursor || length == 0;
        // By the partner's `total`, a repeated row counts as two or as one.
        if self.rows == page.total && (ends || !self.looks_beyond_total(is_full)) {
            return Ok(NextStep::Done);
        }
        // With a cursor the rows have ended too early. With offsets an empty page cannot be continued, and a
        // page that is not full need not be once there are as many rows as expected.
        let is_last = ends || whole < self.limit;
        if is_last && self.left_out > 0 && self.rows - self.left_out == page.total {
            return Ok(NextStep::Done);
        }
        if self.any_total && (ends || (self.rows > page.total && !self.looks_beyond_total(is_full)))
        {
            return Ok(NextStep::Done);
        }
        if ends {
            return broken(I::CountOff);
        }
        // A partner that returns one row at a time would return the same one forever.
        if whole < 2 {
            return Ok(NextStep::Page(Position::Offset(self.rows)));
        }
        self.last = rows.last().copied();
        Ok(NextStep::Page(Position::Offset(self.rows - 1)))
    }

    /// Returns whether there may be rows that `total` does not count.
    ///
    /// It is known to be too small, or a page is full exactly where it ends.
    fn looks_beyond_total(&self, is_full: bool) -> bool {
        self.beyond_total || (self.any_total && is_full)
    }

    /// Accepts rows with repeated ids, and leaves out those that are the same row.
    fn take_repeats(
        &mut self,
        page: &mut TransactionsResponse,
        skipped: usize,
    ) -> Result<(), PageError> {
        let Some(before) = &mut self.repeats else { return Ok(()) };
        let mut faults = Vec::new();
        let mut distinct = Vec::with_capacity(page.transactions.len());
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
                // Two rows of one account share an id, so it is unknown which of them the id means.
                self.repeated = Some(RepeatedRow::of(&row, 0));
                return Err(PageError::Fatal(PagingFault::NeverSettled));
            }
            if !same_id.is_empty() {
                faults.push(Fault::of_repeated_id(index + skipped, &row, false));
            }
            same_id.push(RowHashes { account, all });
            distinct.push(row);
        }
        page.transactions = distinct;
        for fault in faults {
            page.faults.push(fault);
        }
        Ok(())
    }

    /// Returns the row with a repeated id.
    fn repeated_row(&self, page: &TransactionsResponse, row: PageRow, number: u64) -> RepeatedRow {
        let is_it =
            |found: &&Transaction| row == PageRow::Read(self.hasher.hash_one(found.id.as_str()));
        match page.transactions.iter().rfind(is_it) {
            Some(found) => RepeatedRow::of(found, number),
            None => RepeatedRow { id: None, fingerprint: (number, [0; 32]) },
        }
    }

    /// Returns the rows of a page as the partner sent them, including those that were set aside.
    fn rows_of(&self, page: &TransactionsResponse) -> Vec<PageRow> {
        let mut rows: Vec<_> = page
            .transactions
            .iter()
            .map(|row| PageRow::Read(self.hasher.hash_one(row.id.as_str())))
            .collect();
        for fault in page.faults().iter().filter(|f| f.severity() == FaultSeverity::SetAside) {
            if let Some(element) = fault.element()
                && element.kind == ElementKind::Transaction
                && let Some(index) = element.index
            {
                let id = element.id.as_deref().map(|id| self.hasher.hash_one(id));
                rows.insert(index.min(rows.len()), PageRow::SetAside(id));
            }
        }
        // Rows that are only counted, because there were too many to list.
        let all = page.transactions.len() as u64 + page.faults.set_aside(ElementKind::Transaction);
        while (rows.len() as u64) < all {
            rows.push(PageRow::SetAside(None));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::reader::tests_support::page;

    fn inconsistent(how: Inconsistency) -> Result<NextStep, PageError> {
        Err(PageError::Inconsistent(how))
    }

    #[test]
    fn by_offset() {
        let mut check = PageCheck::new(2);
        let next = check.accept(&mut page(3, &["a", "b"], None)).unwrap();
        assert_eq!(next, NextStep::Page(Position::Offset(1)));
        let mut last = page(3, &["b", "c"], None);
        assert_eq!(check.accept(&mut last), Ok(NextStep::Done));
        assert_eq!(last.transactions, page(3, &["c"], None).transactions, "each row once");
        assert_eq!(PageCheck::new(2).accept(&mut page(0, &[], None)), Ok(NextStep::Done));
    }

    /// The page is full exactly where a `total` that is one too small ends.
    #[test]
    fn beyond_a_total_where_a_page_is_full_there_may_be_more() {
        let mut check = PageCheck::new(2).with_any_total(true);
        let next = check.accept(&mut page(2, &["a", "b"], None));
        assert_eq!(next, Ok(NextStep::Page(Position::Offset(1))));
        let mut more = page(2, &["b", "c"], None);
        assert_eq!(check.accept(&mut more), Ok(NextStep::Page(Position::Offset(2))));
        assert_eq!(more.transactions, page(2, &["c"], None).transactions);
        assert_eq!(check.accept(&mut page(2, &["c"], None)), Ok(NextStep::Done));
        let mut check = PageCheck::new(2).with_any_total(true);
        check.accept(&mut page(2, &["a", "b"], None)).unwrap();
        assert_eq!(check.accept(&mut page(2, &["b"], None)), Ok(NextStep::Done), "no further row");
    }

    /// A partner may have shorter pages than the limit; the second page shows it.
    #[test]
    fn a_page_as_long_as_the_one_before_is_full() {
        let mut check = PageCheck::new(500).with_any_total(true);
        let next = check.accept(&mut page(3, &["a", "b"], None));
        assert_eq!(next, Ok(NextStep::Page(Position::Offset(1))));
        let next = check.accept(&mut page(3, &["b", "c"], None));
        assert_eq!(next, Ok(NextStep::Page(Position::Offset(2))), "full, at the total");
        assert_eq!(
            check.accept(&mut page(3, &["c", "d"], None)),
            Ok(NextStep::Page(Position::Offset(3)))
        );
        assert_eq!(check.accept(&mut page(3, &["d"], None)), Ok(NextStep::Done));
    }

    #[test]
    fn a_total_that_is_known_to_be_too_small_ends_no_window() {
        let mut check = PageCheck::new(500).with_any_total(true);
        assert_eq!(
            check.accept(&mut page(2, &["a", "b"], None)),
            Ok(NextStep::Done),
            "a short page"
        );
        let mut check = PageCheck::new(500).with_any_total(true).with_rows_beyond_total(true);
        let next = check.accept(&mut page(2, &["a", "b"], None));
        assert_eq!(next, Ok(NextStep::Page(Position::Offset(1))));
        assert_eq!(check.accept(&mut page(2, &["b"], None)), Ok(NextStep::Done));
    }

    #[test]
    fn a_short_page_goes_on_and_an_empty_one_does_not() {
        let mut check = PageCheck::new(5);
        let next = check.accept(&mut page(3, &["a"], None)).unwrap();
        assert_eq!(next, NextStep::Page(Position::Offset(1)));
        let next = check.accept(&mut page(3, &[], None));
        assert_eq!(next, inconsistent(Inconsistency::CountOff));
        let mut check = PageCheck::new(5);
        check.accept(&mut page(3, &["a", "b"], None)).unwrap();
        let next = check.accept(&mut page(3, &["b"], None));
        assert_eq!(next, inconsistent(Inconsistency::CountOff));
    }

    #[test]
    fn by_cursor() {
        let mut check = PageCheck::new(2);
        let cursor = |c: &str| Ok(NextStep::Page(Position::Cursor(c.into())));
        assert_eq!(check.accept(&mut page(2, &["a"], Some("1"))), cursor("1"));
        assert_eq!(check.accept(&mut page(2, &[], Some("2"))), cursor("2"));
        assert_eq!(check.accept(&mut page(2, &["b"], Some("3"))), cursor("3"));
        assert_eq!(check.accept(&mut page(2, &[], None)), Ok(NextStep::Done));
    }

    #[test]
    fn every_breach() {
        use Inconsistency as I;
        let mut check = PageCheck::new(1);
        let first = check.accept(&mut page(9, &["a", "b"], None));
        assert_eq!(first, inconsistent(I::PageOverLimit));

        let mut check = PageCheck::new(2);
        check.accept(&mut page(9, &["a", "b"], None)).unwrap();
        let again = check.accept(&mut page(9, &["b", "a"], None));
        assert_eq!(again, inconsistent(I::RepeatedId));

        // One row was added in front and one was removed at the end: the total is the same, a row was
        // skipped.
        let mut check = PageCheck::new(2);
        check.accept(&mut page(4, &["a", "b"], None)).unwrap();
        let shifted = check.accept(&mut page(4, &["c", "d"], None));
        assert_eq!(shifted, inconsistent(I::Shifted));
        let mut check = PageCheck::new(2);
        check.accept(&mut page(4, &["a", "b"], None)).unwrap();
        assert_eq!(check.accept(&mut page(4, &[], None)), inconsistent(I::Shifted));

        let mut check = PageCheck::new(2);
        check.accept(&mut page(9, &["a", "b"], None)).unwrap();
        let moved = check.accept(&mut page(8, &["c"], None));
        assert_eq!(moved, inconsistent(I::TotalMoved));

        let more = PageCheck::new(2).accept(&mut page(1, &["a", "b"], None));
        assert_eq!(more, inconsistent(I::CountOff));

        let mut check = PageCheck::new(2);
        check.accept(&mut page(9, &["a"], Some("1"))).unwrap();
        let short = check.accept(&mut page(9, &["b"], None));
        assert_eq!(short, inconsistent(I::CountOff));
    }

    #[test]
    fn any_total_is_taken_where_it_may_be_wrong() {
        let lenient = || PageCheck::new(2).with_any_total(true);
        // One row fewer than the total, by offset and by cursor.
        let mut check = lenient();
        check.accept(&mut page(3, &["a", "b"], None)).unwrap();
        assert_eq!(check.accept(&mut page(3, &["b"], None)), Ok(NextStep::Done));
        let mut check = lenient();
        check.accept(&mut page(3, &["a"], Some("1"))).unwrap();
        assert_eq!(check.accept(&mut page(3, &["b"], None)), Ok(NextStep::Done));
        assert_eq!(lenient().accept(&mut page(1, &[], None)), Ok(NextStep::Done));
        // One row more: a full page is continued.
        let mut check = lenient();
        let next = check.accept(&mut page(1, &["a", "b"], None));
        assert_eq!(next, Ok(NextStep::Page(Position::Offset(1))));
        assert_eq!(check.accept(&mut page(1, &["b"], None)), Ok(NextStep::Done));
        // A total that changes still means that the window changed.
        let mut check = lenient();
        check.accept(&mut page(9, &["a", "b"], None)).unwrap();
        let moved = check.accept(&mut page(8, &["b"], None));
        assert_eq!(moved, inconsistent(Inconsistency::TotalMoved));
    }

    #[test]
    fn the_same_row_twice_is_one_and_the_same_rows_for_ever_are_an_error() {
        let twice = || PageCheck::new(5).with_repeats(true);
        // By the partner's `total` there are two rows, or one.
        for total in [3, 2] {
            let mut rows = page(total, &["a", "a", "b"], None);
            assert_eq!(twice().accept(&mut rows), Ok(NextStep::Done), "{total}");
            assert_eq!(rows.transactions.len(), 2);
            assert_eq!((rows.rows_sent(), rows.rows_repeated()), (3, 1));
        }
        let mut legs = page(2, &["a", "a"], None);
        legs.transactions[1].account_id = px_types::AccountId::new("other").unwrap();
        assert_eq!(twice().accept(&mut legs), Ok(NextStep::Done));
        assert_eq!((legs.transactions.len(), legs.faults().len()), (2, 1));
        let mut other = page(2, &["a", "a"], None);
        other.transactions[1].description = Some("another".into());
        let mut check = twice();
        let hopeless = Err(PageError::Fatal(PagingFault::NeverSettled));
        assert_eq!(check.accept(&mut other), hopeless);
        assert_eq!(check.take_repeated().unwrap().name(), "the id a");

        let mut check = twice();
        let end = (0..200)
            .find_map(|i| check.accept(&mut page(9, &["a", "b"], Some(&i.to_string()))).err());
        assert_eq!(end, Some(PageError::Fatal(PagingFault::NoProgress)));
    }

    #[test]
    fn what_never_ends_is_ended() {
        let mut check = PageCheck::new(2);
        check.accept(&mut page(9, &["a"], Some("1"))).unwrap();
        let again = check.accept(&mut page(9, &["b"], Some("1")));
        assert_eq!(again, Err(PageError::Fatal(PagingFault::RepeatedCursor)));

        let mut check = PageCheck::new(2);
        let end =
            (0..200).find_map(|i| check.accept(&mut page(9, &[], Some(&i.to_string()))).err());
        assert_eq!(end, Some(PageError::Fatal(PagingFault::NoProgress)));
    }
}
