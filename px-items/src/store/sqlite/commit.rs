//! A commit: all of it in one transaction, and a statement for each kind of row, not for each row.

use super::{
    SqliteStore, queues, review,
    row::{self, Failure, Result, days, hex, micros},
    shared::Size,
};
use crate::{
    connection::Connection,
    merge::AccountStanding,
    store::{AccountsWrite, Commit, StoreError, StoreErrorKind, StoreOptions, Then, rules},
};
use futures_util::FutureExt as _;
use px_types::{AccountId, ItemId, TransactionId};
use sqlx::{Row as _, SqliteConnection, SqliteExecutor};
use std::collections::BTreeMap;

/// The Item's row comes first: when the fence is not the present one, nothing follows.
/// `?6`: the lease goes on until then. Else it ends: `?7` when the Item is due, `?8` not before,
/// `?9` the notifications seen, `?10` whether it rests whatever was notified, `?11` now.
pub(super) const ITEM: &str = "
UPDATE items SET
    state = ?3,
    life = ?4,
    change_seq = change_seq + ?5,
    cycle_tokens = cycle_tokens AND NOT ?12,
    refresh_begun_at = iif(?12, NULL, refresh_begun_at),
    lost_leases = 0,
    leased_until = ?6,
    not_before = CASE WHEN ?6 IS NULL THEN ?8 ELSE not_before END,
    notified_since = CASE WHEN ?6 IS NULL AND notified <= ?9 THEN NULL ELSE notified_since END,
    due_at = CASE
        WHEN ?6 IS NOT NULL THEN due_at
        WHEN ?10 THEN NULL
        WHEN notified > ?9
        THEN min(ifnull(?7, max(?11, ifnull(?8, ?11))), max(?11, ifnull(?8, ?11)))
        ELSE ?7
    END
WHERE item_id = ?1 AND fence = ?2 AND leased_until IS NOT NULL
RETURNING change_seq";

pub(super) const FORGET_ACCOUNTS: &str =
    "DELETE FROM accounts WHERE item_id = ?1 AND account_id IN (SELECT value FROM json_each(?2))";

const ACCOUNTS: &str = "
INSERT INTO accounts (item_id, account_id, partner_id, standing, body)
SELECT ?1, value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?2) WHERE true
ON CONFLICT (item_id, account_id) DO UPDATE SET
    partner_id = excluded.partner_id, standing = excluded.standing, body = excluded.body";

const IDENTITIES: &str = "
INSERT INTO identities (item_id, user_identity_id, body) VALUES (?1, ?2, ?3)
ON CONFLICT (item_id) DO UPDATE SET
    user_identity_id = excluded.user_identity_id, body = excluded.body";

const SECURITIES: &str = "
INSERT INTO securities (item_id, security_id, body)
SELECT ?1, key, value FROM json_each(?2) WHERE true
ON CONFLICT (item_id, security_id) DO UPDATE SET body = excluded.body";

/// With a bare `removed_at` SQLite would read through all dates of the Item.
pub(super) const REMOVE: &str = "
UPDATE transactions SET removed_at = ?3, body = NULL, changed_seq = ?4
WHERE item_id = ?1 AND transaction_id IN (SELECT value FROM json_each(?2))
    AND +removed_at IS NULL";

const TRANSACTIONS: &str = "
INSERT INTO transactions (
    item_id, transaction_id, partner_id, account_id, amount, unit, transacted, settled, date,
    description, digest, read_at, body, first_seq, added_seq, changed_seq
)
SELECT ?1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), value ->> 5,
    value ->> 6, ifnull(value ->> 6, value ->> 5), unhex(value ->> 7), unhex(value ->> 8),
    value ->> 9, value ->> 10, ?3, ?3, ?3
FROM json_each(?2) WHERE true
ON CONFLICT (item_id, transaction_id) DO UPDATE SET
    partner_id = excluded.partner_id,
    account_id = excluded.account_id,
    amount = excluded.amount,
    unit = excluded.unit,
    transacted = excluded.transacted,
    settled = excluded.settled,
    date = excluded.date,
    description = excluded.description,
    digest = excluded.digest,
    read_at = excluded.read_at,
    body = excluded.body,
    removed_at = NULL,
    -- One that was gone is added again.
    added_seq = iif(removed_at IS NULL, added_seq, excluded.added_seq),
    -- Another id of the partner's is no change of what applications read.
    changed_seq = iif(removed_at IS NULL AND digest = excluded.digest, changed_seq,
        excluded.changed_seq)";

