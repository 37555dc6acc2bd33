//! Notifications. A batch takes a constant number of statements, regardless of its number of
//! entries.

use super::{
    PostgresStore,
    failure::{Failure, Result},
    queues, row,
    time::{Day, Moment},
    work::moves,
};
use crate::{
    connection::Connection,
    item::{Event, State},
    store::{
        AccessDigest, NotifyBatch, NotifyOutcome,
        rules::{self, ItemRequest},
    },
};
use chrono::{DateTime, Utc};
use px_types::ItemId;
use sqlx::{Connection as _, PgConnection, Row as _};
use std::collections::BTreeMap;

/// Locks all Items of the batch in the order of their ids, as every statement that waits for more
/// than one Item does, so that no two of them deadlock. Then applies the requests except
/// revocations.
const REQUEST_UPDATES: &str = "
WITH requested AS (
    SELECT * FROM unnest($1::text[], $2::date[], $3::boolean[], $4::boolean[])
        AS requested (item_id, since, cycle, revoked)
), locked AS (
    SELECT item_id FROM items WHERE item_id = ANY ($1) ORDER BY item_id FOR UPDATE
), applied AS (
    UPDATE items i SET
        notified = i.notified + 1,
        notified_since = least(i.notified_since, requested.since),
        -- An Item without authorization has no tokens.
        cycle_tokens = i.cycle_tokens OR (requested.cycle AND i.state <> ALL ($6)),
        due_at = CASE
            WHEN i.leased_until IS NULL AND i.state <> ALL ($6)
            THEN least(i.due_at, greatest($5, i.not_before)) ELSE i.due_at
        END
    FROM locked JOIN requested ON locked.item_id = requested.item_id
    WHERE i.item_id = locked.item_id AND NOT requested.revoked
)
SELECT count(*) AS locked FROM locked";

const REVOKE: &str = "
UPDATE items i SET state = move.after, fence = $5, leased_until = NULL, due_at = NULL,
    cycle_tokens = false, refresh_begun_at = NULL
FROM unnest($2::text[], $3::text[]) AS move (before, after)
WHERE i.item_id = ANY ($1) AND i.state = move.before AND i.state <> ALL ($4)
RETURNING i.item_id";

impl PostgresStore {
    pub(super) async fn apply(
        &self,
        db: &mut PgConnection,
        batch: &NotifyBatch,
    ) -> Result<NotifyOutcome> {
        let mut tx = db.begin().await?;
        let items = items_of(&mut tx, batch).await?;
        let requested = match rules::group_by_item(batch, |digest| items.get(digest).cloned()) {
            Ok(requested) => requested,
            Err(index) => return Ok(NotifyOutcome::Unknown(index)),
        };
        if requested.is_empty() {
            return Ok(NotifyOutcome::Applied);
        }
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
        tx: &mut PgConnection,
        items: &[&ItemId],
        now: DateTime<Utc>,
    ) -> Result<()> {
        let (before, after) = moves(Event::Refused);
        let ids: Vec<_> = items.iter().map(|item| item.as_str()).collect();
        let query =
            sqlx::query(REVOKE).bind(ids).bind(before).bind(after).bind(login_required_states());
        let query = query.bind(rules::new_fence(&*self.options.random).0);
        let rows = query.fetch_all(&mut *tx).await?;
        let lost = rows.iter().map(|row| row::parsed(row, "item_id"));
        let mut lost = lost.collect::<Result<Vec<ItemId>>>()?;
        lost.sort_unstable();
        let ids: Vec<_> = lost.iter().map(ItemId::as_str).collect();
        let sql = "UPDATE tokens SET version = version + 1, key_id = NULL, sealed = NULL, \
                   access_mac = NULL, refresh_mac = NULL WHERE item_id = ANY ($1)";
        sqlx::query(sql).bind(&ids).execute(&mut *tx).await?;
        let mut connections = connections_of(tx, &ids).await?;
        let mut entries = Vec::new();
        for item in &lost {
            let connections = connections.remove(item).unwrap_or_default();
            let context = (item, &self.options.environment);
            let webhooks = rules::compose(&rules::revoked(), context, &connections)?;
            entries.extend(webhooks.into_iter().map(|webhook| (item, webhook)));
        }
        queues::put(tx, &*self.options.vault, entries, now).await
    }
}

/// Returns the Items that own the access tokens in a batch, if they belong to its partner.
async fn items_of(
    tx: &mut PgConnection,
    batch: &NotifyBatch,
) -> Result<BTreeMap<AccessDigest, ItemId>> {
    let sql = "SELECT digest, item_id FROM access WHERE digest = ANY ($1) AND institution_id = $2";
    let digests: Vec<_> = batch.entries.iter().map(|(digest, _)| &digest.0[..]).collect();
    let query = sqlx::query(sql).bind(digests).bind(batch.institution_id.as_str());
    let mut items = BTreeMap::new();
    for row in query.fetch_all(tx).await? {
        let digest: &[u8] = row.try_get("digest")?;
        let digest = digest.try_into().map_err(|_| Failure::corrupt("digest"))?;
        items.insert(AccessDigest(digest), row::parsed(&row, "item_id")?);
    }
    Ok(items)
}

async fn apply_requests(
    tx: &mut PgConnection,
    requested: &BTreeMap<ItemId, ItemRequest>,
    now: DateTime<Utc>,
) -> Result<()> {
    let ids: Vec<_> = requested.keys().map(ItemId::as_str).collect();
    let since: Vec<Option<Day>> =
        requested.values().map(|requested| requested.since.map(Day)).collect();
    let cycle: Vec<_> = requested.values().map(|requested| requested.cycle).collect();
    let revoked: Vec<_> = requested.values().map(|requested| requested.revoked).collect();
    let query = sqlx::query(REQUEST_UPDATES).bind(ids).bind(since).bind(cycle).bind(revoked);
    let row = query.bind(Moment(now)).bind(login_required_states()).fetch_one(tx).await?;
    let locked: i64 = row.try_get("locked")?;
    // If an Item was unlinked between the two statements, its token is unknown. A retry finds this.
    if usize::try_from(locked) == Ok(requested.len()) { Ok(()) } else { Err(Failure::RowVanished) }
}

async fn connections_of(
    tx: &mut PgConnection,
    items: &[&str],
) -> Result<BTreeMap<ItemId, Vec<Connection>>> {
    let sql = "SELECT item_id, body FROM connections WHERE item_id = ANY ($1) \
               ORDER BY item_id, application_id";
    let mut all: BTreeMap<ItemId, Vec<Connection>> = BTreeMap::new();
    for row in sqlx::query(sql).bind(items).fetch_all(tx).await? {
        let item: ItemId = row::parsed(&row, "item_id")?;
        match row::record(&row, "body") {
            Ok(connection) => all.entry(item).or_default().push(connection),
            Err(why) => row::unreadable("connection", &item, why),
        }
    }
    Ok(all)
}

/// Returns the states in which an Item is not scheduled until its user authorizes again.
fn login_required_states() -> Vec<&'static str> {
    let all = State::ALL.into_iter();
    all.filter(|state| state.login_required()).map(State::as_str).collect()
}
