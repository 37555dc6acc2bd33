//! Pending notifications to Plaid, and the booked transactions that they are made from.
//!
//! Advancing the clock books transactions, in any process. It adds a row for each to `booked`, in
//! the transaction that books them, so that none is lost. The process that serves passes the rows
//! to its `Notifier`; this module is also the store of that notifier.

use super::{Ledger, LedgerError, Result, advance::Changes};
use crate::seed::{Day, date_of};
use async_trait::async_trait;
use px_client::notifier::{Entry, Lane, NotificationStore, StoredEntry};
use px_types::{AccountId, ItemAccessToken, UserId};
use sqlx::{AssertSqlSafe, SqliteConnection};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    error::Error as StdError,
};

type StoreResult<T> = std::result::Result<T, Box<dyn StdError + Send + Sync>>;

/// BookedRow name to which the sealed body of a notification is bound.
const NOTIFICATION_ROW: &str = "notification";

/// Query of the customers who share data or are about to: those with a token at Plaid or with a
/// grant that is not revoked.
const SHARING_USERS: &str = "SELECT user_id FROM plaid_tokens
    UNION SELECT principal FROM grants WHERE json_extract(body, '$.revoked_at') IS NULL";

/// A batch of booked transactions, from [`Ledger::booked`].
#[derive(Debug)]
#[non_exhaustive]
pub struct BookedTransactions(Vec<BookedRow>);

#[derive(Debug)]
struct BookedRow {
    n: i64,
    user: UserId,
    account: AccountId,
    since: Day,
    token: ItemAccessToken,
}

impl BookedTransactions {
    /// Returns the customers of the transactions.
    #[must_use]
    pub fn users(&self) -> BTreeSet<&UserId> {
        self.0.iter().map(|row| &row.user).collect()
    }

    /// Returns one entry for each transaction on an account that the customer shares.
    #[must_use]
    pub fn entries(&self, shares: impl Fn(&UserId, &AccountId) -> bool) -> Vec<Entry> {
        let shared = self.0.iter().filter(|row| shares(&row.user, &row.account));
        let entry = |row: &BookedRow| {
            let (token, account) = (row.token.clone(), row.account.clone());
            Entry::transactions(token, account, date_of(row.since)).of(row.user.clone())
        };
        shared.map(entry).collect()
    }
}

impl Ledger {
    /// Returns at most `at_most` booked transactions that are not yet in a notification. Skips
    /// customers without a stored token for Plaid. Returns `None` if there are none.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn booked(&self, at_most: u32) -> Result<Option<BookedTransactions>> {
        let sql = "SELECT b.n, b.user_id, b.account_id, b.since, t.token FROM booked b
            JOIN plaid_tokens t ON t.user_id = b.user_id ORDER BY b.n LIMIT ?";
        let query = sqlx::query_as(sql).bind(at_most);
        let rows: Vec<(i64, String, String, Day, String)> = query.fetch_all(self.pool()).await?;
        let row = |(n, user, account, since, token): (i64, String, String, Day, String)| {
            let user = UserId::new(user).map_err(|_| LedgerError::NotABank)?;
            let account = AccountId::new(account).map_err(|_| LedgerError::NotABank)?;
            let token = self.unseal_token(&user, &token)?;
            Ok(BookedRow { n, user, account, since, token })
        };
        let rows: Vec<BookedRow> = rows.into_iter().map(row).collect::<Result<_>>()?;
        Ok((!rows.is_empty()).then_some(BookedTransactions(rows)))
    }

    /// Deletes booked transactions once their notifications are stored.
    ///
    /// # Errors
    /// If the database fails. Then Plaid is notified of them again.
    pub async fn delete_booked(&self, booked: &BookedTransactions) -> Result<()> {
        let mut tx = self.write().await?;
        for row in &booked.0 {
            let query = sqlx::query("DELETE FROM booked WHERE n = ?").bind(row.n);
            query.execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }
}

