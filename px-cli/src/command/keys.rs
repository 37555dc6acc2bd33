//! `px keys`: creates missing keys and prints the public key for webhooks; counts stored secrets by key and
//! seals them again.
//!
//! With an SQLite database, `px link` and `px run` create keys too. Machines that share a database also share
//! the keys, so there only this command creates them.

use crate::{
    cli::{Common, Keys},
    context::Context,
    database::{self, IfMissing},
    failure::{Failure, Result},
    output::{count, print_json, print_table, say, table},
    webhook_key,
};
use px_core::{Clock as _, SystemClock};
use px_items::{
    store::{KeyUsage, ResealPosition},
    vault::FileKeys,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// Maximum number of secrets that are sealed again in one transaction.
const RESEAL_BATCH: usize = 500;

/// The secrets under one key, as JSON.
#[derive(Serialize)]
struct UsageLine<'a> {
    key_id: &'a str,
    /// Whether the key file has the key.
    in_file: bool,
    /// Whether it is the sealing key.
    seals: bool,
    tokens: u64,
    revocations: u64,
    webhooks: u64,
    tickets: u64,
    secrets: u64,
    total: u64,
}

impl<'a> UsageLine<'a> {
    fn new(key_id: &'a str, usage: &KeyUsage, keys: &FileKeys) -> Self {
        Self {
            key_id,
            in_file: keys.names().any(|name| name == key_id),
            seals: keys.sealing_key() == key_id,
            tokens: usage.tokens,
            revocations: usage.revocations,
            webhooks: usage.webhooks,
            tickets: usage.tickets,
            secrets: usage.secrets,
            total: usage.total(),
        }
    }
}

/// The result of sealing again, as JSON.
#[derive(Serialize)]
struct ResealLine<'a> {
    key_id: &'a str,
    resealed: u64,
    unreadable: u64,
}

pub(crate) async fn run(common: &Common, options: &Keys) -> Result<()> {
    if options.usage {
        return usage(common).await;
    }
    if options.reseal {
        return reseal(common).await;
    }
    let now = SystemClock::new().now();
    database::create_key(common)?;
    let file = options.webhook_key.webhook_key.as_deref();
    let key = webhook_key::open(common, file, IfMissing::Create, now)?;
    print_json(&key.verification_key(now))
}

/// Counts stored secrets by key.
async fn usage(common: &Common) -> Result<()> {
    let context = Context::open(common, IfMissing::Fail).await?;
    let keys = database::keys(common, IfMissing::Fail)?;
    let mut usage: BTreeMap<String, KeyUsage> = context.store.key_usage().await?;
    for name in keys.names() {
        usage.entry(name.to_owned()).or_default();
    }
    let lines: Vec<_> =
        usage.iter().map(|(key_id, usage)| UsageLine::new(key_id, usage, &keys)).collect();
    if context.json {
        for line in &lines {
            print_json(line)?;
        }
    } else {
        print_table(&usage_table(&lines))?;
    }
    let lost: Vec<_> = lines.iter().filter(|line| !line.in_file).map(|line| line.key_id).collect();
    if lost.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "secrets are sealed under keys that are not in the key file: {}; restore their lines",
        lost.join(", ")
    )))
}

fn usage_table(lines: &[UsageLine<'_>]) -> comfy_table::Table {
    let header =
        ["Key", "State", "Tokens", "Revocations", "Webhooks", "Tickets", "Secrets", "Total"];
    let mut rows = table(&header);
    for line in lines {
        let state = match (line.seals, line.in_file) {
            (true, _) => "seals",
            (false, true) => "opens",
            (false, false) => "not in the file",
        };
        let counts =
            [line.tokens, line.revocations, line.webhooks, line.tickets, line.secrets, line.total];
        let cells = [line.key_id.to_owned(), state.to_owned()].into_iter();
        rows.add_row(cells.chain(counts.map(|count| count.to_string())));
    }
    rows
}

/// Seals all secrets again that are not under the current sealing key.
async fn reseal(common: &Common) -> Result<()> {
    let context = Context::open(common, IfMissing::Fail).await?;
    let keys = database::keys(common, IfMissing::Fail)?;
    let (mut resealed, mut unreadable) = (0, 0);
    let mut position = Some(ResealPosition::default());
    while let Some(at) = position {
        let batch = context.store.reseal(&at, RESEAL_BATCH).await?;
        resealed += batch.resealed;
        unreadable += batch.unreadable;
        position = batch.next;
    }
    let key_id = keys.sealing_key();
    if context.json {
        print_json(&ResealLine { key_id, resealed, unreadable })?;
    } else {
        say(format_args!("sealed {} again under the key {key_id}", count(resealed, "secret")));
    }
    if unreadable == 0 {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} cannot be opened and stayed as they are; `px keys --usage` lists their keys",
        count(unreadable, "secret")
    )))
}
