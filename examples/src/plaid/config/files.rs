//! Whether the files that a configuration names can be used: certificate and keys. They are read
//! and nothing is kept of them, so that `config check` finds what `serve` would end with.

use super::{Config, Database, Problem, Tls};
use chrono::DateTime;
use px_items::{random::SystemRandom, vault::FileKeys, webhook::SigningKey};
use px_server::hyper::Tls as ServerTls;
use px_types::KeyId;
use std::{fs, path::Path, sync::Arc};

impl Config {
    /// What is wrong with the files that it names; empty when all is well. A key that is made at
    /// the first start may be missing until then.
    #[must_use]
    pub fn file_problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        if let Tls::Files { certificate, key } = &self.tls {
            tls(certificate, key, &mut found);
        }
        let sealing = |file: &Path| {
            FileKeys::open_file(file, Arc::new(SystemRandom))
                .map(drop)
                .map_err(|error| error.to_string())
        };
        let signing = |file: &Path| {
            let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
            let name = KeyId::new("checked").map_err(|error| error.to_string())?;
            SigningKey::from_pem(name, &text, DateTime::UNIX_EPOCH)
                .map(drop)
                .map_err(|error| error.to_string())
        };
        let (sealed, beside) = match &self.database {
            Database::Sqlite(file) => (file.exists(), Some(file)),
            Database::Memory | Database::Postgres(_) => (false, None),
        };
        let beside = |extension| beside.map(|file| file.with_extension(extension));
        let keys: [(_, _, _, bool, &dyn Fn(&Path) -> Result<(), String>); 2] = [
            ("key_file", &self.key_file, beside("key"), sealed, &sealing),
            ("webhook_key_file", &self.webhook_key_file, beside("webhook.pem"), false, &signing),
        ];
        for (setting, given, beside, needed, open) in keys {
            let may_be_missing = given.is_none() && !needed;
            let Some(file) = given.clone().or(beside) else { continue };
            if may_be_missing && !file.exists() {
                continue;
            }
            if let Err(error) = open(&file) {
                found.push(problem(setting, &[&file], &error));
            }
        }
        found
    }
}

fn tls(certificate: &Path, key: &Path, found: &mut Vec<Problem>) {
    let before = found.len();
    let mut read = |setting: &str, file: &Path, is_it: fn(&str) -> bool, what: &str| {
        let bytes = fs::read(file).unwrap_or_else(|error| {
            found.push(problem(setting, &[file], &error.to_string()));
            Vec::new()
        });
        if !bytes.is_empty() && !is_it(&String::from_utf8_lossy(&bytes)) {
            found.push(problem(setting, &[file], &format!("there is no {what} in PEM in it")));
        }
        bytes
    };
    let is_chain = |text: &str| text.contains("-----BEGIN CERTIFICATE-----");
    let is_key = |text: &str| text.contains("PRIVATE KEY-----");
    let chain = read("tls_certificate", certificate, is_chain, "certificate");
    let secret = read("tls_key", key, is_key, "private key");
    if found.len() == before
        && let Err(error) = ServerTls::from_pem(&chain, &secret)
    {
        found.push(problem("tls_certificate, tls_key", &[certificate, key], &error.to_string()));
    }
}

/// A file's own text is never in it: it may be a key.
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
    use std::path::PathBuf;

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
        let mut config = Config::demo().unwrap();
        for (certificate, key, said) in [
            (&nowhere, &junk, [("tls_certificate", "nowhere.pem"), ("tls_key", "junk")].as_slice()),
            (&junk, &nowhere, &[("tls_certificate", "junk"), ("tls_key", "nowhere.pem")]),
            (&empty, &empty, &[("tls_certificate, tls_key", "empty")]),
        ] {
            config.tls = Tls::Files { certificate: certificate.clone(), key: key.clone() };
            let found = found(&config);
            assert_eq!(found.len(), said.len(), "{found:?}");
            for ((setting, name), found) in said.iter().zip(&found) {
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
