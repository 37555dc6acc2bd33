//! What waits to be sent: webhooks, and tokens to be revoked.

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
        Destination, QueuedWebhook, Revocation, StoreError, WebhookSettlement, rules::Waiting,
    },
    vault::Envelope,
};
use chrono::{DateTime, Utc};
use px_types::{InstitutionId, ItemId};
use sqlx::{PgConnection, Row as _, postgres::PgRow};

/// The numbers are given in the order of the rows, which is that of sending.
const PUT: &str = "
INSERT INTO outbox (
    item_id, application_id, url, institution_id, body, key_id, sealed, created_at, due_at
)
SELECT item_id, application_id, url, institution_id, body, key_id, sealed, $8, $8
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[]
) WITH ORDINALITY
    AS waiting (item_id, application_id, url, institution_id, body, key_id, sealed, place)
ORDER BY place";

const CLAIM_WEBHOOKS: &str = "
WITH due AS (
    SELECT item_id, id, due_at FROM outbox WHERE due_at <= $1
    ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE outbox o SET attempt = attempt + 1, due_at = $2
FROM due WHERE o.item_id = due.item_id AND o.id = due.id
RETURNING o.id, o.item_id, o.application_id, o.url, o.institution_id, o.body, o.key_id, o.sealed,
    o.created_at, o.attempt, due.due_at AS was_due_at";

/// Locked in one order, so that two of these never wait for each other.
const RETURN: &str = "
WITH taken AS (
    SELECT o.item_id, o.id, given.due_at
    FROM outbox o JOIN unnest($1::text[], $2::bigint[], $3::integer[], $4::timestamptz[])
        AS given (item_id, id, attempt, due_at) ON o.item_id = given.item_id AND o.id = given.id
    WHERE o.attempt = given.attempt
    ORDER BY o.item_id, o.id FOR UPDATE OF o
)
UPDATE outbox o SET attempt = attempt - 1, due_at = taken.due_at
FROM taken WHERE o.item_id = taken.item_id AND o.id = taken.id";

/// Locked in the same order. A row is deleted or deferred, never both.
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

/// Puts things into the outbox, in the order in which they are sent.
pub(super) async fn put(
    tx: &mut PgConnection,
    vault: &dyn Envelope,
    told: Vec<(&ItemId, Waiting)>,
    now: DateTime<Utc>,
) -> Result<()> {
    if told.is_empty() {
        return Ok(());
    }
    let items: Vec<_> = told.iter().map(|(item, _)| item.as_str()).collect();
    let applications: Vec<_> = told.iter().map(|(_, w)| w.application_id.as_str()).collect();
    let urls: Vec<_> = told.iter().map(|(_, waiting)| waiting.to.url()).collect();
    let partners: Vec<_> =
        told.iter().map(|(_, waiting)| waiting.to.partner().map(InstitutionId::as_str)).collect();
    let (mut bodies, mut keys, mut sealed) = (Vec::new(), Vec::new(), Vec::new());
    for (item, waiting) in &told {
        if waiting.secret {
            let bound_to = sealed::of_outbox(item);
            let secret = sealed::seal(vault, waiting.body.as_bytes(), &bound_to)?;
            bodies.push(None);
            keys.push(Some(secret.key_id));
            sealed.push(Some(secret.bytes));
        } else {
            bodies.push(Some(waiting.body.as_str()));
            keys.push(None);
            sealed.push(None);
        }
    }
    let query = sqlx::query(PUT).bind(items).bind(applications).bind(urls).bind(partners);
    let query = query.bind(bodies).bind(keys).bind(sealed);
    query.bind(Moment(now)).execute(tx).await?;
    Ok(())
}

impl PostgresStore {
    pub(super) async fn take_webhooks(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<QueuedWebhook>> {
        let query = sqlx::query(CLAIM_WEBHOOKS)
            .bind(Moment(now))
            .bind(Moment(lease_until))
            .bind(rows_of(limit));
        let rows = longest_due_first(query.fetch_all(&self.pool).await?)?;
        let mut taken = Vec::with_capacity(rows.len());
        for row in &rows {
            match webhook(&*self.options.vault, row).map_err(StoreError::from) {
                Ok(webhook) => taken.push(webhook),
                // One whose key is lost waits until the key is back, and holds up no other.
                Err(error) => {
                    let id: i64 = row.try_get("id")?;
                    tracing::error!(id, %error, "a webhook cannot be sent");
                }
            }
        }
        Ok(taken)
    }

    pub(super) async fn end_webhooks(&self, settlements: &[WebhookSettlement]) -> Result<()> {
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
        query.execute(&self.pool).await?;
        Ok(())
    }

    pub(super) async fn return_webhooks(
        &self,
        webhooks: &[(QueuedWebhook, DateTime<Utc>)],
    ) -> Result<()> {
        let items: Vec<_> = webhooks.iter().map(|(webhook, _)| webhook.item_id.as_str()).collect();
        let ids: Vec<_> = webhooks.iter().map(|(webhook, _)| webhook.id).collect();
        let taken: Vec<_> = webhooks.iter().map(|(webhook, _)| attempts(webhook.attempt)).collect();
        let due_at: Vec<_> = webhooks.iter().map(|(_, due_at)| Moment(*due_at)).collect();
        let query = sqlx::query(RETURN).bind(items).bind(ids).bind(taken).bind(due_at);
        query.execute(&self.pool).await?;
        Ok(())
    }

    pub(super) async fn take_revocations(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        let query = sqlx::query(CLAIM_REVOCATIONS).bind(Moment(now)).bind(Moment(lease_until));
        let rows = query.bind(rows_of(limit)).fetch_all(&self.pool).await?;
        let rows = longest_due_first(rows)?;
        let mut taken = Vec::with_capacity(rows.len());
        for row in &rows {
            match self.revocation(row).map_err(StoreError::from) {
                Ok(revocation) => taken.push(revocation),
                // As above.
                Err(error) => {
                    let id: i64 = row.try_get("id")?;
                    tracing::error!(id, %error, "tokens cannot be revoked at their partner");
                }
            }
        }
        Ok(taken)
    }

    fn revocation(&self, row: &PgRow) -> Result<Revocation> {
        let item: ItemId = row::parsed(row, "item_id")?;
        let opened = tokens::open(&*self.options.vault, &item, row)?;
        let place = (item, row::parsed(row, "institution_id")?, row::parsed(row, "user_id")?);
        Ok(Revocation::new(
            row.try_get("id")?,
            place,
            opened,
            attempt(row)?,
            row::moment(row, "created_at")?,
        ))
    }

    pub(super) async fn end_revocation(
        &self,
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
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

/// An UPDATE answers in no order.
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
    let place = (item, row::parsed(row, "application_id")?);
    let created_at = row::moment(row, "created_at")?;
    Ok(QueuedWebhook::new(row.try_get("id")?, place, (to, body), created_at, attempt(row)?))
}

fn attempt(row: &PgRow) -> Result<u32> {
    Ok(row.try_get::<i32, _>("attempt")?.unsigned_abs())
}

fn attempts(attempt: u32) -> i32 {
    i32::try_from(attempt).unwrap_or(i32::MAX)
}
