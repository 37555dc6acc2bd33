//! One window, page after page, begun again when it changes.

use super::{
    Window,
    check::{Broken, Check, Inconsistency, Next},
};
use crate::{
    error::{Error, PagingFault},
    partner::PartnerClient,
};
use px_types::{
    UserId, error_id,
    partner::{ListTransactions, Position, TransactionsQuery, TransactionsResponse},
};

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

/// A walk through one window.
pub(super) struct Walk {
    client: PartnerClient,
    user_id: UserId,
    window: Window,
    limit: u64,
    any_total: bool,
    check: Check,
    /// `None` when the walk has ended.
    position: Option<Position>,
    restarts: u32,
}

impl Walk {
    pub(super) fn new(client: PartnerClient, user_id: UserId, window: Window, limit: u64) -> Self {
        Self {
            client,
            user_id,
            window,
            limit,
            any_total: false,
            check: Check::new(limit),
            position: Some(Position::Offset(0)),
            restarts: 0,
        }
    }

    /// Lets the rows be more or fewer than `total`.
    pub(super) fn with_any_total(mut self) -> Self {
        self.any_total = true;
        self.check = Check::new(self.limit).with_any_total(true);
        self
    }

    /// The next event; `None` when the window was read whole.
    pub(super) async fn next(&mut self) -> Result<Option<PageEvent>, Error> {
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
        if self.restarts == MOST_RESTARTS {
            let what = format!(
                "{}: {how}, in {} readings one after the other",
                self.window,
                MOST_RESTARTS + 1
            );
            return Err(Error::paging(PagingFault::NeverSettled, what));
        }
        tracing::debug!(%how, "a window changed while it was read; beginning again");
        self.restarts += 1;
        self.check = Check::new(self.limit).with_any_total(self.any_total);
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