impl SqliteStore {
    pub(super) async fn store(&self, commit: Commit) -> Result<()> {
        // What can be made ready is, before the one writer is held.
        let rows = Rows::of(&commit)?;
        let (size, options) = (rows.size(), self.options.clone());
        let written =
            self.line.write(&self.writer, size, move |tx| write(tx, options, commit, rows).boxed());
        written.await
    }
}

async fn write(
    tx: &mut SqliteConnection,
    options: StoreOptions,
    commit: Commit,
    rows: Rows,
) -> Result<()> {
    let none = AccountsWrite::default();
    let accounts = commit.accounts.as_ref().unwrap_or(&none);
    let seq = write_item(tx, &commit, rows.change()).await?;
    let item = &commit.item_id;
    if accounts.is_taken_in() {
        take_in(tx, item, accounts).await?;
    }
    write_accounts(tx, item, accounts).await?;
    write_securities(tx, &commit, accounts).await?;
    rows.write(tx, &commit, seq).await?;
    review::write(tx, &commit).await?;
    if let Some(version) = commit.refused_tokens {
        drop_tokens(tx, item, version).await?;
    }
    if !commit.news.is_silent() {
        let connections = connections(&mut *tx, item).await?;
        let told = rules::compose(&commit.news, (item, &options.environment), &connections)?;
        let told: Vec<_> = told.into_iter().map(|webhook| (item, webhook)).collect();
        queues::put(tx, &*options.vault, &told, commit.now).await?;
    }
    Ok(())
}

/// Writes the Item's row; its number of changes from then on.
async fn write_item(tx: &mut SqliteConnection, commit: &Commit, changes: bool) -> Result<i64> {
    let (lease, due_at, not_before, seen) = match commit.then {
        Then::Keep { lease_until } => (Some(lease_until), None, None, 0),
        Then::Release { due_at, not_before, seen } => (None, due_at, not_before, seen),
    };
    let row = sqlx::query(ITEM)
        .bind(commit.item_id.as_str())
        .bind(commit.fence.0)
        .bind(commit.state.as_str())
        .bind(row::record_text(&commit.life)?)
        .bind(i64::from(changes))
        .bind(lease.map(micros))
        .bind(due_at.map(micros))
        .bind(not_before.map(micros))
        .bind(seen)
        .bind(commit.state.login_required())
        .bind(micros(commit.now))
        .bind(commit.refused_tokens.is_some())
        .fetch_optional(tx)
        .await?;
    let row = row.ok_or_else(StoreError::fenced)?;
    Ok(row.try_get("change_seq")?)
}

/// Stores what new accounts change in connections. That is judged by the accounts there were, so
/// it comes before they are written.
async fn take_in(tx: &mut SqliteConnection, item: &ItemId, accounts: &AccountsWrite) -> Result<()> {
    let sql = "SELECT account_id FROM accounts WHERE item_id = ?1 AND standing <> ?2";
    let query = sqlx::query(sql).bind(item.as_str()).bind(AccountStanding::Held.as_str());
    let rows = query.fetch_all(&mut *tx).await?;
    let present = rows.iter().map(|row| row::parsed(row, "account_id"));
    let present = present.collect::<Result<Vec<AccountId>>>()?;
    let mut connections = connections(&mut *tx, item).await?;
    for connection in rules::take_in(&mut connections, accounts, &present) {
        write_connection(tx, item, &connection).await?;
    }
    Ok(())
}

async fn write_accounts(
    tx: &mut SqliteConnection,
    item: &ItemId,
    write: &AccountsWrite,
) -> Result<()> {
    if !write.forgotten.is_empty() {
        let ids = row::text(&write.forgotten)?;
        sqlx::query(FORGET_ACCOUNTS).bind(item.as_str()).bind(ids).execute(&mut *tx).await?;
    }
    if !write.accounts.is_empty() {
        let mut rows = Vec::with_capacity(write.accounts.len());
        for known in write.accounts.iter().map(|account| &account.known) {
            let (id, standing) = (&known.account.id, known.standing.as_str());
            rows.push((id, &known.partner_id, standing, row::text(&known.account)?));
        }
        let rows = row::text(&rows)?;
        sqlx::query(ACCOUNTS).bind(item.as_str()).bind(rows).execute(&mut *tx).await?;
    }
    if let Some((user, identities)) = &write.identities {
        let query = sqlx::query(IDENTITIES).bind(item.as_str()).bind(user.as_str());
        query.bind(row::text(identities)?).execute(tx).await?;
    }
    Ok(())
}

