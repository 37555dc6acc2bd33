//! Deletion in batches: of large removed Items, and of rows that are no longer readable.

use super::{MAX_ATTEMPTS, PostgresStore, failure::Result, reads::rows_of, time::Moment, within};
use crate::store::StoreError;
use chrono::{DateTime, Utc};
use px_types::ItemId;
use sqlx::PgConnection;

/// Maximum number of transactions that one statement deletes.
pub(super) const BATCH: usize = 5_000;

/// Deletes part of a large Item that was removed.
const LEFTOVER: &str = "
DELETE FROM transactions WHERE item_id = $1 AND transaction_id IN (
    SELECT transaction_id FROM transactions WHERE item_id = $1 LIMIT $2
)";

/// Names the Item of each row, so that each row is found by its key.
const REMOVED: &str = "
DELETE FROM transactions t USING (
    SELECT item_id, transaction_id FROM transactions
    WHERE removed_at < $1 ORDER BY removed_at LIMIT $2 FOR UPDATE SKIP LOCKED
) gone
WHERE t.item_id = gone.item_id AND t.transaction_id = gone.transaction_id";

impl PostgresStore {
    /// Deletes the remaining rows of a removed Item in batches.
    /// [`Store::purge`](crate::store::Store::purge) deletes what this call does not reach.
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
                    tracing::warn!(%item, %error, "data of a removed Item could not be deleted; this is retried later");
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

/// Deletes rows of a removed Item. Deletes the record of the removal once no rows are left.
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

/// Deletes rows that an earlier Item with the same id left.
pub(super) async fn end(tx: &mut PgConnection, item: &ItemId) -> Result<()> {
    let sql = "DELETE FROM leftovers WHERE item_id = $1";
    let found = sqlx::query(sql).bind(item.as_str()).execute(&mut *tx).await?.rows_affected();
    if found > 0 {
        let sql = "DELETE FROM transactions WHERE item_id = $1";
        sqlx::query(sql).bind(item.as_str()).execute(tx).await?;
    }
    Ok(())
}
