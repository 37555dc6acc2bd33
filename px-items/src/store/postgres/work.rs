//! Claims, leases, and what a worker reads before it commits.

use super::{
    PostgresStore,
    failure::Result,
    reads::rows_of,
    row::{self, item_columns, known_columns},
    time::{Day, Moment},
};
use crate::{
    item::{Event, State, step},
    merge::KnownTransaction,
    store::{Fence, ItemRecord},
};
use chrono::{DateTime, Utc};
use px_client::Window;
use px_types::{ItemId, TransactionId};
use sqlx::{Row as _, postgres::PgRow};
use std::collections::BTreeSet;

/// Takes due Items that nobody else is taking at this moment. It never waits for a lock, so it
/// has no part in any deadlock.
pub(super) const CLAIM: &str = "
WITH due AS (
    SELECT item_id, wake_at AS since, leased_until IS NOT NULL AS took_over
    FROM items WHERE wake_at <= $1
    ORDER BY wake_at, item_id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE items i SET state = move.after, fence = i.fence + 1, leased_until = $2,
    lost_leases = lost_leases + due.took_over::int
FROM due, unnest($4::text[], $5::text[]) AS move (before, after)
WHERE i.item_id = due.item_id AND i.state = move.before
RETURNING i.item_id, i.fence, due.since, due.took_over";

/// The same for refreshes whose worker stopped, due or not.
pub(super) const CLAIM_REFRESHES: &str = "
WITH due AS (
    SELECT item_id, refresh_begun_at AS since, leased_until IS NOT NULL AS took_over
    FROM items
    WHERE refresh_begun_at IS NOT NULL AND (leased_until IS NULL OR leased_until <= $1)
    ORDER BY refresh_begun_at, item_id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE items i SET state = move.after, fence = i.fence + 1, leased_until = $2,
    lost_leases = lost_leases + due.took_over::int
FROM due, unnest($4::text[], $5::text[]) AS move (before, after)
WHERE i.item_id = due.item_id AND i.state = move.before
RETURNING i.item_id, i.fence, due.since, due.took_over";

const CLAIM_ONE: &str = "
WITH due AS (
    SELECT item_id, leased_until IS NOT NULL AS took_over FROM items
    WHERE item_id = $1 AND (leased_until IS NULL OR leased_until <= $2) FOR UPDATE
)
UPDATE items i SET state = move.after, fence = i.fence + 1, leased_until = $3,
    lost_leases = lost_leases + due.took_over::int
FROM due, unnest($4::text[], $5::text[]) AS move (before, after)
WHERE i.item_id = due.item_id AND i.state = move.before
RETURNING i.item_id, i.fence, due.took_over";

/// Claimed Items as they are. By the fence, so that one which lost its lease in between is not
/// taken for held.
const CLAIMED: &str = concat!(
    "SELECT ",
    item_columns!(),
    " FROM items i JOIN unnest($1::text[], $2::bigint[]) WITH ORDINALITY \
      AS taken (item_id, fence, place) ON i.item_id = taken.item_id AND i.fence = taken.fence \
      ORDER BY taken.place"
);

const HAND_BACK: &str = "
WITH held AS (
    SELECT i.item_id, given.due_at
    FROM items i JOIN unnest($1::text[], $2::bigint[], $3::timestamptz[])
        AS given (item_id, fence, due_at) ON i.item_id = given.item_id
    WHERE i.fence = given.fence AND i.leased_until IS NOT NULL
    ORDER BY i.item_id FOR UPDATE OF i
)
UPDATE items i SET state = move.after, leased_until = NULL, due_at = held.due_at
FROM held, unnest($4::text[], $5::text[]) AS move (before, after)
WHERE i.item_id = held.item_id AND i.state = move.before";

/// Each way by its own index: the dates of a window, the Item's own ids, and the few partner's
/// ids that are others.
const KNOWN: &str = concat!(
    "SELECT ",
    known_columns!(),
    " FROM transactions WHERE item_id = $1 AND transaction_id IN (
        SELECT transaction_id FROM transactions
        WHERE item_id = $1 AND removed_at IS NULL AND date BETWEEN $2 AND $3
        UNION SELECT transaction_id FROM transactions
        WHERE item_id = $1 AND transaction_id = ANY ($4)
        UNION SELECT transaction_id FROM transactions
        WHERE item_id = $1 AND partner_id = ANY ($4) AND partner_id <> transaction_id
    ) ORDER BY transaction_id"
);

impl PostgresStore {
    pub(super) async fn take_due(
        &self,
        statement: &'static str,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        let (before, after) = moves(Event::Claimed);
        let rows = sqlx::query(statement)
            .bind(Moment(now))
            .bind(Moment(lease_until))
            .bind(rows_of(limit))
            .bind(before)
            .bind(after)
            .fetch_all(&self.pool)
            .await?;
        let mut taken = Vec::with_capacity(rows.len());
        for row in &rows {
            taken.push((row::moment(row, "since")?, Taken::of(row)?));
        }
        // An UPDATE answers in no order.
        taken.sort_unstable();
        self.claimed(taken.into_iter().map(|(_, taken)| taken).collect()).await
    }

    pub(super) async fn take_one(
        &self,
        item: &ItemId,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<Option<ItemRecord>> {
        let (before, after) = moves(Event::Claimed);
        let row = sqlx::query(CLAIM_ONE)
            .bind(item.as_str())
            .bind(Moment(now))
            .bind(Moment(lease_until))
            .bind(before)
            .bind(after)
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(self.claimed(vec![Taken::of(&row)?]).await?.pop())
    }

    /// Reads what was claimed in a statement of its own: one that waited for a lock or passed one
    /// over sees other tables as they were before.
    async fn claimed(&self, taken: Vec<Taken>) -> Result<Vec<ItemRecord>> {
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let items: Vec<_> = taken.iter().map(|taken| taken.item.as_str()).collect();
        let fences: Vec<_> = taken.iter().map(|taken| taken.fence).collect();
        let query = sqlx::query(CLAIMED).bind(items).bind(fences);
        let rows = query.fetch_all(&self.pool).await?;
        let mut records = rows.iter().map(row::item).collect::<Result<Vec<_>>>()?;
        let taken_over: BTreeSet<_> =
            taken.iter().filter(|taken| taken.took_over).map(|taken| taken.item.as_str()).collect();
        for record in &mut records {
            record.took_over = taken_over.contains(record.id.as_str());
        }
        Ok(records)
    }

    pub(super) async fn prolong(
        &self,
        item: &ItemId,
        fence: Fence,
        lease_until: DateTime<Utc>,
    ) -> Result<bool> {
        let sql = "UPDATE items SET leased_until = $3 \
                   WHERE item_id = $1 AND fence = $2 AND leased_until IS NOT NULL";
        let query = sqlx::query(sql).bind(item.as_str()).bind(fence.0).bind(Moment(lease_until));
        Ok(query.execute(&self.pool).await?.rows_affected() > 0)
    }

    pub(super) async fn give_back(&self, items: &[(ItemId, Fence, DateTime<Utc>)]) -> Result<()> {
        let (before, after) = moves(Event::HandedBack);
        let ids: Vec<_> = items.iter().map(|(item, _, _)| item.as_str()).collect();
        let fences: Vec<_> = items.iter().map(|(_, fence, _)| fence.0).collect();
        let due_at: Vec<_> = items.iter().map(|(_, _, due_at)| Moment(*due_at)).collect();
        sqlx::query(HAND_BACK)
            .bind(ids)
            .bind(fences)
            .bind(due_at)
            .bind(before)
            .bind(after)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    pub(super) async fn read_known(
        &self,
        item: &ItemId,
        window: Window,
        ids: &[TransactionId],
    ) -> Result<Vec<KnownTransaction>> {
        let ids: Vec<_> = ids.iter().map(TransactionId::as_str).collect();
        let rows = sqlx::query(KNOWN)
            .bind(item.as_str())
            .bind(Day(window.start()))
            .bind(Day(window.end()))
            .bind(ids)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(row::known).collect()
    }
}

/// An Item that a claim took.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Taken {
    item: String,
    fence: i64,
    took_over: bool,
}

impl Taken {
    fn of(row: &PgRow) -> Result<Self> {
        Ok(Self {
            item: row.try_get("item_id")?,
            fence: row.try_get("fence")?,
            took_over: row.try_get("took_over")?,
        })
    }
}

/// The moves of an event, for a statement that moves many Items: what is before, what after.
/// The state machine decides them, not SQL.
pub(super) fn moves(event: Event) -> (Vec<&'static str>, Vec<&'static str>) {
    let all = State::ALL.into_iter();
    all.filter_map(|from| Some((from.as_str(), step(from, event).ok()?.0.as_str()))).unzip()
}
