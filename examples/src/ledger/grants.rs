//! OAuth grants in the bank's database.

use super::{Ledger, write};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use px_core::Digest;
use px_server::oauth::{GrantRecord, GrantStore, StoreError, Swap, VersionedGrant};
use px_types::UserId;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

/// The OAuth grant store in the bank's database, which several processes may share.
#[derive(Clone, Debug)]
pub struct SqliteGrants(Ledger);

impl SqliteGrants {
    /// Creates the grant store of a ledger.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self(ledger)
    }
}

#[async_trait]
impl GrantStore for SqliteGrants {
    async fn create(&self, record: GrantRecord) -> Result<(), StoreError> {
        let mut tx = self.0.write().await?;
        let sql =
            "INSERT INTO grants (id, principal, version, keep_until, body) VALUES (?, ?, 1, ?, ?)";
        let query = sqlx::query(sql)
            .bind(&record.id)
            .bind(record.principal.as_str())
            .bind(record.retain_until().timestamp_millis())
            .bind(write::text(&record));
        query.execute(&mut *tx).await?;
        index(&mut tx, &record).await?;
        Ok(tx.commit().await?)
    }

    async fn find(&self, digest: &Digest) -> Result<Option<VersionedGrant>, StoreError> {
        let sql = "SELECT g.version, g.body FROM grant_digests d JOIN grants g ON g.id = d.grant_id
            WHERE d.digest = ?";
        let row =
            sqlx::query(sql).bind(digest.as_bytes().to_vec()).fetch_optional(self.0.pool()).await?;
        row.as_ref().map(versioned).transpose()
    }

    async fn find_by_id(&self, id: &str) -> Result<Option<VersionedGrant>, StoreError> {
        let query = sqlx::query("SELECT version, body FROM grants WHERE id = ?").bind(id);
        query.fetch_optional(self.0.pool()).await?.as_ref().map(versioned).transpose()
    }

    async fn find_by_principal(
        &self,
        principal: &UserId,
    ) -> Result<Vec<VersionedGrant>, StoreError> {
        let sql = "SELECT version, body FROM grants WHERE principal = ? ORDER BY id";
        let rows = sqlx::query(sql).bind(principal.as_str()).fetch_all(self.0.pool()).await?;
        rows.iter().map(versioned).collect()
    }

    async fn swap(&self, expected: u64, record: GrantRecord) -> Result<Swap, StoreError> {
        let mut tx = self.0.write().await?;
        // The comparison and the change are one statement.
        let sql = "UPDATE grants SET version = version + 1, keep_until = ?, body = ? WHERE id = ? AND version = ?";
        let query = sqlx::query(sql)
            .bind(record.retain_until().timestamp_millis())
            .bind(write::text(&record))
            .bind(&record.id)
            .bind(i64::try_from(expected)?);
        if query.execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(Swap::Lost);
        }
        let query = sqlx::query("DELETE FROM grant_digests WHERE grant_id = ?").bind(&record.id);
        query.execute(&mut *tx).await?;
        index(&mut tx, &record).await?;
        tx.commit().await?;
        Ok(Swap::Done)
    }

    async fn purge(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let query =
            sqlx::query("DELETE FROM grants WHERE keep_until <= ?").bind(now.timestamp_millis());
        Ok(query.execute(self.0.pool()).await?.rows_affected())
    }
}

async fn index(connection: &mut SqliteConnection, record: &GrantRecord) -> Result<(), StoreError> {
    for digest in record.digests() {
        let query = sqlx::query("INSERT INTO grant_digests (digest, grant_id) VALUES (?, ?)");
        let query = query.bind(digest.as_bytes().to_vec()).bind(&record.id);
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

fn versioned(row: &SqliteRow) -> Result<VersionedGrant, StoreError> {
    let (version, body): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    Ok(VersionedGrant::new(serde_json::from_str(&body)?, u64::try_from(version)?))
}
