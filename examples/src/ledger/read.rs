//! Reads of the ledger: a user's accounts, and pages of transactions in a window.

use super::{Ledger, LedgerError, Result};
use crate::seed::{Day, day_of};
use px_types::{
    Date, IdentityId, UserId,
    model::{account::Account, identity::Identity, security::Security, transaction::Transaction},
    wire::decode,
};
use serde::de::DeserializeOwned;
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};
use std::collections::BTreeSet;

/// A user of the bank.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct User {
    /// The row number in the database.
    pub n: i64,
    /// The id, which is the principal of the user's tokens.
    pub user_id: UserId,
    /// The name that the user signs in with.
    pub username: String,
    /// The user's own identity.
    pub identity_id: IdentityId,
}

/// The accounts of a user and everything that they name, without transactions.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Holdings {
    /// Every identity that the accounts name, and the user's own.
    pub identities: Vec<Identity>,
    /// Every security that the accounts hold.
    pub securities: Vec<Security>,
    /// The accounts.
    pub accounts: Vec<Account>,
}

/// A range of dates, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first date.
    pub start: Date,
    /// The last date.
    pub end: Date,
}

/// The position after a transaction in the order of pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PagePosition {
    /// The negated day of the transaction.
    pub before: Day,
    /// The id of the transaction.
    pub id: String,
}

/// The start of a page.
#[derive(Clone, Debug)]
pub enum PageStart {
    /// The number of transactions to skip from the start of the window.
    Offset(u64),
    /// After a position, in the window as it was at a change of the ledger.
    After {
        /// The position.
        position: PagePosition,
        /// The number of the change.
        change: i64,
    },
}

/// A page of a window.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Page {
    /// The transactions.
    pub transactions: Vec<Transaction>,
    /// The position after the last of them, if more follow.
    pub next: Option<PagePosition>,
    /// The number of transactions in the window. Counted only if the page starts at an offset.
    pub total: Option<u64>,
    /// The number of the latest change of the ledger.
    pub change: i64,
    /// Securities that the page names and that no account holds.
    pub securities: Vec<Security>,
}

impl Ledger {
    /// Returns the user of an id. Returns `None` if there is no such user.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn user(&self, id: &UserId) -> Result<Option<User>> {
        self.find_user("user_id", id.as_str()).await
    }

    /// Returns the user of a username. Returns `None` if there is no such user.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn user_by_name(&self, username: &str) -> Result<Option<User>> {
        self.find_user("username", username).await
    }

    async fn find_user(&self, column: &'static str, value: &str) -> Result<Option<User>> {
        let sql = format!("SELECT n, user_id, username, identity_id FROM users WHERE {column} = ?");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(value);
        let Some(row) = query.fetch_optional(self.pool()).await? else {
            return Ok(None);
        };
        let (user_id, identity_id): (String, String) = (row.try_get(1)?, row.try_get(3)?);
        Ok(Some(User {
            n: row.try_get(0)?,
            user_id: UserId::new(user_id).map_err(|_| LedgerError::NotABank)?,
            username: row.try_get(2)?,
            identity_id: IdentityId::new(identity_id).map_err(|_| LedgerError::NotABank)?,
        }))
    }

    /// Returns the names of all users in the order of their creation.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn usernames(&self) -> Result<Vec<String>> {
        let sql = "SELECT username FROM users ORDER BY n";
        Ok(sqlx::query_scalar(sql).fetch_all(self.pool()).await?)
    }

    /// Returns the accounts of a user that a grant permits, with everything that they name.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn holdings(&self, user: &User, permits: impl Fn(&str) -> bool) -> Result<Holdings> {
        let mut tx = self.pool().begin().await?;
        let sql = "SELECT a.account_id, a.body FROM holders h JOIN accounts a ON a.n = h.account_n
            WHERE h.user_n = ? ORDER BY h.place";
        let found: Vec<(String, String)> =
            sqlx::query_as(sql).bind(user.n).fetch_all(&mut *tx).await?;
        let permitted = found.into_iter().filter(|(id, _)| permits(id));
        let accounts: Vec<Account> =
            permitted.map(|(_, body)| read("account", &body)).collect::<Result<_>>()?;
        let mut identity_ids = BTreeSet::from([user.identity_id.as_str().to_owned()]);
        let mut security_ids = BTreeSet::new();
        for account in &accounts {
            identity_ids.extend(account.identity_ids().map(|id| id.as_str().to_owned()));
            security_ids.extend(held_securities(account));
        }
        let mut identities = Vec::new();
        for id in identity_ids {
            let sql = "SELECT body FROM identities WHERE identity_id = ?";
            identities.extend(one(&mut tx, sql, &id, "identity").await?);
        }
        let securities = named_securities(&mut tx, security_ids).await?;
        Ok(Holdings { identities, securities, accounts })
    }

    /// Returns a page of the transactions of a user's permitted accounts. Returns `None` if the
    /// window has changed since the change named in `start`.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn page(
        &self,
        user: &User,
        permits: impl Fn(&str) -> bool,
        window: Window,
        start: PageStart,
        limit: u64,
    ) -> Result<Option<Page>> {
        // One transaction, so that the count and the rows are consistent.
        let mut tx = self.pool().begin().await?;
        let sql = "SELECT a.n, a.account_id FROM holders h JOIN accounts a ON a.n = h.account_n
            WHERE h.user_n = ? ORDER BY h.place";
        let found: Vec<(i64, String)> =
            sqlx::query_as(sql).bind(user.n).fetch_all(&mut *tx).await?;
        let permitted: BTreeSet<i64> =
            found.into_iter().filter(|(_, id)| permits(id)).map(|(n, _)| n).collect();
        let accounts = permitted.iter().map(i64::to_string).collect::<Vec<_>>();
        let (first, last) = (-day_of(window.end), -day_of(window.start));
        let list = accounts.join(",");
        let sql = "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'changes'";
        let change: i64 = sqlx::query_scalar(sql).fetch_one(&mut *tx).await?;
        let (mut total, mut change_of_page) = (None, change);
        let (after, offset) = match start {
            PageStart::Offset(offset) => {
                let sql = format!(
                    "SELECT count(*) FROM transactions WHERE account_n IN ({list}) AND before BETWEEN ? AND ?"
                );
                let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(first).bind(last);
                let count: i64 = query.fetch_one(&mut *tx).await?;
                total = Some(count.unsigned_abs());
                (None, offset)
            }
            PageStart::After { position, change: then } => {
                let sql = format!(
                    "SELECT max(change) FROM touched WHERE account_n IN ({list}) AND before BETWEEN ? AND ?"
                );
                let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(first).bind(last);
                let latest: Option<i64> = query.fetch_one(&mut *tx).await?;
                if latest.is_some_and(|latest| latest > then) {
                    return Ok(None);
                }
                change_of_page = then;
                (Some(position), 0)
            }
        };
        let past_the_end = total.is_some_and(|total| offset >= total);
        let mut rows = Vec::new();
        if !accounts.is_empty() && !past_the_end {
            let sql = page_sql(&accounts, after.is_some());
            let after = after.unwrap_or(PagePosition { before: first, id: String::new() });
            // One row more than requested shows whether more follow.
            let query = sqlx::query_as(AssertSqlSafe(sql))
                .bind(first.max(after.before))
                .bind(last)
                .bind(after.before)
                .bind(after.id)
                .bind(limit.min(1000) as i64 + 1)
                .bind(i64::try_from(offset).unwrap_or(i64::MAX));
            rows = query.fetch_all(&mut *tx).await?;
        }
        page(&mut tx, rows, limit, total, change_of_page).await.map(Some)
    }
}

