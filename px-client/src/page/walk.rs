//! One window, page after page, begun again when it changes.

use super::{
    Window,
    check::{Broken, Check, Inconsistency, Next, Repeated},
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

/// How often a window is begun again.
const MOST_RESTARTS: u32 = 3;

/// What happens on a walk through a window.
#[derive(Debug)]
#[non_exhaustive]
pub enum PageEvent {
    /// The next page, without the rows that the one before it had.
    Page(TransactionsResponse),
    /// The window changed meanwhile: throw away its pages, it is begun again.
    Restart,
}

/// A walk through one window, page after page. [`next`](Self::next) makes the requests.
pub struct PageWalk {
    client: PartnerClient,
    user_id: UserId,
    window: Window,
    limit: u64,
    any_total: bool,
    beyond_total: bool,
    /// Whether an id may come more than once, because every reading had the same one twice.
    repeats: bool,
    /// The repeated id of the last reading, and how many readings in a row it broke.
    repeated: Option<(Repeated, u32)>,
    check: Check,
    /// `None` when the walk has ended.
    position: Option<Position>,
    restarts: u32,
}

impl fmt::Debug for PageWalk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (window, has_more) = (self.window, self.has_more());
        let mut it = f.debug_struct("PageWalk");
        it.field("window", &window).field("has_more", &has_more).finish_non_exhaustive()
    }
}

impl PageWalk {
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
            check: Check::new(limit),
            position: Some(Position::Offset(0)),
            restarts: 0,
        }
    }

    /// Lets the rows be more or fewer than `total`, and looks for more of them if so wanted.
    pub(super) fn with_any_total(mut self, beyond_total: bool) -> Self {
        (self.any_total, self.beyond_total) = (true, beyond_total);
        self.check = self.new_check();
        self
    }

    fn new_check(&self) -> Check {
        let check = Check::new(self.limit).with_any_total(self.any_total);
        check.with_rows_beyond_total(self.beyond_total).with_repeats(self.repeats)
    }

    /// Whether [`next`](Self::next) makes a request: the window was not read whole yet.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.position.is_some()
    }

    /// The next event; `None` when the window was read whole.
    ///
    /// # Errors
    /// As [`PartnerClient::pages`]. An error ends the walk.
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
            Ok(Next::Page(position)) => self.position = Some(position),
            Ok(Next::Done) => {}
            Err(Broken::Inconsistent(how)) => return self.restart(how),
            Err(Broken::Hopeless(fault)) => {
                if let Some(repeated) = self.check.take_repeated() {
                    let what =
                        format!("two transactions of one account came under {}", repeated.name());
                    return Err(Error::paging(fault, format!("{}: {what}", self.window)));
                }
                let what = match fault {
                    PagingFault::RepeatedCursor => "a cursor came a second time",
                    _ => "pages without a transaction go on and on",
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
        let readings = MOST_RESTARTS + 1;
        if self.restarts == MOST_RESTARTS {
            // The window does not change: the partner has an id twice.
            let has_it_twice = self.repeated.as_ref().is_some_and(|(_, same)| *same == readings);
            if self.repeats || !has_it_twice {
                let id = self.repeated.as_ref().map(|(id, _)| format!(" under {}", id.name()));
                let what = format!(
                    "{}: {how}{}, in {readings} readings one after the other",
                    self.window,
                    id.unwrap_or_default(),
                );
                return Err(Error::paging(PagingFault::NeverSettled, what));
            }
            self.repeats = true;
        } else {
            self.restarts += 1;
        }
        tracing::debug!(%how, "a window changed while it was read; beginning again");
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
