//! Reading the books: a user's accounts, and pages of a window of transactions.

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
    /// Its number in the database.
    pub n: i64,
    /// The principal.
    pub user_id: UserId,
    /// The name that the user signs in with.
    pub username: String,
    /// The user's own identity.
    pub identity_id: IdentityId,
}

/// What a user has, without transactions.
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

/// Dates, first and last included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first date.
    pub start: Date,
    /// The last date.
    pub end: Date,
}

/// The place after a transaction in the order of pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The negated day of the transaction.
    pub before: Day,
    /// Its id.
    pub id: String,
}

/// Where a page begins.
#[derive(Clone, Debug)]
pub enum Begin {
    /// So many transactions into the window.
    Offset(u64),
    /// After a place, in the window as it was at a change of the books.
    After {
        /// The place.
        place: Place,
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
    /// The place after the last of them, if more follow.
    pub next: Option<Place>,
    /// How many the window has; counted only where the page begins at an offset.
    pub total: Option<u64>,
    /// The number of the latest change of the books.
    pub change: i64,
    /// Securities that the page names and that no account holds.
    pub securities: Vec<Security>,
}

impl Ledger {
    /// The user of an id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn user(&self, id: &UserId) -> Result<Option<User>> {
        self.find_user("user_id", id.as_str()).await
    }

    /// The user who signs in with a name.
    ///
    /// # Errors
    /// When the database fails.
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

    /// The names of all users, in the order in which they came.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn usernames(&self) -> Result<Vec<String>> {
        let sql = "SELECT username FROM users ORDER BY n";
        Ok(sqlx::query_scalar(sql).fetch_all(self.pool()).await?)
    }

    /// The accounts of a user that a grant permits, with all that they name.
    ///
    /// # Errors
    /// When the database fails.
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
            security_ids.extend(held(account));
        }
        let mut identities = Vec::new();
        for id in identity_ids {
            let sql = "SELECT body FROM identities WHERE identity_id = ?";
            identities.extend(one(&mut tx, sql, &id, "identity").await?);
        }
        let securities = named_securities(&mut tx, security_ids).await?;
        Ok(Holdings { identities, securities, accounts })
    }

    /// A page of the transactions of a user's permitted accounts; `None` when the window
    /// changed since the change that it is to be read at.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn page(
        &self,
        user: &User,
        permits: impl Fn(&str) -> bool,
        window: Window,
        begin: Begin,
        limit: u64,
    ) -> Result<Option<Page>> {
        // One transaction, so that count and rows are of one moment.
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
        let (place, offset) = match begin {
            Begin::Offset(offset) => {
                let sql = format!(
                    "SELECT count(*) FROM transactions WHERE account_n IN ({list}) AND before BETWEEN ? AND ?"
                );
                let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(first).bind(last);
                let count: i64 = query.fetch_one(&mut *tx).await?;
                total = Some(count.unsigned_abs());
                (None, offset)
            }
            Begin::After { place, change: then } => {
                let sql = format!(
                    "SELECT max(change) FROM touched WHERE account_n IN ({list}) AND before BETWEEN ? AND ?"
                );
                let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(first).bind(last);
                let latest: Option<i64> = query.fetch_one(&mut *tx).await?;
                if latest.is_some_and(|latest| latest > then) {
                    return Ok(None);
                }
                change_of_page = then;
                (Some(place), 0)
            }
        };
        let past_the_end = total.is_some_and(|total| offset >= total);
        let mut rows = Vec::new();
        if !accounts.is_empty() && !past_the_end {
            let sql = page_sql(&accounts, place.is_some());
            let place = place.unwrap_or(Place { before: first, id: String::new() });
            // One more than asked for tells whether more follow.
            let query = sqlx::query_as(AssertSqlSafe(sql))
                .bind(first.max(place.before))
                .bind(last)
                .bind(place.before)
                .bind(place.id)
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
    let next = last.map(|(before, id, _)| Place { before: *before, id: id.clone() });
    let transactions: Vec<Transaction> =
        rows.iter().map(|(.., body)| read("transaction", body)).collect::<Result<_>>()?;
    let named = transactions.iter().filter_map(|transaction| {
        Some(transaction.investment.as_ref()?.security_id.as_ref()?.as_str().to_owned())
    });
    let securities = named_securities(connection, named.collect()).await?;
    Ok(Page { transactions, next, total, change, securities })
}

/// The statement for a page: each account in the order of its index, merged.
///
/// Written as a union, which SQLite merges lazily; `account_n IN (…)` would sort the whole
/// window for every page.
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

/// The securities that an account holds.
#[must_use]
pub fn held(account: &Account) -> Vec<String> {
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
