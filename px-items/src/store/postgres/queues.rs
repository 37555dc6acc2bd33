//! Queues: webhooks, and tokens to be revoked.

use super::{
    PostgresStore,
    failure::{Failure, Result},
    reads::rows_of,
    row, sealed,
    time::Moment,
    tokens,
};
use crate::{
    store::{
        Destination, QueuedWebhook, Revocation, StoreError, UNREADABLE_RETRY, WebhookSettlement,
        rules::{CoalescedWebhooks, OutboxEntry, UnsentWebhook, coalesce},
    },
    vault::Envelope,
};
use chrono::{DateTime, Utc};
use px_types::{InstitutionId, ItemId};
use sqlx::{PgConnection, Row as _, postgres::PgRow};

/// Numbers are assigned in the order of the rows, which is the order of sending.
const PUT: &str = "
INSERT INTO outbox (
    item_id, application_id, url, institution_id, body, key_id, sealed, created_at, due_at
)
SELECT item_id, application_id, url, institution_id, body, key_id, sealed, $8, $8
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[]
) WITH ORDINALITY
    AS entry (item_id, application_id, url, institution_id, body, key_id, sealed, ordinal)
ORDER BY ordinal";

/// Reads the webhooks that new ones can be merged into. One that is being claimed is skipped,
/// because it is about to be sent.
const UNSENT: &str = "
SELECT o.id, o.item_id, o.application_id, o.url, o.body
FROM outbox o JOIN (
    SELECT DISTINCT item_id, application_id, url
    FROM unnest($1::text[], $2::text[], $3::text[]) AS new (item_id, application_id, url)
) AS new USING (item_id, application_id, url)
WHERE o.attempt = 0 AND o.body IS NOT NULL
ORDER BY o.item_id, o.id FOR UPDATE OF o SKIP LOCKED";

const REWRITE: &str = "
UPDATE outbox o SET body = new.body
FROM unnest($1::text[], $2::bigint[], $3::text[]) AS new (item_id, id, body)
WHERE o.item_id = new.item_id AND o.id = new.id";

const CLAIM_WEBHOOKS: &str = "
WITH due AS (
    SELECT item_id, id, due_at FROM outbox WHERE due_at <= $1
    ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE outbox o SET attempt = attempt + 1, due_at = $2
FROM due WHERE o.item_id = due.item_id AND o.id = due.id
RETURNING o.id, o.item_id, o.application_id, o.url, o.institution_id, o.body, o.key_id, o.sealed,
    o.created_at, o.attempt, due.due_at AS was_due_at";

/// Returns rows to a queue as if they had not been claimed. They are locked in a fixed order, so
/// that two such statements never deadlock.
macro_rules! give_back {
    ($queue:literal) => {
        concat!(
            "WITH taken AS (
                SELECT q.item_id, q.id, given.due_at
                FROM ",
            $queue,
            " q JOIN unnest($1::text[], $2::bigint[], $3::integer[], $4::timestamptz[])
                    AS given (item_id, id, attempt, due_at)
                    ON q.item_id = given.item_id AND q.id = given.id
                WHERE q.attempt = given.attempt
                ORDER BY q.item_id, q.id FOR UPDATE OF q
            )
            UPDATE ",
            $queue,
            " q SET attempt = attempt - 1, due_at = taken.due_at
            FROM taken WHERE q.item_id = taken.item_id AND q.id = taken.id"
        )
    };
}

const RETURN_WEBHOOKS: &str = give_back!("outbox");
const RETURN_REVOCATIONS: &str = give_back!("revocations");

/// Rows are locked in the same order. Each is either deleted or deferred.
const SETTLE: &str = "
WITH taken AS (
    SELECT o.item_id, o.id, given.again_at
    FROM outbox o JOIN unnest($1::text[], $2::bigint[], $3::integer[], $4::timestamptz[])
        AS given (item_id, id, attempt, again_at) ON o.item_id = given.item_id AND o.id = given.id
    WHERE o.attempt = given.attempt
    ORDER BY o.item_id, o.id FOR UPDATE OF o
), ended AS (
    DELETE FROM outbox o USING taken
    WHERE o.item_id = taken.item_id AND o.id = taken.id AND taken.again_at IS NULL
)
UPDATE outbox o SET due_at = taken.again_at
FROM taken WHERE o.item_id = taken.item_id AND o.id = taken.id AND taken.again_at IS NOT NULL";

