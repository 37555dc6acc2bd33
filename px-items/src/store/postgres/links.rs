//! Connections. `rules` decides the effects of a link; this module stores them.
//!
//! Locks are taken in a fixed order: the user's key, the Item's row, then dependent rows.

use super::{
    PostgresStore, commit,
    failure::{Failure, Result},
    purge, queues, row,
    time::Moment,
    tokens,
};
use crate::{
    connection::Connection,
    item::State,
    merge::KnownAccount,
    store::{
        AccessDigest, Changed, ConnectionChange, Disconnection, Linked, NewHolder, NewLink,
        StoreError, StoreErrorKind, Unlinked,
        digests::DigestKey,
        rules::{self, HistoryNotice, ItemContext, JoinOutcome, TokenChoice},
    },
    sync_state::SyncState,
};
use chrono::{DateTime, Utc};
use px_client::oauth::TokenSet;
use px_types::{AccountId, ApplicationId, InstitutionId, ItemId, UserId, webhook::Environment};
use sqlx::{Connection as _, PgConnection, Row as _};
use std::collections::BTreeMap;

/// Deletes an Item's rows from the tables that contain nothing else. The Item's own row is deleted
/// last.
const DATA: [&str; 11] = [
    "DELETE FROM access WHERE item_id = $1",
    "DELETE FROM connections WHERE item_id = $1",
    "DELETE FROM tokens WHERE item_id = $1",
    // Messages to the partner are sent even though the Item is removed.
    "DELETE FROM outbox WHERE item_id = $1 AND institution_id IS NULL",
    "DELETE FROM activities WHERE item_id = $1",
    "DELETE FROM reads WHERE item_id = $1",
    "DELETE FROM reviews WHERE item_id = $1",
    "DELETE FROM moved WHERE item_id = $1",
    "DELETE FROM accounts WHERE item_id = $1",
    "DELETE FROM identities WHERE item_id = $1",
    "DELETE FROM securities WHERE item_id = $1",
];

/// The data of an existing Item that a change depends on.
struct Present {
    institution: InstitutionId,
    user: UserId,
    state: State,
    sync_state: SyncState,
    epochs: u64,
    connections: Vec<Connection>,
    known: Vec<KnownAccount>,
}

impl PostgresStore {
    pub(super) async fn connect_holder(
        &self,
        db: &mut PgConnection,
        new: &NewLink,
    ) -> Result<Linked> {
        let key = self.digest_key(db).await?;
        let mut tx = db.begin().await?;
        let present = lock_key(&mut tx, new).await?;
        if let Some(tokens) = &new.tokens {
            let digests = key.of(&new.institution_id, tokens);
            tokens::cancel_revocations(&mut tx, new, &digests).await?;
        }
        let linked = match present {
            None => self.create(&mut tx, new, key).await?,
            Some(item) if new.tokens.is_none() && item != new.item_id => {
                return Err(StoreError::no_item().into());
            }
            Some(item) => self.join(&mut tx, &item, new, key).await?,
        };
        tx.commit().await?;
        Ok(linked)
    }

