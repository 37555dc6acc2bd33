//! Writes of many rows at once.

use super::Result;
use crate::seed::{Day, day_of};
use px_types::model::transaction::Transaction;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

/// The number of rows per statement. Each has five values, and SQLite accepts 32,766 per statement.
const ROWS_PER_STATEMENT: usize = 500;

/// A transaction to be written.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) account_n: i64,
    pub(super) before: Day,
    pub(super) id: String,
    pub(super) pending: bool,
    pub(super) body: String,
}

impl Row {
    pub(super) fn new(account_n: i64, transaction: &Transaction) -> Self {
        Self {
            account_n,
            before: -day_of(transaction.date()),
            id: transaction.id.as_str().to_owned(),
            pending: transaction.is_pending(),
            body: text(transaction),
        }
    }
}

/// Serializes a message to the JSON text that is stored.
pub(super) fn text<T: serde::Serialize>(message: &T) -> String {
    // Messages have string keys and no fallible `Serialize`, so this cannot fail.
    serde_json::to_string(message).unwrap_or_default()
}

/// Inserts transactions. Replaces stored transactions of the same id.
pub(super) async fn put(connection: &mut SqliteConnection, rows: &[Row]) -> Result<()> {
    for rows in rows.chunks(ROWS_PER_STATEMENT) {
        let sql = "INSERT INTO transactions (account_n, before, id, pending, body) ";
        let mut query = QueryBuilder::<Sqlite>::new(sql);
        query.push_values(rows, |mut values, row| {
            values
                .push_bind(row.account_n)
                .push_bind(row.before)
                .push_bind(&row.id)
                .push_bind(row.pending)
                .push_bind(&row.body);
        });
        query.push(
            " ON CONFLICT (id) DO UPDATE SET before = excluded.before, pending = excluded.pending, \
             body = excluded.body",
        );
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Deletes transactions by id.
pub(super) async fn delete(connection: &mut SqliteConnection, ids: &[String]) -> Result<()> {
    for id in ids {
        let query = sqlx::query("DELETE FROM transactions WHERE id = ?").bind(id);
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Records that a change touched dates of accounts.
pub(super) async fn touch(
    connection: &mut SqliteConnection,
    change: i64,
    dates: impl IntoIterator<Item = (i64, Day)>,
) -> Result<()> {
    let sql = "INSERT INTO touched (account_n, before, change) VALUES (?, ?, ?)
        ON CONFLICT (account_n, before) DO UPDATE SET change = excluded.change";
    for (account_n, before) in dates {
        let query = sqlx::query(sql).bind(account_n).bind(before).bind(change);
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Stores the body of an account with its sums.
pub(super) async fn set_account(
    connection: &mut SqliteConnection,
    account_n: i64,
    body: &str,
    posted: i64,
    held: i64,
) -> Result<()> {
    let sql = "UPDATE accounts SET body = ?, posted = ?, held = ? WHERE n = ?";
    let query = sqlx::query(sql).bind(body).bind(posted).bind(held).bind(account_n);
    query.execute(connection).await?;
    Ok(())
}
