//! What waits to be sent: webhooks, and tokens to be revoked.

use super::{
    SqliteStore,
    row::{self, Failure, Result, micros, rows_of},
    sealed, tokens,
};
use crate::{
    store::{
        Destination, QueuedWebhook, Revocation, StoreError, WebhookSettlement, rules::Waiting,
    },
    vault::Envelope,
};
use chrono::{DateTime, Utc};
use px_types::ItemId;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

/// The numbers are given in the order of the rows, which is that of sending.
const PUT: &str = "
INSERT INTO outbox (
    item_id, application_id, url, institution_id, body, key_id, sealed, attempt, created_at, due_at
)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
    unhex(value ->> 6), 0, ?2, ?2
FROM json_each(?1) ORDER BY key";

pub(super) const DUE_WEBHOOKS: &str = "
SELECT id, item_id, application_id, url, institution_id, body, key_id, sealed, created_at,
    attempt + 1 AS attempt
FROM outbox WHERE due_at <= ?1 ORDER BY due_at, id LIMIT ?2";

pub(super) const TAKE_WEBHOOKS: &str = "
UPDATE outbox SET attempt = attempt + 1, due_at = ?2
WHERE id IN (SELECT value FROM json_each(?1))";

const RETURN: &str = "
UPDATE outbox SET attempt = outbox.attempt - 1, due_at = given.due_at
FROM (SELECT value ->> 0 AS id, value ->> 1 AS attempt, value ->> 2 AS due_at
    FROM json_each(?1)) AS given
WHERE outbox.id = given.id AND outbox.attempt = given.attempt";

const DEFER: &str = "
UPDATE outbox SET due_at = given.due_at
FROM (SELECT value ->> 0 AS id, value ->> 1 AS attempt, value ->> 2 AS due_at
    FROM json_each(?1)) AS given
WHERE outbox.id = given.id AND outbox.attempt = given.attempt";

const END: &str = "
DELETE FROM outbox
WHERE (id, attempt) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?1))";

pub(super) const DUE_REVOCATIONS: &str = "
SELECT id, item_id, institution_id, user_id, key_id, sealed, created_at, attempt + 1 AS attempt
FROM revocations WHERE due_at <= ?1 ORDER BY due_at, id LIMIT ?2";

const TAKE_REVOCATIONS: &str = "
UPDATE revocations SET attempt = attempt + 1, due_at = ?2
WHERE id IN (SELECT value FROM json_each(?1))";

/// Puts things into the outbox, in the order in which they are sent.
pub(super) async fn put(
    tx: &mut SqliteConnection,
    vault: &dyn Envelope,
    told: &[(&ItemId, Waiting)],
    now: DateTime<Utc>,
) -> Result<()> {
    if told.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(told.len());
    for (item, waiting) in told {
        let sealed = match waiting.secret {
            true => Some(sealed::seal(vault, waiting.body.as_bytes(), &sealed::of_outbox(item))?),
            false => None,
        };
        rows.push((
            item.as_str(),
            waiting.application_id.as_str(),
            waiting.to.url(),
            waiting.to.partner(),
            sealed.is_none().then_some(waiting.body.as_str()),
            sealed.as_ref().map(|sealed| sealed.key_id.clone()),
            sealed.as_ref().map(|sealed| row::hex(&sealed.bytes)),
        ));
    }
    let rows = row::text(&rows)?;
    sqlx::query(PUT).bind(rows).bind(micros(now)).execute(tx).await?;
    Ok(())
}

