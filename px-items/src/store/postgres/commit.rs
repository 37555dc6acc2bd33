//! Commits: one transaction, and most of it in one statement.
//!
//! An update without events for applications is one round trip. With events it is six: begin,
//! write, read the connections, read the unsent webhooks, write the outbox, commit.

use super::{
    PostgresStore,
    failure::{Failure, Result},
    queues, review, row,
    time::{Day, Moment},
};
use crate::{
    connection::Connection,
    merge::{AccountStanding, KnownAccount, TransactionWrite},
    store::{AccountsWrite, Commit, LeaseOutcome, StoreError, StoreErrorKind, rules},
};
use chrono::{DateTime, Utc};
use px_types::{AccountId, ItemId, SecurityId, TransactionId, model::security::Security};
use sqlx::{Connection as _, PgConnection, PgExecutor};
use std::collections::{BTreeMap, BTreeSet};

const WRITE: &str = include_str!("commit.sql");

impl PostgresStore {
    pub(super) async fn read_connections(
        &self,
        db: &mut PgConnection,
        item: &ItemId,
    ) -> Result<Vec<Connection>> {
        connections(db, item).await
    }

    pub(super) async fn store(&self, db: &mut PgConnection, commit: &Commit) -> Result<()> {
        let none = AccountsWrite::default();
        let accounts = commit.accounts.as_ref().unwrap_or(&none);
        let extends = accounts.extends_connections();
        let review = review::is_written(commit);
        if !extends && !review && commit.refused_tokens.is_none() && commit.changes.is_empty() {
            return write(db, commit, accounts).await;
        }
        let mut tx = db.begin().await?;
        let extended = if extends {
            lock_and_extend_connections(&mut tx, commit, accounts).await?
        } else {
            Vec::new()
        };
        write(&mut *tx, commit, accounts).await?;
        if review {
            review::write(&mut tx, commit).await?;
        }
        if let Some(version) = commit.refused_tokens {
            drop_tokens(&mut tx, &commit.item_id, version).await?;
        }
        for connection in &extended {
            write_connection(&mut tx, &commit.item_id, connection).await?;
        }
        if !commit.changes.is_empty() {
            // Read while the Item's row is locked, so that links and disconnections wait.
            let connections = connections(&mut *tx, &commit.item_id).await?;
            let context = (&commit.item_id, &self.options.environment);
            let entries = rules::compose(&commit.changes, context, &connections)?;
            let entries = entries.into_iter().map(|webhook| (&commit.item_id, webhook));
            queues::put(&mut tx, &*self.options.vault, entries.collect(), commit.now).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Locks the Item and returns the connections that its new accounts change. This depends on the
/// earlier accounts, so it comes before the write.
async fn lock_and_extend_connections(
    tx: &mut PgConnection,
    commit: &Commit,
    accounts: &AccountsWrite,
) -> Result<Vec<Connection>> {
    let sql = "SELECT 1 FROM items WHERE item_id = $1 AND fence = $2 AND leased_until IS NOT NULL \
               FOR UPDATE";
    let query = sqlx::query(sql).bind(commit.item_id.as_str()).bind(commit.fence.0);
    if query.fetch_optional(&mut *tx).await?.is_none() {
        return Err(StoreError::fenced().into());
    }
    let sql = "SELECT account_id FROM accounts WHERE item_id = $1 AND standing <> $2";
    let query = sqlx::query(sql).bind(commit.item_id.as_str());
    let rows = query.bind(AccountStanding::Held.as_str()).fetch_all(&mut *tx).await?;
    let present = rows.iter().map(|row| row::parsed(row, "account_id"));
    let present = present.collect::<Result<Vec<AccountId>>>()?;
    let mut connections = connections(tx, &commit.item_id).await?;
    Ok(rules::extend_connections(&mut connections, accounts, &present))
}

/// Writes everything but tokens, connections and webhooks.
async fn write(
    executor: impl PgExecutor<'_>,
    commit: &Commit,
    accounts: &AccountsWrite,
) -> Result<()> {
    let schedule = Schedule::of(commit);
    let forgotten: Vec<_> = accounts.forgotten.iter().map(AccountId::as_str).collect();
    let identities = accounts.identities.as_ref();
    let identities_text = identities.map(|(_, all)| row::text(all)).transpose()?;
    let transactions = Transactions::of(commit)?;
    let changes = !transactions.ids.is_empty() || !transactions.removed.is_empty();
    let written = Accounts::of(accounts)?;
    let securities = securities(&accounts.securities, &commit.securities)?;
    let (security_ids, security_texts): (Vec<_>, Vec<_>) = securities.into_iter().unzip();
    let updated = sqlx::query(WRITE)
        .bind(commit.item_id.as_str())
        .bind(commit.fence.0)
        .bind(commit.state.as_str())
        .bind(row::record_text(&commit.sync_state)?)
        .bind(i64::from(changes))
        .bind(commit.refused_tokens.is_some())
        .bind(schedule.leased_until.map(Moment))
        .bind(schedule.leased_until.is_none())
        .bind(schedule.due_at.map(Moment))
        .bind(schedule.not_before.map(Moment))
        .bind(schedule.seen)
        .bind(commit.state.login_required())
        .bind(Moment(commit.now))
        .bind(forgotten)
        .bind(written.ids)
        .bind(written.partner_ids)
        .bind(written.standings)
        .bind(written.texts)
        .bind(identities.map(|(user, _)| user.as_str()))
        .bind(identities_text)
        .bind(security_ids)
        .bind(security_texts)
        .bind(transactions.removed)
        .bind(transactions.ids)
        .bind(transactions.partner_ids)
        .bind(transactions.account_ids)
        .bind(transactions.amounts)
        .bind(transactions.units)
        .bind(transactions.transacted)
        .bind(transactions.settled)
        .bind(transactions.descriptions)
        .bind(transactions.digests)
        .bind(transactions.read_at)
        .bind(transactions.texts)
        .fetch_optional(executor)
        .await?;
    match updated {
        Some(_) => Ok(()),
        None => Err(StoreError::fenced().into()),
    }
}

/// The lease and the schedule after the commit.
struct Schedule {
    leased_until: Option<DateTime<Utc>>,
    due_at: Option<DateTime<Utc>>,
    not_before: Option<DateTime<Utc>>,
    seen: i64,
}

impl Schedule {
    fn of(commit: &Commit) -> Self {
        match commit.lease {
            LeaseOutcome::Keep { lease_until } => {
                Self { leased_until: Some(lease_until), due_at: None, not_before: None, seen: 0 }
            }
            LeaseOutcome::Release { due_at, not_before, seen } => {
                Self { leased_until: None, due_at, not_before, seen }
            }
        }
    }
}

/// Accounts in columns.
#[derive(Default)]
struct Accounts<'a> {
    ids: Vec<&'a str>,
    partner_ids: Vec<&'a str>,
    standings: Vec<&'a str>,
    texts: Vec<String>,
}

impl<'a> Accounts<'a> {
    fn of(write: &'a AccountsWrite) -> Result<Self> {
        // If an id occurs several times, the last one counts.
        let rows = write.accounts.iter().map(|account| (&account.known.account.id, &account.known));
        let rows: BTreeMap<&AccountId, &KnownAccount> = rows.collect();
        let mut columns = Self::default();
        for (id, known) in rows {
            columns.ids.push(id.as_str());
            columns.partner_ids.push(known.partner_id.as_str());
            columns.standings.push(known.standing.as_str());
            columns.texts.push(row::text(&known.account)?);
        }
        Ok(columns)
    }
}

fn securities<'a>(
    first: &'a [Security],
    then: &'a [Security],
) -> Result<BTreeMap<&'a str, String>> {
    let rows = first.iter().chain(then);
    rows.map(|security| Ok((SecurityId::as_str(&security.id), row::text(security)?))).collect()
}

