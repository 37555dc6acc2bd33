//! Sealed values in the database: tokens, and the keys of pages and cursors.
//!
//! The sealing key is in a file beside the database, so that a copy of the database alone reveals
//! no token. A new database gets a new key. A database in memory has a key in memory.

use super::{Database, Ledger, LedgerError, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use px_core::{Random, SystemRandom};
use px_items::vault::{Envelope, FileKeys, Sealed, VaultError};
use sqlx::SqliteConnection;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Opens the sealing key of a database, and creates it for a new one.
pub(super) async fn open(
    connection: &mut SqliteConnection,
    database: &Database,
) -> Result<Arc<dyn Envelope>> {
    // Nonces must never repeat, so they do not come from a seeded source.
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let Database::File(path) = database else {
        return Ok(Arc::new(FileKeys::generate("memory", random)?));
    };
    let file = key_file(path);
    if !file.exists() {
        if has_secrets(connection).await? {
            return Err(LedgerError::NoKey(file));
        }
        match FileKeys::create_file(&file, random.clone()) {
            // Another process may have created it meanwhile.
            Err(error) if !file.exists() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(Arc::new(FileKeys::open_file(&file, random)?))
}

/// Returns the key file of a database: `bank.key` for `bank.sqlite`.
fn key_file(database: &Path) -> PathBuf {
    database.with_extension("key")
}

async fn has_secrets(connection: &mut SqliteConnection) -> Result<bool> {
    let sql = "SELECT (SELECT count(*) FROM plaid_tokens) + (SELECT count(*) FROM notifications)
        + (SELECT count(*) FROM meta WHERE name LIKE '%key')";
    let count: i64 = sqlx::query_scalar(sql).fetch_one(connection).await?;
    Ok(count > 0)
}

/// Creates the file of a new database, readable by its owner only. SQLite gives its log the same
/// mode.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// Removes the permissions of other users from the files of an existing database.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    for suffix in ["", "-wal", "-shm"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match fs::set_permissions(&file, fs::Permissions::from_mode(0o600)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

impl Ledger {
    /// Seals a text and binds it to a row.
    pub(super) fn seal(&self, text: &str, row: &str) -> Result<String> {
        let sealed = self.vault.seal(text.as_bytes(), row)?;
        Ok(format!("{}:{}", sealed.key_id, BASE64.encode(sealed.bytes)))
    }

    /// Opens a text that was sealed for that row.
    pub(super) fn unseal(&self, sealed: &str, row: &str) -> Result<String> {
        let damaged = || LedgerError::Vault(VaultError::Damaged);
        let (key, bytes) = sealed.rsplit_once(':').ok_or_else(damaged)?;
        let bytes = BASE64.decode(bytes).map_err(|_| damaged())?;
        let opened = self.vault.open(&Sealed::new(key.to_owned(), bytes), row)?;
        String::from_utf8(opened.to_vec()).map_err(|_| damaged())
    }

    /// Returns the 256-bit key that is stored, sealed, under a name. The first call creates it.
    ///
    /// # Errors
    /// If the database fails, or the sealing key does not belong to this database.
    pub async fn key_once(&self, name: &str, random: &dyn Random) -> Result<[u8; 32]> {
        let mut bytes = [0; 32];
        random.fill(&mut bytes);
        let sealed = self.seal(&BASE64.encode(bytes), name)?;
        let stored = self.meta_value_or_insert(name, &sealed).await?;
        let bytes = BASE64.decode(self.unseal(&stored, name)?).ok();
        bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(LedgerError::NotABank)
    }
}
