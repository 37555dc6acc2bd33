//! Tickets.

use super::{
    SqliteStore, links,
    row::{self, Result, micros, rows_of},
    sealed,
};
use crate::{
    store::{AccessDigest, PublicGrant, Ticket, TicketDigest, TicketKind},
    vault::Envelope,
};
use chrono::{DateTime, Utc};
use px_types::{ApplicationId, ItemId};
use sqlx::{SqliteConnection, SqliteExecutor, sqlite::SqliteRow};

pub(super) const TICKET: &str = "
SELECT expires_at, key_id, sealed FROM tickets
WHERE digest = ?1 AND kind = ?2 AND expires_at > ?3";

pub(super) const TAKE: &str = "
DELETE FROM tickets WHERE digest = ?1 AND kind = ?2 AND expires_at > ?3
RETURNING expires_at, key_id, sealed";

pub(super) const PURGE: &str = "
DELETE FROM tickets WHERE digest IN (
    SELECT digest FROM tickets WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2
)";

/// The digest and kind of a ticket, and the present time.
type Name<'a> = (&'a TicketDigest, TicketKind, DateTime<Utc>);

impl SqliteStore {
    pub(super) async fn save_ticket(&self, ticket: &Ticket) -> Result<()> {
        let mut tx = self.begin().await?;
        put(&mut tx, &*self.options.vault, ticket).await?;
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn read_ticket(&self, name: Name<'_>) -> Result<Option<Ticket>> {
        self.find_ticket(&self.readers, TICKET, name).await
    }

    pub(super) async fn remove_ticket(&self, name: Name<'_>) -> Result<Option<Ticket>> {
        let mut tx = self.begin().await?;
        let taken = self.find_ticket(&mut *tx, TAKE, name).await?;
        tx.commit().await?;
        Ok(taken)
    }

    async fn find_ticket(
        &self,
        executor: impl SqliteExecutor<'_>,
        sql: &'static str,
        (digest, kind, now): Name<'_>,
    ) -> Result<Option<Ticket>> {
        let query = sqlx::query(sql).bind(&digest.0[..]).bind(kind.as_str()).bind(micros(now));
        let row = query.fetch_optional(executor).await?;
        row.map(|row| ticket(&*self.options.vault, (digest, kind), &row)).transpose()
    }

    pub(super) async fn exchange_ticket(
        &self,
        digest: &TicketDigest,
        application: &ApplicationId,
        new: &AccessDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<ItemId>> {
        let mut tx = self.begin().await?;
        let name = (digest, TicketKind::Public, now);
        let Some(ticket) = self.find_ticket(&mut *tx, TAKE, name).await? else { return Ok(None) };
        let grant = serde_json::from_slice::<PublicGrant>(&ticket.payload);
        let grant = grant.map_err(|_| row::Failure::corrupt("ticket"))?;
        // Without a commit the ticket is not taken.
        if grant.application_id != *application
            || !links::set_access(&mut tx, &grant.item_id, Some(application), new).await?
        {
            return Ok(None);
        }
        tx.commit().await?;
        Ok(Some(grant.item_id))
    }

    pub(super) async fn clear_tickets(&self, now: DateTime<Utc>, limit: usize) -> Result<u64> {
        // Most polls find nothing and need no write lock.
        let sql = "SELECT 1 FROM tickets WHERE expires_at <= ?1 LIMIT 1";
        let poll = sqlx::query(sql).bind(micros(now)).fetch_optional(&self.readers).await?;
        if poll.is_none() {
            return Ok(0);
        }
        let query = sqlx::query(PURGE).bind(micros(now)).bind(rows_of(limit));
        let mut tx = self.begin_transient().await?;
        let purged = query.execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        Ok(purged)
    }
}

/// Stores a ticket. It replaces a ticket of the same token.
pub(super) async fn put(
    tx: &mut SqliteConnection,
    vault: &dyn Envelope,
    ticket: &Ticket,
) -> Result<()> {
    let sealed = sealed::seal(vault, &ticket.payload, &sealed::of_ticket(&ticket.digest))?;
    let sql = "INSERT OR REPLACE INTO tickets (digest, kind, expires_at, key_id, sealed) \
               VALUES (?1, ?2, ?3, ?4, ?5)";
    sqlx::query(sql)
        .bind(&ticket.digest.0[..])
        .bind(ticket.kind.as_str())
        .bind(micros(ticket.expires_at))
        .bind(sealed.key_id)
        .bind(sealed.bytes)
        .execute(tx)
        .await?;
    Ok(())
}

fn ticket(
    vault: &dyn Envelope,
    (digest, kind): (&TicketDigest, TicketKind),
    row: &SqliteRow,
) -> Result<Ticket> {
    let payload = sealed::open(vault, row, &sealed::of_ticket(digest))?;
    Ok(Ticket::new(*digest, kind, payload, row::moment(row, "expires_at")?))
}
