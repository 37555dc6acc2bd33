//! Opens the database of the command line, with the key for its tokens.

use crate::{
    cli::Common,
    failure::{Failure, Result},
    output::say,
    secret_file::SecretFile,
};
use px_core::{Clock, SystemRandom};
use px_items::{
    store::{PostgresStore, SqliteStore, Store, StoreOptions},
    vault::{Envelope, FileKeys},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

const KEY: SecretFile<'_> = SecretFile { what: "the key that seals tokens", option: "--key-file" };

const DATABASE: SecretFile<'_> = SecretFile { what: "the database", option: "--database" };

/// Whether missing files are created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfMissing {
    /// An SQLite database and its key are created.
    Create,
    /// Nothing is created.
    Fail,
}

/// The location of a database.
#[derive(Debug, PartialEq)]
enum Location<'a> {
    Sqlite(&'a Path),
    Postgres(&'a str),
}

fn location(url: &str) -> Result<Location<'_>> {
    if let Some(file) = url.strip_prefix("sqlite:") {
        let file = file.strip_prefix("//").unwrap_or(file);
        if !file.is_empty() && !file.starts_with(':') {
            return Ok(Location::Sqlite(Path::new(file)));
        }
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Location::Postgres(url));
    }
    Err(Failure::usage("--database must be sqlite:FILE or postgres://USER@HOST/NAME"))
}

/// Returns whether a database's URL contains a password.
pub(crate) fn has_password(url: &str) -> bool {
    let query = |url: &url::Url| url.query_pairs().any(|(name, _)| name == "password");
    url::Url::parse(url).is_ok_and(|url| url.password().is_some() || query(&url))
}

/// Returns a file beside an SQLite database, with another extension. Returns `None` for other databases.
pub(crate) fn beside(common: &Common, extension: &str) -> Option<PathBuf> {
    match location(&common.database) {
        Ok(Location::Sqlite(file)) => Some(file.with_extension(extension)),
        _ => None,
    }
}

/// Maximum number of connections to a database server.
const MAX_CONNECTIONS: u32 = 16;
/// Maximum time to connect to a database server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the database of the command line.
pub(crate) async fn open(
    common: &Common,
    clock: &dyn Clock,
    if_missing: IfMissing,
) -> Result<Arc<dyn Store>> {
    match location(&common.database)? {
        Location::Sqlite(file) => sqlite(common, file, if_missing).await,
        Location::Postgres(url) => postgres(common, url, clock).await,
    }
}

async fn sqlite(common: &Common, file: &Path, if_missing: IfMissing) -> Result<Arc<dyn Store>> {
    let there = file.exists();
    if if_missing == IfMissing::Fail && !there {
        let file = file.display();
        return Err(Failure::new(format!("there is no database {file}; `px link` creates it")));
    }
    // A missing key is created only with a new database: a new key could not open the tokens of an existing
    // one.
    let key = key(common, if there { IfMissing::Fail } else { if_missing })?;
    if !there {
        // The data is private to its owner. SQLite creates further files with the same permissions.
        DATABASE.create(file, b"")?;
    }
    let failed = |e| Failure::because(format_args!("the database {}", file.display()), &e);
    Ok(Arc::new(SqliteStore::open(file, options(common, key)).await.map_err(failed)?))
}

async fn postgres(common: &Common, url: &str, clock: &dyn Clock) -> Result<Arc<dyn Store>> {
    let key = key(common, IfMissing::Fail)?;
    // The URL is not repeated, because it may contain a password.
    let url = url::Url::parse(url)
        .map_err(|e| Failure::usage(format!("the database's address is not a URL: {e}")))?;
    let connected = tokio::select! {
        connected = PostgresStore::connect(&url, MAX_CONNECTIONS, options(common, key)) => connected,
        () = clock.sleep(CONNECT_TIMEOUT) => {
            let what = "the database does not respond; check that it runs and that its address is right";
            return Err(Failure::new(what));
        }
    };
    Ok(Arc::new(connected.map_err(|e| Failure::because("the database", &e))?))
}

fn options(common: &Common, key: Arc<dyn Envelope>) -> StoreOptions {
    StoreOptions::new(common.environment.clone(), key)
}

/// Creates the key that seals tokens, unless it exists.
pub(crate) fn create_key(common: &Common) -> Result<()> {
    let if_missing = match location(&common.database)? {
        // The tokens of this database are sealed under another key, which has to be restored.
        Location::Sqlite(file) if file.exists() => IfMissing::Fail,
        _ => IfMissing::Create,
    };
    key(common, if_missing).map(drop)
}

/// Returns whether commands create missing keys. They do not if machines share a database, and so the keys.
pub(crate) fn if_keys_missing(common: &Common) -> IfMissing {
    match location(&common.database) {
        Ok(Location::Sqlite(_)) => IfMissing::Create,
        _ => IfMissing::Fail,
    }
}

/// Returns the key that seals tokens.
fn key(common: &Common, if_missing: IfMissing) -> Result<Arc<dyn Envelope>> {
    Ok(Arc::new(keys(common, if_missing)?))
}

/// Returns the keys that open tokens, and the one that seals them.
pub(crate) fn keys(common: &Common, if_missing: IfMissing) -> Result<FileKeys> {
    let file = match &common.key_file {
        Some(file) => file.clone(),
        None => beside(common, "key").ok_or_else(|| {
            Failure::usage(
                "specify the key that seals tokens with --key-file; all machines that share \
                 a database share it; `px keys` creates one",
            )
        })?,
    };
    let random = || Arc::new(SystemRandom);
    let failed = |e| Failure::because(format_args!("{}, {}", KEY.what, file.display()), &e);
    if !file.exists() {
        if if_missing == IfMissing::Fail {
            return Err(KEY.missing(&file, "`px keys` creates it"));
        }
        match FileKeys::create_file(&file, random()) {
            Ok(_) => say(format_args!(
                "created the key that seals tokens, {}; keep a copy in a safe place",
                file.display()
            )),
            // Another program created it meanwhile.
            Err(_) if file.exists() => {}
            Err(error) => return Err(failed(error)),
        }
    }
    FileKeys::open_file(&file, random()).map_err(failed)
}
