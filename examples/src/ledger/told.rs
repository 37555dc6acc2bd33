//! What Plaid is to be told of: booked transactions, and the notifications that wait.
//!
//! Moving the clock books transactions, in whatever process: it leaves a row for each in
//! `booked`, in the transaction that books them, so that none is lost. The process that serves
//! takes the rows to its `Notifier`, whose store this is too.

use super::{Ledger, LedgerError, Result, advance::Changes};
use crate::seed::{Day, date_of};
use async_trait::async_trait;
use px_client::notifier::{Entry, Kept, Lane, NotificationStore};
use px_types::{AccountId, ItemAccessToken, UserId};
use sqlx::{AssertSqlSafe, SqliteConnection};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    error::Error as StdError,
};

type Answer<T> = std::result::Result<T, Box<dyn StdError + Send + Sync>>;

/// Row name to which the sealed body of a notification is bound.
const NOTIFICATION: &str = "notification";

/// Who shares, or is about to: with a token at Plaid, or with a grant that was not revoked.
const SHARES: &str = "SELECT user_id FROM plaid_tokens
    UNION SELECT principal FROM grants WHERE json_extract(body, '$.revoked_at') IS NULL";

/// Booked transactions that a call of [`Ledger::booked`] gave.
#[derive(Debug)]
#[non_exhaustive]
pub struct Booked(Vec<Row>);

#[derive(Debug)]
struct Row {
    n: i64,
    user: UserId,
    account: AccountId,
    since: Day,
    token: ItemAccessToken,
}

impl Booked {
    /// The customers whose accounts they are on.
    #[must_use]
    pub fn users(&self) -> BTreeSet<&UserId> {
        self.0.iter().map(|row| &row.user).collect()
    }

    /// One entry for each transaction, on the accounts that the customer shares.
    #[must_use]
    pub fn entries(&self, shares: impl Fn(&UserId, &AccountId) -> bool) -> Vec<Entry> {
        let told = self.0.iter().filter(|row| shares(&row.user, &row.account));
        let entry = |row: &Row| {
            let (token, account) = (row.token.clone(), row.account.clone());
            Entry::transactions(token, account, date_of(row.since)).of(row.user.clone())
        };
        told.map(entry).collect()
    }
}

impl Ledger {
    /// Booked transactions that no notification tells of yet, at most so many. Those of customers
    /// whose token is on its way wait for it. `None` when there are none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn booked(&self, at_most: u32) -> Result<Option<Booked>> {
        let sql = "SELECT b.n, b.user_id, b.account_id, b.since, t.token FROM booked b
            JOIN plaid_tokens t ON t.user_id = b.user_id ORDER BY b.n LIMIT ?";
        let query = sqlx::query_as(sql).bind(at_most);
        let rows: Vec<(i64, String, String, Day, String)> = query.fetch_all(self.pool()).await?;
        let row = |(n, user, account, since, token): (i64, String, String, Day, String)| {
            let user = UserId::new(user).map_err(|_| LedgerError::NotABank)?;
            let account = AccountId::new(account).map_err(|_| LedgerError::NotABank)?;
            let token = self.unseal_token(&user, &token)?;
            Ok(Row { n, user, account, since, token })
        };
        let rows: Vec<Row> = rows.into_iter().map(row).collect::<Result<_>>()?;
        Ok((!rows.is_empty()).then_some(Booked(rows)))
    }

    /// Forgets booked transactions: notifications tell of them.
    ///
    /// # Errors
    /// When the database fails; they are told of again then.
    pub async fn told(&self, booked: &Booked) -> Result<()> {
        let mut tx = self.write().await?;
        for row in &booked.0 {
            let query = sqlx::query("DELETE FROM booked WHERE n = ?").bind(row.n);
            query.execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }
}

/// Notes what was booked, for each customer who shares and sees the account. Which of the
/// accounts are shared is asked when it is told.
pub(super) async fn note(connection: &mut SqliteConnection, changes: &Changes) -> Result<()> {
    // Nobody is to be told of the customers who meanwhile stopped sharing.
    let sql = format!("DELETE FROM booked WHERE user_id NOT IN ({SHARES})");
    sqlx::query(AssertSqlSafe(sql)).execute(&mut *connection).await?;
    let sql = format!(
        "SELECT h.account_n, a.account_id, u.user_id FROM users u
        JOIN holders h ON h.user_n = u.n JOIN accounts a ON a.n = h.account_n
        WHERE u.user_id IN ({SHARES}) ORDER BY h.account_n, u.user_id"
    );
    let query = sqlx::query_as(AssertSqlSafe(sql));
    let sees: Vec<(i64, String, String)> = query.fetch_all(&mut *connection).await?;
    if sees.is_empty() {
        return Ok(());
    }
    let mut of_account: HashMap<i64, Vec<(String, String)>> = HashMap::new();
    for (account_n, account_id, user_id) in sees {
        of_account.entry(account_n).or_default().push((account_id, user_id));
    }
    // A transaction that posts leaves the day of its purchase: the earliest day that changed
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

/// Notifications that wait for Plaid, in the bank's database.
#[derive(Clone, Debug)]
pub struct SqliteNotifications(Ledger);

impl SqliteNotifications {
    /// The notifications of a ledger.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self(ledger)
    }
}

#[async_trait]
impl NotificationStore for SqliteNotifications {
    async fn append(&self, entries: &[Entry]) -> Answer<()> {
        let mut tx = self.0.write().await?;
        for entry in entries {
            let query = sqlx::query("INSERT INTO notifications (lane, body) VALUES (?, ?)");
            let query = query.bind(entry.lane().as_str());
            // It holds a token.
            let query = query.bind(self.0.seal(&serde_json::to_string(entry)?, NOTIFICATION)?);
            query.execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn next_batch(&self, lane: Lane, at_most: usize) -> Answer<Vec<Kept>> {
        let sql = "SELECT n, body FROM notifications WHERE lane = ? ORDER BY n LIMIT ?";
        let query = sqlx::query_as(sql).bind(lane.as_str()).bind(i64::try_from(at_most)?);
        let rows: Vec<(i64, String)> = query.fetch_all(self.0.pool()).await?;
        let kept = |(n, body): &(i64, String)| {
            let body = self.0.unseal(body, NOTIFICATION)?;
            let entry = serde_json::from_str(&body);
            // The row holds a token: where it is damaged is not told.
            let entry = entry.map_err(|_| "a notification cannot be read")?;
            Ok(Kept::new(u64::try_from(*n)?, entry))
        };
        rows.iter().map(kept).collect()
    }

    async fn done(&self, lane: Lane, numbers: &[u64]) -> Answer<()> {
        let mut tx = self.0.write().await?;
        for number in numbers {
            let query = sqlx::query("DELETE FROM notifications WHERE n = ? AND lane = ?");
            let query = query.bind(i64::try_from(*number)?).bind(lane.as_str());
            query.execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn waiting(&self) -> Answer<usize> {
        let sql = "SELECT count(*) FROM notifications";
        let count: i64 = sqlx::query_scalar(sql).fetch_one(self.0.pool()).await?;
        Ok(usize::try_from(count).map_err(|_| LedgerError::NotABank)?)
    }
}
