//! Conversion of rows, and failures of the database.

use crate::{
    item::{Event, State, step},
    merge::{AccountStanding, Digest, KnownAccount, KnownTransaction},
    metrics,
    store::{
        Fence, ItemRecord, ListedItem, StoreError, StoreErrorKind, UnreadableItem,
        unknown_fields::{self, PreservesUnknownFields},
    },
};
use chrono::{DateTime, Utc};
use px_types::Date;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row as _, sqlite::SqliteRow};
use std::{collections::BTreeMap, fmt, str::FromStr};

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

/// A failure of a call.
#[derive(Debug)]
pub(super) enum Failure {
    /// An error that is returned as it is.
    Store(StoreError),
    /// A failure of the database.
    Database(sqlx::Error),
}

pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// Creates the failure of a stored value that cannot be read.
    pub(super) fn corrupt(what: &str) -> Self {
        let what = format!("a stored {what} cannot be read");
        Self::Store(StoreError::new(StoreErrorKind::Corrupt, what))
    }

    /// Creates the failure of a value that cannot be serialized.
    pub(super) fn unserializable(what: &str) -> Self {
        let what = format!("a {what} cannot be serialized");
        Self::Store(StoreError::new(StoreErrorKind::Corrupt, what))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            // Names the column only: sqlx's message can contain the value.
            Self::Database(sqlx::Error::ColumnDecode { index, .. }) => {
                write!(f, "the stored column {index} cannot be read")
            }
            Self::Database(_) => f.write_str("the database failed"),
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(error) => error,
            // A constraint violation is not resolved by a retry. SQLite's messages name columns and
            // never contain values.
            Failure::Database(error @ sqlx::Error::Database(_))
                if error.as_database_error().is_some_and(|e| e.is_check_violation()) =>
            {
                let what = "the database refused a value that violates a constraint";
                Self::new(StoreErrorKind::Corrupt, what).caused_by(error)
            }
            // Names the column only: sqlx's message can contain the value.
            Failure::Database(sqlx::Error::ColumnDecode { index, .. }) => {
                let what = format!("the stored column {index} cannot be read");
                Self::new(StoreErrorKind::Corrupt, what)
            }
            Failure::Database(error) => {
                let what = "the database file cannot be used; check that the disk is not full and \
                            that no other program locks it";
                Self::new(StoreErrorKind::Unavailable, what).caused_by(error)
            }
        }
    }
}

/// Logs that a stored row cannot be read, with its id but without its contents.
pub(super) fn unreadable(what: &'static str, id: impl fmt::Display, why: impl fmt::Display) {
    tracing::error!(what, %id, %why, "a stored row cannot be read; it is left as it is");
    metrics::unreadable(what);
}

/// Reads rows one by one and skips those that cannot be read.
pub(super) fn readable<T>(
    what: &'static str,
    id: impl fmt::Display,
    rows: &[SqliteRow],
    read: impl Fn(&SqliteRow) -> Result<T>,
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
pub(super) fn listed(row: &SqliteRow) -> Result<ListedItem> {
    item(row).map(|record| ListedItem::Readable(Box::new(record))).or_else(|why| {
        let id = parsed(row, "item_id")?;
        Ok(ListedItem::Unreadable(UnreadableItem::new(id, StoreError::from(why).to_string())))
    })
}

pub(super) fn item(row: &SqliteRow) -> Result<ItemRecord> {
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
        notified_since: date_if_any(row, "notified_since")?,
        change_seq: row.try_get("change_seq")?,
        oldest_pending: date_if_any(row, "oldest_pending")?,
        needs_transactions: row.try_get("needs_transactions")?,
        cycle_tokens: row.try_get("cycle_tokens")?,
        refresh_begun_at: moment_if_any(row, "refresh_begun_at")?,
        lost_leases: row.try_get("lost_leases")?,
        took_over: false,
    })
}

pub(super) fn account(row: &SqliteRow) -> Result<KnownAccount> {
    let standing = AccountStanding::from_name(row.try_get("standing")?)
        .ok_or_else(|| Failure::corrupt("standing"))?;
    Ok(KnownAccount::new(json(row, "body")?, parsed(row, "partner_id")?, standing))
}

