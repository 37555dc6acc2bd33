//! Who is connected. What a link makes of an Item is decided in `rules`; here it is stored.
//!
//! Locks are taken in one order: the user's key, the Item's row, and then what hangs on it.

use super::{
    PostgresStore, commit,
    failure::{Failure, Result},
    queues, row,
    time::Moment,
    tokens,
};
use crate::{
    connection::Connection,
    item::State,
    life::Life,
    merge::KnownAccount,
    store::{
        AccessDigest, Linked, NewHolder, NewLink, Unlinked,
        rules::{self, Joined, Tell, Tokens},
    },
};
use chrono::{DateTime, Utc};
use px_types::{AccountId, ApplicationId, InstitutionId, ItemId};
use sqlx::{PgConnection, Row as _};
use std::collections::BTreeMap;

/// Tables with nothing but rows of Items; the Item's own row goes last.
const DATA: [&str; 8] = [
    "DELETE FROM access WHERE item_id = $1",
    "DELETE FROM connections WHERE item_id = $1",
    "DELETE FROM tokens WHERE item_id = $1",
    "DELETE FROM outbox WHERE item_id = $1",
    "DELETE FROM accounts WHERE item_id = $1",
    "DELETE FROM identities WHERE item_id = $1",
    "DELETE FROM securities WHERE item_id = $1",
    "DELETE FROM transactions WHERE item_id = $1",
];

/// What a link has to know of an Item that is there.
struct Present {
    state: State,
    life: Life,
    epochs: u64,
}

impl PostgresStore {
    pub(super) async fn connect_holder(&self, new: &NewLink) -> Result<Linked> {
        let mut tx = self.pool.begin().await?;
        let linked = match lock_key(&mut tx, new).await? {
            None => self.create(&mut tx, new).await?,
            Some(item) => self.join(&mut tx, &item, new).await?,
        };
        tx.commit().await?;
        Ok(linked)
    }

    async fn create(&self, tx: &mut PgConnection, new: &NewLink) -> Result<Linked> {
        let item = &new.item_id;
        let connection = match &new.holder {
            NewHolder::Application(connection) => Some(connection),
            NewHolder::Partner => None,
        };
        let sql = "INSERT INTO items (item_id, institution_id, user_id, created_at, state, life, \
                   due_at, epochs, needs_transactions) VALUES ($1, $2, $3, $4, $5, $6, $4, $7, $8)";
        sqlx::query(sql)
            .bind(item.as_str())
            .bind(new.institution_id.as_str())
            .bind(new.user_id.as_str())
            .bind(Moment(new.now))
            .bind(State::Created.as_str())
            .bind(row::text(&Life::default())?)
            .bind(i64::from(connection.is_some()))
            .bind(connection.is_some_and(Connection::needs_transactions))
            .execute(&mut *tx)
            .await?;
        if let Some(connection) = connection {
            let connection = Connection { epoch: 0, ..connection.clone() };
            commit::write_connection(tx, item, &connection).await?;
        }
        tokens::put(tx, &*self.options.vault, item, &new.tokens).await?;
        give_access(tx, item, new).await?;
        Ok(Linked::new(item.clone(), true, false))
    }

    async fn join(&self, tx: &mut PgConnection, item: &ItemId, new: &NewLink) -> Result<Linked> {
        let Some(present) = lock_item(tx, item).await? else { return Err(Failure::Outrun) };
        give_access(tx, item, new).await?;
        let connections = commit::connections(&mut *tx, item).await?;
        let listed = listed(tx, item).await?;
        let which = rules::which_tokens(present.state, new, &connections, &listed);
        self.choose_tokens(tx, item, which, new).await?;
        let place = (present.state, &present.life);
        let joined = rules::join(place, &connections, present.epochs, new.holder.clone())?;
        let repaired = joined.repaired;
        self.join_as(tx, item, &joined, new.now).await?;
        Ok(Linked::new(item.clone(), false, repaired))
    }

    /// Stores the new tokens, or leaves the old ones; what is spent then is to be revoked.
    async fn choose_tokens(
        &self,
        tx: &mut PgConnection,
        item: &ItemId,
        which: Tokens,
        new: &NewLink,
    ) -> Result<()> {
        let vault = &*self.options.vault;
        let old = tokens::stored(&mut *tx, vault, item).await?.map(|(old, _)| old);
        let spent = match which {
            Tokens::New => {
                tokens::put(tx, vault, item, &new.tokens).await?;
                let sql = "UPDATE items SET cycle_tokens = false WHERE item_id = $1";
                sqlx::query(sql).bind(item.as_str()).execute(&mut *tx).await?;
                old.filter(|old| rules::outlived(old, &new.tokens))
            }
            Tokens::Old => {
                let other = old.is_none_or(|kept| rules::outlived(&new.tokens, &kept));
                other.then(|| new.tokens.clone())
            }
            Tokens::OldAlone => None,
        };
        if let Some(spent) = spent {
            tokens::revoke(tx, vault, (item, &new.institution_id), &spent, new.now).await?;
        }
        Ok(())
    }

