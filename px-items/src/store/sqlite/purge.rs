//! Deletion in batches: of large Items, and of what no one can read any more.

use super::{
    SqliteStore,
    row::{Result, micros, rows_of},
};
use crate::store::StoreError;
use chrono::{DateTime, Utc};
use px_types::ItemId;
use sqlx::SqliteConnection;

/// The most transactions that one statement deletes: the one writer waits for it.
pub(super) const BATCH: usize = 2_000;

/// Part of a large Item that was removed.
pub(super) const LEFTOVER: &str = "
DELETE FROM transactions WHERE rowid IN (
    SELECT rowid FROM transactions WHERE item_id = ?1 LIMIT ?2
)";

pub(super) const REMOVED: &str = "
DELETE FROM transactions WHERE rowid IN (
    SELECT rowid FROM transactions WHERE removed_at < ?1 ORDER BY removed_at LIMIT ?2
)";

impl SqliteStore {
    /// Deletes what a removed Item has left, batch after batch. What it does not get to is
    /// deleted by [`Store::purge`](crate::store::Store::purge).
    pub(super) async fn clear_leftovers(&self, item: &ItemId) {
        loop {
            let deleted =
                limited!(self.options, self.options.call_timeout, self.clear_leftover(item, BATCH));
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

    async fn clear_leftover(&self, item: &ItemId, limit: usize) -> Result<u64> {
        let mut tx = self.begin_passing().await?;
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
        // Most looks find nothing: they need no lock.
        let sql = "SELECT 1 FROM transactions WHERE removed_at < ?1 LIMIT 1";
        let look = sqlx::query(sql).bind(micros(removed_before));
        if look.fetch_optional(&self.readers).await?.is_none() {
            return Ok(0);
        }
        let mut tx = self.begin_passing().await?;
        let query = sqlx::query(REMOVED).bind(micros(removed_before)).bind(rows_of(limit));
        let deleted = query.execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        Ok(deleted)
    }
}

/// Deletes rows of an Item that was removed, and its note once there is nothing left.
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

/// Deletes what an earlier Item of the same id left.
pub(super) async fn end(tx: &mut SqliteConnection, item: &ItemId) -> Result<()> {
    let sql = "DELETE FROM leftovers WHERE item_id = ?1";
    let found = sqlx::query(sql).bind(item.as_str()).execute(&mut *tx).await?.rows_affected();
    if found > 0 {
        let sql = "DELETE FROM transactions WHERE item_id = ?1";
        sqlx::query(sql).bind(item.as_str()).execute(tx).await?;
    }
    Ok(())
}