impl SqliteStore {
    pub(super) async fn take_webhooks(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<QueuedWebhook>> {
        let rows = self.take((DUE_WEBHOOKS, TAKE_WEBHOOKS), now, lease_until, limit).await?;
        let mut taken = Vec::with_capacity(rows.len());
        for row in &rows {
            match webhook(&*self.options.vault, row).map_err(StoreError::from) {
                Ok(webhook) => taken.push(webhook),
                // As below.
                Err(error) => {
                    let id: i64 = row.try_get("id")?;
                    tracing::error!(id, %error, "a webhook cannot be sent");
                }
            }
        }
        Ok(taken)
    }

    pub(super) async fn take_revocations(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        let rows = self.take((DUE_REVOCATIONS, TAKE_REVOCATIONS), now, lease_until, limit).await?;
        let mut taken = Vec::with_capacity(rows.len());
        for row in &rows {
            match self.revocation(row).map_err(StoreError::from) {
                Ok(revocation) => taken.push(revocation),
                // One whose key is lost waits until the key is back, and holds up no other.
                Err(error) => {
                    let id: i64 = row.try_get("id")?;
                    tracing::error!(id, %error, "tokens cannot be revoked at their partner");
                }
            }
        }
        Ok(taken)
    }

    /// Reads what is due and puts it off until the lease ends.
    async fn take(
        &self,
        (due, take): (&'static str, &'static str),
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<SqliteRow>> {
        // Most looks find nothing: they need no lock.
        let look = sqlx::query(due).bind(micros(now)).bind(rows_of(limit.min(1)));
        if look.fetch_optional(&self.readers).await?.is_none() {
            return Ok(Vec::new());
        }
        let mut tx = self.begin_passing().await?;
        let query = sqlx::query(due).bind(micros(now)).bind(rows_of(limit));
        let rows = query.fetch_all(&mut *tx).await?;
        if rows.is_empty() {
            return Ok(rows);
        }
        let ids = rows.iter().map(|row| row.try_get::<i64, _>("id"));
        let ids = row::text(&ids.collect::<std::result::Result<Vec<_>, _>>()?)?;
        sqlx::query(take).bind(ids).bind(micros(lease_until)).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(rows)
    }

    pub(super) async fn end_webhooks(&self, settlements: &[WebhookSettlement]) -> Result<()> {
        let (again, ended): (Vec<_>, Vec<_>) =
            settlements.iter().partition(|settled| settled.again_at.is_some());
        let rows = |settlements: Vec<&WebhookSettlement>| {
            let rows = settlements.iter();
            let rows =
                rows.map(|one| (one.webhook.id, one.webhook.attempt, one.again_at.map(micros)));
            row::text(&rows.collect::<Vec<_>>())
        };
        let (again, ended) = (rows(again)?, rows(ended)?);
        let mut tx = self.begin().await?;
        for (sql, rows) in [(DEFER, again), (END, ended)] {
            sqlx::query(sql).bind(rows).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn return_webhooks(
        &self,
        webhooks: &[(QueuedWebhook, DateTime<Utc>)],
    ) -> Result<()> {
        let rows = webhooks.iter().map(|(w, due_at)| (w.id, w.attempt, micros(*due_at)));
        let rows = row::text(&rows.collect::<Vec<_>>())?;
        let mut tx = self.begin_passing().await?;
        sqlx::query(RETURN).bind(rows).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn end_revocation(
        &self,
        revocation: &Revocation,
        again_at: Option<DateTime<Utc>>,
    ) -> Result<()> {
        let sql = match again_at {
            Some(_) => {
                "UPDATE revocations SET due_at = ?3, sent_until = NULL, whole_grant = 0 \
                 WHERE id = ?1 AND attempt = ?2"
            }
            None => "DELETE FROM revocations WHERE id = ?1 AND attempt = ?2 AND ?3 IS NULL",
        };
        let query = sqlx::query(sql).bind(revocation.id).bind(revocation.attempt);
        let mut tx = self.begin().await?;
        query.bind(again_at.map(micros)).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    fn revocation(&self, row: &SqliteRow) -> Result<Revocation> {
        let item: ItemId = row::parsed(row, "item_id")?;
        let opened = tokens::open(&*self.options.vault, &item, row)?;
        let place = (item, row::parsed(row, "institution_id")?, row::parsed(row, "user_id")?);
        let created_at = row::moment(row, "created_at")?;
        Ok(Revocation::new(row.try_get("id")?, place, opened, row.try_get("attempt")?, created_at))
    }
}

fn webhook(vault: &dyn Envelope, row: &SqliteRow) -> Result<QueuedWebhook> {
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
    Ok(QueuedWebhook::new(
        row.try_get("id")?,
        place,
        (to, body),
        created_at,
        row.try_get("attempt")?,
    ))
}
