//! The bank's books: a SQLite database, in a file or in memory.
//!
//! PX messages are kept as JSON beside the few columns that queries need. Reading is in
//! [`read`], filling in [`fill`], moving the clock in [`advance`], taking over another
//! bank's books in [`import`]; what customers share in [`portal`], what Plaid is told in [`told`].
//! Who may see what is decided elsewhere.

pub mod advance;
mod error;
pub mod fill;
pub mod grants;
pub mod import;
pub mod portal;
pub mod read;
pub mod told;
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

/// What the ledger answers with.
pub type Result<T> = std::result::Result<T, LedgerError>;

/// The bank's books. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger {
    pool: SqlitePool,
    /// Seals tokens.
    vault: Arc<dyn Envelope>,
}

/// Where the books are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// In memory, and gone with the process.
    Memory,
    /// In a file, which several processes may use at once.
    File(std::path::PathBuf),
}

impl From<&Path> for Database {
    /// `:memory:` is memory, as SQLite has it.
    fn from(path: &Path) -> Self {
        if path.as_os_str() == ":memory:" { Self::Memory } else { Self::File(path.to_owned()) }
    }
}

impl Ledger {
    /// Opens the books and lays them out if they are new. `today` is the real date, at
    /// which the clock of a new bank starts.
    ///
    /// # Errors
    /// When the file cannot be opened or is something else.
    pub async fn open(database: &Database, today: Date) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .busy_timeout(Duration::from_secs(20))
            .statement_cache_capacity(64)
            // A ledger of millions of rows takes its time; that is no warning for who imports it.
            .disable_statement_logging()
            .foreign_keys(true);
        let pool = SqlitePoolOptions::new().idle_timeout(None).max_lifetime(None);
        let pool = match database {
            // Every connection to memory would have books of its own.
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
            // Only now: a file that is no bank's is not changed.
            vault::make_private(path)?;
        }
        let vault = vault::open(&mut tx, database).await?;
        tx.commit().await?;
        Ok(Self { pool, vault })
    }

    /// The pool, for what is kept beside the books: grants and passwords.
    #[must_use]
    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// The bank's date: the real one at its first start and the days it was advanced by.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn today(&self) -> Result<Date> {
        let mut connection = self.pool.acquire().await?;
        Ok(date_of(today(&mut connection).await?))
    }

    /// A number that the books keep under a name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note(&self, name: &str) -> Result<Option<String>> {
        let mut connection = self.pool.acquire().await?;
        meta(&mut connection, name).await
    }

    /// Keeps a text under a name unless there is one, and answers what is kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_once(&self, name: &str, value: &str) -> Result<String> {
        let mut tx = self.write().await?;
        let kept = match meta(&mut tx, name).await? {
            Some(kept) => kept,
            None => {
                set_meta(&mut tx, name, value).await?;
                value.to_owned()
            }
        };
        tx.commit().await?;
        Ok(kept)
    }

    /// A transaction that will write; others that would write wait for it.
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

/// Counts a change of the books and answers its number.
async fn next_change(connection: &mut SqliteConnection) -> Result<i64> {
    let sql = "UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE name = 'changes'
        RETURNING CAST(value AS INTEGER)";
    Ok(sqlx::query_scalar(sql).fetch_one(connection).await?)
}