    async fn create(
        &self,
        tx: &mut PgConnection,
        new: &NewLink,
        key: &DigestKey,
    ) -> Result<Linked> {
        let item = &new.item_id;
        let tokens = new.tokens.as_ref().ok_or_else(StoreError::no_item)?;
        let connection = match &new.holder {
            NewHolder::Application(connection) => {
                Some(Connection { epoch: 0, ..connection.clone() })
            }
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
            .bind(row::text(&SyncState::default())?)
            .bind(i64::from(connection.is_some()))
            .bind(connection.as_ref().is_some_and(Connection::needs_transactions))
            .execute(&mut *tx)
            .await?;
        purge::end(tx, item).await?;
        if let Some(connection) = &connection {
            commit::write_connection(tx, item, connection).await?;
        }
        let digests = key.of(&new.institution_id, tokens);
        tokens::put(tx, &*self.options.vault, item, (tokens, &digests)).await?;
        let context = ItemContext {
            item,
            institution: &new.institution_id,
            user: &new.user_id,
            known: &[],
            environment: &self.options.environment,
        };
        let effects = rules::link_effects(new, context, (connection.as_ref(), true))?;
        self.write_side_effects(tx, (item, false), effects, new.now).await?;
        set_link_access(tx, item, new).await?;
        Ok(Linked::new(item.clone(), true, false))
    }

    async fn join(
        &self,
        tx: &mut PgConnection,
        item: &ItemId,
        new: &NewLink,
        key: &DigestKey,
    ) -> Result<Linked> {
        let Some(present) = present(tx, item).await? else { return Err(Failure::RowVanished) };
        let listed = present.known.iter().filter(|known| known.is_present());
        let listed: Vec<_> = listed.map(|known| known.partner_id.clone()).collect();
        let which = rules::choose_tokens(present.state, new, &present.connections, &listed);
        if let Some(tokens) = &new.tokens {
            self.apply_token_choice(tx, (item, which), tokens, (new, key)).await?;
        }
        let connections = (present.connections.as_slice(), present.epochs);
        let joined = rules::join(present.state_and_life(), connections, &present.known, new)?;
        let link = (joined.connection.as_ref(), joined.is_new);
        let effects =
            rules::link_effects(new, present.context(item, &self.options.environment), link)?;
        set_link_access(tx, item, new).await?;
        self.store_join(tx, item, &joined, new.now).await?;
        self.write_side_effects(tx, (item, false), effects, new.now).await?;
        Ok(Linked::new(item.clone(), false, joined.repaired))
    }

    /// Stores the new tokens or keeps the old ones, and queues the unused ones for revocation.
    async fn apply_token_choice(
        &self,
        tx: &mut PgConnection,
        (item, which): (&ItemId, TokenChoice),
        tokens: &TokenSet,
        (new, key): (&NewLink, &DigestKey),
    ) -> Result<()> {
        let vault = &*self.options.vault;
        let old = match tokens::stored(&mut *tx, vault, item).await {
            Ok(old) => old.map(|(old, _)| old),
            // Their key is lost. This must not prevent a user from authorizing again.
            Err(Failure::Store(error)) if error.kind() == StoreErrorKind::Corrupt => {
                row::unreadable("tokens", item, error);
                None
            }
            Err(failure) => return Err(failure),
        };
        let spent = match which {
            TokenChoice::New => {
                let digests = key.of(&new.institution_id, tokens);
                tokens::put(tx, vault, item, (tokens, &digests)).await?;
                let sql = "UPDATE items SET cycle_tokens = false, refresh_begun_at = NULL \
                           WHERE item_id = $1";
                sqlx::query(sql).bind(item.as_str()).execute(&mut *tx).await?;
                old.filter(|old| rules::is_revocable(old, tokens))
            }
            TokenChoice::Old => {
                let other = old.is_none_or(|old| rules::is_revocable(tokens, &old));
                other.then(|| tokens.clone())
            }
            TokenChoice::OldOnly => None,
        };
        if let Some(spent) = spent {
            let digests = key.of(&new.institution_id, &spent);
            let ids = (item, &new.institution_id, &new.user_id);
            tokens::revoke(tx, vault, ids, (&spent, &digests), new.now).await?;
        }
        Ok(())
    }

    pub(super) async fn change_connection(
        &self,
        db: &mut PgConnection,
        change: &ConnectionChange,
    ) -> Result<Changed> {
        let mut tx = db.begin().await?;
        let item = &change.item_id;
        let Some(present) = present(&mut tx, item).await? else {
            return Ok(Changed::NotConnected);
        };
        let connections = (present.connections.as_slice(), present.epochs);
        let changed = rules::change(change, present.state_and_life(), connections, &present.known);
        let (old, joined) = match changed {
            Ok(changed) => changed,
            Err(refused) => return Ok(refused),
        };
        let context = present.context(item, &self.options.environment);
        let effects = rules::change_effects(change, context, (&old, &joined))?;
        self.store_join(&mut tx, item, &joined, change.now).await?;
        self.write_side_effects(&mut tx, (item, false), effects, change.now).await?;
        tx.commit().await?;
        Ok(Changed::Done)
    }

    /// Stores the outcome of a link or a change of a connection, and queues the webhooks about it.
    async fn store_join(
        &self,
        tx: &mut PgConnection,
        item: &ItemId,
        joined: &JoinOutcome,
        now: DateTime<Utc>,
    ) -> Result<()> {
        if let Some(connection) = &joined.connection {
            commit::write_connection(tx, item, connection).await?;
        }
        let connections = commit::connections(&mut *tx, item).await?;
        let unreadable = count_connections(tx, item).await? > connections.len();
        let sql = "UPDATE items SET state = $2, epochs = epochs + $3, needs_transactions = $4, \
                   notified = notified + $5::int, due_at = CASE WHEN $5 AND leased_until IS NULL \
                   THEN least(due_at, greatest($6, not_before)) ELSE due_at END WHERE item_id = $1";
        sqlx::query(sql)
            .bind(item.as_str())
            .bind(joined.state.as_str())
            .bind(i64::from(joined.connection.is_some()))
            .bind(joined.needs_transactions || unreadable)
            .bind(joined.due)
            .bind(Moment(now))
            .execute(&mut *tx)
            .await?;
        let counts = match joined.history_notice {
            HistoryNotice::None => BTreeMap::new(),
            HistoryNotice::Recent | HistoryNotice::All => counts(tx, item).await?,
        };
        let context = (item, &self.options.environment);
        let entries = joined.webhooks(context, &connections, counts)?;
        let entries = entries.into_iter().map(|webhook| (item, webhook));
        queues::put(tx, &*self.options.vault, entries.collect(), now).await
    }

    /// Disconnects an application or the partner. Also returns whether rows of the Item remain to
    /// be deleted.
    pub(super) async fn disconnect(
        &self,
        db: &mut PgConnection,
        leave: &Disconnection,
    ) -> Result<(Unlinked, bool)> {
        let mut tx = db.begin().await?;
        let (item, holder) = (&leave.item_id, leave.application_id.as_ref());
        let sql = "SELECT 1 FROM items i JOIN item_keys k \
                   ON k.institution_id = i.institution_id AND k.user_id = i.user_id \
                   WHERE i.item_id = $1 FOR UPDATE OF k";
        let key = sqlx::query(sql).bind(item.as_str()).fetch_optional(&mut *tx).await?;
        if key.is_none() {
            return Ok((Unlinked::NotConnected, false));
        }
        let Some(present) = present(&mut tx, item).await? else {
            return Ok((Unlinked::NotConnected, false));
        };
        if !delete_connection(&mut tx, item, holder).await? {
            return Ok((Unlinked::NotConnected, false));
        }
        let (theirs, others): (Vec<_>, Vec<_>) =
            present.connections.iter().partition(|one| Some(&one.application_id) == holder);
        let context = present.context(item, &self.options.environment);
        let effects = rules::leave_effects(leave, context, theirs.first().copied())?;
        // Connections that cannot be read count as well.
        let left = count_connections(&mut tx, item).await?;
        let (gone, mut more) = (left == 0, false);
        if gone {
            let ids = (item, &present.institution, &present.user);
            more = self.remove(&mut tx, ids, leave.now).await?;
        } else {
            let unreadable = left > others.len();
            let needs = unreadable || others.iter().any(|one| one.needs_transactions());
            let sql = "UPDATE items SET needs_transactions = $2 WHERE item_id = $1";
            sqlx::query(sql).bind(item.as_str()).bind(needs).execute(&mut *tx).await?;
            let sql = "DELETE FROM outbox WHERE item_id = $1 AND application_id = $2 \
                       AND institution_id IS NULL";
            let query = sqlx::query(sql).bind(item.as_str());
            query.bind(holder.map(ApplicationId::as_str)).execute(&mut *tx).await?;
            end_access(&mut tx, item, holder).await?;
        }
        self.write_side_effects(&mut tx, (item, gone), effects, leave.now).await?;
        tx.commit().await?;
        Ok((if gone { Unlinked::ItemRemoved } else { Unlinked::OthersStay }, more))
    }

    pub(super) async fn grant_access(
        &self,
        db: &mut PgConnection,
        item: &ItemId,
        holder: Option<&ApplicationId>,
        new: &AccessDigest,
    ) -> Result<bool> {
        let mut tx = db.begin().await?;
        let given = set_access(&mut tx, item, holder, new).await?;
        tx.commit().await?;
        Ok(given)
    }

    async fn remove(
        &self,
        tx: &mut PgConnection,
        (item, institution, user): (&ItemId, &InstitutionId, &UserId),
        now: DateTime<Utc>,
    ) -> Result<bool> {
        tokens::revoke_stored(tx, (item, institution, user), now).await?;
        let keys = "DELETE FROM item_keys k USING items i WHERE i.item_id = $1 \
                    AND k.institution_id = i.institution_id AND k.user_id = i.user_id";
        let items = "DELETE FROM items WHERE item_id = $1";
        for sql in DATA.into_iter().chain([keys, items]) {
            sqlx::query(sql).bind(item.as_str()).execute(&mut *tx).await?;
        }
        purge::begin(tx, item).await
    }

    pub(super) async fn swap_access(
        &self,
        db: &mut PgConnection,
        old: &AccessDigest,
        new: &AccessDigest,
    ) -> Result<bool> {
        let mut tx = db.begin().await?;
        let sql = "SELECT item_id FROM access WHERE digest = $1";
        let row = sqlx::query(sql).bind(&old.0[..]).fetch_optional(&mut *tx).await?;
        let Some(row) = row else { return Ok(false) };
        // Without the Item's lock, a concurrent disconnection might not see the new token.
        if lock_item(&mut tx, &row::parsed(&row, "item_id")?).await?.is_none() {
            return Ok(false);
        }
        // Not an UPDATE, because the digest is the sharding key of a distributed database.
        let sql = "WITH old AS (DELETE FROM access WHERE digest = $1 \
                   RETURNING item_id, institution_id, application_id) \
                   INSERT INTO access (digest, item_id, institution_id, application_id) \
                   SELECT $2, * FROM old";
        let query = sqlx::query(sql).bind(&old.0[..]).bind(&new.0[..]);
        let replaced = query.execute(&mut *tx).await?.rows_affected() > 0;
        tx.commit().await?;
        Ok(replaced)
    }
}

/// Locks the key of a user. Returns `None` if there was none; then it refers to the new Item.
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
    // It existed a moment ago.
    let row = row.ok_or(Failure::RowVanished)?;
    row::parsed(&row, "item_id").map(Some)
}

