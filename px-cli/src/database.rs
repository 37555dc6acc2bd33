//! Opening the database that is named on the command line, with the key to its tokens.

use crate::{
    cli::Common,
    failure::{Failure, Result},
    output::say,
    secret_file::Secret,
};
use px_items::store::{Store, StoreOptions};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

const KEY: Secret<'_> = Secret { what: "the key that seals tokens", option: "--key-file" };

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

pub(crate) fn make_key(_: &Common) -> Result<()> {
    let _ = KEY;
    Ok(())
}
pub(crate) async fn open(common: &Common, _: Make) -> Result<Arc<dyn Store>> {
    place(&common.database)?;
    let _: Option<StoreOptions> = None;
    Err(Failure::new("not yet"))
}
