//! Deletion in batches: of large Items, and of what no one can read any more.

use super::{MAX_ATTEMPTS, PostgresStore, failure::Result, reads::rows_of, time::Moment, within};
use crate::store::StoreError;
use chrono::{DateTime, Utc};
use px_types::ItemId;
use sqlx::PgConnection;

/// The most transactions that one statement deletes.
pub(super) const BATCH: usize = 5_000;

/// Part of a large Item that was removed.
const LEFTOVER: &str = "
DELETE FROM transactions WHERE item_id = $1 AND transaction_id IN (
    SELECT transaction_id FROM transactions WHERE item_id = $1 LIMIT $2
)";

/// The Item of each is named, so that each row is found by its key.
const REMOVED: &str = "
DELETE FROM transactions t USING (
    SELECT item_id, transaction_id FROM transactions
    WHERE removed_at < $1 ORDER BY removed_at LIMIT $2 FOR UPDATE SKIP LOCKED
) gone
WHERE t.item_id = gone.item_id AND t.transaction_id = gone.transaction_id";

impl PostgresStore {
    /// Deletes what a removed Item has left, batch after batch. What it does not get to is
    /// deleted by [`Store::purge`](crate::store::Store::purge).
    pub(super) async fn clear_leftovers(&self, item: &ItemId) {
        loop {
            let batch = async {
                Ok(call!(self, self.options.call_timeout, |db| leftovers(db, item, BATCH))?)
            };
            let deleted: Result<u64, StoreError> = batch.await;
            match deleted {
                Ok(deleted) if deleted < BATCH as u64 => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%item, %error, "the rest of a removed Item is deleted later");
                    return;
                }
            }
        }
    }

    pub(super) async fn clear_removed(
        &self,
        db: &mut PgConnection,
        removed_before: DateTime<Utc>,
        limit: usize,
    ) -> Result<u64> {
        let limit = limit.min(BATCH);
        let sql = "SELECT item_id FROM leftovers ORDER BY item_id LIMIT 1";
        let item: Option<String> = sqlx::query_scalar(sql).fetch_optional(&mut *db).await?;
        if let Some(item) = item.and_then(|item| item.parse().ok()) {
            return leftovers(db, &item, limit).await.map(|deleted| deleted.max(1));
        }
        let query = sqlx::query(REMOVED).bind(Moment(removed_before)).bind(rows_of(limit));
        Ok(query.execute(db).await?.rows_affected())
    }
}

/// Deletes rows of an Item that was removed, and its note once there is nothing left.
async fn leftovers(db: &mut PgConnection, item: &ItemId, limit: usize) -> Result<u64> {
    let query = sqlx::query(LEFTOVER).bind(item.as_str()).bind(rows_of(limit));
    let deleted = query.execute(&mut *db).await?.rows_affected();
    if deleted < limit as u64 {
        let sql = "DELETE FROM leftovers WHERE item_id = $1";
        sqlx::query(sql).bind(item.as_str()).execute(db).await?;
    }
    Ok(deleted)
}

/// Deletes the transactions of an Item that is being removed. Returns whether some are left.
pub(super) async fn begin(tx: &mut PgConnection, item: &ItemId) -> Result<bool> {
    let query = sqlx::query(LEFTOVER).bind(item.as_str()).bind(rows_of(BATCH));
    let more = query.execute(&mut *tx).await?.rows_affected() >= BATCH as u64;
    if more {
        let sql = "INSERT INTO leftovers (item_id) VALUES ($1) ON CONFLICT DO NOTHING";
        sqlx::query(sql).bind(item.as_str()).execute(tx).await?;
    }
    Ok(more)
}

/// Deletes what an earlier Item of the same id left.
pub(super) async fn end(tx: &mut PgConnection, item: &ItemId) -> Result<()> {
    let sql = "DELETE FROM leftovers WHERE item_id = $1";
    let found = sqlx::query(sql).bind(item.as_str()).execute(&mut *tx).await?.rows_affected();
    if found > 0 {
        let sql = "DELETE FROM transactions WHERE item_id = $1";
        sqlx::query(sql).bind(item.as_str()).execute(tx).await?;
    }
    Ok(())
}
