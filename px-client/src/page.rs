//! Reading many transactions: windows of dates, pages, and their consistency.
//!
//! - `reader`: one window, page by page; starts over if the window changes meanwhile;
//! - `check`: the consistency of a window's pages (pure);
//! - `plan`: the split of a long window into shorter ones (pure);
//! - `history`: concurrent windows, returned in order.
//!
//! Contract: `px.md` section 2.2.1.

mod check;
mod history;
mod plan;
mod reader;

pub use history::{HistoryEvent, HistoryEvents, HistoryOptions, Transactions};
pub use reader::{PageEvent, PageReader};

use crate::{error::Error, partner::PartnerClient};
use futures_util::{Stream, stream};
use px_types::{Date, UserId, partner::MAX_LIMIT};
use std::fmt;

/// A window of dates, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    start: Date,
    end: Date,
}

impl Window {
    /// Returns the window from one date to another, or `None` if `start` is later than `end`.
    #[must_use]
    pub fn new(start: Date, end: Date) -> Option<Self> {
        (start <= end).then_some(Self { start, end })
    }

    /// Returns the first date.
    #[must_use]
    pub fn start(&self) -> Date {
        self.start
    }

    /// Returns the last date.
    #[must_use]
    pub fn end(&self) -> Date {
        self.end
    }

    /// Returns the number of dates in the window.
    #[must_use]
    pub fn days(&self) -> u64 {
        self.end.days_since(self.start).unsigned_abs() + 1
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.start, self.end)
    }
}

impl PartnerClient {
    /// Reads one window page by page: by cursor if the partner offers it, otherwise by offset.
    ///
    /// The window has been read completely only when the stream ends without an error. On
    /// [`PageEvent::Restart`], discard the pages received so far: the window changed meanwhile and is read
    /// again from its beginning. Usually that happens at most three times; once more if each of these
    /// attempts found the same id twice. Nothing is requested before the stream is polled.
    ///
    /// # Errors
    /// See [`send`](Self::send); and [`ErrorKind::Paging`](crate::ErrorKind::Paging) if the pages are inconsistent. The
    /// first error ends the stream.
    pub fn pages(
        &self,
        user_id: &UserId,
        window: Window,
    ) -> impl Stream<Item = Result<PageEvent, Error>> + Send + Unpin + use<> {
        into_stream(PageReader::new(self.clone(), user_id.clone(), window, MAX_LIMIT))
    }

    /// Reads one window like [`pages`](Self::pages), but accepts more or fewer rows than `total`.
    ///
    /// `total` must still be the same on every page. The caller compares the two.
    ///
    /// With pages by offset, one more page is requested if a page is full exactly at `total`; with
    /// `beyond_total`, one more is requested after every last page. Otherwise a `total` that is too small
    /// would hide the rows after it.
    #[must_use]
    pub fn pages_with_any_total(
        &self,
        user_id: &UserId,
        window: Window,
        beyond_total: bool,
    ) -> PageReader {
        let reader = PageReader::new(self.clone(), user_id.clone(), window, MAX_LIMIT);
        reader.with_any_total(beyond_total)
    }

    /// Reads a user's transactions in a range of dates, newest first.
    ///
    /// A short history is read as one window, page by page. A long one is split into windows that are read
    /// concurrently; each is read completely before its rows are returned, and windows are returned in order.
    /// At the end the whole range is counted again. Nothing is requested before the stream is polled;
    /// dropping the stream stops it. If `start` is later than `end`, the stream is empty.
    ///
    /// Rows that cannot be read are left out; [`Transactions::into_events`] reports them.
    ///
    /// # Errors
    /// See [`pages`](Self::pages). Rows that were returned before an error are valid but incomplete.
    pub fn transactions(&self, user_id: &UserId, start: Date, end: Date) -> Transactions {
        self.transactions_with(user_id, start, end, HistoryOptions::default())
    }

    /// Reads a user's transactions like [`transactions`](Self::transactions), with other settings.
    pub fn transactions_with(
        &self,
        user_id: &UserId,
        start: Date,
        end: Date,
        options: HistoryOptions,
    ) -> Transactions {
        Transactions::new(self.clone(), user_id.clone(), Window::new(start, end), options)
    }
}

fn into_stream(
    reader: PageReader,
) -> impl Stream<Item = Result<PageEvent, Error>> + Send + Unpin + use<> {
    Box::pin(stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|event| (event, reader)))
    }))
}
