//! Queues: webhooks, and tokens to be revoked.

use super::{
    SqliteStore,
    row::{self, Failure, Result, micros, rows_of},
    sealed, tokens,
};
use crate::{
    store::{
        Destination, QueuedWebhook, Revocation, StoreError, UNREADABLE_RETRY, WebhookSettlement,
        rules::{CoalescedWebhooks, OutboxEntry, UnsentWebhook, coalesce},
    },
    vault::Envelope,
};
use chrono::{DateTime, Utc};
use px_types::ItemId;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use std::collections::BTreeSet;

/// Numbers are assigned in the order of the rows, which is the order of sending.
const PUT: &str = "
INSERT INTO outbox (
    item_id, application_id, url, institution_id, body, key_id, sealed, attempt, created_at, due_at
)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
    unhex(value ->> 6), 0, ?2, ?2
FROM json_each(?1) ORDER BY key";

/// Reads the webhooks that new ones can be merged into.
pub(super) const UNSENT: &str = "
SELECT o.id, o.item_id, o.application_id, o.url, o.body
FROM json_each(?1) AS new CROSS JOIN outbox o
WHERE o.item_id = new.value ->> 0 AND o.application_id = new.value ->> 1
    AND o.url = new.value ->> 2 AND o.attempt = 0 AND o.body IS NOT NULL";

pub(super) const REWRITE: &str = "
UPDATE outbox SET body = new.value ->> 1
FROM json_each(?1) AS new WHERE outbox.id = new.value ->> 0";

pub(super) const DUE_WEBHOOKS: &str = "
SELECT id, item_id, application_id, url, institution_id, body, key_id, sealed, created_at,
    attempt + 1 AS attempt
FROM outbox WHERE due_at <= ?1 ORDER BY due_at, id LIMIT ?2";

pub(super) const TAKE_WEBHOOKS: &str = "
UPDATE outbox SET attempt = attempt + 1, due_at = ?2
WHERE id IN (SELECT value FROM json_each(?1))";

/// Returns rows to a queue as if they had not been claimed.
macro_rules! give_back {
    ($queue:literal) => {
        concat!(
            "UPDATE ",
            $queue,
            " AS q SET attempt = q.attempt - 1, due_at = given.due_at
            FROM (SELECT value ->> 0 AS id, value ->> 1 AS attempt, value ->> 2 AS due_at
                FROM json_each(?1)) AS given
            WHERE q.id = given.id AND q.attempt = given.attempt"
        )
    };
}

const RETURN_WEBHOOKS: &str = give_back!("outbox");
const RETURN_REVOCATIONS: &str = give_back!("revocations");

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

/// The statements of a queue, and the name of its messages.
struct Queue {
    due: &'static str,
    take: &'static str,
    back: &'static str,
    what: &'static str,
}

/// Adds entries to the outbox in the order of sending. Entries are merged into unsent ones where
/// possible.
pub(super) async fn put(
    tx: &mut SqliteConnection,
    vault: &dyn Envelope,
    entries: &[(&ItemId, OutboxEntry)],
    now: DateTime<Utc>,
) -> Result<()> {
    let unsent = unsent(tx, entries).await?;
    let CoalescedWebhooks { rewritten, added } = coalesce(unsent, entries.iter().cloned())?;
    if !rewritten.is_empty() {
        let rows: Vec<_> = rewritten.iter().map(|one| (one.id, one.body.as_str())).collect();
        sqlx::query(REWRITE).bind(row::text(&rows)?).execute(&mut *tx).await?;
    }
    if added.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(added.len());
    for (item, entry) in &added {
        let sealed = match entry.secret {
            true => Some(sealed::seal(vault, entry.body.as_bytes(), &sealed::of_outbox(item))?),
            false => None,
        };
        rows.push((
            item.as_str(),
            entry.application_id.as_str(),
            entry.to.url(),
            entry.to.partner(),
            sealed.is_none().then_some(entry.body.as_str()),
            sealed.as_ref().map(|sealed| sealed.key_id.clone()),
            sealed.as_ref().map(|sealed| row::hex(&sealed.bytes)),
        ));
    }
    let rows = row::text(&rows)?;
    sqlx::query(PUT).bind(rows).bind(micros(now)).execute(tx).await?;
    Ok(())
}

