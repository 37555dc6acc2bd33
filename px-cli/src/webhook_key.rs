//! The key that signs webhooks: read from its file, or made.

use crate::{
    cli::Common,
    database::{Make, beside},
    failure::{Failure, Result},
    output::say,
    secret_file::Secret,
};
use chrono::{DateTime, Utc};
use px_items::webhook::SigningKey;
use px_types::KeyId;
use std::{error::Error as StdError, path::Path};

const SECRET: Secret<'_> = Secret { what: "the key that signs webhooks", option: "--webhook-key" };

/// Reads the key, or makes one.
pub(crate) fn open(
    common: &Common,
    file: Option<&Path>,
    make: Make,
    now: DateTime<Utc>,
) -> Result<SigningKey> {
    let file = match file {
        Some(file) => file.to_owned(),
        None => beside(common, "webhook.pem").ok_or_else(|| {
            Failure::usage(
                "give the key that signs webhooks by --webhook-key: \
                            all machines that send webhooks share one",
            )
        })?,
    };
    if let Some(pem) = SECRET.read(&file)? {
        return read(&file, &pem, now);
    }
    if make == Make::Nothing {
        return Err(SECRET.missing(&file, "`px keys` makes it"));
    }
    let key = SigningKey::generate(unnamed()?, now).map_err(|e| Failure::because("no key", &e))?;
    if SECRET.make(&file, key.to_pem().as_bytes())? {
        say(format_args!(
            "made the key that signs webhooks, {}; `px keys` prints what receivers verify with",
            file.display()
        ));
    }
    match SECRET.read(&file)? {
        Some(pem) => read(&file, &pem, now),
        None => Err(SECRET.missing(&file, "it was taken away just now")),
    }
}

fn read(file: &Path, pem: &[u8], now: DateTime<Utc>) -> Result<SigningKey> {
    let wrong = |e: &dyn StdError| Failure::because(file.display(), e);
    let pem = std::str::from_utf8(pem).map_err(|e| wrong(&e))?;
    let made = std::fs::metadata(file).and_then(|data| data.modified());
    let made = made.map_or(now, |time| DateTime::<Utc>::from(time).min(now));
    let key = SigningKey::from_pem(unnamed()?, pem, made).map_err(|e| wrong(&e))?;
    // Every machine that has the file gives the key the same name.
    let name: String = key.verification_key(now).x.chars().take(16).collect();
    let name = KeyId::new(name).map_err(|e| wrong(&e))?;
    SigningKey::from_pem(name, pem, made).map_err(|e| wrong(&e))
}

/// The name of a key until its public half is known.
fn unnamed() -> Result<KeyId> {
    KeyId::new("unnamed").map_err(|e| Failure::because("a key has no name", &e))
}
