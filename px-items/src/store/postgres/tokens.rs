//! The partners' tokens, sealed.

use super::{
    PostgresStore,
    failure::{Failure, Result},
    row, sealed,
    time::Moment,
};
use crate::{
    store::{
        LostTokens, NewLink, RevocationDecision, RevocationStart, StoreError,
        digests::{DigestKey, KEY_NAME, MAX_TRIES, TokenDigests, key_name},
    },
    vault::{Envelope, Sealed},
};
use chrono::{DateTime, Utc};
use px_client::oauth::TokenSet;
use px_core::SystemRandom;
use px_types::{InstitutionId, ItemId, UserId};
use sqlx::{Connection as _, PgConnection, PgExecutor, Row as _, postgres::PgRow};
use zeroize::Zeroizing;

impl PostgresStore {
    pub(super) async fn read_tokens(
        &self,
        db: &mut PgConnection,
        item: &ItemId,
    ) -> Result<Option<(TokenSet, u64)>> {
        stored(&mut *db, &*self.options.vault, item).await
    }

    pub(super) async fn replace_tokens(
        &self,
        db: &mut PgConnection,
        item: &ItemId,
        version: u64,
        tokens: &TokenSet,
    ) -> Result<bool> {
        let sealed = seal(&*self.options.vault, item, tokens)?;
        let key = self.digest_key(db).await?;
        let mut tx = db.begin().await?;
        // The Item's row comes first, as in every change of an Item.
        let sql = "UPDATE items SET cycle_tokens = false, refresh_begun_at = NULL \
                   WHERE item_id = $1 RETURNING institution_id";
        let row = sqlx::query(sql).bind(item.as_str()).fetch_optional(&mut *tx).await?;
        let Some(row) = row else { return Ok(false) };
        let digests = key.of(&row::parsed(&row, "institution_id")?, tokens);
        let sql = "UPDATE tokens SET version = version + 1, key_id = $3, sealed = $4, \
                   access_mac = $5, refresh_mac = $6 \
                   WHERE item_id = $1 AND version = $2 AND sealed IS NOT NULL";
        let query = sqlx::query(sql).bind(item.as_str());
        let query = query.bind(i64::try_from(version).unwrap_or(-1));
        let query = query.bind(sealed.key_id).bind(sealed.bytes);
        let query = query.bind(digests.access).bind(digests.refresh);
        if query.execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }

    pub(super) async fn record_refresh(
        &self,
        db: &mut PgConnection,
        item: &ItemId,
        version: u64,
        begun_at: Option<DateTime<Utc>>,
    ) -> Result<bool> {
        // With $3 an earlier time stays; without it the record is deleted. If a link commits while
        // this waits for the row, the record may refer to its tokens; the only consequence is one
        // additional refresh.
        let sql = "UPDATE items SET refresh_begun_at = \
                   CASE WHEN $3::timestamptz IS NULL THEN NULL ELSE coalesce(refresh_begun_at, $3) \
                   END WHERE item_id = $1 AND EXISTS (SELECT 1 FROM tokens \
                   WHERE item_id = $1 AND version = $2 AND sealed IS NOT NULL)";
        let query = sqlx::query(sql).bind(item.as_str());
        let query = query.bind(i64::try_from(version).unwrap_or(-1)).bind(begun_at.map(Moment));
        Ok(query.execute(&mut *db).await?.rows_affected() > 0)
    }

    /// Returns the key of the token digests, which is created when it is first needed.
    pub(super) async fn digest_key(&self, db: &mut PgConnection) -> Result<&DigestKey> {
        self.digest_key.get_or_try_init(|| self.load_digest_key(db)).await
    }

    async fn load_digest_key(&self, db: &mut PgConnection) -> Result<DigestKey> {
        let vault = &*self.options.vault;
        let sql = "SELECT name, key_id, sealed FROM secrets WHERE name LIKE $1 \
                   ORDER BY length(name) DESC, name DESC";
        let mut tries = 0;
        loop {
            let query = sqlx::query(sql).bind(format!("{KEY_NAME}%"));
            let rows = query.fetch_all(&mut *db).await?;
            for row in &rows {
                if let Ok(bytes) = sealed::open(vault, row, row.try_get("name")?) {
                    return Ok(DigestKey::new(&bytes));
                }
            }
            tries += 1;
            if tries > MAX_TRIES {
                return Err(Failure::corrupt("secret"));
            }
            let name = key_name(rows.len());
            let sealed = sealed::seal(vault, &DigestKey::draw(&SystemRandom), &name)?;
            // If another machine was faster, its key is used.
            let sql = "INSERT INTO secrets (name, key_id, sealed) VALUES ($1, $2, $3) \
                       ON CONFLICT DO NOTHING";
            let query = sqlx::query(sql).bind(name).bind(sealed.key_id).bind(sealed.bytes);
            query.execute(&mut *db).await?;
        }
    }

