//! Databases with many Items: stores, and direct access to their tables.

use super::partner;
use crate::Failure;
use chrono::{DateTime, Utc};
use px_items::{
    merge::KnownTransaction,
    store::{AccessDigest, PostgresStore, SqliteStore, Store, StoreOptions},
    sync_state::SyncState,
    testing::postgres::{Durability, Server},
    vault::{Envelope, Sealed, VaultError},
};
use px_types::{ItemId, model::transaction::Transaction, webhook::Environment};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, PgPool, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};
use tempfile::TempDir;
use url::Url;
use zeroize::Zeroizing;

/// The number of institutions of the Items.
pub(crate) const INSTITUTIONS: usize = 100;

/// One of this number of Items is due now; the others within a day and a half.
pub(crate) const DUE_EVERY: usize = 25;

/// A filled store, and the server that must live as long.
pub(crate) struct FilledStore {
    pub(crate) store: Arc<dyn Store>,
    url: Url,
    _server: Server,
}

impl FilledStore {
    /// Returns the milliseconds of minimal transactions: the time that the disk and the connection
    /// take for any commit.
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

/// An envelope without encryption, because no token is read here.
#[derive(Debug)]
struct NoEncryption;

impl Envelope for NoEncryption {
    fn seal(&self, plain: &[u8], _: &str) -> Result<Sealed, VaultError> {
        Ok(Sealed::new(String::new(), plain.to_vec()))
    }

    fn open(&self, sealed: &Sealed, _: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        Ok(Zeroizing::new(sealed.bytes.clone()))
    }
}

/// `$1` is the number of Items, `$2` is now.
const ITEMS: &str = "
INSERT INTO items (item_id, institution_id, user_id, created_at, state, life, due_at,
    needs_transactions)
SELECT 'item-' || lpad(n::text, 9, '0'), 'bank-' || n % $3, 'user-' || n, $2::timestamptz,
    'idle', $4, $2::timestamptz + interval '1 s' *
    CASE WHEN n % $5 = 0 THEN -(n % 3600) ELSE 60 + (hashint8(n) & 131071) END, true
FROM generate_series(1, $1) AS n";

/// The rows that belong to the Items. [`digest`] computes the same digests of access tokens.
const REST: &str = "
INSERT INTO item_keys SELECT institution_id, user_id, item_id FROM items;
INSERT INTO access SELECT decode(lpad(to_hex(substr(item_id, 6)::bigint), 64, '0'), 'hex'),
    item_id, institution_id, 'app' FROM items;
INSERT INTO connections SELECT item_id, 'app', '{}' FROM items;
INSERT INTO tokens SELECT item_id, 1, 'key', decode(repeat('ab', 200), 'hex') FROM items;";

/// Starts a durable PostgreSQL with this number of Items.
pub(crate) async fn postgres(items: usize, now: DateTime<Utc>) -> Result<FilledStore, Failure> {
    let server = tokio::task::spawn_blocking(|| Server::start(Durability::On)).await??;
    let url = server.database().await?;
    let mut connection = PgConnectOptions::from_url(&url)?.connect().await?;
    sqlx::query(ITEMS)
        .bind(i64::try_from(items)?)
        .bind(now.to_rfc3339())
        .bind(i64::try_from(INSTITUTIONS)?)
        .bind(serde_json::to_string(&SyncState::default())?)
        .bind(i64::try_from(DUE_EVERY)?)
        .execute(&mut connection)
        .await?;
    sqlx::raw_sql(REST).execute(&mut connection).await?;
    for sql in ["VACUUM ANALYZE", "CHECKPOINT"] {
        sqlx::raw_sql(sql).execute(&mut connection).await?;
    }
    let options = StoreOptions::new(Environment::Sandbox, Arc::new(NoEncryption));
    let store = PostgresStore::connect(&url, 4, options).await?;
    Ok(FilledStore { store: Arc::new(store), url, _server: server })
}

/// Returns the token digest of an Item by its number, from 1.
pub(crate) fn digest(number: usize) -> AccessDigest {
    let mut bytes = [0; 32];
    bytes[24..].copy_from_slice(&(number as u64).to_be_bytes());
    AccessDigest(bytes)
}

/// A store with direct access to its tables.
pub(crate) struct TestStore {
    pub(crate) store: Arc<dyn Store>,
    tables: Tables,
    _resources: Resources,
}

/// The resources that must live as long as the store.
enum Resources {
    Folder { _folder: TempDir },
    Server { _server: Server },
}

/// Connections of the same kind and number as the store uses for writing.
#[derive(Clone)]
enum Tables {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// The number of connections to PostgreSQL, of the store and of the direct access each.
const CONNECTIONS: u32 = 4;

impl TestStore {
    /// Opens an empty durable store on disk.
    pub(crate) async fn open(database: &str) -> Result<Self, Failure> {
        let options = StoreOptions::new(Environment::Sandbox, Arc::new(NoEncryption));
        if database == "SQLite" {
            let folder = tempfile::tempdir()?;
            let file = folder.path().join("items.sqlite");
            let store = Arc::new(SqliteStore::open(&file, options).await?);
            let tables = Tables::Sqlite(sqlite(&file).await?);
            return Ok(Self { store, tables, _resources: Resources::Folder { _folder: folder } });
        }
        let server = tokio::task::spawn_blocking(|| Server::start(Durability::On)).await??;
        let url = server.database().await?;
        let store = Arc::new(PostgresStore::connect(&url, CONNECTIONS, options).await?);
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS);
        let tables = Tables::Postgres(pool.connect_with(PgConnectOptions::from_url(&url)?).await?);
        Ok(Self { store, tables, _resources: Resources::Server { _server: server } })
    }

