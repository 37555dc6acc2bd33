//! Rows, as what they mean.

use super::{
    failure::{Failure, Result},
    time::{Day, Moment},
};
use crate::{
    item::State,
    merge::{AccountStanding, Digest, KnownAccount, KnownTransaction},
    store::{Fence, ItemRecord},
};
use chrono::{DateTime, Utc};
use px_types::Date;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row as _, postgres::PgRow};
use std::str::FromStr;

/// The columns of an Item, from `items AS i`.
///
/// The oldest pending date is looked up and not kept, so that nothing has to keep it right; an
/// index of the few that are pending answers it.
macro_rules! item_columns {
    () => {
        "i.item_id, i.institution_id, i.user_id, i.created_at, i.state, i.life, i.fence, i.due_at, \
         i.leased_until, i.not_before, i.notified, i.notified_since, i.change_seq, \
         i.needs_transactions, i.cycle_tokens, i.refresh_begun_at, i.lost_leases, \
         (SELECT min(t.transacted) FROM transactions t WHERE t.item_id = i.item_id \
          AND t.settled IS NULL AND t.removed_at IS NULL) AS oldest_pending"
    };
}
pub(super) use item_columns;

/// The columns of what is known of a transaction.
macro_rules! known_columns {
    () => {
        "transaction_id, partner_id, account_id, amount, unit, transacted, settled, description, \
         digest, read_at, removed_at"
    };
}
pub(super) use known_columns;

pub(super) fn item(row: &PgRow) -> Result<ItemRecord> {
    let state: &str = row.try_get("state")?;
    Ok(ItemRecord {
        id: parsed(row, "item_id")?,
        institution_id: parsed(row, "institution_id")?,
        user_id: parsed(row, "user_id")?,
        created_at: moment(row, "created_at")?,
        state: State::from_name(state).ok_or_else(|| Failure::corrupt("state"))?,
        life: json(row, "life")?,
        fence: Fence(row.try_get("fence")?),
        due_at: moment_if_any(row, "due_at")?,
        leased_until: moment_if_any(row, "leased_until")?,
        not_before: moment_if_any(row, "not_before")?,
        notified: row.try_get("notified")?,
        notified_since: date(row, "notified_since")?,
        change_seq: row.try_get("change_seq")?,
        oldest_pending: date(row, "oldest_pending")?,
        needs_transactions: row.try_get("needs_transactions")?,
        cycle_tokens: row.try_get("cycle_tokens")?,
        refresh_begun_at: moment_if_any(row, "refresh_begun_at")?,
        lost_leases: row.try_get::<i32, _>("lost_leases")?.unsigned_abs(),
        took_over: false,
    })
}

pub(super) fn account(row: &PgRow) -> Result<KnownAccount> {
    let standing = AccountStanding::from_name(row.try_get("standing")?)
        .ok_or_else(|| Failure::corrupt("standing"))?;
    Ok(KnownAccount::new(json(row, "body")?, parsed(row, "partner_id")?, standing))
}

pub(super) fn known(row: &PgRow) -> Result<KnownTransaction> {
    let description: Option<&[u8]> = row.try_get("description")?;
    Ok(KnownTransaction {
        id: parsed(row, "transaction_id")?,
        partner_id: parsed(row, "partner_id")?,
        account_id: parsed(row, "account_id")?,
        amount: parsed(row, "amount")?,
        unit: row.try_get("unit")?,
        transacted: row.try_get::<Day, _>("transacted")?.0,
        settled: date(row, "settled")?,
        description: description.map(digest).transpose()?,
        digest: digest(row.try_get("digest")?)?,
        read_at: moment(row, "read_at")?,
        removed_at: moment_if_any(row, "removed_at")?,
    })
}

fn digest(bytes: &[u8]) -> Result<Digest> {
    Digest::from_bytes(bytes).ok_or_else(|| Failure::corrupt("digest"))
}

/// An id, an amount: what has a text of its own.
pub(super) fn parsed<T: FromStr>(row: &PgRow, column: &'static str) -> Result<T> {
    row.try_get::<&str, _>(column)?.parse().map_err(|_| Failure::corrupt(column))
}

/// A message. What serde says of a broken one is left out: it can quote it.
pub(super) fn json<T: DeserializeOwned>(row: &PgRow, column: &'static str) -> Result<T> {
    serde_json::from_str(row.try_get(column)?).map_err(|_| Failure::corrupt(column))
}

fn date(row: &PgRow, column: &'static str) -> Result<Option<Date>> {
    Ok(row.try_get::<Option<Day>, _>(column)?.map(|day| day.0))
}

pub(super) fn moment(row: &PgRow, column: &'static str) -> Result<DateTime<Utc>> {
    Ok(row.try_get::<Moment, _>(column)?.0)
}

pub(super) fn moment_if_any(row: &PgRow, column: &'static str) -> Result<Option<DateTime<Utc>>> {
    Ok(row.try_get::<Option<Moment>, _>(column)?.map(|moment| moment.0))
}

/// A message as text.
pub(super) fn text(message: &impl Serialize) -> Result<String> {
    serde_json::to_string(message).map_err(|_| Failure::corrupt("message (it was to be written)"))
}
