//! The store, and the keys that seal tokens and sign webhooks.
//!
//! A missing key is created for a database in memory and beside a new SQLite file. Elsewhere a
//! missing key is an error, because tokens sealed under another key could not be opened.

use super::{
    OpenError, Parts,
    config::{Config, Database},
};
use chrono::{DateTime, Utc};
use px_items::{
    store::{PostgresStore, SqliteStore, Store, StoreOptions},
    vault::FileKeys,
    webhook::SigningKey,
};
use px_types::KeyId;
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Maximum number of connections to a database server.
const MAX_CONNECTIONS: u32 = 16;
/// Time limit of connecting to a database server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the store of a configuration.
pub(super) async fn open_store(
    config: &Config,
    parts: &Parts,
) -> Result<Arc<dyn Store>, OpenError> {
    let random = parts.random.clone();
    let options = |key: FileKeys| {
        let mut options = StoreOptions::new(config.environment.clone(), Arc::new(key));
        options.shared_clock = parts.shared_clock.clone();
        (options.clock, options.random) = (parts.clock.clone(), parts.random.clone());
        options
    };
    Ok(match &config.database {
        Database::Memory => {
            let key = match &config.key_file {
                Some(file) => FileKeys::open_file(file, random)?,
                None => FileKeys::generate("memory", random)?,
            };
            Arc::new(SqliteStore::in_memory(options(key)).await?)
        }
        Database::Sqlite(file) => {
            let key_file = config.key_file.clone().unwrap_or_else(|| file.with_extension("key"));
            if !file.exists() && !key_file.exists() {
                FileKeys::create_file(&key_file, random.clone())?;
            }
            let key = FileKeys::open_file(&key_file, random)?;
            if !file.exists() {
                // Only the owner may read the file.
                new_file(file, b"").map_err(|error| OpenError::file(file, &error))?;
            }
            Arc::new(SqliteStore::open(file, options(key)).await?)
        }
        Database::Postgres(url) => {
            let file = config.key_file.clone().ok_or(OpenError::NoKey("key_file"))?;
            let key = FileKeys::open_file(&file, random)?;
            let connected = tokio::select! {
                connected = PostgresStore::connect(url, MAX_CONNECTIONS, options(key)) => connected,
                () = parts.clock.sleep(CONNECT_TIMEOUT) => return Err(OpenError::NoDatabase),
            };
            Arc::new(connected?)
        }
    })
}

/// Opens the key that signs webhooks, and creates it where that is allowed.
pub(super) fn signing_key(config: &Config, now: DateTime<Utc>) -> Result<SigningKey, OpenError> {
    let beside = match &config.database {
        Database::Sqlite(file) => Some(file.with_extension("webhook.pem")),
        _ => None,
    };
    let Some(file) = config.webhook_key_file.clone().or(beside) else {
        return match config.database {
            Database::Memory => Ok(SigningKey::generate(temporary_id()?, now)?),
            _ => Err(OpenError::NoKey("webhook_key_file")),
        };
    };
    if !file.exists() && config.webhook_key_file.is_none() {
        let key = SigningKey::generate(temporary_id()?, now)?;
        match new_file(&file, key.to_pem().as_bytes()) {
            Err(error) if !file.exists() => return Err(OpenError::file(&file, &error)),
            // Created here, or by another process meanwhile.
            _ => {}
        }
    }
    let pem = fs::read_to_string(&file).map_err(|error| OpenError::file(&file, &error))?;
    let made = fs::metadata(&file).and_then(|data| data.modified());
    let made = made.map_or(now, |time| DateTime::<Utc>::from(time).min(now));
    let key = SigningKey::from_pem(temporary_id()?, &pem, made)?;
    // All machines with the same file derive the same key id.
    let name: String = key.verification_key(now).x.chars().take(16).collect();
    let name = KeyId::new(name).map_err(|_| OpenError::NoKey("webhook_key_file"))?;
    Ok(SigningKey::from_pem(name, &pem, made)?)
}

/// Returns a temporary key id, until the public half is known.
fn temporary_id() -> Result<KeyId, OpenError> {
    KeyId::new("demo-1").map_err(|_| OpenError::NoKey("webhook_key_file"))
}

/// Creates a file that only its owner can read.
fn new_file(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(PathBuf::from(file))?;
    file.write_all(bytes)?;
    file.sync_all()
}
