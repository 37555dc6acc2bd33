//! The partners' tokens, sealed.

use super::{
    SqliteStore,
    group_commit::JobSize,
    row::{self, Failure, Result, micros},
    sealed,
};
use crate::{
    store::{
        LostTokens, NewLink, RevocationDecision, RevocationStart, StoreError,
        digests::{DigestKey, KEY_NAME, MAX_TRIES, TokenDigests, key_name},
    },
    vault::{Envelope, Sealed},
};
use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use px_client::oauth::TokenSet;
use px_core::SystemRandom;
use px_types::{InstitutionId, ItemId, UserId};
use sqlx::{Row as _, SqliteConnection, SqliteExecutor, sqlite::SqliteRow};
use std::sync::Arc;
use zeroize::Zeroizing;

impl SqliteStore {
    pub(super) async fn read_tokens(&self, item: &ItemId) -> Result<Option<(TokenSet, u64)>> {
        stored(&self.readers, &*self.options.vault, item).await
    }

    pub(super) async fn replace_tokens(
        &self,
        item: &ItemId,
        version: u64,
        tokens: &TokenSet,
    ) -> Result<bool> {
        let sealed = seal(&*self.options.vault, item, tokens)?;
        // This comes before the writer is occupied, because the key may have to be created.
        self.digest_key().await?;
        let (key, tokens) = (Arc::clone(&self.digest_key), tokens.clone());
        let (item, version) = (item.clone(), i64::try_from(version).unwrap_or(-1));
        let replaced = self.write_queue.write(&self.writer, JobSize::Small, move |tx| {
            async move {
                let key = key.get().ok_or_else(|| Failure::corrupt("secret"))?;
                replace(tx, (item, version), (&tokens, key), sealed).await
            }
            .boxed()
        });
        replaced.await
    }
}

impl SqliteStore {
    pub(super) async fn record_refresh(
        &self,
        item: &ItemId,
        version: u64,
        begun_at: Option<DateTime<Utc>>,
    ) -> Result<bool> {
        // With `?3` an earlier time stays; without it the record is deleted.
        let sql = "UPDATE items SET refresh_begun_at = \
                   CASE WHEN ?3 IS NULL THEN NULL ELSE ifnull(refresh_begun_at, ?3) END \
                   WHERE item_id = ?1 AND EXISTS (SELECT 1 FROM tokens \
                   WHERE item_id = ?1 AND version = ?2 AND sealed IS NOT NULL)";
        let query = sqlx::query(sql).bind(item.as_str());
        let query = query.bind(i64::try_from(version).unwrap_or(-1)).bind(begun_at.map(micros));
        let mut tx = self.begin_transient().await?;
        let noted = query.execute(&mut *tx).await?.rows_affected() > 0;
        tx.commit().await?;
        Ok(noted)
    }

    /// Returns the key of the token digests, which is created when it is first needed. Do not call
    /// it while the writer is occupied.
    pub(super) async fn digest_key(&self) -> Result<&DigestKey> {
        self.digest_key.get_or_try_init(|| self.load_digest_key()).await
    }

    async fn load_digest_key(&self) -> Result<DigestKey> {
        let vault = &*self.options.vault;
        let sql = "SELECT name, key_id, sealed FROM secrets WHERE name LIKE ?1 \
                   ORDER BY length(name) DESC, name DESC";
        let mut tries = 0;
        loop {
            let query = sqlx::query(sql).bind(format!("{KEY_NAME}%"));
            let rows = query.fetch_all(&self.readers).await?;
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
            // If another program was faster, its key is used.
            let sql = "INSERT INTO secrets (name, key_id, sealed) VALUES (?1, ?2, ?3) \
                       ON CONFLICT DO NOTHING";
            let query = sqlx::query(sql).bind(name).bind(sealed.key_id).bind(sealed.bytes);
            let mut tx = self.begin().await?;
            query.execute(&mut *tx).await?;
            tx.commit().await?;
        }
    }

