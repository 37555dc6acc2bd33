//! Claims, leases, notifications, and reads of a worker before its commit.

use super::{
    SqliteStore, queues,
    row::{self, Failure, Result, days, item_columns, micros, moves, rows_of},
    tokens,
};
use crate::{
    connection::Connection,
    item::{Event, State},
    merge::KnownTransaction,
    store::{
        AccessDigest, Fence, ItemRecord, NotifyBatch, NotifyOutcome, UNREADABLE_REFRESH_RETENTION,
        UNREADABLE_RETRY,
        rules::{self, ItemRequest},
    },
};
use chrono::{DateTime, Utc};
use px_client::Window;
use px_types::{ItemId, TransactionId};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const DUE: &str = "
SELECT item_id, leased_until IS NOT NULL AS took_over FROM items
WHERE wake_at <= ?1 AND ?3 IS NOT NULL
ORDER BY wake_at, item_id LIMIT ?2";

pub(super) const REFRESHES: &str = "
SELECT item_id, leased_until IS NOT NULL AS took_over FROM items
WHERE refresh_begun_at IS NOT NULL AND (leased_until IS NULL OR leased_until <= ?1)
    AND state IN (SELECT key FROM json_each(?3))
ORDER BY refresh_begun_at, item_id LIMIT ?2";

/// Claims Items. `?2` contains the state transitions. An Item in a state without a transition is
/// deferred to `?5`.
pub(super) const TAKE: &str = "
UPDATE items SET
    state = ifnull((SELECT value FROM json_each(?2) WHERE key = state), state),
    fence = iif(state IN (SELECT key FROM json_each(?2)), ?4, fence),
    lost_leases = lost_leases
        + (leased_until IS NOT NULL AND state IN (SELECT key FROM json_each(?2))),
    leased_until = iif(state IN (SELECT key FROM json_each(?2)), ?3, NULL),
    due_at = iif(state IN (SELECT key FROM json_each(?2)), due_at, ?5)
WHERE item_id IN (SELECT value FROM json_each(?1))";

pub(super) const TAKEN: &str = concat!(
    "SELECT ",
    item_columns!(),
    " FROM json_each(?1) AS taken CROSS JOIN items i ON i.item_id = taken.value \
      WHERE i.fence = ?2 AND i.leased_until IS NOT NULL ORDER BY taken.key"
);

pub(super) const FREE: &str = "
SELECT item_id, leased_until IS NOT NULL AS took_over FROM items
WHERE item_id = ?1 AND (leased_until IS NULL OR leased_until <= ?2)
    AND state IN (SELECT key FROM json_each(?3))";

pub(super) const HAND_BACK: &str = "
UPDATE items SET state = (SELECT value FROM json_each(?2) WHERE key = state), leased_until = NULL,
    due_at = given.due_at
FROM (SELECT value ->> 0 AS item_id, value ->> 1 AS fence, value ->> 2 AS due_at
    FROM json_each(?1)) AS given
WHERE items.item_id = given.item_id AND items.fence = given.fence
    AND items.leased_until IS NOT NULL AND state IN (SELECT key FROM json_each(?2))";

/// `?2` is the time before which the refresh must have begun.
pub(super) const FORGET_REFRESHES: &str = "
UPDATE items SET refresh_begun_at = NULL
WHERE item_id IN (SELECT value FROM json_each(?1)) AND refresh_begun_at <= ?2";

/// Each branch uses its own index: the dates of a window, the Item's own ids, and the partner's
/// ids.
pub(super) const KNOWN: &str = "
SELECT transaction_id, partner_id, account_id, amount, unit, transacted, settled, description,
    digest, read_at, removed_at
FROM transactions WHERE rowid IN (
    SELECT rowid FROM transactions
    WHERE item_id = ?1 AND removed_at IS NULL AND date BETWEEN ?2 AND ?3
    UNION SELECT t.rowid FROM json_each(?4) AS id
    CROSS JOIN transactions AS t ON t.item_id = ?1 AND t.transaction_id = id.value
    UNION SELECT t.rowid FROM json_each(?4) AS id
    CROSS JOIN transactions AS t ON t.item_id = ?1 AND t.partner_id = id.value
) ORDER BY transaction_id";

