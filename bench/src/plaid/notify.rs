//! `POST /items/transactions/notify` with full batches among many Items.

use super::Kind;
use crate::{
    Failure, load,
    process::Server,
    report::{Report, median},
};
use chrono::{DateTime, TimeDelta, Utc};
use demo_bank::plaid::Config;
use px_core::{Clock as _, SystemClock, SystemRandom};
use px_items::{
    store::{PostgresStore, SqliteStore, StoreOptions},
    sync_state::SyncState,
    testing::postgres::{Durability, Server as Postgres},
    vault::FileKeys,
    webhook::SigningKey,
};
use px_types::{KeyId, webhook::Environment};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::{
    ConnectOptions as _, Connection as _, postgres::PgConnectOptions, sqlite::SqliteConnectOptions,
};
use std::{path::Path, sync::Arc};
use tempfile::TempDir;

const ENTRIES: usize = 2000;
const BATCHES: usize = 200;
const WARM_UP: usize = 10;
/// The number of concurrent batches; one bank sends them one after the other.
const CONCURRENT_BATCHES: usize = 2;

pub(super) async fn measure(report: &mut Report, items: usize) {
    for database in ["SQLite", "PostgreSQL"] {
        let name =
            format!("plaid-notify: batches of {ENTRIES} over HTTP among {items}, {database}");
        if !report.wants(&name) {
            continue;
        }
        match batches(database, items).await {
            Ok((times, seconds)) => {
                let rate = times.len() as f64 / seconds;
                let mut sorted = times.clone();
                sorted.sort_by(f64::total_cmp);
                let worst = sorted[(sorted.len() * 99).div_ceil(100) - 1];
                let measured = format!(
                    "{rate:.1} requests/s ({:.0} entries/s), median {:.1} ms, 99 %: {worst:.1} ms",
                    rate * ENTRIES as f64,
                    median(times)
                );
                report.value(&name, measured, "printed", true);
            }
            Err(error) => report.not_run(&name, &error.to_string()),
        }
    }
}

async fn batches(database: &str, items: usize) -> Result<(Vec<f64>, f64), Failure> {
    let filled = FilledDatabase::new(database, items).await?;
    let server = Server::start_plaid(Kind::Demo, &filled.url, &filled.key()).await?;
    let config = Config::demo()?;
    let bank = &config.institutions[0];
    let requests: Vec<_> = (0..WARM_UP + BATCHES)
        .map(|round| {
            let entries: Vec<_> = (0..ENTRIES)
                .map(|index| (index * 7 + round * 13) % items + 1)
                .map(|n| json!({"access_token": token(n), "account_id": "a"}))
                .collect();
            let body = json!({"notifications": entries, "new_since": "2024-05-06T12:00:00Z"});
            let credentials = (bank.client_id.as_str(), bank.secret.expose());
            load::post("/items/transactions/notify", credentials, &body.to_string())
        })
        .collect();
    load::time_each(&server, 1, &requests[..WARM_UP]).await?;
    load::time_each(&server, CONCURRENT_BATCHES, &requests[WARM_UP..]).await
}

fn token(n: usize) -> String {
    format!("access-sandbox-bench-{n:09}")
}

/// A database on disk with many Items of one bank.
struct FilledDatabase {
    url: String,
    folder: TempDir,
    _server: Option<Postgres>,
}

impl FilledDatabase {
    fn key(&self) -> std::path::PathBuf {
        self.folder.path().join("plaid.key")
    }

    async fn new(database: &str, items: usize) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let key_file = folder.path().join("plaid.key");
        let key = FileKeys::create_file(&key_file, Arc::new(SystemRandom))?;
        let now = SystemClock::new().now();
        let signing = SigningKey::generate(KeyId::new("bench")?, now)?;
        std::fs::write(folder.path().join("plaid.pem"), signing.to_pem().as_bytes())?;
        let options = StoreOptions::new(Environment::Sandbox, Arc::new(key));
        let institution = Config::demo()?.institutions[0].id.as_str().to_owned();
        if database == "SQLite" {
            let file = folder.path().join("plaid.sqlite");
            drop(SqliteStore::open(&file, options).await?);
            sqlite(&file, items, &institution, now).await?;
            return Ok(Self { url: format!("sqlite:{}", file.display()), folder, _server: None });
        }
        let server = tokio::task::spawn_blocking(|| Postgres::start(Durability::On)).await??;
        let url = server.database().await?;
        drop(PostgresStore::connect(&url, 1, options).await?);
        postgres(&url, items, &institution, now).await?;
        Ok(Self { url: url.to_string(), folder, _server: Some(server) })
    }
}

async fn sqlite(file: &Path, items: usize, bank: &str, now: DateTime<Utc>) -> Result<(), Failure> {
    let mut connection = SqliteConnectOptions::new().filename(file).connect().await?;
    let mut transaction = connection.begin().await?;
    let sync_state = serde_json::to_string(&SyncState::default())?;
    for n in 1..=items {
        let (item, user) = (format!("item{n:09}"), format!("user{n:09}"));
        let due = now + TimeDelta::seconds(100_000 + (n as i64 * 7919) % 131_071);
        sqlx::query(
            "INSERT INTO items (item_id, institution_id, user_id, created_at, state, life, fence, due_at,
                notified, change_seq, epochs, needs_transactions, cycle_tokens)
             VALUES (?, ?, ?, ?, 'idle', ?, 0, ?, 0, 0, 0, 1, 0)",
        )
        .bind(&item)
        .bind(bank)
        .bind(&user)
        .bind(now.timestamp_micros())
        .bind(&sync_state)
        .bind(due.timestamp_micros())
        .execute(&mut *transaction)
        .await?;
        sqlx::query("INSERT INTO item_keys VALUES (?, ?, ?)")
            .bind(bank)
            .bind(&user)
            .bind(&item)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("INSERT INTO access (digest, item_id, institution_id) VALUES (?, ?, ?)")
            .bind(Sha256::digest(token(n)).to_vec())
            .bind(&item)
            .bind(bank)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
    Ok(())
}

/// `$1` is the number of Items, `$2` is now, `$3` the bank.
const ITEMS: &str = "
INSERT INTO items (item_id, institution_id, user_id, created_at, state, life, due_at,
    needs_transactions)
SELECT 'item' || lpad(n::text, 9, '0'), $3, 'user' || lpad(n::text, 9, '0'), $2::timestamptz,
    'idle', $4, $2::timestamptz + interval '1 s' * (100000 + n::bigint * 7919 % 131071), true
FROM generate_series(1, $1) AS n";

const REST: &str = "
INSERT INTO item_keys SELECT institution_id, user_id, item_id FROM items;
INSERT INTO access (digest, item_id, institution_id)
    SELECT sha256(('access-sandbox-bench-' || substr(item_id, 5))::bytea), item_id, institution_id FROM items;
VACUUM ANALYZE;
CHECKPOINT;";

async fn postgres(
    url: &url::Url,
    items: usize,
    bank: &str,
    now: DateTime<Utc>,
) -> Result<(), Failure> {
    let mut connection = PgConnectOptions::from_url(url)?.connect().await?;
    sqlx::query(ITEMS)
        .bind(i64::try_from(items)?)
        .bind(now.to_rfc3339())
        .bind(bank)
        .bind(serde_json::to_string(&SyncState::default())?)
        .execute(&mut connection)
        .await?;
    for sql in REST.split_inclusive(';').filter(|sql| !sql.trim().is_empty()) {
        sqlx::raw_sql(sql).execute(&mut connection).await?;
    }
    Ok(())
}