    pub(super) async fn change_connection(
        &self,
        item: &ItemId,
        connection: &Connection,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let mut tx = self.pool.begin().await?;
        let Some(present) = lock_item(&mut tx, item).await? else { return Ok(false) };
        let connections = commit::connections(&mut *tx, item).await?;
        let mut others = connections.iter();
        if !others.any(|other| other.application_id == connection.application_id) {
            return Ok(false);
        }
        let place = (present.state, &present.life);
        let joined = rules::connect(place, &connections, present.epochs, connection.clone());
        self.join_as(&mut tx, item, &joined, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Stores what a link or a change of a connection makes of an Item, and tells it.
    async fn join_as(
        &self,
        tx: &mut PgConnection,
        item: &ItemId,
        joined: &Joined,
        now: DateTime<Utc>,
    ) -> Result<()> {
        if let Some(connection) = &joined.connection {
            commit::write_connection(tx, item, connection).await?;
        }
        let sql = "UPDATE items SET state = $2, epochs = epochs + $3, needs_transactions = $4, \
                   notified = notified + $5::int, due_at = CASE WHEN $5 AND leased_until IS NULL \
                   THEN least(due_at, greatest($6, not_before)) ELSE due_at END WHERE item_id = $1";
        sqlx::query(sql)
            .bind(item.as_str())
            .bind(joined.state.as_str())
            .bind(i64::from(joined.connection.is_some()))
            .bind(joined.needs_transactions)
            .bind(joined.due)
            .bind(Moment(now))
            .execute(&mut *tx)
            .await?;
        let counts = match joined.tell {
            Tell::Nothing => BTreeMap::new(),
            Tell::Recent | Tell::All => counts(tx, item).await?,
        };
        let connections = commit::connections(&mut *tx, item).await?;
        let place = (item, &self.options.environment);
        let told = joined.webhooks(place, &connections, counts)?;
        queues::put(tx, told.into_iter().map(|webhook| (item, webhook)).collect(), now).await
    }

    pub(super) async fn disconnect(
        &self,
        item: &ItemId,
        holder: Option<&ApplicationId>,
        now: DateTime<Utc>,
    ) -> Result<Unlinked> {
        let mut tx = self.pool.begin().await?;
        let sql = "SELECT i.institution_id FROM items i JOIN item_keys k \
                   ON k.institution_id = i.institution_id AND k.user_id = i.user_id \
                   WHERE i.item_id = $1 FOR UPDATE OF k";
        let row = sqlx::query(sql).bind(item.as_str()).fetch_optional(&mut *tx).await?;
        let Some(row) = row else { return Ok(Unlinked::NotConnected) };
        let institution: InstitutionId = row::parsed(&row, "institution_id")?;
        if lock_item(&mut tx, item).await?.is_none() || !leave(&mut tx, item, holder).await? {
            return Ok(Unlinked::NotConnected);
        }
        let connections = commit::connections(&mut *tx, item).await?;
        if connections.is_empty() {
            self.remove(&mut tx, (item, &institution), now).await?;
            tx.commit().await?;
            return Ok(Unlinked::ItemRemoved);
        }
        let needs = connections.iter().any(Connection::needs_transactions);
        let sql = "UPDATE items SET needs_transactions = $2 WHERE item_id = $1";
        sqlx::query(sql).bind(item.as_str()).bind(needs).execute(&mut *tx).await?;
        let sql = "DELETE FROM outbox WHERE item_id = $1 AND application_id = $2";
        let query = sqlx::query(sql).bind(item.as_str()).bind(holder.map(ApplicationId::as_str));
        query.execute(&mut *tx).await?;
        end_access(&mut tx, item, holder).await?;
        tx.commit().await?;
        Ok(Unlinked::OthersStay)
    }

    async fn remove(
        &self,
        tx: &mut PgConnection,
        (item, institution): (&ItemId, &InstitutionId),
        now: DateTime<Utc>,
    ) -> Result<()> {
        let vault = &*self.options.vault;
        if let Some((old, _)) = tokens::stored(&mut *tx, vault, item).await? {
            tokens::revoke(tx, vault, (item, institution), &old, now).await?;
        }
        let keys = "DELETE FROM item_keys k USING items i WHERE i.item_id = $1 \
                    AND k.institution_id = i.institution_id AND k.user_id = i.user_id";
        let items = "DELETE FROM items WHERE item_id = $1";
        for sql in DATA.into_iter().chain([keys, items]) {
            sqlx::query(sql).bind(item.as_str()).execute(&mut *tx).await?;
        }
        Ok(())
    }

    pub(super) async fn swap_access(&self, old: &AccessDigest, new: &AccessDigest) -> Result<bool> {
        // Not an UPDATE: the digest is what a sharded database would find the row by.
        let sql = "WITH old AS (DELETE FROM access WHERE digest = $1 \
                   RETURNING item_id, institution_id, application_id) \
                   INSERT INTO access (digest, item_id, institution_id, application_id) \
                   SELECT $2, * FROM old";
        let query = sqlx::query(sql).bind(&old.0[..]).bind(&new.0[..]);
        Ok(query.execute(&self.pool).await?.rows_affected() > 0)
    }
}

/// Locks the key of a user. `None`: there was none, and now it leads to the new Item.
async fn lock_key(tx: &mut PgConnection, new: &NewLink) -> Result<Option<ItemId>> {
    let (institution, user) = (new.institution_id.as_str(), new.user_id.as_str());
    let sql = "INSERT INTO item_keys (institution_id, user_id, item_id) VALUES ($1, $2, $3) \
               ON CONFLICT DO NOTHING";
    let query = sqlx::query(sql).bind(institution).bind(user).bind(new.item_id.as_str());
    if query.execute(&mut *tx).await?.rows_affected() > 0 {
        return Ok(None);
    }
    let sql = "SELECT item_id FROM item_keys WHERE institution_id = $1 AND user_id = $2 FOR UPDATE";
    let row = sqlx::query(sql).bind(institution).bind(user).fetch_optional(tx).await?;
    // It was there a moment ago.
    let row = row.ok_or(Failure::Outrun)?;
    row::parsed(&row, "item_id").map(Some)
}

async fn lock_item(tx: &mut PgConnection, item: &ItemId) -> Result<Option<Present>> {
    let sql = "SELECT state, life, epochs FROM items WHERE item_id = $1 FOR UPDATE";
    let row = sqlx::query(sql).bind(item.as_str()).fetch_optional(tx).await?;
    let Some(row) = row else { return Ok(None) };
    let state = State::from_name(row.try_get("state")?).ok_or_else(|| Failure::corrupt("state"))?;
    let epochs = row.try_get::<i64, _>("epochs")?.unsigned_abs();
    Ok(Some(Present { state, life: row::json(&row, "life")?, epochs }))
}

/// The partner's ids of the accounts that it lists.
async fn listed(tx: &mut PgConnection, item: &ItemId) -> Result<Vec<AccountId>> {
    let sql = "SELECT partner_id, standing, body FROM accounts WHERE item_id = $1 \
               ORDER BY account_id";
    let rows = sqlx::query(sql).bind(item.as_str()).fetch_all(tx).await?;
    let accounts = rows.iter().map(row::account).collect::<Result<Vec<_>>>()?;
    let listed = accounts.into_iter().filter(KnownAccount::is_present);
    Ok(listed.map(|known| known.partner_id).collect())
}

/// Takes a holder's connection away. `false`: it was not connected.
async fn leave(
    tx: &mut PgConnection,
    item: &ItemId,
    holder: Option<&ApplicationId>,
) -> Result<bool> {
    if let Some(application) = holder {
        let sql = "DELETE FROM connections WHERE item_id = $1 AND application_id = $2";
        let query = sqlx::query(sql).bind(item.as_str()).bind(application.as_str());
        return Ok(query.execute(tx).await?.rows_affected() > 0);
    }
    let sql = "SELECT 1 FROM access WHERE item_id = $1 AND application_id IS NULL";
    Ok(sqlx::query(sql).bind(item.as_str()).fetch_optional(tx).await?.is_some())
}

/// Gives a holder its token, and ends its earlier one.
async fn give_access(tx: &mut PgConnection, item: &ItemId, new: &NewLink) -> Result<()> {
    let holder = match &new.holder {
        NewHolder::Application(connection) => Some(&connection.application_id),
        NewHolder::Partner => None,
    };
    end_access(tx, item, holder).await?;
    let sql = "INSERT INTO access (digest, item_id, institution_id, application_id) \
               VALUES ($1, $2, $3, $4)";
    sqlx::query(sql)
        .bind(&new.access.0[..])
        .bind(item.as_str())
        .bind(new.institution_id.as_str())
        .bind(holder.map(ApplicationId::as_str))
        .execute(tx)
        .await?;
    Ok(())
}

async fn end_access(
    tx: &mut PgConnection,
    item: &ItemId,
    holder: Option<&ApplicationId>,
) -> Result<()> {
    let sql = "DELETE FROM access WHERE item_id = $1 AND application_id IS NOT DISTINCT FROM $2";
    let query = sqlx::query(sql).bind(item.as_str()).bind(holder.map(ApplicationId::as_str));
    query.execute(tx).await?;
    Ok(())
}

/// How many transactions each account has.
async fn counts(tx: &mut PgConnection, item: &ItemId) -> Result<BTreeMap<AccountId, u64>> {
    let sql = "SELECT account_id, count(*) AS rows FROM transactions \
               WHERE item_id = $1 AND removed_at IS NULL GROUP BY account_id";
    let rows = sqlx::query(sql).bind(item.as_str()).fetch_all(tx).await?;
    rows.iter()
        .map(|row| {
            let count = row.try_get::<i64, _>("rows")?.unsigned_abs();
            Ok((row::parsed(row, "account_id")?, count))
        })
        .collect()
}
