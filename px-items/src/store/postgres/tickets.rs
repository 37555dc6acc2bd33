//! Tickets.

use super::{
    PostgresStore,
    failure::{Failure, Result},
    links,
    reads::rows_of,
    row, sealed,
    time::Moment,
};
use crate::{
    store::{AccessDigest, PublicGrant, Ticket, TicketDigest, TicketKind},
    vault::Envelope,
};
use chrono::{DateTime, Utc};
use px_types::{ApplicationId, ItemId};
use sqlx::{Connection as _, PgConnection, PgExecutor, postgres::PgRow};

const TICKET: &str = "
SELECT expires_at, key_id, sealed FROM tickets
WHERE digest = $1 AND kind = $2 AND expires_at > $3";

const TAKE: &str = "
DELETE FROM tickets WHERE digest = $1 AND kind = $2 AND expires_at > $3
RETURNING expires_at, key_id, sealed";

const PURGE: &str = "
DELETE FROM tickets WHERE digest IN (
    SELECT digest FROM tickets WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2
    FOR UPDATE SKIP LOCKED
)";

/// The digest and kind of a ticket, and the present time.
type Name<'a> = (&'a TicketDigest, TicketKind, DateTime<Utc>);

impl PostgresStore {
    pub(super) async fn save_ticket(&self, db: &mut PgConnection, ticket: &Ticket) -> Result<()> {
        put(db, &*self.options.vault, ticket).await
    }

    pub(super) async fn read_ticket(
        &self,
        db: &mut PgConnection,
        name: Name<'_>,
    ) -> Result<Option<Ticket>> {
        self.find_ticket(&mut *db, TICKET, name).await
    }

    pub(super) async fn remove_ticket(
        &self,
        db: &mut PgConnection,
        name: Name<'_>,
    ) -> Result<Option<Ticket>> {
        let mut tx = db.begin().await?;
        // A ticket that cannot be opened is not taken.
        let taken = self.find_ticket(&mut *tx, TAKE, name).await?;
        tx.commit().await?;
        Ok(taken)
    }

    async fn find_ticket(
        &self,
        executor: impl PgExecutor<'_>,
        sql: &'static str,
        (digest, kind, now): Name<'_>,
    ) -> Result<Option<Ticket>> {
        let query = sqlx::query(sql).bind(&digest.0[..]).bind(kind.as_str()).bind(Moment(now));
        let row = query.fetch_optional(executor).await?;
        row.map(|row| ticket(&*self.options.vault, (digest, kind), &row)).transpose()
    }

    pub(super) async fn exchange_ticket(
        &self,
        db: &mut PgConnection,
        digest: &TicketDigest,
        application: &ApplicationId,
        new: &AccessDigest,
        now: DateTime<Utc>,
    ) -> Result<Option<ItemId>> {
        let mut tx = db.begin().await?;
        let name = (digest, TicketKind::Public, now);
        let Some(ticket) = self.find_ticket(&mut *tx, TAKE, name).await? else { return Ok(None) };
        let grant = serde_json::from_slice::<PublicGrant>(&ticket.payload);
        let grant = grant.map_err(|_| Failure::corrupt("ticket"))?;
        // Without a commit the ticket is not taken.
        if grant.application_id != *application
            || !links::set_access(&mut tx, &grant.item_id, Some(application), new).await?
        {
            return Ok(None);
        }
        tx.commit().await?;
        Ok(Some(grant.item_id))
    }

    pub(super) async fn clear_tickets(
        &self,
        db: &mut PgConnection,
        now: DateTime<Utc>,
        limit: usize,
    ) -> Result<u64> {
        let query = sqlx::query(PURGE).bind(Moment(now)).bind(rows_of(limit));
        Ok(query.execute(&mut *db).await?.rows_affected())
    }
}

/// Stores a ticket. It replaces a ticket of the same token.
pub(super) async fn put(
    tx: &mut PgConnection,
    vault: &dyn Envelope,
    ticket: &Ticket,
) -> Result<()> {
    let sealed = sealed::seal(vault, &ticket.payload, &sealed::of_ticket(&ticket.digest))?;
    let sql = "INSERT INTO tickets (digest, kind, expires_at, key_id, sealed) \
               VALUES ($1, $2, $3, $4, $5) ON CONFLICT (digest) DO UPDATE SET \
               kind = excluded.kind, expires_at = excluded.expires_at, key_id = excluded.key_id, \
               sealed = excluded.sealed";
    sqlx::query(sql)
        .bind(&ticket.digest.0[..])
        .bind(ticket.kind.as_str())
        .bind(Moment(ticket.expires_at))
        .bind(sealed.key_id)
        .bind(sealed.bytes)
        .execute(tx)
        .await?;
    Ok(())
}

fn ticket(
    vault: &dyn Envelope,
    (digest, kind): (&TicketDigest, TicketKind),
    row: &PgRow,
) -> Result<Ticket> {
    let payload = sealed::open(vault, row, &sealed::of_ticket(digest))?;
    Ok(Ticket::new(*digest, kind, payload, row::moment(row, "expires_at")?))
}
