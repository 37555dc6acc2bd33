//! Reads one window page by page, and starts over if the window changes meanwhile.

use super::{
    Window,
    check::{Inconsistency, NextStep, PageCheck, PageError, RepeatedRow},
};
use crate::{
    error::{Error, PagingFault},
    partner::PartnerClient,
};
use px_types::{
    UserId, error_id,
    partner::{ListTransactions, Position, TransactionsQuery, TransactionsResponse},
};
use std::fmt;

/// Maximum number of restarts of a window.
const MAX_RESTARTS: u32 = 3;

/// An event of reading a window.
#[derive(Debug)]
#[non_exhaustive]
pub enum PageEvent {
    /// The next page, without the row that overlaps the previous page.
    Page(TransactionsResponse),
    /// The window changed meanwhile: discard its pages; it is read again from its beginning.
    Restart,
}

/// A reader of one window, page by page. [`next`](Self::next) makes the requests.
pub struct PageReader {
    client: PartnerClient,
    user_id: UserId,
    window: Window,
    limit: u64,
    any_total: bool,
    beyond_total: bool,
    /// Whether an id may occur more than once, because every attempt found the same one twice.
    repeats: bool,
    /// The repeated id of the last attempt, and the number of consecutive attempts that failed because of it.
    repeated: Option<(RepeatedRow, u32)>,
    check: PageCheck,
    /// `None` if the window has been read or an error has ended the reading.
    position: Option<Position>,
    restarts: u32,
}

impl fmt::Debug for PageReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (window, has_more) = (self.window, self.has_more());
        let mut it = f.debug_struct("PageReader");
        it.field("window", &window).field("has_more", &has_more).finish_non_exhaustive()
    }
}

impl PageReader {
    pub(super) fn new(client: PartnerClient, user_id: UserId, window: Window, limit: u64) -> Self {
        Self {
            client,
            user_id,
            window,
            limit,
            any_total: false,
            beyond_total: false,
            repeats: false,
            repeated: None,
            check: PageCheck::new(limit),
            position: Some(Position::Offset(0)),
            restarts: 0,
        }
    }

    /// Accepts more or fewer rows than `total`, and reads beyond it if `beyond_total` is set.
    pub(super) fn with_any_total(mut self, beyond_total: bool) -> Self {
        (self.any_total, self.beyond_total) = (true, beyond_total);
        self.check = self.new_check();
        self
    }

    fn new_check(&self) -> PageCheck {
        let check = PageCheck::new(self.limit).with_any_total(self.any_total);
        check.with_rows_beyond_total(self.beyond_total).with_repeats(self.repeats)
    }

    /// Returns whether [`next`](Self::next) makes a request: the window has not been read completely.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.position.is_some()
    }

    /// Returns the next event, or `None` if the window has been read completely.
    ///
    /// # Errors
    /// See [`PartnerClient::pages`]. An error ends the reading.
    pub async fn next(&mut self) -> Result<Option<PageEvent>, Error> {
        let Some(position) = self.position.take() else {
            return Ok(None);
        };
        let mut query = TransactionsQuery::new(self.window.start(), self.window.end());
        query.limit = self.limit;
        query.position = position;
        let request = ListTransactions::new(self.user_id.clone(), query);
        let mut page = match self.client.transactions_page(request).await {
            Ok(page) => page,
            Err(e) if e.error_id() == Some(error_id::CURSOR_EXPIRED) => {
                return self.restart(Inconsistency::CursorExpired);
            }
            Err(e) => return Err(e),
        };
        match self.check.accept(&mut page) {
            Ok(NextStep::Page(position)) => self.position = Some(position),
            Ok(NextStep::Done) => {}
            Err(PageError::Inconsistent(how)) => return self.restart(how),
            Err(PageError::Fatal(fault)) => {
                if let Some(repeated) = self.check.take_repeated() {
                    let what = format!("two transactions of one account share {}", repeated.name());
                    return Err(Error::paging(fault, format!("{}: {what}", self.window)));
                }
                let what = match fault {
                    PagingFault::RepeatedCursor => "the partner returned a cursor twice",
                    _ => "the partner keeps returning pages without new transactions",
                };
                return Err(Error::paging(fault, format!("{}: {what}", self.window)));
            }
        }
        Ok(Some(PageEvent::Page(page)))
    }

    fn restart(&mut self, how: Inconsistency) -> Result<Option<PageEvent>, Error> {
        let repeated = self.check.take_repeated();
        self.repeated = repeated.map(|now| match self.repeated.take() {
            Some((before, readings)) if before == now => (now, readings + 1),
            _ => (now, 1),
        });
        let readings = MAX_RESTARTS + 1;
        if self.restarts == MAX_RESTARTS {
            // The window does not change: the partner has an id twice.
            let has_it_twice = self.repeated.as_ref().is_some_and(|(_, same)| *same == readings);
            if self.repeats || !has_it_twice {
                let id = self.repeated.as_ref().map(|(id, _)| format!(" under {}", id.name()));
                let what = format!(
                    "{}: {how}{}, in {readings} consecutive attempts",
                    self.window,
                    id.unwrap_or_default(),
                );
                return Err(Error::paging(PagingFault::NeverSettled, what));
            }
            self.repeats = true;
        } else {
            self.restarts += 1;
        }
        tracing::debug!(%how, "a window changed while it was read; starting over");
        self.check = self.new_check();
        self.position = Some(Position::Offset(0));
        Ok(Some(PageEvent::Restart))
    }
}

#[cfg(test)]
pub(super) mod tests_support {
    use px_types::{
        Date, TransactionId, Unit,
        model::{account::AccountType, transaction::Transaction},
        partner::TransactionsResponse,
    };

    pub(crate) fn page(total: u64, ids: &[&str], cursor: Option<&str>) -> TransactionsResponse {
        let date = Date::from_ymd(2024, 1, 1).unwrap();
        let transactions = ids.iter().map(|id| {
            Transaction::new(
                TransactionId::new(id).unwrap(),
                px_types::AccountId::new("a").unwrap(),
                "1.00".parse::<px_types::Amount>().unwrap(),
                date,
                AccountType::Depository,
                Unit::iso("USD").unwrap(),
            )
        });
        let mut page = TransactionsResponse::new(total, transactions.collect::<Vec<_>>());
        page.next_cursor = cursor.map(str::to_owned);
        page
    }
}