    /// Runs the maintenance that the database would run eventually after many writes.
    pub(crate) async fn settle(&self) -> Result<(), Failure> {
        match &self.tables {
            Tables::Sqlite(pool) => {
                sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(pool).await?;
            }
            Tables::Postgres(pool) => {
                for sql in ["VACUUM ANALYZE", "CHECKPOINT"] {
                    sqlx::raw_sql(sql).execute(pool).await?;
                }
            }
        }
        Ok(())
    }

    /// Makes every Item due.
    pub(crate) async fn all_due(&self) -> Result<(), Failure> {
        self.execute("UPDATE items SET due_at = created_at").await?;
        self.settle().await
    }

    async fn execute(&self, sql: &str) -> Result<(), Failure> {
        match &self.tables {
            Tables::Sqlite(pool) => {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await?;
            }
            Tables::Postgres(pool) => {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await?;
            }
        }
        Ok(())
    }
}

/// Opens one connection with the settings of the store.
async fn sqlite(file: &Path) -> Result<SqlitePool, Failure> {
    let connect = SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(std::time::Duration::from_secs(30))
        .pragma("cache_size", "-8192")
        .pragma("wal_autocheckpoint", "4000")
        .disable_statement_logging();
    Ok(SqlitePoolOptions::new().max_connections(1).connect_with(connect).await?)
}

/// The tables with rows of an Item and the columns to copy, except transactions.
const COPIED: [(&str, &str); 4] = [
    ("connections", "application_id, body"),
    ("tokens", "version, key_id, sealed"),
    ("accounts", "account_id, partner_id, standing, body"),
    ("identities", "user_identity_id, body"),
];

/// The columns of a transaction. SQLite stores `date` as one of them, PostgreSQL computes it.
const TRANSACTION: &str = "transaction_id, partner_id, account_id, transacted, settled, amount, \
    unit, description, digest, read_at, first_seq, added_seq, changed_seq, body";

/// Copies the store's only Item, until there are `items` Items that differ only in their ids.
pub(crate) async fn copy(
    test_store: &TestStore,
    item: &ItemId,
    items: usize,
) -> Result<(), Failure> {
    let (numbers, more) = match &test_store.tables {
        Tables::Sqlite(_) => {
            let numbers = "WITH RECURSIVE numbers(n) AS (SELECT 2 UNION ALL \
                SELECT n + 1 FROM numbers WHERE n < COUNT)";
            (numbers, ", date")
        }
        Tables::Postgres(_) => {
            ("WITH numbers AS (SELECT n FROM generate_series(2, COUNT) AS n)", "")
        }
    };
    let numbers = numbers.replace("COUNT", &items.to_string());
    let (alike, last) = (
        "institution_id, created_at, state, life, fence, due_at, notified, change_seq, epochs, \
         needs_transactions, cycle_tokens",
        format!("{TRANSACTION}{more}"),
    );
    let statement = |table: &str, columns: &str, own: &str, made: &str| {
        format!(
            "{numbers} INSERT INTO {table} (item_id{own}, {columns}) \
             SELECT 'item-' || n{made}, {columns} FROM numbers CROSS JOIN {table} \
             WHERE item_id = '{item}' ORDER BY n"
        )
    };
    let own = (", user_id", ", 'user-' || n");
    test_store.execute(&statement("items", alike, own.0, own.1)).await?;
    for (table, columns) in COPIED {
        test_store.execute(&statement(table, columns, "", "")).await?;
    }
    test_store.execute(&statement("transactions", &last, "", "")).await?;
    test_store.settle().await
}

const UPSERT_SQLITE: &str = "
INSERT INTO transactions (
    item_id, transaction_id, partner_id, account_id, amount, unit, transacted, settled, date,
    description, digest, read_at, body, first_seq, added_seq, changed_seq
)
SELECT ?1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), value ->> 5,
    value ->> 6, ifnull(value ->> 6, value ->> 5), unhex(value ->> 7), unhex(value ->> 8),
    value ->> 9, value ->> 10, 2, 2, 2