/// Transactions in columns, ordered by id.
#[derive(Default)]
struct Transactions<'a> {
    removed: Vec<&'a str>,
    ids: Vec<&'a str>,
    partner_ids: Vec<&'a str>,
    account_ids: Vec<&'a str>,
    amounts: Vec<String>,
    units: Vec<&'a [u8]>,
    transacted: Vec<Day>,
    settled: Vec<Option<Day>>,
    descriptions: Vec<Option<&'a [u8]>>,
    digests: Vec<&'a [u8]>,
    read_at: Vec<Moment>,
    texts: Vec<String>,
}

impl<'a> Transactions<'a> {
    fn of(commit: &'a Commit) -> Result<Self> {
        let merged = &commit.transactions;
        let rows = merged.writes.iter().map(|write| (&write.known.id, write));
        let rows: BTreeMap<&TransactionId, &TransactionWrite> = rows.collect();
        // A transaction that is both removed and written exists afterwards.
        let removed = merged.removed.iter().map(|(_, id)| id).filter(|id| !rows.contains_key(id));
        let removed: BTreeSet<_> = removed.map(TransactionId::as_str).collect();
        let mut columns = Self { removed: removed.into_iter().collect(), ..Self::default() };
        for (id, write) in rows {
            let known = &write.known;
            columns.ids.push(id.as_str());
            columns.partner_ids.push(known.partner_id.as_str());
            columns.account_ids.push(known.account_id.as_str());
            columns.amounts.push(known.amount.to_string());
            columns.units.push(known.unit.as_bytes());
            columns.transacted.push(Day(known.transacted));
            columns.settled.push(known.settled.map(Day));
            columns.descriptions.push(known.description.as_ref().map(|digest| digest.as_bytes()));
            columns.digests.push(known.digest.as_bytes());
            columns.read_at.push(Moment(known.read_at));
            columns.texts.push(row::text(&write.row)?);
        }
        Ok(columns)
    }
}

