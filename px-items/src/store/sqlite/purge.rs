//! Deletion in batches: of large removed Items, and of rows that are no longer readable.

use super::{
    SqliteStore,
    row::{Result, micros, rows_of},
};
use crate::store::StoreError;
use chrono::{DateTime, Utc};
use px_types::ItemId;
use sqlx::SqliteConnection;

/// Maximum number of transactions that one statement deletes, because the only writer waits for it.
pub(super) const BATCH: usize = 2_000;

/// Deletes part of a large Item that was removed.
pub(super) const LEFTOVER: &str = "
DELETE FROM transactions WHERE rowid IN (
    SELECT rowid FROM transactions WHERE item_id = ?1 LIMIT ?2
)";

pub(super) const REMOVED: &str = "
DELETE FROM transactions WHERE rowid IN (
    SELECT rowid FROM transactions WHERE removed_at < ?1 ORDER BY removed_at LIMIT ?2
)";

impl SqliteStore {
    /// Deletes the remaining rows of a removed Item in batches.
    /// [`Store::purge`](crate::store::Store::purge) deletes what this call does not reach.
    pub(super) async fn clear_leftovers(&self, item: &ItemId) {
        loop {
            let deleted = with_timeout!(
                self.options,
                self.options.call_timeout,
                self.clear_leftover(item, BATCH)
            );
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

    async fn clear_leftover(&self, item: &ItemId, limit: usize) -> Result<u64> {
        let mut tx = self.begin_transient().await?;
        let deleted = leftovers(&mut tx, item, limit).await?;
        tx.commit().await?;
        Ok(deleted)
    }

    pub(super) async fn clear_removed(
        &self,
        removed_before: DateTime<Utc>,
        limit: usize,
    ) -> Result<u64> {
        let limit = limit.min(BATCH);
        let sql = "SELECT item_id FROM leftovers ORDER BY item_id LIMIT 1";
        let item: Option<String> = sqlx::query_scalar(sql).fetch_optional(&self.readers).await?;
        if let Some(item) = item.and_then(|item| item.parse().ok()) {
            return self.clear_leftover(&item, limit).await.map(|deleted| deleted.max(1));
        }
        // Most polls find nothing and need no write lock.
        let sql = "SELECT 1 FROM transactions WHERE removed_at < ?1 LIMIT 1";
        let poll = sqlx::query(sql).bind(micros(removed_before));
        if poll.fetch_optional(&self.readers).await?.is_none() {
            return Ok(0);
        }
        let mut tx = self.begin_transient().await?;
        let query = sqlx::query(REMOVED).bind(micros(removed_before)).bind(rows_of(limit));
        let deleted = query.execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        Ok(deleted)
    }
}

/// Deletes rows of a removed Item. Deletes the record of the removal once no rows are left.
async fn leftovers(tx: &mut SqliteConnection, item: &ItemId, limit: usize) -> Result<u64> {
    let query = sqlx::query(LEFTOVER).bind(item.as_str()).bind(rows_of(limit));
    let deleted = query.execute(&mut *tx).await?.rows_affected();
    if deleted < limit as u64 {
        let sql = "DELETE FROM leftovers WHERE item_id = ?1";
        sqlx::query(sql).bind(item.as_str()).execute(tx).await?;
    }
    Ok(deleted)
}

/// Deletes the transactions of an Item that is being removed. Returns whether some are left.
pub(super) async fn begin(tx: &mut SqliteConnection, item: &ItemId) -> Result<bool> {
    let query = sqlx::query(LEFTOVER).bind(item.as_str()).bind(rows_of(BATCH));
    let more = query.execute(&mut *tx).await?.rows_affected() >= BATCH as u64;
    if more {
        let sql = "INSERT OR IGNORE INTO leftovers (item_id) VALUES (?1)";
        sqlx::query(sql).bind(item.as_str()).execute(tx).await?;
    }
    Ok(more)
}

/// Deletes rows that an earlier Item with the same id left.
pub(super) async fn end(tx: &mut SqliteConnection, item: &ItemId) -> Result<()> {
    let sql = "DELETE FROM leftovers WHERE item_id = ?1";
    let found = sqlx::query(sql).bind(item.as_str()).execute(&mut *tx).await?.rows_affected();
    if found > 0 {
        let sql = "DELETE FROM transactions WHERE item_id = ?1";
        sqlx::query(sql).bind(item.as_str()).execute(tx).await?;
    }
    Ok(())
}
