//! Notifications: a batch is a handful of statements, however many entries it has.

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
        rules::{self, Asked},
    },
};
use chrono::{DateTime, Utc};
use px_types::ItemId;
use sqlx::{Connection as _, PgConnection, Row as _};
use std::collections::BTreeMap;

/// Locks all Items of the batch in the order of their ids, as everything does that waits for
/// more than one, so that no two wait for each other. Then the asks that are not revocations.
const ASK: &str = "
WITH asked AS (
    SELECT * FROM unnest($1::text[], $2::date[], $3::boolean[], $4::boolean[])
        AS asked (item_id, since, cycle, revoked)
), locked AS (
    SELECT item_id FROM items WHERE item_id = ANY ($1) ORDER BY item_id FOR UPDATE
), applied AS (
    UPDATE items i SET
        notified = i.notified + 1,
        notified_since = least(i.notified_since, asked.since),
        -- One that lost its authorization has no tokens.
        cycle_tokens = i.cycle_tokens OR (asked.cycle AND i.state <> ALL ($6)),
        due_at = CASE
            WHEN i.leased_until IS NULL AND i.state <> ALL ($6)
            THEN least(i.due_at, greatest($5, i.not_before)) ELSE i.due_at
        END
    FROM locked JOIN asked ON locked.item_id = asked.item_id
    WHERE i.item_id = locked.item_id AND NOT asked.revoked
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
        let asked = match rules::gather(batch, |digest| items.get(digest).cloned()) {
            Ok(asked) => asked,
            Err(index) => return Ok(NotifyOutcome::Unknown(index)),
        };
        if asked.is_empty() {
            return Ok(NotifyOutcome::Applied);
        }
        ask(&mut tx, &asked, batch.now).await?;
        let revoked: Vec<_> =
            asked.iter().filter(|(_, asked)| asked.revoked).map(|(item, _)| item).collect();
        if !revoked.is_empty() {
            self.revoke_all(&mut tx, &revoked, batch.now).await?;
        }
        tx.commit().await?;
        Ok(NotifyOutcome::Applied)
    }

    /// The partner ended these: tokens go, workers are late, applications are told.
    async fn revoke_all(
        &self,
        tx: &mut PgConnection,
        items: &[&ItemId],
        now: DateTime<Utc>,
    ) -> Result<()> {
        let (before, after) = moves(Event::Refused);
        let ids: Vec<_> = items.iter().map(|item| item.as_str()).collect();
        let query = sqlx::query(REVOKE).bind(ids).bind(before).bind(after).bind(resting());
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
        let mut told = Vec::new();
        for item in &lost {
            let connections = connections.remove(item).unwrap_or_default();
            let place = (item, &self.options.environment);
            let webhooks = rules::compose(&rules::revoked(), place, &connections)?;
            told.extend(webhooks.into_iter().map(|webhook| (item, webhook)));
        }
        queues::put(tx, &*self.options.vault, told, now).await
    }
}

/// Whose the tokens are that this partner names.
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

async fn ask(
    tx: &mut PgConnection,
    asked: &BTreeMap<ItemId, Asked>,
    now: DateTime<Utc>,
) -> Result<()> {
    let ids: Vec<_> = asked.keys().map(ItemId::as_str).collect();
    let since: Vec<Option<Day>> = asked.values().map(|asked| asked.since.map(Day)).collect();
    let cycle: Vec<_> = asked.values().map(|asked| asked.cycle).collect();
    let revoked: Vec<_> = asked.values().map(|asked| asked.revoked).collect();
    let query = sqlx::query(ASK).bind(ids).bind(since).bind(cycle).bind(revoked);
    let row = query.bind(Moment(now)).bind(resting()).fetch_one(tx).await?;
    let locked: i64 = row.try_get("locked")?;
    // One was unlinked between the two statements: then its token is unknown, too.
    if usize::try_from(locked) == Ok(asked.len()) { Ok(()) } else { Err(Failure::Outrun) }
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

/// The states in which an Item rests until its user authorizes again.
fn resting() -> Vec<&'static str> {
    let all = State::ALL.into_iter();
    all.filter(|state| state.login_required()).map(State::as_str).collect()
}