    pub(super) async fn start_revocation(
        &self,
        start: RevocationStart<'_>,
    ) -> Result<RevocationDecision> {
        let revocation = start.revocation;
        let mut tx = self.begin().await?;
        let sql = "SELECT access_mac, refresh_mac FROM revocations WHERE id = ?1 AND attempt = ?2";
        let query = sqlx::query(sql).bind(revocation.id).bind(revocation.attempt);
        let Some(row) = query.fetch_optional(&mut *tx).await? else {
            return Ok(RevocationDecision::Gone);
        };
        let sql = "SELECT EXISTS (SELECT 1 FROM tokens WHERE access_mac = ?1) \
                   OR EXISTS (SELECT 1 FROM tokens WHERE refresh_mac = ?2) \
                   OR (?3 AND EXISTS (SELECT 1 FROM item_keys k \
                       JOIN tokens t ON t.item_id = k.item_id AND t.sealed IS NOT NULL \
                       WHERE k.institution_id = ?4 AND k.user_id = ?5)) AS in_use";
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
            let query = sqlx::query("DELETE FROM revocations WHERE id = ?1").bind(revocation.id);
            query.execute(&mut *tx).await?;
        } else {
            let sql = "UPDATE revocations SET sent_until = ?2, whole_grant = ?3 WHERE id = ?1";
            let query = sqlx::query(sql).bind(revocation.id).bind(micros(start.sent_until));
            query.bind(start.ends_grant).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(if in_use { RevocationDecision::InUse } else { RevocationDecision::Yes })
    }

    pub(super) async fn queue_lost(&self, lost: &LostTokens) -> Result<bool> {
        let digests = self.digest_key().await?.of(&lost.institution_id, &lost.tokens);
        let mut tx = self.begin().await?;
        let sql = "SELECT linked_version FROM tokens WHERE item_id = ?1";
        let query = sqlx::query_scalar::<_, i64>(sql).bind(lost.item_id.as_str());
        let linked = query.fetch_optional(&mut *tx).await?;
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
    tx: &mut SqliteConnection,
    new: &NewLink,
    digests: &TokenDigests,
) -> Result<()> {
    let sql = "SELECT ifnull(sent_until > ?5, 0) AS under_way FROM revocations \
               WHERE access_mac = ?1 OR refresh_mac = ?2 \
               OR (whole_grant AND institution_id = ?3 AND user_id = ?4)";
    let rows = sqlx::query(sql)
        .bind(&digests.access)
        .bind(&digests.refresh)
        .bind(new.institution_id.as_str())
        .bind(new.user_id.as_str())
        .bind(micros(new.now))
        .fetch_all(&mut *tx)
        .await?;
    for row in &rows {
        if row.try_get("under_way")? {
            return Err(StoreError::revocation_under_way().into());
        }
    }
    if !rows.is_empty() {
        let sql = "DELETE FROM revocations WHERE access_mac = ?1 OR refresh_mac = ?2";
        sqlx::query(sql).bind(&digests.access).bind(&digests.refresh).execute(tx).await?;
    }
    Ok(())
}

async fn replace(
    tx: &mut SqliteConnection,
    (item, version): (ItemId, i64),
    (tokens, key): (&TokenSet, &DigestKey),
    sealed: Sealed,
) -> Result<bool> {
    let sql = "SELECT institution_id FROM items WHERE item_id = ?1";
    let row = sqlx::query(sql).bind(item.as_str()).fetch_optional(&mut *tx).await?;
    let Some(row) = row else { return Ok(false) };
    let digests = key.of(&row::parsed(&row, "institution_id")?, tokens);
    let sql = "UPDATE tokens SET version = version + 1, key_id = ?3, sealed = ?4, \
               access_mac = ?5, refresh_mac = ?6 \
               WHERE item_id = ?1 AND version = ?2 AND sealed IS NOT NULL";
    let query = sqlx::query(sql).bind(item.as_str()).bind(version);
    let query = query.bind(sealed.key_id).bind(sealed.bytes);
    let query = query.bind(digests.access).bind(digests.refresh);
    if query.execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(false);
    }
    let sql = "UPDATE items SET cycle_tokens = 0, refresh_begun_at = NULL WHERE item_id = ?1";
    sqlx::query(sql).bind(item.as_str()).execute(tx).await?;
    Ok(true)
}

/// Returns the tokens of an Item and their version, or `None` if it has none.
pub(super) async fn stored(
    executor: impl SqliteExecutor<'_>,
    vault: &dyn Envelope,
    item: &ItemId,
) -> Result<Option<(TokenSet, u64)>> {
    let sql = "SELECT version, key_id, sealed FROM tokens \
               WHERE item_id = ?1 AND sealed IS NOT NULL";
    let row = sqlx::query(sql).bind(item.as_str()).fetch_optional(executor).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((open(vault, item, &row)?, row.try_get::<i64, _>("version")?.unsigned_abs())))
}

