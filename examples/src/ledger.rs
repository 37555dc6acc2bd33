//! The bank's database: SQLite, in a file or in memory.
//!
//! PX messages are stored as JSON beside the few columns that queries need. [`read`] has the reads,
//! [`fill`] the initial customers, [`advance`] the clock, [`import`] the import of another bank's
//! ledger, [`portal`] the connected apps, [`notifications`] the notifications to Plaid. Access
//! control is outside this module.

pub mod advance;
mod error;
pub mod fill;
pub mod grants;
pub mod import;
pub mod notifications;
pub mod portal;
pub mod read;

mod vault;
mod write;

pub use error::LedgerError;

use crate::seed::{Day, date_of, day_of};
use px_items::vault::Envelope;
use px_types::Date;
use sqlx::{
    ConnectOptions as _, Sqlite, SqliteConnection, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{path::Path, sync::Arc, time::Duration};

const SCHEMA: &str = include_str!("ledger/schema.sql");
const PORTAL_SCHEMA: &str = include_str!("ledger/portal.sql");

/// The result type of the ledger.
pub type Result<T> = std::result::Result<T, LedgerError>;

/// The bank's database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger {
    pool: SqlitePool,
    /// The envelope that seals tokens.
    vault: Arc<dyn Envelope>,
}

/// The location of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// In memory; lost at the end of the process.
    Memory,
    /// In a file, which several processes may use at once.
    File(std::path::PathBuf),
}

impl From<&Path> for Database {
    /// Converts a path. `:memory:` means memory, as in SQLite.
    fn from(path: &Path) -> Self {
        if path.as_os_str() == ":memory:" { Self::Memory } else { Self::File(path.to_owned()) }
    }
}

impl Ledger {
    /// Opens the database and creates the tables of a new one. `today` is the real date, at which
    /// the clock of a new bank starts.
    ///
    /// # Errors
    /// If the file cannot be opened or is not a database of this program.
    pub async fn open(database: &Database, today: Date) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .busy_timeout(Duration::from_secs(20))
            .statement_cache_capacity(64)
            // Statements over millions of rows are slow; an import must not log a warning for each.
            .disable_statement_logging()
            .foreign_keys(true);
        // A call that is dropped while its connection is tested loses the connection, and a
        // connection in memory is the database itself.
        let pool = SqlitePoolOptions::new()
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false);
        let pool = match database {
            // Each connection to memory would have a database of its own.
            Database::Memory => {
                pool.max_connections(1).min_connections(1).connect_with(options.in_memory(true))
            }
            Database::File(path) => {
                vault::create_private(path)?;
                pool.max_connections(4).connect_with(
                    options
                        .filename(path)
                        .journal_mode(SqliteJournalMode::Wal)
                        .synchronous(SqliteSynchronous::Normal),
                )
            }
        };
        let pool = pool.await?;
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
        if meta(&mut tx, "clock start").await?.is_none() {
            let tables = "SELECT count(*) FROM sqlite_schema";
            let tables: i64 = sqlx::query_scalar(tables).fetch_one(&mut *tx).await?;
            if tables > 0 {
                return Err(LedgerError::NotABank);
            }
            sqlx::raw_sql(SCHEMA).execute(&mut *tx).await?;
            set_meta(&mut tx, "clock start", &today.to_string()).await?;
            set_meta(&mut tx, "days advanced", "0").await?;
            set_meta(&mut tx, "changes", "0").await?;
        }
        sqlx::raw_sql(PORTAL_SCHEMA).execute(&mut *tx).await?;
        if let Database::File(path) = database {
            // After the check, so that the file of another program is not changed.
            vault::make_private(path)?;
        }
        let vault = vault::open(&mut tx, database).await?;
        tx.commit().await?;
        Ok(Self { pool, vault })
    }

    /// Returns the pool, for the grants and passwords.
    #[must_use]
    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Returns the bank's date: the date of its first start plus the days it was advanced by.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn today(&self) -> Result<Date> {
        let mut connection = self.pool.acquire().await?;
        Ok(date_of(today(&mut connection).await?))
    }

    /// Returns the value stored under a name. Returns `None` if there is no such value.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn meta_value(&self, name: &str) -> Result<Option<String>> {
        let mut connection = self.pool.acquire().await?;
        meta(&mut connection, name).await
    }

    /// Stores a value under a name if none is stored. Returns the stored value.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn meta_value_or_insert(&self, name: &str, value: &str) -> Result<String> {
        let mut tx = self.write().await?;
        let stored = match meta(&mut tx, name).await? {
            Some(stored) => stored,
            None => {
                set_meta(&mut tx, name, value).await?;
                value.to_owned()
            }
        };
        tx.commit().await?;
        Ok(stored)
    }

    /// Begins a write transaction. Other writers wait for it.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }
}

async fn today(connection: &mut SqliteConnection) -> Result<Day> {
    let start = meta(connection, "clock start").await?;
    let days = meta(connection, "days advanced").await?;
    let start: Option<Date> = start.and_then(|text| text.parse().ok());
    let days: Option<Day> = days.and_then(|text| text.parse().ok());
    match (start, days) {
        (Some(start), Some(days)) => Ok(day_of(start) + days),
        _ => Err(LedgerError::NotABank),
    }
}

async fn meta(connection: &mut SqliteConnection, name: &str) -> Result<Option<String>> {
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'")
        .fetch_one(&mut *connection)
        .await?;
    if tables == 0 {
        return Ok(None);
    }
    let found = sqlx::query_scalar("SELECT value FROM meta WHERE name = ?").bind(name);
    Ok(found.fetch_optional(connection).await?)
}

async fn set_meta(connection: &mut SqliteConnection, name: &str, value: &str) -> Result<()> {
    let sql = "INSERT INTO meta (name, value) VALUES (?, ?)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    sqlx::query(sql).bind(name).bind(value).execute(connection).await?;
    Ok(())
}

/// Counts a change of the ledger and returns its number.
async fn next_change(connection: &mut SqliteConnection) -> Result<i64> {
    let sql = "UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE name = 'changes'
        RETURNING CAST(value AS INTEGER)";
    Ok(sqlx::query_scalar(sql).fetch_one(connection).await?)
}