/// Records booked transactions for each customer who shares data and visible the account. The
/// notification checks which accounts are shared.
pub(super) async fn record_booked(
    connection: &mut SqliteConnection,
    changes: &Changes,
) -> Result<()> {
    // Customers who stopped sharing must not appear in notifications.
    let sql = format!("DELETE FROM booked WHERE user_id NOT IN ({SHARING_USERS})");
    sqlx::query(AssertSqlSafe(sql)).execute(&mut *connection).await?;
    let sql = format!(
        "SELECT h.account_n, a.account_id, u.user_id FROM users u
        JOIN holders h ON h.user_n = u.n JOIN accounts a ON a.n = h.account_n
        WHERE u.user_id IN ({SHARING_USERS}) ORDER BY h.account_n, u.user_id"
    );
    let query = sqlx::query_as(AssertSqlSafe(sql));
    let visible: Vec<(i64, String, String)> = query.fetch_all(&mut *connection).await?;
    if visible.is_empty() {
        return Ok(());
    }
    let mut of_account: HashMap<i64, Vec<(String, String)>> = HashMap::new();
    for (account_n, account_id, user_id) in visible {
        of_account.entry(account_n).or_default().push((account_id, user_id));
    }
    // A transaction that posts moves away from the day of its purchase. The earliest changed day
    // covers both.
    let mut earliest: BTreeMap<i64, Day> = BTreeMap::new();
    for (account_n, before) in &changes.touched {
        let day = earliest.entry(*account_n).or_insert(-before);
        *day = (*day).min(-before);
    }
    let sql = "INSERT INTO booked (user_id, account_id, since) VALUES (?, ?, ?)";
    for row in &changes.put {
        let since = earliest.get(&row.account_n).copied().unwrap_or(-row.before);
        for (account_id, user_id) in of_account.get(&row.account_n).into_iter().flatten() {
            let query = sqlx::query(sql).bind(user_id).bind(account_id).bind(since);
            query.execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// The store of pending notifications, in the bank's database.
#[derive(Clone, Debug)]
pub struct SqliteNotifications(Ledger);

impl SqliteNotifications {
    /// Creates the store of a ledger.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self(ledger)
    }
}

#[async_trait]
impl NotificationStore for SqliteNotifications {
    async fn append(&self, entries: &[Entry]) -> StoreResult<()> {
        let mut tx = self.0.write().await?;
        for entry in entries {
            let query = sqlx::query("INSERT INTO notifications (lane, body) VALUES (?, ?)");
            let query = query.bind(entry.lane().as_str());
            // The entry contains a token.
            let query = query.bind(self.0.seal(&serde_json::to_string(entry)?, NOTIFICATION_ROW)?);
            query.execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn next_batch(&self, lane: Lane, at_most: usize) -> StoreResult<Vec<StoredEntry>> {
        let sql = "SELECT n, body FROM notifications WHERE lane = ? ORDER BY n LIMIT ?";
        let query = sqlx::query_as(sql).bind(lane.as_str()).bind(i64::try_from(at_most)?);
        let rows: Vec<(i64, String)> = query.fetch_all(self.0.pool()).await?;
        let pending = |(n, body): &(i64, String)| {
            let body = self.0.unseal(body, NOTIFICATION_ROW)?;
            let entry = serde_json::from_str(&body);
            // The row contains a token, so the error does not describe the damage.
            let entry = entry.map_err(|_| "a notification cannot be read")?;
            Ok(StoredEntry::new(u64::try_from(*n)?, entry))
        };
        rows.iter().map(pending).collect()
    }

    async fn done(&self, lane: Lane, numbers: &[u64]) -> StoreResult<()> {
        let mut tx = self.0.write().await?;
        for number in numbers {
            let query = sqlx::query("DELETE FROM notifications WHERE n = ? AND lane = ?");
            let query = query.bind(i64::try_from(*number)?).bind(lane.as_str());
            query.execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn waiting(&self) -> StoreResult<usize> {
        let sql = "SELECT count(*) FROM notifications";
        let count: i64 = sqlx::query_scalar(sql).fetch_one(self.0.pool()).await?;
        Ok(usize::try_from(count).map_err(|_| LedgerError::NotABank)?)
    }
}
