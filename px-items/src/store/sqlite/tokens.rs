//! The partners' tokens, sealed.

use super::{
    SqliteStore,
    row::{Failure, Result, micros},
    sealed,
    shared::Size,
};
use crate::vault::{Envelope, Sealed};
use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use px_client::oauth::TokenSet;
use px_types::{InstitutionId, ItemId};
use sqlx::{Row as _, SqliteConnection, SqliteExecutor, sqlite::SqliteRow};
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
        let (item, version) = (item.clone(), i64::try_from(version).unwrap_or(-1));
        let replaced = self
            .line
            .write(&self.writer, Size::Small, move |tx| replace(tx, item, version, sealed).boxed());
        replaced.await
    }
}

async fn replace(
    tx: &mut SqliteConnection,
    item: ItemId,
    version: i64,
    sealed: Sealed,
) -> Result<bool> {
    let sql = "UPDATE tokens SET version = version + 1, key_id = ?3, sealed = ?4 \
               WHERE item_id = ?1 AND version = ?2 AND sealed IS NOT NULL";
    let query = sqlx::query(sql).bind(item.as_str()).bind(version);
    let query = query.bind(sealed.key_id).bind(sealed.bytes);
    if query.execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(false);
    }
    let sql = "UPDATE items SET cycle_tokens = 0 WHERE item_id = ?1 AND cycle_tokens";
    sqlx::query(sql).bind(item.as_str()).execute(tx).await?;
    Ok(true)
}

/// The tokens of an Item and their version; `None` when there are none.
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

/// Puts new tokens in the place of whatever there is.
pub(super) async fn put(
    tx: &mut SqliteConnection,
    vault: &dyn Envelope,
    item: &ItemId,
    tokens: &TokenSet,
) -> Result<()> {
    let sealed = seal(vault, item, tokens)?;
    let sql = "INSERT INTO tokens (item_id, version, key_id, sealed) VALUES (?1, 1, ?2, ?3) \
               ON CONFLICT (item_id) DO UPDATE SET version = version + 1, \
               key_id = excluded.key_id, sealed = excluded.sealed";
    let query = sqlx::query(sql).bind(item.as_str()).bind(sealed.key_id).bind(sealed.bytes);
    query.execute(tx).await?;
    Ok(())
}

/// Deletes the tokens of some Items, a JSON array; their versions go on.
pub(super) async fn forget(tx: &mut SqliteConnection, items: &str) -> Result<()> {
    let sql = "UPDATE tokens SET version = version + 1, key_id = NULL, sealed = NULL \
               WHERE item_id IN (SELECT value FROM json_each(?1))";
    sqlx::query(sql).bind(items).execute(tx).await?;
    Ok(())
}

/// Lets tokens wait to be revoked.
pub(super) async fn revoke(
    tx: &mut SqliteConnection,
    vault: &dyn Envelope,
    (item, institution): (&ItemId, &InstitutionId),
    tokens: &TokenSet,
    now: DateTime<Utc>,
) -> Result<()> {
    let sealed = seal(vault, item, tokens)?;
    let sql = "INSERT INTO revocations \
               (item_id, institution_id, key_id, sealed, attempt, created_at, due_at) \
               VALUES (?1, ?2, ?3, ?4, 0, ?5, ?5)";
    let query = sqlx::query(sql).bind(item.as_str()).bind(institution.as_str());
    query.bind(sealed.key_id).bind(sealed.bytes).bind(micros(now)).execute(tx).await?;
    Ok(())
}

fn seal(vault: &dyn Envelope, item: &ItemId, tokens: &TokenSet) -> Result<Sealed> {
    let plain = serde_json::to_vec(tokens).map(Zeroizing::new);
    let plain = plain.map_err(|_| Failure::corrupt("token set (it was to be written)"))?;
    sealed::seal(vault, &plain, item.as_str())
}

/// Opens the tokens of a row with `key_id` and `sealed`.
pub(super) fn open(vault: &dyn Envelope, item: &ItemId, row: &SqliteRow) -> Result<TokenSet> {
    let plain = sealed::open(vault, row, item.as_str())?;
    serde_json::from_slice(&plain).map_err(|_| Failure::corrupt("token set"))
}