async fn page(
    connection: &mut SqliteConnection,
    mut rows: Vec<(Day, String, String)>,
    limit: u64,
    total: Option<u64>,
    change: i64,
) -> Result<Page> {
    let more = rows.len() as u64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let last = rows.last().filter(|_| more);
    let next = last.map(|(before, id, _)| PagePosition { before: *before, id: id.clone() });
    let transactions: Vec<Transaction> =
        rows.iter().map(|(.., body)| read("transaction", body)).collect::<Result<_>>()?;
    let named = transactions.iter().filter_map(|transaction| {
        Some(transaction.investment.as_ref()?.security_id.as_ref()?.as_str().to_owned())
    });
    let securities = named_securities(connection, named.collect()).await?;
    Ok(Page { transactions, next, total, change, securities })
}

/// Returns the statement for a page, which merges the accounts in the order of their index.
///
/// It is a union, which SQLite merges lazily. `account_n IN (…)` would sort the whole window for
/// every page.
fn page_sql(accounts: &[String], after: bool) -> String {
    let after = if after { " AND (before, id) > (?3, ?4)" } else { " AND ?3 = ?3 AND ?4 = ?4" };
    let arms = accounts.iter().map(|account| {
        format!(
            "SELECT n, before, id FROM transactions \
             WHERE account_n = {account} AND before BETWEEN ?1 AND ?2{after}"
        )
    });
    let union = arms.collect::<Vec<_>>().join(" UNION ALL ");
    format!(
        "SELECT t.before, t.id, t.body \
         FROM (SELECT n, before, id FROM ({union}) ORDER BY before, id LIMIT ?5 OFFSET ?6) k \
         CROSS JOIN transactions t ON t.n = k.n ORDER BY k.before, k.id"
    )
}

/// Returns the ids of the securities that an account holds.
#[must_use]
pub fn held_securities(account: &Account) -> Vec<String> {
    use px_types::model::account::AccountKind;
    match &account.kind {
        AccountKind::Investment(investment) => {
            let ids =
                investment.holdings.iter().map(|holding| holding.security_id.as_str().to_owned());
            ids.collect()
        }
        _ => Vec::new(),
    }
}

async fn named_securities(
    connection: &mut SqliteConnection,
    ids: BTreeSet<String>,
) -> Result<Vec<Security>> {
    let mut securities = Vec::new();
    for id in ids {
        let sql = "SELECT body FROM securities WHERE security_id = ?";
        securities.extend(one(connection, sql, &id, "security").await?);
    }
    Ok(securities)
}

async fn one<T: DeserializeOwned>(
    connection: &mut SqliteConnection,
    sql: &'static str,
    id: &str,
    what: &'static str,
) -> Result<Option<T>> {
    let body: Option<String> = sqlx::query_scalar(sql).bind(id).fetch_optional(connection).await?;
    body.map(|body| read(what, &body)).transpose()
}

fn read<T: DeserializeOwned>(what: &'static str, body: &str) -> Result<T> {
    decode(body.as_bytes()).map_err(|source| LedgerError::Damaged { what, source })
}
