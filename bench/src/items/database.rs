//! Databases full of Items.

use crate::Failure;
use chrono::{DateTime, Utc};
use px_items::{
    life::Life,
    store::{AccessDigest, PostgresStore, Store, StoreOptions},
    testing::postgres::{Durability, Server},
    vault::{Envelope, Sealed, VaultError},
};
use px_types::webhook::Environment;
use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};
use std::{sync::Arc, time::Instant};
use url::Url;
use zeroize::Zeroizing;

/// How many institutions the Items are at.
pub(crate) const INSTITUTIONS: usize = 100;

/// Of so many Items one is due now; the others are within a day and a half.
pub(crate) const DUE_EVERY: usize = 25;

/// A store and what must live as long.
pub(crate) struct Filled {
    pub(crate) store: Arc<dyn Store>,
    url: Url,
    _server: Server,
}

impl Filled {
    /// Milliseconds of transactions that store one number: what the disk and the way to the
    /// server take of any commit.
    pub(crate) async fn disk_wait(&self, rounds: usize) -> Result<Vec<f64>, Failure> {
        let mut connection = PgConnectOptions::from_url(&self.url)?.connect().await?;
        let table = "CREATE TABLE one AS SELECT 0 AS n";
        sqlx::raw_sql(table).execute(&mut connection).await?;
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let begun = Instant::now();
            sqlx::query("UPDATE one SET n = n + 1").execute(&mut connection).await?;
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(times)
    }
}

/// Seals nothing: no token is read here.
#[derive(Debug)]
struct Glass;

impl Envelope for Glass {
    fn seal(&self, plain: &[u8], _: &str) -> Result<Sealed, VaultError> {
        Ok(Sealed::new(String::new(), plain.to_vec()))
    }

    fn open(&self, sealed: &Sealed, _: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        Ok(Zeroizing::new(sealed.bytes.clone()))
    }
}

/// `$1` is how many Items there are, `$2` is now.
const ITEMS: &str = "
INSERT INTO items (item_id, institution_id, user_id, created_at, state, life, due_at,
    needs_transactions)
SELECT 'item-' || lpad(n::text, 9, '0'), 'bank-' || n % $3, 'user-' || n, $2::timestamptz,
    'idle', $4, $2::timestamptz + interval '1 s' *
    CASE WHEN n % $5 = 0 THEN -(n % 3600) ELSE 60 + (hashint8(n) & 131071) END, true
FROM generate_series(1, $1) AS n";

/// What belongs to the Items. The digests of access tokens are [`digest`]'s.
const REST: &str = "
INSERT INTO item_keys SELECT institution_id, user_id, item_id FROM items;
INSERT INTO access SELECT decode(lpad(to_hex(substr(item_id, 6)::bigint), 64, '0'), 'hex'),
    item_id, institution_id, 'app' FROM items;
INSERT INTO connections SELECT item_id, 'app', '{}' FROM items;
INSERT INTO tokens SELECT item_id, 1, 'key', decode(repeat('ab', 200), 'hex') FROM items;";

/// A PostgreSQL that keeps what it says it keeps, with so many Items.
pub(crate) async fn postgres(items: usize, now: DateTime<Utc>) -> Result<Filled, Failure> {
    let server = tokio::task::spawn_blocking(|| Server::start(Durability::On)).await??;
    let url = server.database().await?;
    let mut connection = PgConnectOptions::from_url(&url)?.connect().await?;
    sqlx::query(ITEMS)
        .bind(i64::try_from(items)?)
        .bind(now.to_rfc3339())
        .bind(i64::try_from(INSTITUTIONS)?)
        .bind(serde_json::to_string(&Life::default())?)
        .bind(i64::try_from(DUE_EVERY)?)
        .execute(&mut connection)
        .await?;
    sqlx::raw_sql(REST).execute(&mut connection).await?;
    for sql in ["VACUUM ANALYZE", "CHECKPOINT"] {
        sqlx::raw_sql(sql).execute(&mut connection).await?;
    }
    let options = StoreOptions::new(Environment::Sandbox, Arc::new(Glass));
    let store = PostgresStore::connect(&url, 4, options).await?;
    Ok(Filled { store: Arc::new(store), url, _server: server })
}

/// The digest of the token of the Item of that number, from 1.
pub(crate) fn digest(number: usize) -> AccessDigest {
    let mut bytes = [0; 32];
    bytes[24..].copy_from_slice(&(number as u64).to_be_bytes());
    AccessDigest(bytes)
}
