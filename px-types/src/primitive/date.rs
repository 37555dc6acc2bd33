//! Dates and timestamps.
//!
//! A [`Date`] has no time zone and is never converted to one. An [`Iso8601`] is a date or a timestamp;
//! its date is the date as written.

use chrono::{DateTime, Datelike, Days, FixedOffset, NaiveDate, NaiveTime, Timelike, Utc};
use std::{fmt, str::FromStr};

/// An error while parsing a [`Date`], a [`Timestamp`] or an [`Iso8601`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDate {
    /// The text is not a calendar date.
    #[error("not a calendar date such as \"2018-08-28\"")]
    Date,
    /// The text is not a timestamp with an offset.
    #[error("not an RFC 3339 timestamp with an offset such as \"2018-08-28T10:15:00Z\"")]
    Timestamp,
    /// The text has more than nine digits of fractional seconds.
    #[error("more precise than a nanosecond")]
    Precision,
}

/// A calendar date, such as `2018-08-28`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Date(NaiveDate);

impl Date {
    /// Creates a date from year, month and day.
    ///
    /// Returns `None` if the day does not exist or the year is not in 0–9999.
    #[must_use]
    pub fn from_ymd(year: i32, month: u32, day: u32) -> Option<Self> {
        if !(0..=9999).contains(&year) {
            return None;
        }
        NaiveDate::from_ymd_opt(year, month, day).map(Self)
    }

    /// Returns the date as chrono type.
    #[must_use]
    pub fn naive(self) -> NaiveDate {
        self.0
    }

    /// Returns the date `days` later, at most 9999-12-31.
    #[must_use]
    pub fn plus_days(self, days: u64) -> Self {
        let last = Self::from_ymd(9999, 12, 31).unwrap_or(self);
        match self.0.checked_add_days(Days::new(days)) {
            Some(date) => Self(date).min(last),
            None => last,
        }
    }

    /// Returns the date `days` earlier, at least 0000-01-01.
    #[must_use]
    pub fn minus_days(self, days: u64) -> Self {
        let first = Self::from_ymd(0, 1, 1).unwrap_or(self);
        match self.0.checked_sub_days(Days::new(days)) {
            Some(date) => Self(date).max(first),
            None => first,
        }
    }

    /// Returns the number of days from `earlier` to this date; negative if `earlier` is later.
    #[must_use]
    pub fn days_since(self, earlier: Self) -> i64 {
        self.0.signed_duration_since(earlier.0).num_days()
    }
}

impl From<NaiveDate> for Date {
    /// Converts a date. Dates outside the years 0–9999 become the first or the last of these dates.
    fn from(date: NaiveDate) -> Self {
        match date.year() {
            0..=9999 => Self(date),
            ..0 => {
                Self(date).plus_days(0).max(Self(NaiveDate::from_ymd_opt(0, 1, 1).unwrap_or(date)))
            }
            _ => Self(date).plus_days(0),
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (y, m, d) = (self.0.year().unsigned_abs(), self.0.month(), self.0.day());
        let digit = |n: u32| b'0' + (n % 10) as u8;
        let text = [
            digit(y / 1000),
            digit(y / 100),
            digit(y / 10),
            digit(y),
            b'-',
            digit(m / 10),
            digit(m),
            b'-',
            digit(d / 10),
            digit(d),
        ];
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Date {
    type Err = InvalidDate;
    fn from_str(text: &str) -> Result<Self, InvalidDate> {
        let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *text.as_bytes() else {
            return Err(InvalidDate::Date);
        };
        let number = |digits: &[u8]| number(digits).ok_or(InvalidDate::Date);
        let year = number(&[y1, y2, y3, y4])?;
        let date = NaiveDate::from_ymd_opt(year as i32, number(&[m1, m2])?, number(&[d1, d2])?);
        date.map(Self).ok_or(InvalidDate::Date)
    }
}

/// Parses ASCII digits. Returns `None` if a byte is not a digit.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, digit| {
        digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0'))
    })
}

/// A point in time that keeps its offset and precision as written.
///
/// Timestamps are compared by instant: `10:00Z` equals `12:00+02:00`.
#[derive(Clone, Copy)]
pub struct Timestamp {
    at: DateTime<FixedOffset>,
    digits: u8,
    offset: Offset,
}

/// The spelling of the offset.
#[derive(Clone, Copy, PartialEq)]
enum Offset {
    Zulu,
    Positive,
    Negative,
}