/// Applies the requests of a batch except revocations. `?3` are the states that need a new
/// authorization.
pub(super) const REQUEST_UPDATES: &str = "
UPDATE items SET
    notified = notified + 1,
    notified_since = coalesce(min(notified_since, requested.since), notified_since, requested.since),
    -- An Item without authorization has no tokens.
    cycle_tokens = cycle_tokens OR (requested.cycle AND state NOT IN (SELECT value FROM json_each(?3))),
    due_at = CASE
        WHEN leased_until IS NULL AND state NOT IN (SELECT value FROM json_each(?3))
        THEN min(ifnull(due_at, max(?2, ifnull(not_before, ?2))), max(?2, ifnull(not_before, ?2)))
        ELSE due_at
    END
FROM (SELECT value ->> 0 AS item_id, value ->> 1 AS since, value ->> 2 AS cycle
    FROM json_each(?1)) AS requested
WHERE items.item_id = requested.item_id";

pub(super) const REVOKE: &str = "
UPDATE items SET state = (SELECT value FROM json_each(?2) WHERE key = state), fence = ?4,
    leased_until = NULL, due_at = NULL, cycle_tokens = 0, refresh_begun_at = NULL
WHERE item_id IN (SELECT value FROM json_each(?1))
    AND state NOT IN (SELECT value FROM json_each(?3))
    AND state IN (SELECT key FROM json_each(?2))
RETURNING item_id";

/// Reads the connections of all Items in one statement, because a batch of notifications occupies
/// the only writer.
pub(super) const CONNECTIONS: &str = "
SELECT item_id, body FROM json_each(?1) AS named CROSS JOIN connections
    ON connections.item_id = named.value
ORDER BY item_id, application_id";

impl SqliteStore {
    pub(super) async fn take_due(
        &self,
        due_items: &'static str,
        (now, lease_until): (DateTime<Utc>, DateTime<Utc>),
        limit: usize,
    ) -> Result<Vec<ItemRecord>> {
        // Most polls find nothing and need no write lock.
        let mut reader = self.readers.acquire().await?;
        if due(&mut reader, due_items, now, limit.min(1)).await?.is_empty() {
            return Ok(Vec::new());
        }
        drop(reader);
        let mut tx = self.begin_transient().await?;
        let mut taken = Vec::new();
        while taken.len() < limit {
            let wanted = limit - taken.len();
            let items = due(&mut tx, due_items, now, wanted).await?;
            let fence = rules::new_fence(&*self.options.random);
            let records = take(&mut tx, &items, (now, lease_until), fence).await?;
            let (found, before) = (items.len(), taken.len());
            taken.extend(records.into_iter().flatten());
            if due_items == REFRESHES && taken.len() - before < found {
                let read: BTreeSet<_> = taken.iter().map(|record| record.id.as_str()).collect();
                let unread = items.iter().map(|(item, _)| item.as_str());
                let unread: Vec<_> = unread.filter(|item| !read.contains(item)).collect();
                let begun_before = micros(now - UNREADABLE_REFRESH_RETENTION);
                let query = sqlx::query(FORGET_REFRESHES).bind(row::text(&unread)?);
                query.bind(begun_before).execute(&mut *tx).await?;
            }
            // Due Items that cannot be read were deferred, so the next iteration finds others.
            if found < wanted || taken.len() - before == found || due_items != DUE {
                break;
            }
        }
        tx.commit().await?;
        Ok(taken)
    }

