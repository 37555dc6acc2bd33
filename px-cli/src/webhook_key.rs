//! The key that signs webhooks: read from its file, or created.

use crate::{
    cli::Common,
    database::{IfMissing, beside},
    failure::{Failure, Result},
    output::say,
    secret_file::SecretFile,
};
use chrono::{DateTime, Utc};
use px_items::webhook::SigningKey;
use px_types::KeyId;
use std::{error::Error as StdError, path::Path};

const SECRET: SecretFile<'_> =
    SecretFile { what: "the key that signs webhooks", option: "--webhook-key" };

/// Reads the key, or creates one.
pub(crate) fn open(
    common: &Common,
    file: Option<&Path>,
    if_missing: IfMissing,
    now: DateTime<Utc>,
) -> Result<SigningKey> {
    let file = match file {
        Some(file) => file.to_owned(),
        None => beside(common, "webhook.pem").ok_or_else(|| {
            Failure::usage(
                "specify the key that signs webhooks with --webhook-key; \
                 all machines that send webhooks share it",
            )
        })?,
    };
    if let Some(pem) = SECRET.read(&file)? {
        return read(&file, &pem, now);
    }
    if if_missing == IfMissing::Fail {
        return Err(SECRET.missing(&file, "`px keys` creates it"));
    }
    let key = SigningKey::generate(unnamed()?, now)
        .map_err(|e| Failure::because("cannot create a key", &e))?;
    if SECRET.create(&file, key.to_pem().as_bytes())? {
        say(format_args!(
            "created the key that signs webhooks, {}; `px keys` prints its public key for receivers",
            file.display()
        ));
    }
    match SECRET.read(&file)? {
        Some(pem) => read(&file, &pem, now),
        None => Err(SECRET.missing(&file, "another program deleted it; try again")),
    }
}

fn read(file: &Path, pem: &[u8], now: DateTime<Utc>) -> Result<SigningKey> {
    let wrong = |e: &dyn StdError| Failure::because(file.display(), e);
    let pem = std::str::from_utf8(pem).map_err(|e| wrong(&e))?;
    let made = std::fs::metadata(file).and_then(|data| data.modified());
    let made = made.map_or(now, |time| DateTime::<Utc>::from(time).min(now));
    let key = SigningKey::from_pem(unnamed()?, pem, made).map_err(|e| wrong(&e))?;
    // The name is derived from the key, so that every machine gives it the same name.
    let name: String = key.verification_key(now).x.chars().take(16).collect();
    let name = KeyId::new(name).map_err(|e| wrong(&e))?;
    SigningKey::from_pem(name, pem, made).map_err(|e| wrong(&e))
}

/// Returns a placeholder for the name of a key with an unknown public half.
fn unnamed() -> Result<KeyId> {
    KeyId::new("unnamed").map_err(|e| Failure::because("a key has no name", &e))
}
