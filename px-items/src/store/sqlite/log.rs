//! The activity log and read times.

use super::{
    SqliteStore, queues,
    row::{self, Failure, Result, micros, rows_of},
    tickets,
};
use crate::store::{DataKind, DataRead, rules::SideEffects};
use chrono::{DateTime, Utc};
use px_types::{ActivityId, ItemId, model::activity::Activity};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

const ADD: &str = "
INSERT INTO activities (item_id, number, activity_id, body)
SELECT ?1, ifnull(max(number), 0) + 1, ?2, ?3 FROM activities WHERE item_id = ?1";

pub(super) const ACTIVITIES: &str = "
SELECT body FROM activities WHERE item_id = ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3";

/// Records read times. Removed Items are skipped.
const NOTE: &str = "
INSERT INTO reads (item_id, application_id, kind, read_at)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?1)
WHERE EXISTS (SELECT 1 FROM items WHERE item_id = value ->> 0)
ON CONFLICT (item_id, application_id, kind)
    DO UPDATE SET read_at = max(read_at, excluded.read_at)";

impl SqliteStore {
    /// Stores the side effects of a change. If the Item was removed, only outgoing messages and the
    /// ticket.
    pub(super) async fn write_side_effects(
        &self,
        tx: &mut SqliteConnection,
        (item, gone): (&ItemId, bool),
        effects: SideEffects,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let vault = &*self.options.vault;
        if let Some(activity) = effects.activity.filter(|_| !gone) {
            let query = sqlx::query(ADD).bind(item.as_str()).bind(activity.id.as_str());
            query.bind(row::text(&activity)?).execute(&mut *tx).await?;
        }
        let entries: Vec<_> = effects.entries.into_iter().map(|entry| (item, entry)).collect();
        queues::put(tx, vault, &entries, now).await?;
        match &effects.ticket {
            Some(ticket) => tickets::put(tx, vault, ticket).await,
            None => Ok(()),
        }
    }

    pub(super) async fn read_activities(
        &self,
        item: &ItemId,
        after: Option<&ActivityId>,
        limit: usize,
    ) -> Result<Option<Vec<Activity>>> {
        let before = match after {
            None => i64::MAX,
            Some(after) => {
                let sql = "SELECT number FROM activities WHERE item_id = ?1 AND activity_id = ?2";
                let query = sqlx::query(sql).bind(item.as_str()).bind(after.as_str());
                let Some(row) = query.fetch_optional(&self.readers).await? else { return Ok(None) };
                row.try_get("number")?
            }
        };
        let query = sqlx::query(ACTIVITIES).bind(item.as_str()).bind(before).bind(rows_of(limit));
        let rows = query.fetch_all(&self.readers).await?;
        Ok(Some(row::readable("activity", item, &rows, |row| row::json(row, "body"))))
    }

    pub(super) async fn write_reads(&self, reads: &[DataRead]) -> Result<()> {
        if reads.is_empty() {
            return Ok(());
        }
        let rows = reads.iter().map(|read| {
            let kind = read.kind.as_str();
            (read.item_id.as_str(), read.application_id.as_str(), kind, micros(read.at))
        });
        let rows = row::text(&rows.collect::<Vec<_>>())?;
        let mut tx = self.begin_transient().await?;
        sqlx::query(NOTE).bind(rows).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn read_reads(&self, item: &ItemId) -> Result<Vec<DataRead>> {
        let sql = "SELECT application_id, kind, read_at FROM reads WHERE item_id = ?1 \
                   ORDER BY application_id, kind";
        let rows = sqlx::query(sql).bind(item.as_str()).fetch_all(&self.readers).await?;
        let read = |row: &SqliteRow| {
            let kind = DataKind::from_name(row.try_get("kind")?);
            Ok(DataRead {
                item_id: item.clone(),
                application_id: row::parsed(row, "application_id")?,
                kind: kind.ok_or_else(|| Failure::corrupt("kind"))?,
                at: row::moment(row, "read_at")?,
            })
        };
        Ok(row::readable("read", item, &rows, read))
    }
}