pub(super) fn known(row: &SqliteRow) -> Result<KnownTransaction> {
    let description: Option<&[u8]> = row.try_get("description")?;
    Ok(KnownTransaction {
        id: parsed(row, "transaction_id")?,
        partner_id: parsed(row, "partner_id")?,
        account_id: parsed(row, "account_id")?,
        amount: parsed(row, "amount")?,
        unit: utf8(row, "unit")?,
        transacted: date(row.try_get("transacted")?)?,
        settled: date_if_any(row, "settled")?,
        description: description.map(digest).transpose()?,
        digest: digest(row.try_get("digest")?)?,
        read_at: moment(row, "read_at")?,
        removed_at: moment_if_any(row, "removed_at")?,
    })
}

/// Reads a text that may contain any character. SQLite's JSON would truncate it at a NUL.
fn utf8(row: &SqliteRow, column: &'static str) -> Result<String> {
    let bytes: &[u8] = row.try_get(column)?;
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Failure::corrupt(column))
}

fn digest(bytes: &[u8]) -> Result<Digest> {
    Digest::from_bytes(bytes).ok_or_else(|| Failure::corrupt("digest"))
}

/// Parses an id or an amount.
pub(super) fn parsed<T: FromStr>(row: &SqliteRow, column: &'static str) -> Result<T> {
    row.try_get::<&str, _>(column)?.parse().map_err(|_| Failure::corrupt(column))
}

/// Reads a message. serde's error is omitted, because it can quote the message.
pub(super) fn json<T: DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T> {
    serde_json::from_str(row.try_get(column)?).map_err(|_| Failure::corrupt(column))
}

/// Reads a record of this program, including fields that only another version knows.
pub(super) fn record<T: PreservesUnknownFields>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<T> {
    unknown_fields::read(row.try_get(column)?).ok_or_else(|| Failure::corrupt(column))
}

/// Serializes a record of this program.
pub(super) fn record_text(record: &impl PreservesUnknownFields) -> Result<String> {
    unknown_fields::write(record).ok_or_else(|| Failure::unserializable("record"))
}

/// Serializes a message.
pub(super) fn text(message: &impl Serialize) -> Result<String> {
    serde_json::to_string(message).map_err(|_| Failure::unserializable("message"))
}

/// Converts a time to its stored form: microseconds, truncated.
pub(super) fn micros(moment: DateTime<Utc>) -> i64 {
    moment.timestamp_micros()
}

pub(super) fn moment(row: &SqliteRow, column: &'static str) -> Result<DateTime<Utc>> {
    DateTime::from_timestamp_micros(row.try_get(column)?).ok_or_else(|| Failure::corrupt(column))
}

pub(super) fn moment_if_any(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<DateTime<Utc>>> {
    match row.try_get::<Option<i64>, _>(column)? {
        None => Ok(None),
        Some(_) => moment(row, column).map(Some),
    }
}

/// Converts a date to its stored form: days since 1970.
pub(super) fn days(date: Date) -> i64 {
    date.days_since(epoch())
}

fn date(days: i64) -> Result<Date> {
    Ok(match u64::try_from(days) {
        Ok(after) => epoch().plus_days(after),
        Err(_) => epoch().minus_days(days.unsigned_abs()),
    })
}

fn date_if_any(row: &SqliteRow, column: &'static str) -> Result<Option<Date>> {
    row.try_get::<Option<i64>, _>(column)?.map(date).transpose()
}

fn epoch() -> Date {
    DateTime::UNIX_EPOCH.date_naive().into()
}

/// Returns the state transitions of an event as a JSON object from state to state. The state
/// machine decides them, not SQL.
pub(super) fn moves(event: Event) -> Result<String> {
    let all = State::ALL.into_iter();
    let moves: BTreeMap<_, _> =
        all.filter_map(|from| Some((from.as_str(), step(from, event).ok()?.0.as_str()))).collect();
    text(&moves)
}

/// Converts a limit to SQL.
pub(super) fn rows_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn count(row: &SqliteRow, column: &'static str) -> Result<u64> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| Failure::corrupt(column))
}

/// Encodes bytes for SQLite's `unhex`, because they pass through JSON.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    halves.map(|half| char::from(DIGITS[usize::from(half)])).collect()
}