/// Queues the tokens of a removed Item for revocation. They stay sealed as they are, so their key
/// is not needed here.
pub(super) async fn revoke_stored(
    tx: &mut SqliteConnection,
    (item, institution, user): (&ItemId, &InstitutionId, &UserId),
    now: DateTime<Utc>,
) -> Result<()> {
    let sql = "INSERT INTO revocations (item_id, institution_id, user_id, key_id, sealed, \
               access_mac, refresh_mac, attempt, created_at, due_at) \
               SELECT item_id, ?2, ?3, key_id, sealed, access_mac, refresh_mac, 0, ?4, ?4 \
               FROM tokens WHERE item_id = ?1 AND sealed IS NOT NULL";
    let query = sqlx::query(sql).bind(item.as_str()).bind(institution.as_str());
    query.bind(user.as_str()).bind(micros(now)).execute(tx).await?;
    Ok(())
}

/// Stores new tokens in place of the present ones.
pub(super) async fn put(
    tx: &mut SqliteConnection,
    vault: &dyn Envelope,
    item: &ItemId,
    (tokens, digests): (&TokenSet, &TokenDigests),
) -> Result<()> {
    let sealed = seal(vault, item, tokens)?;
    let sql = "INSERT INTO tokens \
               (item_id, version, linked_version, key_id, sealed, access_mac, refresh_mac) \
               VALUES (?1, 1, 1, ?2, ?3, ?4, ?5) \
               ON CONFLICT (item_id) DO UPDATE SET version = version + 1, \
               linked_version = version + 1, key_id = excluded.key_id, \
               sealed = excluded.sealed, access_mac = excluded.access_mac, \
               refresh_mac = excluded.refresh_mac";
    let query = sqlx::query(sql).bind(item.as_str()).bind(sealed.key_id).bind(sealed.bytes);
    query.bind(&digests.access).bind(&digests.refresh).execute(tx).await?;
    Ok(())
}

/// Deletes the tokens of Items, and increments their versions. `items` is a JSON array.
pub(super) async fn forget(tx: &mut SqliteConnection, items: &str) -> Result<()> {
    let sql = "UPDATE tokens SET version = version + 1, key_id = NULL, sealed = NULL, \
               access_mac = NULL, refresh_mac = NULL WHERE item_id IN (SELECT value FROM json_each(?1))";
    sqlx::query(sql).bind(items).execute(tx).await?;
    Ok(())
}

/// Queues tokens for revocation.
pub(super) async fn revoke(
    tx: &mut SqliteConnection,
    vault: &dyn Envelope,
    (item, institution, user): (&ItemId, &InstitutionId, &UserId),
    (tokens, digests): (&TokenSet, &TokenDigests),
    now: DateTime<Utc>,
) -> Result<()> {
    let sealed = seal(vault, item, tokens)?;
    let sql = "INSERT INTO revocations (item_id, institution_id, user_id, key_id, sealed, \
               access_mac, refresh_mac, attempt, created_at, due_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?8)";
    let query = sqlx::query(sql).bind(item.as_str()).bind(institution.as_str());
    let query = query.bind(user.as_str()).bind(sealed.key_id).bind(sealed.bytes);
    let query = query.bind(&digests.access).bind(&digests.refresh);
    query.bind(micros(now)).execute(tx).await?;
    Ok(())
}

fn seal(vault: &dyn Envelope, item: &ItemId, tokens: &TokenSet) -> Result<Sealed> {
    let plain = serde_json::to_vec(tokens).map(Zeroizing::new);
    let plain = plain.map_err(|_| Failure::unserializable("token set"))?;
    sealed::seal(vault, &plain, item.as_str())
}

/// Opens the tokens of a row with the columns `key_id` and `sealed`.
pub(super) fn open(vault: &dyn Envelope, item: &ItemId, row: &SqliteRow) -> Result<TokenSet> {
    let plain = sealed::open(vault, row, item.as_str())?;
    serde_json::from_slice(&plain).map_err(|_| Failure::corrupt("token set"))
}