impl Present {
    fn state_and_life(&self) -> (State, &SyncState) {
        (self.state, &self.sync_state)
    }

    fn context<'a>(&'a self, item: &'a ItemId, environment: &'a Environment) -> ItemContext<'a> {
        let (institution, user, known) = (&self.institution, &self.user, &self.known);
        ItemContext { item, institution, user, known, environment }
    }
}

/// Locks an Item, and reads the data that a change depends on.
async fn present(tx: &mut PgConnection, item: &ItemId) -> Result<Option<Present>> {
    let sql = "SELECT institution_id, user_id, state, life, epochs FROM items WHERE item_id = $1 \
               FOR UPDATE";
    let row = sqlx::query(sql).bind(item.as_str()).fetch_optional(&mut *tx).await?;
    let Some(row) = row else { return Ok(None) };
    let state = State::from_name(row.try_get("state")?).ok_or_else(|| Failure::corrupt("state"))?;
    Ok(Some(Present {
        institution: row::parsed(&row, "institution_id")?,
        user: row::parsed(&row, "user_id")?,
        state,
        sync_state: row::record(&row, "life")?,
        epochs: row.try_get::<i64, _>("epochs")?.unsigned_abs(),
        connections: commit::connections(&mut *tx, item).await?,
        known: known(tx, item).await?,
    }))
}

