//! The activity log and read times.

use super::{
    PostgresStore,
    failure::{Failure, Result},
    queues,
    reads::rows_of,
    row, tickets,
    time::Moment,
};
use crate::store::{DataKind, DataRead, rules::SideEffects};
use chrono::{DateTime, Utc};
use px_types::{ActivityId, ItemId, model::activity::Activity};
use sqlx::{PgConnection, Row as _, postgres::PgRow};

/// The Item is locked, so no other entry gets the same number.
const ADD: &str = "
INSERT INTO activities (item_id, number, activity_id, body)
SELECT $1, coalesce(max(number), 0) + 1, $2, $3 FROM activities WHERE item_id = $1";

const ACTIVITIES: &str = "
SELECT body FROM activities WHERE item_id = $1 AND number < $2 ORDER BY number DESC LIMIT $3";

/// Records read times. Removed Items are skipped; others cannot be removed until this is stored.
/// Workers that write an Item's row are not blocked by it.
const NOTE: &str = "
WITH held AS (
    SELECT item_id FROM items WHERE item_id = ANY ($1) ORDER BY item_id FOR KEY SHARE
)
INSERT INTO reads (item_id, application_id, kind, read_at)
SELECT given.item_id, given.application_id, given.kind, max(given.read_at)
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])
    AS given (item_id, application_id, kind, read_at) JOIN held USING (item_id)
GROUP BY given.item_id, given.application_id, given.kind
ORDER BY given.item_id, given.application_id, given.kind
ON CONFLICT (item_id, application_id, kind)
    DO UPDATE SET read_at = greatest(reads.read_at, excluded.read_at)";

impl PostgresStore {
    /// Stores the side effects of a change. If the Item was removed, only outgoing messages and the
    /// ticket.
    pub(super) async fn write_side_effects(
        &self,
        tx: &mut PgConnection,
        (item, gone): (&ItemId, bool),
        effects: SideEffects,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let vault = &*self.options.vault;
        if let Some(activity) = effects.activity.filter(|_| !gone) {
            let query = sqlx::query(ADD).bind(item.as_str()).bind(activity.id.as_str());
            query.bind(row::text(&activity)?).execute(&mut *tx).await?;
        }
        let entries = effects.entries.into_iter().map(|entry| (item, entry));
        queues::put(tx, vault, entries.collect(), now).await?;
        match &effects.ticket {
            Some(ticket) => tickets::put(tx, vault, ticket).await,
            None => Ok(()),
        }
    }

    pub(super) async fn read_activities(
        &self,
        db: &mut PgConnection,
        item: &ItemId,
        after: Option<&ActivityId>,
        limit: usize,
    ) -> Result<Option<Vec<Activity>>> {
        let before = match after {
            None => i64::MAX,
            Some(after) => {
                let sql = "SELECT number FROM activities WHERE item_id = $1 AND activity_id = $2";
                let query = sqlx::query(sql).bind(item.as_str()).bind(after.as_str());
                let Some(row) = query.fetch_optional(&mut *db).await? else { return Ok(None) };
                row.try_get("number")?
            }
        };
        let query = sqlx::query(ACTIVITIES).bind(item.as_str()).bind(before).bind(rows_of(limit));
        let rows = query.fetch_all(&mut *db).await?;
        Ok(Some(row::readable("activity", item, &rows, |row| row::json(row, "body"))))
    }

    pub(super) async fn write_reads(
        &self,
        db: &mut PgConnection,
        reads: &[DataRead],
    ) -> Result<()> {
        if reads.is_empty() {
            return Ok(());
        }
        let items: Vec<_> = reads.iter().map(|read| read.item_id.as_str()).collect();
        let applications: Vec<_> = reads.iter().map(|read| read.application_id.as_str()).collect();
        let kinds: Vec<_> = reads.iter().map(|read| read.kind.as_str()).collect();
        let times: Vec<_> = reads.iter().map(|read| Moment(read.at)).collect();
        let query = sqlx::query(NOTE).bind(items).bind(applications).bind(kinds).bind(times);
        query.execute(&mut *db).await?;
        Ok(())
    }

    pub(super) async fn read_reads(
        &self,
        db: &mut PgConnection,
        item: &ItemId,
    ) -> Result<Vec<DataRead>> {
        let sql = "SELECT application_id, kind, read_at FROM reads WHERE item_id = $1 \
                   ORDER BY application_id, kind";
        let rows = sqlx::query(sql).bind(item.as_str()).fetch_all(&mut *db).await?;
        let read = |row: &PgRow| {
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