/// Reads the unsent webhooks to the same applications about the same Items.
async fn unsent(
    tx: &mut SqliteConnection,
    entries: &[(&ItemId, OutboxEntry)],
) -> Result<Vec<UnsentWebhook>> {
    let keys = entries.iter().filter_map(|(item, entry)| {
        Some((item.as_str(), entry.application_id.as_str(), entry.coalesces_at()?))
    });
    let keys: BTreeSet<_> = keys.collect();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(UNSENT).bind(row::text(&keys)?).fetch_all(&mut *tx).await?;
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

impl SqliteStore {
    pub(super) async fn take_webhooks(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<QueuedWebhook>> {
        let queue = Queue {
            due: DUE_WEBHOOKS,
            take: TAKE_WEBHOOKS,
            back: RETURN_WEBHOOKS,
            what: "webhook",
        };
        let vault = &*self.options.vault;
        self.take(queue, (now, lease_until), limit, |row| webhook(vault, row)).await
    }

    pub(super) async fn take_revocations(
        &self,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
        limit: usize,
    ) -> Result<Vec<Revocation>> {
        let queue = Queue {
            due: DUE_REVOCATIONS,
            take: TAKE_REVOCATIONS,
            back: RETURN_REVOCATIONS,
            what: "revocation",
        };
        self.take(queue, (now, lease_until), limit, |row| self.revocation(row)).await
    }

    /// Claims due messages. A message that cannot be read, because its key is lost, is returned for
    /// an hour, and another one is claimed instead.
    async fn take<T>(
        &self,
        queue: Queue,
        (now, lease_until): (DateTime<Utc>, DateTime<Utc>),
        limit: usize,
        read: impl Fn(&SqliteRow) -> Result<T>,
    ) -> Result<Vec<T>> {
        // Most polls find nothing and need no write lock.
        let poll = sqlx::query(queue.due).bind(micros(now)).bind(rows_of(limit.min(1)));
        if poll.fetch_optional(&self.readers).await?.is_none() {
            return Ok(Vec::new());
        }
        let mut tx = self.begin_transient().await?;
        let mut taken = Vec::new();
        while taken.len() < limit {
            let wanted = limit - taken.len();
            let query = sqlx::query(queue.due).bind(micros(now)).bind(rows_of(wanted));
            let rows = query.fetch_all(&mut *tx).await?;
            let mut ids = Vec::with_capacity(rows.len());
            let mut back = Vec::new();
            for row in &rows {
                let id: i64 = row.try_get("id")?;
                ids.push(id);
                match read(row) {
                    Ok(one) => taken.push(one),
                    Err(why) => {
                        row::unreadable(queue.what, id, StoreError::from(why));
                        let attempt: i64 = row.try_get("attempt")?;
                        back.push((id, attempt, micros(now + UNREADABLE_RETRY)));
                    }
                }
            }
            let query = sqlx::query(queue.take).bind(row::text(&ids)?).bind(micros(lease_until));
            query.execute(&mut *tx).await?;
            if !back.is_empty() {
                let back = row::text(&back)?;
                sqlx::query(queue.back).bind(back).execute(&mut *tx).await?;
            } else {
                break;
            }
            if rows.len() < wanted {
                break;
            }
        }
        tx.commit().await?;
        Ok(taken)
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
        let mut tx = self.begin_transient().await?;
        sqlx::query(RETURN_WEBHOOKS).bind(rows).execute(&mut *tx).await?;
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
        let ids = (item, row::parsed(row, "institution_id")?, row::parsed(row, "user_id")?);
        let created_at = row::moment(row, "created_at")?;
        Ok(Revocation::new(row.try_get("id")?, ids, opened, row.try_get("attempt")?, created_at))
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
    let ids = (item, row::parsed(row, "application_id")?);
    let created_at = row::moment(row, "created_at")?;
    Ok(QueuedWebhook::new(row.try_get("id")?, ids, (to, body), created_at, row.try_get("attempt")?))
}