    pub(super) async fn take_one(
        &self,
        item: &ItemId,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Result<Option<ItemRecord>> {
        let mut tx = self.begin_transient().await?;
        let query = sqlx::query(FREE).bind(item.as_str()).bind(micros(now));
        let query = query.bind(moves(Event::Claimed)?);
        let Some(row) = query.fetch_optional(&mut *tx).await? else { return Ok(None) };
        let fence = rules::new_fence(&*self.options.random);
        let taken = take(&mut tx, &[named(&row)?], (now, lease_until), fence).await?.pop();
        tx.commit().await?;
        taken.transpose()
    }

    pub(super) async fn prolong(
        &self,
        item: &ItemId,
        fence: Fence,
        lease_until: DateTime<Utc>,
    ) -> Result<bool> {
        let sql = "UPDATE items SET leased_until = ?3 \
                   WHERE item_id = ?1 AND fence = ?2 AND leased_until IS NOT NULL";
        let query = sqlx::query(sql).bind(item.as_str()).bind(fence.0).bind(micros(lease_until));
        let mut tx = self.begin_transient().await?;
        let prolonged = query.execute(&mut *tx).await?.rows_affected() > 0;
        tx.commit().await?;
        Ok(prolonged)
    }

    pub(super) async fn give_back(&self, items: &[(ItemId, Fence, DateTime<Utc>)]) -> Result<()> {
        let rows: Vec<_> =
            items.iter().map(|(item, fence, due)| (item.as_str(), fence.0, micros(*due))).collect();
        let mut tx = self.begin_transient().await?;
        hand_back(&mut tx, &rows).await?;
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn read_known(
        &self,
        item: &ItemId,
        window: Window,
        ids: &[TransactionId],
    ) -> Result<Vec<KnownTransaction>> {
        let rows = sqlx::query(KNOWN)
            .bind(item.as_str())
            .bind(days(window.start()))
            .bind(days(window.end()))
            .bind(row::text(&ids)?)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(row::known).collect()
    }

    pub(super) async fn apply(&self, batch: &NotifyBatch) -> Result<NotifyOutcome> {
        let mut tx = self.begin().await?;
        let items = items_of(&mut tx, batch).await?;
        let requested = match rules::group_by_item(batch, |digest| items.get(digest).cloned()) {
            Ok(requested) => requested,
            Err(index) => return Ok(NotifyOutcome::Unknown(index)),
        };
        apply_requests(&mut tx, &requested, batch.now).await?;
        let revoked: Vec<_> = requested
            .iter()
            .filter(|(_, requested)| requested.revoked)
            .map(|(item, _)| item)
            .collect();
        if !revoked.is_empty() {
            self.revoke_all(&mut tx, &revoked, batch.now).await?;
        }
        tx.commit().await?;
        Ok(NotifyOutcome::Applied)
    }

    /// Ends the authorization of Items after the partner revoked their tokens: deletes tokens,
    /// invalidates leases, and notifies applications.
    async fn revoke_all(
        &self,
        tx: &mut SqliteConnection,
        items: &[&ItemId],
        now: DateTime<Utc>,
    ) -> Result<()> {
        let query = sqlx::query(REVOKE).bind(row::text(&items)?).bind(moves(Event::Refused)?);
        let query =
            query.bind(login_required_states()?).bind(rules::new_fence(&*self.options.random).0);
        let rows = query.fetch_all(&mut *tx).await?;
        let lost = rows.iter().map(|row| row::parsed(row, "item_id"));
        let mut lost = lost.collect::<Result<Vec<ItemId>>>()?;
        lost.sort_unstable();
        let ids = row::text(&lost)?;
        tokens::forget(tx, &ids).await?;
        let mut connections = connections_of(tx, &ids).await?;
        let mut entries = Vec::new();
        for item in &lost {
            let connections = connections.remove(item).unwrap_or_default();
            let context = (item, &self.options.environment);
            let webhooks = rules::compose(&rules::revoked(), context, &connections)?;
            entries.extend(webhooks.into_iter().map(|webhook| (item, webhook)));
        }
        queues::put(tx, &*self.options.vault, &entries, now).await
    }
}

/// Finds Items by one of the claim statements. The flag tells whether a lease has expired.
async fn due(
    connection: &mut SqliteConnection,
    statement: &'static str,
    now: DateTime<Utc>,
    limit: usize,
) -> Result<Vec<(String, bool)>> {
    let query = sqlx::query(statement).bind(micros(now)).bind(rows_of(limit));
    let query = query.bind(moves(Event::Claimed)?);
    query.fetch_all(connection).await?.iter().map(named).collect()
}

fn named(row: &SqliteRow) -> Result<(String, bool)> {
    Ok((row.try_get("item_id")?, row.try_get("took_over")?))
}

/// Claims Items. Those that cannot be read are deferred.
async fn take(
    tx: &mut SqliteConnection,
    items: &[(String, bool)],
    (now, lease_until): (DateTime<Utc>, DateTime<Utc>),
    fence: Fence,
) -> Result<Vec<Result<ItemRecord>>> {
    let taken_over: BTreeSet<_> =
        items.iter().filter(|(_, took_over)| *took_over).map(|(item, _)| item.as_str()).collect();
    let items: Vec<_> = items.iter().map(|(item, _)| item).collect();
    let (named, retry_at) = (row::text(&items)?, micros(now + UNREADABLE_RETRY));
    let query = sqlx::query(TAKE).bind(&named).bind(moves(Event::Claimed)?);
    let query = query.bind(micros(lease_until)).bind(fence.0).bind(retry_at);
    query.execute(&mut *tx).await?;
    let rows = sqlx::query(TAKEN).bind(&named).bind(fence.0).fetch_all(&mut *tx).await?;
    let mut found = BTreeSet::new();
    let (mut records, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in &rows {
        let item: &str = row.try_get("item_id")?;
        found.insert(item);
        let mut record = row::item(row);
        match &mut record {
            Ok(record) => record.took_over = taken_over.contains(item),
            Err(why) => {
                row::unreadable("item", item, why);
                unreadable.push((item, fence.0, retry_at));
            }
        }
        records.push(record);
    }
    for item in items.iter().filter(|item| !found.contains(item.as_str())) {
        row::unreadable("item", item, "the state is not known to this version");
    }
    if !unreadable.is_empty() {
        hand_back(tx, &unreadable).await?;
    }
    Ok(records)
}

async fn hand_back(tx: &mut SqliteConnection, rows: &[(&str, i64, i64)]) -> Result<()> {
    let query = sqlx::query(HAND_BACK).bind(row::text(&rows)?).bind(moves(Event::HandedBack)?);
    query.execute(tx).await?;
    Ok(())
}

/// Returns the Items that own the access tokens in a batch, if they belong to its partner.
async fn items_of(
    tx: &mut SqliteConnection,
    batch: &NotifyBatch,
) -> Result<BTreeMap<AccessDigest, ItemId>> {
    let sql = "SELECT digest, item_id FROM json_each(?1) AS named \
               CROSS JOIN access ON access.digest = unhex(named.value) WHERE institution_id = ?2";
    let digests: Vec<_> = batch.entries.iter().map(|(digest, _)| row::hex(&digest.0)).collect();
    let query = sqlx::query(sql).bind(row::text(&digests)?).bind(batch.institution_id.as_str());
    let mut items = BTreeMap::new();
    for row in query.fetch_all(tx).await? {
        let digest: &[u8] = row.try_get("digest")?;
        let digest = digest.try_into().map_err(|_| Failure::corrupt("digest"))?;
        items.insert(AccessDigest(digest), row::parsed(&row, "item_id")?);
    }
    Ok(items)
}

async fn apply_requests(
    tx: &mut SqliteConnection,
    requested: &BTreeMap<ItemId, ItemRequest>,
    now: DateTime<Utc>,
) -> Result<()> {
    let rows = requested.iter().filter(|(_, requested)| !requested.revoked);
    let rows = rows.map(|(item, requested)| (item, requested.since.map(days), requested.cycle));
    let rows = row::text(&rows.collect::<Vec<_>>())?;
    sqlx::query(REQUEST_UPDATES)
        .bind(rows)
        .bind(micros(now))
        .bind(login_required_states()?)
        .execute(tx)
        .await?;
    Ok(())
}

/// Returns the connections of Items, ordered by application. `items` is a JSON array.
async fn connections_of(
    tx: &mut SqliteConnection,
    items: &str,
) -> Result<BTreeMap<ItemId, Vec<Connection>>> {
    let mut all: BTreeMap<ItemId, Vec<Connection>> = BTreeMap::new();
    for row in sqlx::query(CONNECTIONS).bind(items).fetch_all(tx).await? {
        let item: ItemId = row::parsed(&row, "item_id")?;
        match row::record(&row, "body") {
            Ok(connection) => all.entry(item).or_default().push(connection),
            Err(why) => row::unreadable("connection", &item, why),
        }
    }
    Ok(all)
}

/// Returns the states in which an Item is not scheduled until its user authorizes again, as a JSON
/// array.
fn login_required_states() -> Result<String> {
    let all = State::ALL.into_iter();
    row::text(&all.filter(|s| s.login_required()).map(State::as_str).collect::<Vec<_>>())
}