impl Timestamp {
    /// Returns the instant with its offset.
    #[must_use]
    pub fn datetime(self) -> DateTime<FixedOffset> {
        self.at
    }

    /// Returns the instant in UTC.
    #[must_use]
    pub fn utc(self) -> DateTime<Utc> {
        self.at.with_timezone(&Utc)
    }

    /// Returns the date as written, independent of the offset.
    #[must_use]
    pub fn date(self) -> Date {
        Date::from(self.at.naive_local().date())
    }
}

impl From<DateTime<Utc>> for Timestamp {
    /// Converts an instant, truncated to milliseconds. Whole seconds are written without a fraction.
    fn from(at: DateTime<Utc>) -> Self {
        let millis = at.timestamp_subsec_millis();
        let at = at.with_nanosecond(millis * 1_000_000).unwrap_or(at);
        let digits = if millis == 0 { 0 } else { 3 };
        Self { at: at.fixed_offset(), digits, offset: Offset::Zulu }
    }
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Timestamp {}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl std::hash::Hash for Timestamp {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.at.hash(state);
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self.at.naive_local();
        // chrono represents a leap second as the second before it with at least 10^9 nanoseconds.
        let (second, nanos) = match local.nanosecond() {
            n @ 1_000_000_000.. => (60, n - 1_000_000_000),
            n => (local.second(), n),
        };
        // Every row of a page has a timestamp, and `write!` takes ten times as long.
        let mut text = [0_u8; 26];
        let mut length = 0;
        let mut push = |byte: u8| {
            text[length] = byte;
            length += 1;
        };
        let digit = |number: u32| b'0' + (number % 10) as u8;
        for (mark, number) in [(b'T', local.hour()), (b':', local.minute()), (b':', second)] {
            push(mark);
            push(digit(number / 10));
            push(digit(number));
        }
        if self.digits > 0 {
            push(b'.');
            for place in 0..u32::from(self.digits) {
                push(digit(nanos / 10_u32.pow(8 - place)));
            }
        }
        let minutes = self.at.offset().local_minus_utc().unsigned_abs() / 60;
        match self.offset {
            Offset::Zulu => push(b'Z'),
            Offset::Positive | Offset::Negative => {
                push(if self.offset == Offset::Positive { b'+' } else { b'-' });
                push(digit(minutes / 600));
                push(digit(minutes / 60));
                push(b':');
                push(digit(minutes % 60 / 10));
                push(digit(minutes % 60));
            }
        }
        fmt::Display::fmt(&self.date(), f)?;
        f.write_str(std::str::from_utf8(&text[..length]).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidDate;
    fn from_str(text: &str) -> Result<Self, InvalidDate> {
        const BAD: InvalidDate = InvalidDate::Timestamp;
        let date: Date = text.get(..10).ok_or(BAD)?.parse().map_err(|_| BAD)?;
        let rest = &text.as_bytes()[10..];
        let [b'T' | b't', h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = rest else {
            return Err(BAD);
        };
        let [hour, minute, second] = [[*h1, *h2], [*m1, *m2], [*s1, *s2]].map(|two| number(&two));
        let (hour, minute, second) = (hour.ok_or(BAD)?, minute.ok_or(BAD)?, second.ok_or(BAD)?);
        let (fraction, rest) = match rest {
            [b'.', after @ ..] => {
                let end = after.iter().position(|b| !b.is_ascii_digit()).ok_or(BAD)?;
                after.split_at(end)
            }
            _ => (&[][..], rest),
        };
        if fraction.len() > 9 {
            return Err(InvalidDate::Precision);
        }
        if rest.len() < text.len() - 19 && fraction.is_empty() {
            return Err(BAD);
        }
        let digits = fraction.len() as u8;
        let nanos = number(fraction).ok_or(BAD)? * 10_u32.pow(9 - u32::from(digits));
        let (offset, seconds) = match rest {
            [b'Z' | b'z'] => (Offset::Zulu, 0),
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
                let hours = number(&[*h1, *h2]).filter(|h| *h < 24).ok_or(BAD)? as i32;
                let minutes = number(&[*m1, *m2]).filter(|m| *m < 60).ok_or(BAD)? as i32;
                let seconds = (hours * 60 + minutes) * 60;
                if *sign == b'+' {
                    (Offset::Positive, seconds)
                } else {
                    (Offset::Negative, -seconds)
                }
            }
            _ => return Err(BAD),
        };
        let time = match second {
            // Like RFC 3339, chrono accepts a leap second at the end of any minute.
            60 => NaiveTime::from_hms_nano_opt(hour, minute, 59, nanos + 1_000_000_000),
            _ => NaiveTime::from_hms_nano_opt(hour, minute, second, nanos),
        };
        let local = date.naive().and_time(time.ok_or(BAD)?);
        let zone = FixedOffset::east_opt(seconds).ok_or(BAD)?;
        let at = local.and_local_timezone(zone).single().ok_or(BAD)?;
        Ok(Self { at, digits, offset })
    }
}

/// A date or a timestamp. A value that was read as a date is written as a date.
///
/// Contract: `px.md` section 1, `iso8601`.
///
/// ```
/// use px_types::Iso8601;
/// let late: Iso8601 = "2018-08-28T23:30:00-05:00".parse()?;
/// assert_eq!(late.date().to_string(), "2018-08-28");
/// # Ok::<(), px_types::InvalidDate>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Iso8601 {
    /// A calendar date.
    Date(Date),
    /// A point in time.
    Timestamp(Timestamp),
}

impl Iso8601 {
    /// Returns the date as written, independent of the offset.
    #[must_use]
    pub fn date(self) -> Date {
        match self {
            Self::Date(date) => date,
            Self::Timestamp(timestamp) => timestamp.date(),
        }
    }
}

impl From<Date> for Iso8601 {
    fn from(date: Date) -> Self {
        Self::Date(date)
    }
}

impl From<Timestamp> for Iso8601 {
    fn from(timestamp: Timestamp) -> Self {
        Self::Timestamp(timestamp)
    }
}

impl fmt::Display for Iso8601 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Date(date) => date.fmt(f),
            Self::Timestamp(timestamp) => timestamp.fmt(f),
        }
    }
}

