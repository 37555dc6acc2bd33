//! Opening the database that is named on the command line, with the key to its tokens.

use crate::{
    cli::Common,
    failure::{Failure, Result},
    output::say,
    secret_file::Secret,
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

const KEY: Secret<'_> = Secret { what: "the key that seals tokens", option: "--key-file" };

const DATABASE: Secret<'_> = Secret { what: "the database", option: "--database" };

/// Whether what is not there is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Make {
    /// An SQLite database and its key.
    IfMissing,
    /// Nothing.
    Nothing,
}

/// Where Items are kept.
#[derive(Debug, PartialEq)]
enum Place<'a> {
    Sqlite(&'a Path),
    Postgres(&'a str),
}

fn place(url: &str) -> Result<Place<'_>> {
    if let Some(file) = url.strip_prefix("sqlite:") {
        let file = file.strip_prefix("//").unwrap_or(file);
        if !file.is_empty() && !file.starts_with(':') {
            return Ok(Place::Sqlite(Path::new(file)));
        }
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Place::Postgres(url));
    }
    Err(Failure::usage("--database must be sqlite:FILE or postgres://USER@HOST/NAME"))
}

/// Whether a database's address holds a password.
pub(crate) fn has_password(url: &str) -> bool {
    let query = |url: &url::Url| url.query_pairs().any(|(name, _)| name == "password");
    url::Url::parse(url).is_ok_and(|url| url.password().is_some() || query(&url))
}

/// A file beside an SQLite database, named after it; `None` for other databases.
pub(crate) fn beside(common: &Common, extension: &str) -> Option<PathBuf> {
    match place(&common.database) {
        Ok(Place::Sqlite(file)) => Some(file.with_extension(extension)),
        _ => None,
    }
}

/// How many connections a program has to a server.
const CONNECTIONS: u32 = 16;
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens the database that is named.
pub(crate) async fn open(common: &Common, clock: &dyn Clock, make: Make) -> Result<Arc<dyn Store>> {
    match place(&common.database)? {
        Place::Sqlite(file) => sqlite(common, file, make).await,
        Place::Postgres(url) => postgres(common, url, clock).await,
    }
}

async fn sqlite(common: &Common, file: &Path, make: Make) -> Result<Arc<dyn Store>> {
    let there = file.exists();
    if make == Make::Nothing && !there {
        let file = file.display();
        return Err(Failure::new(format!("there is no database {file}; `px link` makes it")));
    }
    // A key that is missing is made with its database only: tokens that are sealed under
    // another one could not be opened by it.
    let key = key(common, if there { Make::Nothing } else { make })?;
    if !there {
        // Its data are their owner's alone; what SQLite puts beside it is as the file is.
        DATABASE.make(file, b"")?;
    }
    let failed = |e| Failure::because(format_args!("the database {}", file.display()), &e);
    Ok(Arc::new(SqliteStore::open(file, options(common, key)).await.map_err(failed)?))
}

async fn postgres(common: &Common, url: &str, clock: &dyn Clock) -> Result<Arc<dyn Store>> {
    let key = key(common, Make::Nothing)?;
    // The text is not repeated: it may hold a password.
    let url = url::Url::parse(url)
        .map_err(|e| Failure::usage(format!("the database's address is no URL: {e}")))?;
    let connected = tokio::select! {
        connected = PostgresStore::connect(&url, CONNECTIONS, options(common, key)) => connected,
        () = clock.sleep(PATIENCE) => {
            return Err(Failure::new("the database does not answer; see that it runs and that the address is right"));
        }
    };
    Ok(Arc::new(connected.map_err(|e| Failure::because("the database", &e))?))
}

fn options(common: &Common, key: Arc<dyn Envelope>) -> StoreOptions {
    StoreOptions::new(common.environment.clone(), key)
}

/// Makes the key that seals tokens, unless it is there.
pub(crate) fn make_key(common: &Common) -> Result<()> {
    let make = match place(&common.database)? {
        // Its tokens are sealed under another key, which has to be found.
        Place::Sqlite(file) if file.exists() => Make::Nothing,
        _ => Make::IfMissing,
    };
    key(common, make).map(drop)
}

/// Whether keys are made as it goes: not where machines share a database, and so share keys.
pub(crate) fn makes_keys(common: &Common) -> Make {
    match place(&common.database) {
        Ok(Place::Sqlite(_)) => Make::IfMissing,
        _ => Make::Nothing,
    }
}

/// The key that seals tokens.
fn key(common: &Common, make: Make) -> Result<Arc<dyn Envelope>> {
    Ok(Arc::new(keys(common, make)?))
}

/// The keys that open tokens, and the one that seals them.
pub(crate) fn keys(common: &Common, make: Make) -> Result<FileKeys> {
    let file = match &common.key_file {
        Some(file) => file.clone(),
        None => beside(common, "key").ok_or_else(|| {
            Failure::usage(
                "give the key that seals tokens by --key-file: all machines that share \
                            a database share it; `px keys` makes one",
            )
        })?,
    };
    let random = || Arc::new(SystemRandom);
    let failed = |e| Failure::because(format_args!("{}, {}", KEY.what, file.display()), &e);
    if !file.exists() {
        if make == Make::Nothing {
            return Err(KEY.missing(&file, "`px keys` makes it"));
        }
        match FileKeys::create_file(&file, random()) {
            Ok(_) => say(format_args!(
                "made the key that seals tokens, {}; keep a copy in a safe place",
                file.display()
            )),
            // Another program made it meanwhile.
            Err(_) if file.exists() => {}
            Err(error) => return Err(failed(error)),
        }
    }
    FileKeys::open_file(&file, random()).map_err(failed)
}
