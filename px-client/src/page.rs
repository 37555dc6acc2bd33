//! Reading many transactions: windows of dates, pages, and whether they fit together.
//!
//! - `walk`: one window, page after page, begun again when it changes;
//! - `check`: whether the pages of a window fit together (pure);
//! - `plan`: how a long window is cut (pure);
//! - `history`: many windows at once, given out in order.
//!
//! Contract: `px.md` section 2.2.1.

mod check;
mod history;
mod plan;
mod walk;

pub use history::{HistoryEvent, HistoryEvents, HistoryOptions, Transactions};
pub use walk::{PageEvent, PageWalk};

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
    /// The window from one date to another; `None` when the first is the later one.
    #[must_use]
    pub fn new(start: Date, end: Date) -> Option<Self> {
        (start <= end).then_some(Self { start, end })
    }

    /// The first date.
    #[must_use]
    pub fn start(&self) -> Date {
        self.start
    }

    /// The last date.
    #[must_use]
    pub fn end(&self) -> Date {
        self.end
    }

    /// How many dates it has.
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
    /// Walks one window, page after page, by cursor where the partner offers it, else by offset.
    ///
    /// The window is read whole only when the stream has ended without an error. On
    /// [`PageEvent::Restart`] throw away what came before: the window changed meanwhile and
    /// is begun again, at most three times. Nothing is fetched before it is polled.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`Kind::Paging`](crate::Kind::Paging) when the pages do not
    /// fit together. The first error ends the stream.
    pub fn pages(
        &self,
        user_id: &UserId,
        window: Window,
    ) -> impl Stream<Item = Result<PageEvent, Error>> + Send + Unpin + use<> {
        walked(PageWalk::new(self.clone(), user_id.clone(), window, MAX_LIMIT))
    }

    /// Like [`pages`](Self::pages), but ends without an error if the rows are more or fewer than
    /// `total`, as long as that is the same on every page. The caller compares the two.
    ///
    /// By offset, one more page is requested where a page is full just at the `total`, and with
    /// `beyond_total` after every last page: a `total` that is too small would hide the rows after it.
    #[must_use]
    pub fn pages_with_any_total(
        &self,
        user_id: &UserId,
        window: Window,
        beyond_total: bool,
    ) -> PageWalk {
        let walk = PageWalk::new(self.clone(), user_id.clone(), window, MAX_LIMIT);
        walk.with_any_total(beyond_total)
    }

    /// Reads a user's transactions of a long time, newest first.
    ///
    /// A short history is one window, read page after page. A long one is cut into windows
    /// that are read side by side, each whole before any of it is given out, in order. At the
    /// end the whole is counted again. Nothing is fetched before it is polled; dropping the
    /// stream stops it. A window is empty when `start` is later than `end`.
    ///
    /// Rows that cannot be read are left out; [`Transactions::into_events`] reports them.
    ///
    /// # Errors
    /// As [`pages`](Self::pages). What was given out before an error is good, but not all.
    pub fn transactions(&self, user_id: &UserId, start: Date, end: Date) -> Transactions {
        self.transactions_with(user_id, start, end, HistoryOptions::default())
    }

    /// The same as [`transactions`](Self::transactions), with other settings.
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

fn walked(walk: PageWalk) -> impl Stream<Item = Result<PageEvent, Error>> + Send + Unpin + use<> {
    Box::pin(stream::try_unfold(walk, |mut walk| async move {
        Ok(walk.next().await?.map(|event| (event, walk)))
    }))
}
