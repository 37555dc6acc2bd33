//! Conversion of rows.

use super::{
    failure::{Failure, Result},
    time::{Day, Moment},
};
use crate::{
    item::State,
    merge::{AccountStanding, Digest, KnownAccount, KnownTransaction},
    metrics,
    store::{
        Fence, ItemRecord, ListedItem, StoreError, UnreadableItem,
        unknown_fields::{self, PreservesUnknownFields},
    },
};
use chrono::{DateTime, Utc};
use px_types::Date;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row as _, postgres::PgRow};
use std::{fmt, str::FromStr};

/// The columns of an Item, from `items AS i`.
///
/// The oldest pending date is computed and not stored, so that it cannot become inconsistent. An
/// index of the few pending transactions makes it cheap.
macro_rules! item_columns {
    () => {
        "i.item_id, i.institution_id, i.user_id, i.created_at, i.state, i.life, i.fence, i.due_at, \
         i.leased_until, i.not_before, i.notified, i.notified_since, i.change_seq, \
         i.needs_transactions, i.cycle_tokens, i.refresh_begun_at, i.lost_leases, \
         (SELECT min(t.transacted) FROM transactions t WHERE t.item_id = i.item_id \
          AND t.settled IS NULL AND t.removed_at IS NULL AND NOT EXISTS (SELECT 1 FROM accounts a \
              WHERE a.item_id = t.item_id AND a.account_id = t.account_id \
              AND a.standing = 'closed')) AS oldest_pending"
    };
}
pub(super) use item_columns;

/// The columns of a known transaction.
macro_rules! known_columns {
    () => {
        "transaction_id, partner_id, account_id, amount, unit, transacted, settled, description, \
         digest, read_at, removed_at"
    };
}
pub(super) use known_columns;

/// Logs that a stored row cannot be read, with its id but without its contents.
pub(super) fn unreadable(what: &'static str, id: impl fmt::Display, why: impl fmt::Display) {
    tracing::error!(what, %id, %why, "a stored row cannot be read; it is left as it is");
    metrics::unreadable(what);
}

/// Reads rows one by one and skips those that cannot be read.
pub(super) fn readable<T>(
    what: &'static str,
    id: impl fmt::Display,
    rows: &[PgRow],
    read: impl Fn(&PgRow) -> Result<T>,
) -> Vec<T> {
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        match read(row) {
            Ok(one) => all.push(one),
            Err(why) => unreadable(what, &id, why),
        }
    }
    all
}

/// Reads an Item of a listing, readable or not.
pub(super) fn listed(row: &PgRow) -> Result<ListedItem> {
    item(row).map(|record| ListedItem::Readable(Box::new(record))).or_else(|why| {
        let id = parsed(row, "item_id")?;
        Ok(ListedItem::Unreadable(UnreadableItem::new(id, StoreError::from(why).to_string())))
    })
}

pub(super) fn item(row: &PgRow) -> Result<ItemRecord> {
    let state: &str = row.try_get("state")?;
    Ok(ItemRecord {
        id: parsed(row, "item_id")?,
        institution_id: parsed(row, "institution_id")?,
        user_id: parsed(row, "user_id")?,
        created_at: moment(row, "created_at")?,
        state: State::from_name(state).ok_or_else(|| Failure::corrupt("state"))?,
        sync_state: record(row, "life")?,
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
        unit: utf8(row, "unit")?,
        transacted: row.try_get::<Day, _>("transacted")?.0,
        settled: date(row, "settled")?,
        description: description.map(digest).transpose()?,
        digest: digest(row.try_get("digest")?)?,
        read_at: moment(row, "read_at")?,
        removed_at: moment_if_any(row, "removed_at")?,
    })
}

/// Reads a text that may contain any character. PostgreSQL does not accept NUL in a `text`.
fn utf8(row: &PgRow, column: &'static str) -> Result<String> {
    let bytes: &[u8] = row.try_get(column)?;
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Failure::corrupt(column))
}

fn digest(bytes: &[u8]) -> Result<Digest> {
    Digest::from_bytes(bytes).ok_or_else(|| Failure::corrupt("digest"))
}

/// Parses an id or an amount.
pub(super) fn parsed<T: FromStr>(row: &PgRow, column: &'static str) -> Result<T> {
    row.try_get::<&str, _>(column)?.parse().map_err(|_| Failure::corrupt(column))
}

/// Reads a message. serde's error is omitted, because it can quote the message.
pub(super) fn json<T: DeserializeOwned>(row: &PgRow, column: &'static str) -> Result<T> {
    serde_json::from_str(row.try_get(column)?).map_err(|_| Failure::corrupt(column))
}

/// Reads a record of this program, including fields that only another version knows.
pub(super) fn record<T: PreservesUnknownFields>(row: &PgRow, column: &'static str) -> Result<T> {
    unknown_fields::read(row.try_get(column)?).ok_or_else(|| Failure::corrupt(column))
}

/// Serializes a record of this program.
pub(super) fn record_text(record: &impl PreservesUnknownFields) -> Result<String> {
    unknown_fields::write(record).ok_or_else(|| Failure::unserializable("record"))
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

/// Serializes a message.
pub(super) fn text(message: &impl Serialize) -> Result<String> {
    serde_json::to_string(message).map_err(|_| Failure::unserializable("message"))
}