/// Deletes tokens of a version that the partner refused. Fails if the Item has other tokens,
/// because then the user authorized again meanwhile.
async fn drop_tokens(tx: &mut PgConnection, item: &ItemId, version: u64) -> Result<()> {
    let sql = "UPDATE tokens SET version = version + 1, key_id = NULL, sealed = NULL, \
               access_mac = NULL, refresh_mac = NULL WHERE item_id = $1 AND version = $2";
    let version = i64::try_from(version).unwrap_or(-1);
    let query = sqlx::query(sql).bind(item.as_str()).bind(version);
    if query.execute(tx).await?.rows_affected() == 0 {
        return Err(Failure::Store(StoreError::new(
            StoreErrorKind::TokensChanged,
            "the tokens are not those that were refused; nothing was stored",
        )));
    }
    Ok(())
}

/// Returns the connections of an Item that this version can read, ordered by application.
pub(super) async fn connections(
    executor: impl PgExecutor<'_>,
    item: &ItemId,
) -> Result<Vec<Connection>> {
    let sql = "SELECT body FROM connections WHERE item_id = $1 ORDER BY application_id";
    let rows = sqlx::query(sql).bind(item.as_str()).fetch_all(executor).await?;
    Ok(row::readable("connection", item, &rows, |row| row::record(row, "body")))
}

pub(super) async fn write_connection(
    tx: &mut PgConnection,
    item: &ItemId,
    connection: &Connection,
) -> Result<()> {
    let sql = "INSERT INTO connections (item_id, application_id, body) VALUES ($1, $2, $3) \
               ON CONFLICT (item_id, application_id) DO UPDATE SET body = excluded.body";
    sqlx::query(sql)
        .bind(item.as_str())
        .bind(connection.application_id.as_str())
        .bind(row::record_text(connection)?)
        .execute(tx)
        .await?;
    Ok(())
}