const CLAIM_REVOCATIONS: &str = "
WITH due AS (
    SELECT item_id, id, due_at FROM revocations WHERE due_at <= $1
    ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE revocations r SET attempt = attempt + 1, due_at = $2
FROM due WHERE r.item_id = due.item_id AND r.id = due.id
RETURNING r.id, r.item_id, r.institution_id, r.user_id, r.key_id, r.sealed, r.created_at, r.attempt,
    due.due_at AS was_due_at";

/// Adds entries to the outbox in the order of sending. Entries are merged into unsent ones where
/// possible.
pub(super) async fn put(
    tx: &mut PgConnection,
    vault: &dyn Envelope,
    entries: Vec<(&ItemId, OutboxEntry)>,
    now: DateTime<Utc>,
) -> Result<()> {
    let unsent = unsent(tx, &entries).await?;
    let CoalescedWebhooks { rewritten, added: entries } = coalesce(unsent, entries)?;
    if !rewritten.is_empty() {
        let items: Vec<_> = rewritten.iter().map(|webhook| webhook.item_id.as_str()).collect();
        let ids: Vec<_> = rewritten.iter().map(|webhook| webhook.id).collect();
        let bodies: Vec<_> = rewritten.iter().map(|webhook| webhook.body.as_str()).collect();
        sqlx::query(REWRITE).bind(items).bind(ids).bind(bodies).execute(&mut *tx).await?;
    }
    if entries.is_empty() {
        return Ok(());
    }
    let items: Vec<_> = entries.iter().map(|(item, _)| item.as_str()).collect();
    let applications: Vec<_> = entries.iter().map(|(_, w)| w.application_id.as_str()).collect();
    let urls: Vec<_> = entries.iter().map(|(_, entry)| entry.to.url()).collect();
    let partners: Vec<_> =
        entries.iter().map(|(_, entry)| entry.to.partner().map(InstitutionId::as_str)).collect();
    let (mut bodies, mut keys, mut sealed) = (Vec::new(), Vec::new(), Vec::new());
    for (item, entry) in &entries {
        if entry.secret {
            let bound_to = sealed::of_outbox(item);
            let secret = sealed::seal(vault, entry.body.as_bytes(), &bound_to)?;
            bodies.push(None);
            keys.push(Some(secret.key_id));
            sealed.push(Some(secret.bytes));
        } else {
            bodies.push(Some(entry.body.as_str()));
            keys.push(None);
            sealed.push(None);
        }
    }
    let query = sqlx::query(PUT).bind(items).bind(applications).bind(urls).bind(partners);
    let query = query.bind(bodies).bind(keys).bind(sealed);
    query.bind(Moment(now)).execute(tx).await?;
    Ok(())
}

/// Reads and locks the unsent webhooks to the same applications about the same Items.
async fn unsent(
    tx: &mut PgConnection,
    entries: &[(&ItemId, OutboxEntry)],
) -> Result<Vec<UnsentWebhook>> {
    let (mut items, mut applications, mut urls) = (Vec::new(), Vec::new(), Vec::new());
    for (item, entry) in entries {
        if let Some(url) = entry.coalesces_at() {
            items.push(item.as_str());
            applications.push(entry.application_id.as_str());
            urls.push(url);
        }
    }
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let query = sqlx::query(UNSENT).bind(items).bind(applications).bind(urls);
    let rows = query.fetch_all(&mut *tx).await?;
    let unsent = rows.iter().map(|row| {
        Ok(UnsentWebhook {
            id: row.try_get("id")?,
            item_id: row::parsed(row, "item_id")?,
            application_id: row::parsed(row, "application_id")?,
            url: row.try_get("url")?,
            body: row.try_get("body")?,
        })
    });
    unsent.collect()
}

impl PostgresStore {
    pub(super) async fn take_webhooks(
        &self,
        db: &mut PgConnection,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<QueuedWebhook>> {
        let queue = (CLAIM_WEBHOOKS, RETURN_WEBHOOKS, "webhook");
        let vault = &*self.options.vault;
        take(db, queue, (now, lease_until), limit, |row| webhook(vault, row)).await
    }

    pub(super) async fn end_webhooks(
        &self,
        db: &mut PgConnection,
        settlements: &[WebhookSettlement],
    ) -> Result<()> {
        if settlements.is_empty() {
            return Ok(());
        }
        let webhooks = || settlements.iter().map(|settled| &settled.webhook);
        let items: Vec<_> = webhooks().map(|webhook| webhook.item_id.as_str()).collect();
        let ids: Vec<_> = webhooks().map(|webhook| webhook.id).collect();
        let taken: Vec<_> = webhooks().map(|webhook| attempts(webhook.attempt)).collect();
        let again_at: Vec<_> =
            settlements.iter().map(|settled| settled.again_at.map(Moment)).collect();
        let query = sqlx::query(SETTLE).bind(items).bind(ids).bind(taken).bind(again_at);
        query.execute(&mut *db).await?;
        Ok(())
    }

    pub(super) async fn return_webhooks(
        &self,
        db: &mut PgConnection,
        webhooks: &[(QueuedWebhook, DateTime<Utc>)],
    ) -> Result<()> {
        let rows = webhooks.iter().map(|(webhook, due_at)| ClaimedRow {
            item: webhook.item_id.to_string(),
            id: webhook.id,
            attempt: attempts(webhook.attempt),
            due_at: Moment(*due_at),
        });
        give_back(db, RETURN_WEBHOOKS, rows.collect()).await
    }

    pub(super) async fn take_revocations(
        &self,
        db: &mut PgConnection,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        let queue = (CLAIM_REVOCATIONS, RETURN_REVOCATIONS, "revocation");
        take(db, queue, (now, lease_until), limit, |row| self.revocation(row)).await
    }

    fn revocation(&self, row: &PgRow) -> Result<Revocation> {
        let item: ItemId = row::parsed(row, "item_id")?;
        let opened = tokens::open(&*self.options.vault, &item, row)?;
        let ids = (item, row::parsed(row, "institution_id")?, row::parsed(row, "user_id")?);
        Ok(Revocation::new(
            row.try_get("id")?,
            ids,
            opened,
            attempt(row)?,
            row::moment(row, "created_at")?,
        ))
    }

    pub(super) async fn end_revocation(
        &self,
        db: &mut PgConnection,
        revocation: &Revocation,
        again_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        let sql = match again_at {
            Some(_) => {
                "UPDATE revocations SET due_at = $4, sent_until = NULL, whole_grant = false \
                 WHERE item_id = $1 AND id = $2 AND attempt = $3"
            }
            None => {
                "DELETE FROM revocations WHERE item_id = $1 AND id = $2 AND attempt = $3 \
                 AND $4::timestamptz IS NULL"
            }
        };
        let query = sqlx::query(sql).bind(revocation.item_id.as_str()).bind(revocation.id);
        query
            .bind(attempts(revocation.attempt))
            .bind(again_at.map(Moment))
            .execute(&mut *db)
            .await?;
        Ok(())
    }
}

/// A claimed row of a queue.
struct ClaimedRow {
    item: String,
    id: i64,
    attempt: i32,
    due_at: Moment,
}

/// Claims due messages. A message that cannot be read, because its key is lost, is returned for an
/// hour, and another one is claimed instead.
async fn take<T>(
    db: &mut PgConnection,
    (claim, return_sql, what): (&'static str, &'static str, &'static str),
    (now, lease_until): (DateTime<Utc>, DateTime<Utc>),
    limit: usize,
    read: impl Fn(&PgRow) -> Result<T>,
) -> Result<Vec<T>> {
    let mut taken = Vec::new();
    while taken.len() < limit {
        let wanted = limit - taken.len();
        let query = sqlx::query(claim).bind(Moment(now)).bind(Moment(lease_until));
        let rows = longest_due_first(query.bind(rows_of(wanted)).fetch_all(&mut *db).await?)?;
        let mut back = Vec::new();
        for row in &rows {
            match read(row) {
                Ok(one) => taken.push(one),
                Err(why) => {
                    let id: i64 = row.try_get("id")?;
                    row::unreadable(what, id, StoreError::from(why));
                    let (item, attempt) = (row.try_get("item_id")?, row.try_get("attempt")?);
                    let due_at = Moment(now + UNREADABLE_RETRY);
                    back.push(ClaimedRow { item, id, attempt, due_at });
                }
            }
        }
        if back.is_empty() {
            break;
        }
        give_back(db, return_sql, back).await?;
        if rows.len() < wanted {
            break;
        }
    }
    Ok(taken)
}

async fn give_back(db: &mut PgConnection, sql: &'static str, rows: Vec<ClaimedRow>) -> Result<()> {
    let items: Vec<_> = rows.iter().map(|row| row.item.as_str()).collect();
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let attempts: Vec<_> = rows.iter().map(|row| row.attempt).collect();
    let due_at: Vec<_> = rows.iter().map(|row| row.due_at).collect();
    let query = sqlx::query(sql).bind(items).bind(ids).bind(attempts).bind(due_at);
    query.execute(db).await?;
    Ok(())
}

/// Sorts claimed rows, because an UPDATE returns its rows in no order.
fn longest_due_first(rows: Vec<PgRow>) -> Result<Vec<PgRow>> {
    let mut keyed = Vec::with_capacity(rows.len());
    for row in rows {
        let was_due_at: Moment = row.try_get("was_due_at")?;
        keyed.push(((was_due_at, row.try_get::<i64, _>("id")?), row));
    }
    keyed.sort_unstable_by_key(|(key, _)| *key);
    Ok(keyed.into_iter().map(|(_, row)| row).collect())
}

fn webhook(vault: &dyn Envelope, row: &PgRow) -> Result<QueuedWebhook> {
    let item: ItemId = row::parsed(row, "item_id")?;
    let to = match row.try_get::<Option<String>, _>("url")? {
        Some(url) => Destination::Url(url),
        None => Destination::Partner(row::parsed(row, "institution_id")?),
    };
    let body = match row.try_get::<Option<String>, _>("body")? {
        Some(body) => body,
        None => {
            let plain = sealed::open(vault, row, &sealed::of_outbox(&item))?;
            let text = std::str::from_utf8(&plain).map_err(|_| Failure::corrupt("body"))?;
            text.to_owned()
        }
    };
    let ids = (item, row::parsed(row, "application_id")?);
    let created_at = row::moment(row, "created_at")?;
    Ok(QueuedWebhook::new(row.try_get("id")?, ids, (to, body), created_at, attempt(row)?))
}

fn attempt(row: &PgRow) -> Result<u32> {
    Ok(row.try_get::<i32, _>("attempt")?.unsigned_abs())
}

fn attempts(attempt: u32) -> i32 {
    i32::try_from(attempt).unwrap_or(i32::MAX)
}
