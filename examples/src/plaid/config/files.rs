//! Checks of the files that a configuration names: certificate and keys. `config check` reads them
//! and so finds the errors that `serve` would fail with.

use super::{Config, Database, Problem, Tls};
use chrono::DateTime;
use px_core::SystemRandom;
use px_items::{vault::FileKeys, webhook::SigningKey};
use px_server::hyper::Tls as ServerTls;
use px_types::KeyId;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

impl Config {
    /// Returns the problems of the named files. A key that is created at the first start may be
    /// missing.
    #[must_use]
    pub fn file_problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        if let Tls::Files { certificate, key } = &self.tls {
            tls(certificate, key, &mut found);
        }
        let beside = match &self.database {
            Database::Sqlite(file) => Some(file),
            Database::Memory | Database::Postgres(_) => None,
        };
        let mut key =
            |setting, given: &Option<PathBuf>, extension, needed: bool, open: OpenFile| {
                let may_be_missing = given.is_none() && !needed;
                let file = given.clone().or_else(|| Some(beside?.with_extension(extension)));
                let file = file.filter(|file| !may_be_missing || file.exists());
                if let Some(file) = file
                    && let Err(error) = open(&file)
                {
                    found.push(problem(setting, &[&file], &error));
                }
            };
        // With a new key, the data of an existing database could not be opened.
        let needed = beside.is_some_and(|file| file.exists());
        key("key_file", &self.key_file, "key", needed, open_seal_key);
        key("webhook_key_file", &self.webhook_key_file, "webhook.pem", false, open_signing_key);
        found
    }
}

type OpenFile = fn(&Path) -> Result<(), String>;

fn open_seal_key(file: &Path) -> Result<(), String> {
    let opened = FileKeys::open_file(file, Arc::new(SystemRandom));
    opened.map(drop).map_err(|error| error.to_string())
}

fn open_signing_key(file: &Path) -> Result<(), String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let name = KeyId::new("checked").map_err(|error| error.to_string())?;
    let key = SigningKey::from_pem(name, &text, DateTime::UNIX_EPOCH);
    key.map(drop).map_err(|error| error.to_string())
}

fn tls(certificate: &Path, key: &Path, found: &mut Vec<Problem>) {
    let mut read = |setting: &str, file: &Path, mark: &str, what: &str| {
        let why = match fs::read(file) {
            Ok(bytes) if String::from_utf8_lossy(&bytes).contains(mark) => return Some(bytes),
            Ok(_) => format!("contains no {what} in PEM format"),
            Err(error) => error.to_string(),
        };
        found.push(problem(setting, &[file], &why));
        None
    };
    let chain = read("tls_certificate", certificate, "-----BEGIN CERTIFICATE-----", "certificate");
    // PEM has several labels for private keys.
    let secret = read("tls_key", key, "PRIVATE KEY-----", "private key");
    if let (Some(chain), Some(secret)) = (chain, secret)
        && let Err(error) = ServerTls::from_pem(&chain, &secret)
    {
        found.push(problem("tls_certificate, tls_key", &[certificate, key], &error.to_string()));
    }
}

/// Returns a problem that names the files. It never contains the text of a file, which may be a
/// key.
fn problem(setting: &str, files: &[&Path], why: &str) -> Problem {
    let mut what = why.to_owned();
    for file in files {
        let name = file.display().to_string();
        if !why.contains(&name) {
            what = format!("{name}: {what}");
        }
    }
    Problem { setting: setting.to_owned(), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(config: &Config) -> Vec<String> {
        config.file_problems().iter().map(ToString::to_string).collect()
    }

    fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_file_that_is_missing_or_something_else_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (nowhere, junk) = (dir.path().join("nowhere.pem"), file(&dir, "junk", "hunter2"));
        let empty = file(&dir, "empty", "");
        let half = "-----BEGIN CERTIFICATE-----\nhunter2\n-----BEGIN PRIVATE KEY-----\nhunter2";
        let half = file(&dir, "half.pem", half);
        let mut config = Config::demo().unwrap();
        for (certificate, key, expected) in [
            (&nowhere, &junk, [("tls_certificate", "nowhere.pem"), ("tls_key", "junk")].as_slice()),
            (&junk, &nowhere, &[("tls_certificate", "junk"), ("tls_key", "nowhere.pem")]),
            (&empty, &empty, &[("tls_certificate", "empty"), ("tls_key", "empty")]),
            (&half, &half, &[("tls_certificate, tls_key", "half.pem")]),
        ] {
            config.tls = Tls::Files { certificate: certificate.clone(), key: key.clone() };
            let found = found(&config);
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for ((setting, name), found) in expected.iter().zip(&found) {
                assert!(
                    found.starts_with(&format!("{setting}: ")) && found.contains(name),
                    "{found}"
                );
                assert!(!found.contains("hunter2"), "{found}");
            }
        }
        config.tls = Tls::None;
        (config.key_file, config.webhook_key_file) = (Some(junk), Some(nowhere));
        let found = found(&config);
        assert!(found[0].starts_with("key_file: ") && found[0].contains("junk"), "{found:?}");
        assert!(
            found[1].starts_with("webhook_key_file: ") && found[1].contains("nowhere"),
            "{found:?}"
        );
        assert!(!found.join("").contains("hunter2"), "{found:?}");
    }

    #[test]
    fn keys_beside_a_database_may_be_missing_until_there_is_something_under_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::demo().unwrap();
        config.database = Database::Sqlite(dir.path().join("plaid.sqlite"));
        assert_eq!(found(&config), [""; 0]);
        file(&dir, "plaid.sqlite", "");
        let missing = found(&config);
        assert!(missing.len() == 1 && missing[0].starts_with("key_file: "), "{missing:?}");
        FileKeys::create_file(&dir.path().join("plaid.key"), Arc::new(SystemRandom)).unwrap();
        assert_eq!(found(&config), [""; 0]);
        file(&dir, "plaid.webhook.pem", "hunter2");
        let broken = found(&config);
        assert!(broken.len() == 1 && broken[0].starts_with("webhook_key_file: "), "{broken:?}");
        assert!(!broken[0].contains("hunter2"));
    }
}