FROM json_each(?2) WHERE true
ON CONFLICT (item_id, transaction_id) DO UPDATE SET
    partner_id = excluded.partner_id, account_id = excluded.account_id,
    amount = excluded.amount, unit = excluded.unit, transacted = excluded.transacted,
    settled = excluded.settled, date = excluded.date, description = excluded.description,
    digest = excluded.digest, read_at = excluded.read_at, body = excluded.body,
    removed_at = NULL, changed_seq = transactions.changed_seq + 1";

const UPSERT_POSTGRES: &str = "
INSERT INTO transactions AS old (
    item_id, transaction_id, partner_id, account_id, amount, unit, transacted, settled,
    description, digest, read_at, body, first_seq, added_seq, changed_seq
)
SELECT $1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, decode(value ->> 4, 'hex'),
    date '1970-01-01' + (value ->> 5)::int, date '1970-01-01' + (value ->> 6)::int,
    decode(value ->> 7, 'hex'), decode(value ->> 8, 'hex'), to_timestamp((value ->> 9)::float8 / 1e6),
    value ->> 10, 2, 2, 2
FROM json_array_elements($2::json) AS value
ON CONFLICT (item_id, transaction_id) DO UPDATE SET
    partner_id = excluded.partner_id, account_id = excluded.account_id,
    amount = excluded.amount, unit = excluded.unit, transacted = excluded.transacted,
    settled = excluded.settled, description = excluded.description, digest = excluded.digest,
    read_at = excluded.read_at, body = excluded.body, removed_at = NULL,
    changed_seq = old.changed_seq + 1";

/// Returns the number of transactions per second that only upsert these rows of one Item. It uses
/// as many tasks as there are workers and as many connections as the store has.
pub(crate) async fn upserts(
    test_store: &TestStore,
    rows: &[Transaction],
    items: usize,
    workers: usize,
) -> Result<f64, Failure> {
    let rows: Arc<str> = as_json(rows)?.into();
    let ids = test_store.store.list(None, items).await?;
    let ids: Arc<[ItemId]> = ids.iter().map(|item| item.id().clone()).collect();
    test_store.settle().await?;
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let tasks = (0..workers).map(|_| {
        let (tables, rows, ids, next) =
            (test_store.tables.clone(), rows.clone(), ids.clone(), next.clone());
        tokio::spawn(async move {
            while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                upsert(&tables, id, &rows).await?;
            }
            Ok::<_, Failure>(())
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    Ok(ids.len() as f64 / begun.elapsed().as_secs_f64())
}

async fn upsert(tables: &Tables, item: &ItemId, rows: &str) -> Result<(), Failure> {
    match tables {
        Tables::Sqlite(pool) => {
            let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query(UPSERT_SQLITE).bind(item.as_str()).bind(rows).execute(&mut *tx).await?;
            tx.commit().await?;
        }
        // A single statement is a transaction.
        Tables::Postgres(pool) => {
            sqlx::query(UPSERT_POSTGRES).bind(item.as_str()).bind(rows).execute(pool).await?;
        }
    }
    Ok(())
}

/// Converts rows to the store's format, before the measurement.
fn as_json(rows: &[Transaction]) -> Result<String, Failure> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let epoch = px_types::Date::from_ymd(1970, 1, 1).ok_or("no epoch")?;
    let read_at = partner::now()?;
    let mut values = Vec::with_capacity(rows.len());
    for row in rows {
        let known = KnownTransaction::of(row.id.clone(), row, read_at);
        values.push(serde_json::json!([
            known.id,
            known.partner_id,
            known.account_id,
            known.amount.to_string(),
            hex(known.unit.as_bytes()),
            known.transacted.days_since(epoch),
            known.settled.map(|date| date.days_since(epoch)),
            known.description.map(|digest| hex(digest.as_bytes())),
            hex(known.digest.as_bytes()),
            read_at.timestamp_micros(),
            serde_json::to_string(row)?,
        ]));
    }
    Ok(serde_json::to_string(&values)?)
}