async fn write_securities(
    tx: &mut SqliteConnection,
    commit: &Commit,
    accounts: &AccountsWrite,
) -> Result<()> {
    let rows = accounts.securities.iter().chain(&commit.securities);
    let rows: BTreeMap<_, _> = rows
        .map(|security| Ok((security.id.as_str(), row::text(security)?)))
        .collect::<Result<_>>()?;
    if !rows.is_empty() {
        let query = sqlx::query(SECURITIES).bind(commit.item_id.as_str());
        query.bind(row::text(&rows)?).execute(tx).await?;
    }
    Ok(())
}

/// So many transactions go in by one statement. While one runs, SQLite keeps the pages in memory
/// that it would need to take it back.
const ROWS: usize = 500;

/// Transactions as JSON arrays, in the order of their ids.
struct Rows {
    written: Vec<String>,
    removed: Option<String>,
}

impl Rows {
    fn of(commit: &Commit) -> Result<Self> {
        // An id counts once, the last time that it is named.
        let merged = &commit.transactions;
        let writes: BTreeMap<&TransactionId, _> =
            merged.writes.iter().map(|write| (&write.known.id, write)).collect();
        let mut rows = Vec::with_capacity(writes.len());
        for (id, write) in &writes {
            let known = &write.known;
            rows.push((
                id,
                &known.partner_id,
                &known.account_id,
                known.amount.to_string(),
                hex(known.unit.as_bytes()),
                days(known.transacted),
                known.settled.map(days),
                known.description.map(|digest| hex(digest.as_bytes())),
                hex(known.digest.as_bytes()),
                micros(known.read_at),
                row::text(&write.row)?,
            ));
        }
        // What is removed and written is there.
        let removed = merged.removed.iter().map(|(_, id)| id);
        let removed: Vec<_> = removed.filter(|id| !writes.contains_key(id)).collect();
        let text = |empty: bool, text: Result<String>| (!empty).then_some(text).transpose();
        Ok(Self {
            written: rows.chunks(ROWS).map(|rows| row::text(&rows)).collect::<Result<_>>()?,
            removed: text(removed.is_empty(), row::text(&removed))?,
        })
    }

    fn size(&self) -> Size {
        if self.written.len() > 1 { Size::Large } else { Size::Small }
    }

    fn change(&self) -> bool {
        !self.written.is_empty() || self.removed.is_some()
    }

    async fn write(self, tx: &mut SqliteConnection, commit: &Commit, seq: i64) -> Result<()> {
        let item = commit.item_id.as_str();
        if let Some(removed) = self.removed {
            let query = sqlx::query(REMOVE).bind(item).bind(removed);
            query.bind(micros(commit.now)).bind(seq).execute(&mut *tx).await?;
        }
        for written in self.written {
            let query = sqlx::query(TRANSACTIONS).bind(item).bind(written).bind(seq);
            query.execute(&mut *tx).await?;
        }
        Ok(())
    }
}

/// The partner refused tokens of that version. When they are others by now, the user authorized
/// again meanwhile, and nothing is lost.
async fn drop_tokens(tx: &mut SqliteConnection, item: &ItemId, version: u64) -> Result<()> {
    let sql = "UPDATE tokens SET version = version + 1, key_id = NULL, sealed = NULL, \
               access_mac = NULL, refresh_mac = NULL WHERE item_id = ?1 AND version = ?2";
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

/// The connections of an Item that this version can read, by application.
pub(super) async fn connections(
    executor: impl SqliteExecutor<'_>,
    item: &ItemId,
) -> Result<Vec<Connection>> {
    let sql = "SELECT body FROM connections WHERE item_id = ?1 ORDER BY application_id";
    let rows = sqlx::query(sql).bind(item.as_str()).fetch_all(executor).await?;
    Ok(row::readable("connection", item, &rows, |row| row::record(row, "body")))
}

pub(super) async fn write_connection(
    tx: &mut SqliteConnection,
    item: &ItemId,
    connection: &Connection,
) -> Result<()> {
    let sql = "INSERT INTO connections (item_id, application_id, body) VALUES (?1, ?2, ?3) \
               ON CONFLICT (item_id, application_id) DO UPDATE SET body = excluded.body";
    sqlx::query(sql)
        .bind(item.as_str())
        .bind(connection.application_id.as_str())
        .bind(row::record_text(connection)?)
        .execute(tx)
        .await?;
    Ok(())
}