/// Returns all accounts of an Item.
async fn known(tx: &mut PgConnection, item: &ItemId) -> Result<Vec<KnownAccount>> {
    let sql = "SELECT partner_id, standing, body FROM accounts WHERE item_id = $1 \
               ORDER BY account_id";
    let rows = sqlx::query(sql).bind(item.as_str()).fetch_all(tx).await?;
    rows.iter().map(row::account).collect()
}

/// Deletes a connection. Returns `false` if it does not exist.
async fn delete_connection(
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

/// Returns the number of connections, including those that this version cannot read.
async fn count_connections(tx: &mut PgConnection, item: &ItemId) -> Result<usize> {
    let sql = "SELECT count(*) FROM connections WHERE item_id = $1";
    let count: i64 = sqlx::query_scalar(sql).bind(item.as_str()).fetch_one(tx).await?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// Sets the access token of the application or partner that links, if the link brings one.
async fn set_link_access(tx: &mut PgConnection, item: &ItemId, new: &NewLink) -> Result<()> {
    match &new.access {
        Some(access) => {
            put_access(tx, (item, &new.institution_id), new.application(), access).await
        }
        None => Ok(()),
    }
}

/// Locks an Item and returns its institution.
async fn lock_item(tx: &mut PgConnection, item: &ItemId) -> Result<Option<InstitutionId>> {
    let sql = "SELECT institution_id FROM items WHERE item_id = $1 FOR UPDATE";
    let row = sqlx::query(sql).bind(item.as_str()).fetch_optional(tx).await?;
    row.map(|row| row::parsed(&row, "institution_id")).transpose()
}

/// Sets an access token. Returns `false` if the application is not connected or the Item does not
/// exist.
pub(super) async fn set_access(
    tx: &mut PgConnection,
    item: &ItemId,
    holder: Option<&ApplicationId>,
    new: &AccessDigest,
) -> Result<bool> {
    let Some(institution) = lock_item(tx, item).await? else { return Ok(false) };
    if let Some(application) = holder {
        let sql = "SELECT 1 FROM connections WHERE item_id = $1 AND application_id = $2";
        let query = sqlx::query(sql).bind(item.as_str()).bind(application.as_str());
        if query.fetch_optional(&mut *tx).await?.is_none() {
            return Ok(false);
        }
    }
    put_access(tx, (item, &institution), holder, new).await?;
    Ok(true)
}

/// Sets an access token. The earlier one becomes invalid.
async fn put_access(
    tx: &mut PgConnection,
    (item, institution): (&ItemId, &InstitutionId),
    holder: Option<&ApplicationId>,
    new: &AccessDigest,
) -> Result<()> {
    end_access(tx, item, holder).await?;
    let sql = "INSERT INTO access (digest, item_id, institution_id, application_id) \
               VALUES ($1, $2, $3, $4)";
    sqlx::query(sql)
        .bind(&new.0[..])
        .bind(item.as_str())
        .bind(institution.as_str())
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

/// Returns the number of transactions of each account.
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
