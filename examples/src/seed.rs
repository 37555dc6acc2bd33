//! The bank's generated customers: people, accounts and daily transactions.
//!
//! Everything here is a pure function of the seed, the bank's first day and a date. A ledger that
//! is filled at once therefore equals one that is advanced to the same date day by day.

pub mod account;
pub mod codes;
pub mod drift;
pub mod event;
pub mod household;
pub mod money;
pub mod names;
mod purchase;
pub mod rng;
pub mod security;
pub mod transaction;

use chrono::{Datelike, NaiveDate};
use px_types::Date;

/// A date as days since 1970-01-01, for arithmetic and the database.
pub type Day = i64;

/// The number of days of history of a new bank.
pub const HISTORY_DAYS: Day = 730;
/// Maximum number of days between a transaction and its posting.
pub const MAX_PENDING_DAYS: Day = 5;

/// Returns the day number of a date.
#[must_use]
pub fn day_of(date: Date) -> Day {
    date.naive().signed_duration_since(NaiveDate::default()).num_days()
}

/// Returns the date of a day number.
#[must_use]
pub fn date_of(day: Day) -> Date {
    let epoch = Date::from(NaiveDate::default());
    if day < 0 { epoch.minus_days(day.unsigned_abs()) } else { epoch.plus_days(day.unsigned_abs()) }
}

/// A day of the calendar.
#[derive(Clone, Copy, Debug)]
pub struct Calendar {
    /// The day of the month, from 1.
    pub day: u32,
    /// The month, from 1.
    pub month: u32,
    /// The year.
    pub year: i32,
    /// Whether it is the last day of the month.
    pub month_ends: bool,
}

impl Calendar {
    /// Returns the calendar day of a day number.
    #[must_use]
    pub fn of(day: Day) -> Self {
        let date = date_of(day).naive();
        Self {
            day: date.day(),
            month: date.month(),
            year: date.year(),
            month_ends: date.succ_opt().is_none_or(|next| next.day() == 1),
        }
    }
}