    pub(super) async fn start_revocation(
        &self,
        db: &mut PgConnection,
        start: RevocationStart<'_>,
    ) -> Result<RevocationDecision> {
        let revocation = start.revocation;
        let mut tx = db.begin().await?;
        let sql = "SELECT access_mac, refresh_mac FROM revocations \
                   WHERE item_id = $1 AND id = $2 AND attempt = $3 FOR UPDATE";
        let query = sqlx::query(sql).bind(revocation.item_id.as_str()).bind(revocation.id);
        let query = query.bind(i32::try_from(revocation.attempt).unwrap_or(i32::MAX));
        let Some(row) = query.fetch_optional(&mut *tx).await? else {
            return Ok(RevocationDecision::Gone);
        };
        // A link that brings one of these tokens waits for the lock of the row that is held here.
        let sql = "SELECT EXISTS (SELECT 1 FROM tokens WHERE access_mac = $1) \
                   OR EXISTS (SELECT 1 FROM tokens WHERE refresh_mac = $2) \
                   OR ($3 AND EXISTS (SELECT 1 FROM item_keys k \
                       JOIN tokens t ON t.item_id = k.item_id AND t.sealed IS NOT NULL \
                       WHERE k.institution_id = $4 AND k.user_id = $5)) AS in_use";
        let in_use: bool = sqlx::query(sql)
            .bind(row.try_get::<&[u8], _>("access_mac")?)
            .bind(row.try_get::<Option<&[u8]>, _>("refresh_mac")?)
            .bind(start.ends_grant)
            .bind(revocation.institution_id.as_str())
            .bind(revocation.user_id.as_str())
            .fetch_one(&mut *tx)
            .await?
            .try_get("in_use")?;
        if in_use {
            let sql = "DELETE FROM revocations WHERE item_id = $1 AND id = $2";
            let query = sqlx::query(sql).bind(revocation.item_id.as_str()).bind(revocation.id);
            query.execute(&mut *tx).await?;
        } else {
            let sql = "UPDATE revocations SET sent_until = $3, whole_grant = $4 \
                       WHERE item_id = $1 AND id = $2";
            let query = sqlx::query(sql).bind(revocation.item_id.as_str()).bind(revocation.id);
            let query = query.bind(Moment(start.sent_until)).bind(start.ends_grant);
            query.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(if in_use { RevocationDecision::InUse } else { RevocationDecision::Yes })
    }

    pub(super) async fn queue_lost(
        &self,
        db: &mut PgConnection,
        lost: &LostTokens,
    ) -> Result<bool> {
        let digests = self.digest_key(db).await?.of(&lost.institution_id, &lost.tokens);
        let mut tx = db.begin().await?;
        let sql = "SELECT t.linked_version FROM items i JOIN tokens t ON t.item_id = i.item_id \
                   WHERE i.item_id = $1 FOR UPDATE OF i";
        let row = sqlx::query(sql).bind(lost.item_id.as_str()).fetch_optional(&mut *tx).await?;
        let linked = row.map(|row| row.try_get::<i64, _>("linked_version")).transpose()?;
        if linked.is_some_and(|linked| linked.unsigned_abs() <= lost.version) {
            return Ok(false);
        }
        let ids = (&lost.item_id, &lost.institution_id, &lost.user_id);
        revoke(&mut tx, &*self.options.vault, ids, (&lost.tokens, &digests), lost.now).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// Deletes queued revocations of the tokens that a link brings. If one is being sent, the link
/// fails and can be retried.
pub(super) async fn cancel_revocations(
    tx: &mut PgConnection,
    new: &NewLink,
    digests: &TokenDigests,
) -> Result<()> {
    let sql = "SELECT coalesce(sent_until > $5, false) AS under_way FROM revocations \
               WHERE access_mac = $1 OR refresh_mac = $2 \
               OR (whole_grant AND institution_id = $3 AND user_id = $4) \
               ORDER BY item_id, id FOR UPDATE";
    let rows = sqlx::query(sql)
        .bind(&digests.access)
        .bind(&digests.refresh)
        .bind(new.institution_id.as_str())
        .bind(new.user_id.as_str())
        .bind(Moment(new.now))
        .fetch_all(&mut *tx)
        .await?;
    for row in &rows {
        if row.try_get("under_way")? {
            return Err(StoreError::revocation_under_way().into());
        }
    }
    if !rows.is_empty() {
        let sql = "DELETE FROM revocations WHERE access_mac = $1 OR refresh_mac = $2";
        sqlx::query(sql).bind(&digests.access).bind(&digests.refresh).execute(tx).await?;
    }
    Ok(())
}

/// Returns the tokens of an Item and their version, or `None` if it has none.
pub(super) async fn stored(
    executor: impl PgExecutor<'_>,
    vault: &dyn Envelope,
    item: &ItemId,
) -> Result<Option<(TokenSet, u64)>> {
    let sql = "SELECT version, key_id, sealed FROM tokens \
               WHERE item_id = $1 AND sealed IS NOT NULL";
    let row = sqlx::query(sql).bind(item.as_str()).fetch_optional(executor).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((open(vault, item, &row)?, row.try_get::<i64, _>("version")?.unsigned_abs())))
}

/// Queues the tokens of a removed Item for revocation. They stay sealed as they are, so their key
/// is not needed here.
pub(super) async fn revoke_stored(
    tx: &mut PgConnection,
    (item, institution, user): (&ItemId, &InstitutionId, &UserId),
    now: DateTime<Utc>,
) -> Result<()> {
    let sql = "INSERT INTO revocations (item_id, institution_id, user_id, key_id, sealed, \
               access_mac, refresh_mac, created_at, due_at) \
               SELECT item_id, $2, $3, key_id, sealed, access_mac, refresh_mac, $4, $4 \
               FROM tokens WHERE item_id = $1 AND sealed IS NOT NULL";
    let query = sqlx::query(sql).bind(item.as_str()).bind(institution.as_str());
    query.bind(user.as_str()).bind(Moment(now)).execute(tx).await?;
    Ok(())
}

/// Stores new tokens in place of the present ones.
pub(super) async fn put(
    tx: &mut PgConnection,
    vault: &dyn Envelope,
    item: &ItemId,
    (tokens, digests): (&TokenSet, &TokenDigests),
) -> Result<()> {
    let sealed = seal(vault, item, tokens)?;
    let sql = "INSERT INTO tokens \
               (item_id, version, linked_version, key_id, sealed, access_mac, refresh_mac) \
               VALUES ($1, 1, 1, $2, $3, $4, $5) \
               ON CONFLICT (item_id) DO UPDATE SET version = tokens.version + 1, \
               linked_version = tokens.version + 1, key_id = excluded.key_id, \
               sealed = excluded.sealed, access_mac = excluded.access_mac, \
               refresh_mac = excluded.refresh_mac";
    let query = sqlx::query(sql).bind(item.as_str()).bind(sealed.key_id).bind(sealed.bytes);
    query.bind(&digests.access).bind(&digests.refresh).execute(tx).await?;
    Ok(())
}

/// Queues tokens for revocation.
pub(super) async fn revoke(
    tx: &mut PgConnection,
    vault: &dyn Envelope,
    (item, institution, user): (&ItemId, &InstitutionId, &UserId),
    (tokens, digests): (&TokenSet, &TokenDigests),
    now: DateTime<Utc>,
) -> Result<()> {
    let sealed = seal(vault, item, tokens)?;
    let sql = "INSERT INTO revocations (item_id, institution_id, user_id, key_id, sealed, \
               access_mac, refresh_mac, created_at, due_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)";
    let query = sqlx::query(sql).bind(item.as_str()).bind(institution.as_str());
    let query = query.bind(user.as_str()).bind(sealed.key_id).bind(sealed.bytes);
    let query = query.bind(&digests.access).bind(&digests.refresh);
    query.bind(Moment(now)).execute(tx).await?;
    Ok(())
}

fn seal(vault: &dyn Envelope, item: &ItemId, tokens: &TokenSet) -> Result<Sealed> {
    let plain = serde_json::to_vec(tokens).map(Zeroizing::new);
    let plain = plain.map_err(|_| Failure::unserializable("token set"))?;
    sealed::seal(vault, &plain, item.as_str())
}

/// Opens the tokens of a row with the columns `key_id` and `sealed`.
pub(super) fn open(vault: &dyn Envelope, item: &ItemId, row: &PgRow) -> Result<TokenSet> {
    let plain = sealed::open(vault, row, item.as_str())?;
    serde_json::from_slice(&plain).map_err(|_| Failure::corrupt("token set"))
}
