//! Claims, leases, and reads of a worker before its commit.

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
    store::{Fence, ItemRecord, UNREADABLE_REFRESH_RETENTION, UNREADABLE_RETRY, rules},
};
use chrono::{DateTime, Utc};
use px_client::Window;
use px_types::{ItemId, TransactionId};
use sqlx::{PgConnection, Row as _};
use std::collections::BTreeSet;

/// Claims due Items that no other transaction is claiming. It never waits for a lock, so it cannot
/// be part of a deadlock. Items in a state that this version does not know are deferred.
pub(super) const CLAIM: &str = "
WITH due AS (
    SELECT item_id, wake_at AS since, leased_until IS NOT NULL AS took_over, state
    FROM items WHERE wake_at <= $1
    ORDER BY wake_at, item_id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE items i SET
    state = coalesce(move.after, i.state),
    fence = CASE WHEN move.after IS NULL THEN i.fence ELSE $6 END,
    lost_leases = lost_leases + (move.after IS NOT NULL AND due.took_over)::int,
    leased_until = CASE WHEN move.after IS NULL THEN NULL ELSE $2 END,
    due_at = CASE WHEN move.after IS NULL THEN $7 ELSE i.due_at END
FROM due LEFT JOIN unnest($4::text[], $5::text[]) AS move (before, after)
    ON move.before = due.state
WHERE i.item_id = due.item_id
RETURNING i.item_id, due.since, due.took_over, move.after IS NOT NULL AS is_taken";

/// Claims Items with an interrupted token refresh, due or not, in states that this version knows.
pub(super) const CLAIM_REFRESHES: &str = "
WITH due AS (
    SELECT item_id, refresh_begun_at AS since, leased_until IS NOT NULL AS took_over
    FROM items
    WHERE refresh_begun_at IS NOT NULL AND (leased_until IS NULL OR leased_until <= $1)
        AND state = ANY ($4) AND $7::timestamptz IS NOT NULL
    ORDER BY refresh_begun_at, item_id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE items i SET state = move.after, fence = $6, leased_until = $2,
    lost_leases = lost_leases + due.took_over::int
FROM due, unnest($4::text[], $5::text[]) AS move (before, after)
WHERE i.item_id = due.item_id AND i.state = move.before
RETURNING i.item_id, due.since, due.took_over, true AS is_taken";

const CLAIM_ONE: &str = "
WITH due AS (
    SELECT item_id, leased_until IS NOT NULL AS took_over FROM items
    WHERE item_id = $1 AND (leased_until IS NULL OR leased_until <= $2) FOR UPDATE
)
UPDATE items i SET state = move.after, fence = $6, leased_until = $3,
    lost_leases = lost_leases + due.took_over::int
FROM due, unnest($4::text[], $5::text[]) AS move (before, after)
WHERE i.item_id = due.item_id AND i.state = move.before
RETURNING i.item_id, due.took_over";

/// Reads claimed Items. The fencing token excludes an Item that lost its lease in between.
const CLAIMED: &str = concat!(
    "SELECT ",
    item_columns!(),
    " FROM items i JOIN unnest($1::text[]) WITH ORDINALITY \
      AS taken (item_id, context) ON i.item_id = taken.item_id \
      WHERE i.fence = $2 ORDER BY taken.context"
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

/// `$2` is the time before which the refresh must have begun.
const FORGET_REFRESHES: &str = "
UPDATE items SET refresh_begun_at = NULL WHERE item_id = ANY ($1) AND refresh_begun_at <= $2";

/// Each branch uses its own index: the dates of a window, the Item's own ids, and the few ids of
/// the partner that differ from them.
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
        db: &mut PgConnection,
        statement: &'static str,
        (now, lease_until): (DateTime<Utc>, DateTime<Utc>),
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        let mut taken = Vec::new();
        while taken.len() < limit {
            let wanted = limit - taken.len();
            let times = (now, lease_until);
            let (found, mut records) = self.claim_batch(db, statement, times, wanted).await?;
            let all_read = records.len() == found;
            taken.append(&mut records);
            // Due Items that cannot be read were deferred, so the next iteration finds others.
            if found < wanted || all_read || statement != CLAIM {
                break;
            }
        }
        Ok(taken)
    }

    /// Claims due Items up to a limit. Returns the number of those found, and the records that this
    /// version can read.
    async fn claim_batch(
        &self,
        db: &mut PgConnection,
        statement: &'static str,
        (now, lease_until): (DateTime<Utc>, DateTime<Utc>),
        limit: usize,
    ) -> Result<(usize, Vec<ItemRecord>)> {
        let (before, after) = moves(Event::Claimed);
        let fence = rules::new_fence(&*self.options.random);
        let rows = sqlx::query(statement)
            .bind(Moment(now))
            .bind(Moment(lease_until))
            .bind(rows_of(limit))
            .bind(before)
            .bind(after)
            .bind(fence.0)
            .bind(Moment(now + UNREADABLE_RETRY))
            .fetch_all(&mut *db)
            .await?;
        let mut taken = Vec::with_capacity(rows.len());
        for row in &rows {
            let item: String = row.try_get("item_id")?;
            if row.try_get("is_taken")? {
                let took_over = row.try_get("took_over")?;
                taken.push((row::moment(row, "since")?, ClaimedItem { item, took_over }));
            } else {
                row::unreadable("item", &item, "the state is not known to this version");
            }
        }
        // An UPDATE returns its rows in no order.
        taken.sort_unstable();
        let items = taken.into_iter().map(|(_, taken)| taken).collect();
        let (records, unreadable) = self.claimed(db, items, fence, now + UNREADABLE_RETRY).await?;
        if statement == CLAIM_REFRESHES && !unreadable.is_empty() {
            let begun_before = now - UNREADABLE_REFRESH_RETENTION;
            let query = sqlx::query(FORGET_REFRESHES).bind(unreadable);
            query.bind(Moment(begun_before)).execute(&mut *db).await?;
        }
        Ok((rows.len(), records.into_iter().flatten().collect()))
    }

    pub(super) async fn take_one(
        &self,
        db: &mut PgConnection,
        item: &ItemId,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<Option<ItemRecord>> {
        let (before, after) = moves(Event::Claimed);
        let fence = rules::new_fence(&*self.options.random);
        let row = sqlx::query(CLAIM_ONE)
            .bind(item.as_str())
            .bind(Moment(now))
            .bind(Moment(lease_until))
            .bind(before)
            .bind(after)
            .bind(fence.0)
            .fetch_optional(&mut *db)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let taken =
            ClaimedItem { item: row.try_get("item_id")?, took_over: row.try_get("took_over")? };
        let claimed = self.claimed(db, vec![taken], fence, now + UNREADABLE_RETRY).await?;
        claimed.0.into_iter().next().transpose()
    }

    /// Reads claimed Items in a separate statement, because a statement that waited for a lock, or
    /// skipped one, sees an older version of other tables. Items that cannot be read are given
    /// back, and their ids are returned.
    async fn claimed(
        &self,
        db: &mut PgConnection,
        taken: Vec<ClaimedItem>,
        fence: Fence,
        retry_at: DateTime<Utc>,
    ) -> Result<(Vec<Result<ItemRecord>>, Vec<String>)> {
        if taken.is_empty() {
            return Ok(Default::default());
        }
        let items: Vec<_> = taken.iter().map(|taken| taken.item.as_str()).collect();
        let taken_over: BTreeSet<_> =
            taken.iter().filter(|taken| taken.took_over).map(|taken| taken.item.as_str()).collect();
        let rows = sqlx::query(CLAIMED).bind(items).bind(fence.0).fetch_all(&mut *db).await?;
        let mut unreadable = Vec::new();
        let mut records = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut record = row::item(row);
            match &mut record {
                Ok(record) => record.took_over = taken_over.contains(record.id.as_str()),
                Err(why) => {
                    let item: String = row.try_get("item_id")?;
                    row::unreadable("item", &item, why);
                    unreadable.push((item, fence, retry_at));
                }
            }
            records.push(record);
        }
        if !unreadable.is_empty() {
            self.give_back_named(db, &unreadable).await?;
        }
        Ok((records, unreadable.into_iter().map(|(item, ..)| item).collect()))
    }

    pub(super) async fn prolong(
        &self,
        db: &mut PgConnection,
        item: &ItemId,
        fence: Fence,
        lease_until: DateTime<Utc>,
    ) -> Result<bool> {
        let sql = "UPDATE items SET leased_until = $3 \
                   WHERE item_id = $1 AND fence = $2 AND leased_until IS NOT NULL";
        let query = sqlx::query(sql).bind(item.as_str()).bind(fence.0).bind(Moment(lease_until));
        Ok(query.execute(&mut *db).await?.rows_affected() > 0)
    }

    pub(super) async fn give_back(
        &self,
        db: &mut PgConnection,
        items: &[(ItemId, Fence, DateTime<Utc>)],
    ) -> Result<()> {
        self.give_back_named(db, items).await
    }

    async fn give_back_named(
        &self,
        db: &mut PgConnection,
        items: &[(impl AsRef<str>, Fence, DateTime<Utc>)],
    ) -> Result<()> {
        let (before, after) = moves(Event::HandedBack);
        let ids: Vec<_> = items.iter().map(|(item, _, _)| item.as_ref()).collect();
        let fences: Vec<_> = items.iter().map(|(_, fence, _)| fence.0).collect();
        let due_at: Vec<_> = items.iter().map(|(_, _, due_at)| Moment(*due_at)).collect();
        sqlx::query(HAND_BACK)
            .bind(ids)
            .bind(fences)
            .bind(due_at)
            .bind(before)
            .bind(after)
            .execute(db)
            .await?;
        Ok(())
    }

    pub(super) async fn read_known(
        &self,
        db: &mut PgConnection,
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
            .fetch_all(&mut *db)
            .await?;
        rows.iter().map(row::known).collect()
    }
}

/// An Item that a statement claimed.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ClaimedItem {
    item: String,
    took_over: bool,
}

/// Returns the state transitions of an event, as the states before and after. The state machine
/// decides them, not SQL.
pub(super) fn moves(event: Event) -> (Vec<&'static str>, Vec<&'static str>) {
    let all = State::ALL.into_iter();
    all.filter_map(|from| Some((from.as_str(), step(from, event).ok()?.0.as_str()))).unzip()
}