impl FromStr for Iso8601 {
    type Err = InvalidDate;
    fn from_str(text: &str) -> Result<Self, InvalidDate> {
        if text.len() == 10 {
            text.parse().map(Self::Date)
        } else {
            text.parse().map(Self::Timestamp)
        }
    }
}

macro_rules! date_text {
    ($($name:ident: $expected:literal, $format:tt;)+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                crate::wire::from_text(d, $expected, str::parse)
            }
        }

        #[cfg(feature = "openapi")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($format)
            }
        }
    )+};
}

date_text! {
    Date: "a date (a string such as \"2018-08-28\")", { "type": "string", "format": "date" };
    Timestamp: "a timestamp (a string)", { "type": "string", "format": "date-time" };
    Iso8601: "a date or a timestamp (a string)", {
        "type": "string",
        "description": "a date (2018-08-28) or an RFC 3339 timestamp with offset",
        "examples": ["2018-08-28", "2018-08-28T10:15:00+02:00"]
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_read_is_written() {
        for text in [
            "2018-08-28",
            "0000-01-01",
            "9999-12-31",
            "2018-08-28T10:15:00Z",
            "2018-08-28T10:15:00.5Z",
            "2018-08-28T10:15:00.123456789+02:00",
            "2018-08-28T10:15:00-00:00",
            "2018-08-28T10:15:00+00:00",
            "2016-12-31T23:59:60Z",
            "2018-08-28T23:59:59.000-11:30",
        ] {
            let value: Iso8601 = text.parse().unwrap();
            assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "2018-8-28",
            "2018-02-30",
            "2018-13-01",
            "+2018-08-2",
            "2018-08-28T10:15:00",
            "2018-08-28 10:15:00Z",
            "2018-08-28T25:00:00Z",
            "2018-08-28T10:15Z",
            "2018-08-28T10:15:00.Z",
            "2018-08-28T10:15:00+2",
            "2018-08-28T10:15:00+24:00",
            "2018-08-28T10:15:00.1234567890Z",
            "20180828",
            "2018-08-2é",
            "2018-08-28T10:15:00.5",
            "2018-08-28T10:15:61Z",
        ] {
            assert!(text.parse::<Iso8601>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_written_date_counts() {
        let late: Timestamp = "2018-08-28T23:30:00-11:00".parse().unwrap();
        assert_eq!(late.date(), Date::from_ymd(2018, 8, 28).unwrap());
        assert_eq!(late, "2018-08-29T10:30:00Z".parse().unwrap());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<Iso8601>();
        }

        #[test]
        fn timestamps_survive(
            text in r"(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T(0[0-9]|1[0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])"
        ) {
            prop_assert_eq!(text.parse::<Iso8601>().unwrap().to_string(), text);
        }
    }
}
