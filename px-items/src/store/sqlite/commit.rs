//! Commits: one transaction, with one statement for each kind of row.

use super::{
    SqliteStore,
    group_commit::JobSize,
    queues, review,
    row::{self, Failure, Result, days, hex, micros},
};
use crate::{
    connection::Connection,
    merge::AccountStanding,
    store::{AccountsWrite, Commit, LeaseOutcome, StoreError, StoreErrorKind, StoreOptions, rules},
};
use futures_util::FutureExt as _;
use px_types::{AccountId, ItemId, TransactionId};
use sqlx::{Row as _, SqliteConnection, SqliteExecutor};
use std::collections::BTreeMap;

/// Updates the Item's row. It comes first: if the fencing token is outdated, nothing else is
/// written. With `?6` the lease continues until then. Otherwise it ends: `?7` is the due time, `?8`
/// the earliest time of the next update, `?9` the number of notifications seen, `?10` whether the
/// Item is not scheduled regardless of notifications, and `?11` the present time.
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

/// With a bare `removed_at` SQLite would scan all dates of the Item.
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
    -- A removed row is added again.
    added_seq = iif(removed_at IS NULL, added_seq, excluded.added_seq),
    -- A change of the partner's id does not change what applications read.
    changed_seq = iif(removed_at IS NULL AND digest = excluded.digest, changed_seq,
        excluded.changed_seq)";

impl SqliteStore {
    pub(super) async fn store(&self, commit: Commit) -> Result<()> {
        // Rows are prepared before the only writer is occupied.
        let rows = Rows::of(&commit)?;
        let (size, options) = (rows.size(), self.options.clone());
        let written = self
            .write_queue
            .write(&self.writer, size, move |tx| write(tx, options, commit, rows).boxed());
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
    if accounts.extends_connections() {
        extend_connections(tx, item, accounts).await?;
    }
    write_accounts(tx, item, accounts).await?;
    write_securities(tx, &commit, accounts).await?;
    rows.write(tx, &commit, seq).await?;
    review::write(tx, &commit).await?;
    if let Some(version) = commit.refused_tokens {
        drop_tokens(tx, item, version).await?;
    }
    if !commit.changes.is_empty() {
        let connections = connections(&mut *tx, item).await?;
        let entries = rules::compose(&commit.changes, (item, &options.environment), &connections)?;
        let entries: Vec<_> = entries.into_iter().map(|webhook| (item, webhook)).collect();
        queues::put(tx, &*options.vault, &entries, commit.now).await?;
    }
    Ok(())
}

/// Writes the Item's row. Returns its new number of changes.
async fn write_item(tx: &mut SqliteConnection, commit: &Commit, changes: bool) -> Result<i64> {
    let (lease, due_at, not_before, seen) = match commit.lease {
        LeaseOutcome::Keep { lease_until } => (Some(lease_until), None, None, 0),
        LeaseOutcome::Release { due_at, not_before, seen } => (None, due_at, not_before, seen),
    };
    let row = sqlx::query(ITEM)
        .bind(commit.item_id.as_str())
        .bind(commit.fence.0)
        .bind(commit.state.as_str())
        .bind(row::record_text(&commit.sync_state)?)
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

/// Updates the connections that new accounts affect. This depends on the earlier accounts, so it
/// comes before the accounts are written.
async fn extend_connections(
    tx: &mut SqliteConnection,
    item: &ItemId,
    accounts: &AccountsWrite,
) -> Result<()> {
    let sql = "SELECT account_id FROM accounts WHERE item_id = ?1 AND standing <> ?2";
    let query = sqlx::query(sql).bind(item.as_str()).bind(AccountStanding::Held.as_str());
    let rows = query.fetch_all(&mut *tx).await?;
    let present = rows.iter().map(|row| row::parsed(row, "account_id"));
    let present = present.collect::<Result<Vec<AccountId>>>()?;
    let mut connections = connections(&mut *tx, item).await?;
    for connection in rules::extend_connections(&mut connections, accounts, &present) {
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

/// Number of transactions that one statement writes. While it runs, SQLite keeps in memory the
/// pages that a rollback needs.
const ROWS: usize = 500;

/// Transactions as JSON arrays, ordered by id.
struct Rows {
    written: Vec<String>,
    removed: Option<String>,
}

impl Rows {
    fn of(commit: &Commit) -> Result<Self> {
        // If an id occurs several times, the last one counts.
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
        // A transaction that is both removed and written exists afterwards.
        let removed = merged.removed.iter().map(|(_, id)| id);
        let removed: Vec<_> = removed.filter(|id| !writes.contains_key(id)).collect();
        let text = |empty: bool, text: Result<String>| (!empty).then_some(text).transpose();
        Ok(Self {
            written: rows.chunks(ROWS).map(|rows| row::text(&rows)).collect::<Result<_>>()?,
            removed: text(removed.is_empty(), row::text(&removed))?,
        })
    }

    fn size(&self) -> JobSize {
        if self.written.len() > 1 { JobSize::Large } else { JobSize::Small }
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

/// Deletes tokens of a version that the partner refused. Fails if the Item has other tokens,
/// because then the user authorized again meanwhile.
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

/// Returns the connections of an Item that this version can read, ordered by application.
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
