//! API of the bank over the ledger: pages by cursor or offset, and windows that are too long.

use super::{Bank, Habit, Style};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use px_core::Clock as _;
use px_server::{Caller, Error, Partner};
use px_types::{
    Date, TransactionId, UserId,
    model::{security::Security, transaction::Transaction},
    partner::{
        GetUser, ListTransactions, Position, TransactionsQuery, TransactionsResponse,
        UserAccountInfoResponse,
    },
};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

/// Lifetime of a cursor; the contract requires ten minutes.
const CURSOR_LIFE: TimeDelta = TimeDelta::minutes(12);

/// Seconds for which a pending transaction keeps its id at banks with unstable ids.
const UNSTABLE_FOR: i64 = 600;

/// The bank's own code behind the API.
pub(super) struct BankApi(pub(super) Arc<Bank>);

/// State of the cursors.
#[derive(Default)]
pub(super) struct Cursors {
    windows: BTreeMap<u64, WindowSnapshot>,
    next: u64,
}

/// Snapshot of a window at the time of its first page.
#[derive(Clone)]
struct WindowSnapshot {
    user: UserId,
    dates: (Date, Date),
    rows: Vec<Transaction>,
    version: u64,
    begun: DateTime<Utc>,
}

#[async_trait]
impl Partner for BankApi {
    async fn user(&self, caller: &Caller, _: GetUser) -> Result<UserAccountInfoResponse, Error> {
        let mut ledgers = self.0.ledgers();
        let ledger = ledgers.get_mut(caller.principal()).ok_or_else(Error::not_offered)?;
        Ok(ledger.respond(self.0.clock.now()))
    }

    async fn transactions(
        &self,
        caller: &Caller,
        request: ListTransactions,
    ) -> Result<TransactionsResponse, Error> {
        let (bank, query) = (&self.0, &request.query);
        if !bank.has_transactions() {
            return Err(Error::internal("no transaction can be read"));
        }
        let days = query.end_date.days_since(query.start_date).unsigned_abs() + 1;
        if let Some(longest) = bank.style.longest
            && days > longest
        {
            return Err(Error::window_too_long(u32::try_from(longest).unwrap_or(u32::MAX)));
        }
        let page = match &query.position {
            Position::Offset(offset) => bank.page_by_offset(caller.principal(), query, *offset),
            Position::Cursor(cursor) => bank.page_by_cursor(caller.principal(), query, cursor),
        };
        page.ok_or_else(Error::cursor_expired)
    }
}

impl Bank {
    fn page_by_offset(
        &self,
        user: &UserId,
        query: &TransactionsQuery,
        offset: u64,
    ) -> Option<TransactionsResponse> {
        let (rows, version) = self.window(user, query)?;
        let length = page_length(&self.style, query);
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        let total = rows.len();
        let page: Vec<_> = rows.iter().skip(skip).take(length).cloned().collect();
        let more = skip.saturating_add(page.len()) < total;
        let mut response = TransactionsResponse::new(self.total(total), page);
        response.securities = self.securities_of(user, &response.transactions);
        if self.style.by_cursor && more {
            let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
            cursors.next += 1;
            let number = cursors.next;
            let snapshot = WindowSnapshot {
                user: user.clone(),
                dates: (query.start_date, query.end_date),
                rows,
                version,
                begun: self.clock.now(),
            };
            cursors.windows.insert(number, snapshot);
            response.next_cursor = Some(format!("{number}.{}", skip + response.transactions.len()));
        }
        Some(response)
    }

    /// Returns `None` if the cursor is unknown, too old or belongs to another window.
    fn page_by_cursor(
        &self,
        user: &UserId,
        query: &TransactionsQuery,
        cursor: &str,
    ) -> Option<TransactionsResponse> {
        let (number, at) = cursor.split_once('.')?;
        let (number, at): (u64, usize) = (number.parse().ok()?, at.parse().ok()?);
        let snapshot = {
            let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.now();
            cursors.windows.retain(|_, snapshot| now - snapshot.begun < CURSOR_LIFE);
            cursors.windows.get(&number)?.clone()
        };
        let same = snapshot.user == *user && snapshot.dates == (query.start_date, query.end_date);
        let (_, version) = self.window(user, query)?;
        if !same || (!self.style.snapshots && version != snapshot.version) {
            return None;
        }
        let page: Vec<_> =
            snapshot.rows.iter().skip(at).take(page_length(&self.style, query)).cloned().collect();
        let next = at + page.len();
        let mut response = TransactionsResponse::new(self.total(snapshot.rows.len()), page);
        response.securities = self.securities_of(user, &response.transactions);
        response.next_cursor = (next < snapshot.rows.len()).then(|| format!("{number}.{next}"));
        Some(response)
    }

    /// Returns the rows of a window in the contract's order, and the version of the ledger.
    fn window(&self, user: &UserId, query: &TransactionsQuery) -> Option<(Vec<Transaction>, u64)> {
        let ledgers = self.ledgers();
        let ledger = ledgers.get(user)?;
        let mut rows: Vec<_> = ledger
            .shown()
            .filter(|row| (query.start_date..=query.end_date).contains(&self.style.filed(row)))
            .cloned()
            .collect();
        rows.sort_by(|a, b| {
            let (filed, other) = (self.style.filed(a), self.style.filed(b));
            other.cmp(&filed).then_with(|| a.id.cmp(&b.id))
        });
        let mut version = ledger.version;
        if self.style.has(Habit::UnstablePendingIds) {
            let epoch = self.clock.now().timestamp() / UNSTABLE_FOR;
            version = version.wrapping_mul(1_000_003).wrapping_add(epoch.unsigned_abs());
            for row in rows.iter_mut().filter(|row| row.is_pending()) {
                row.id = TransactionId::new(format!("{}~{epoch}", row.id)).unwrap();
            }
        }
        Some((rows, version))
    }

    fn total(&self, rows: usize) -> u64 {
        (rows as u64).saturating_add_signed(self.style.total_off)
    }

    fn securities_of(&self, user: &UserId, rows: &[Transaction]) -> Vec<Security> {
        let ledgers = self.ledgers();
        ledgers.get(user).map(|ledger| ledger.securities_of(rows)).unwrap_or_default()
    }
}

fn page_length(style: &Style, query: &TransactionsQuery) -> usize {
    style.page.min(usize::try_from(query.limit).unwrap_or(usize::MAX))
}
