//! Times and dates in PostgreSQL's format.
//!
//! sqlx supports chrono's types, too, but then enables chrono's clock, and this crate must not use
//! the machine's clock.

use chrono::{DateTime, TimeDelta, Utc};
use px_types::Date;
use sqlx::{
    Database, Decode, Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{
        PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef, types::Oid,
    },
};

/// Object ids of the types. They never change in PostgreSQL.
const TIMESTAMPTZ: (u32, u32) = (1184, 1185);
const DATE: (u32, u32) = (1082, 1182);

/// A `timestamptz`: microseconds, truncated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) DateTime<Utc>);

/// A `date`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Day(pub(super) Date);

/// Returns the origin of PostgreSQL's times: the beginning of 2000.
fn epoch() -> Result<Date, BoxDynError> {
    Date::from_ymd(2000, 1, 1).ok_or_else(|| "the date does not exist".into())
}

fn epoch_moment() -> Result<DateTime<Utc>, BoxDynError> {
    let midnight = epoch()?.naive().and_hms_opt(0, 0, 0).ok_or("the time does not exist")?;
    Ok(midnight.and_utc())
}

macro_rules! typed {
    ($type:ident, $oids:ident) => {
        impl Type<Postgres> for $type {
            fn type_info() -> PgTypeInfo {
                PgTypeInfo::with_oid(Oid($oids.0))
            }
        }

        impl PgHasArrayType for $type {
            fn array_type_info() -> PgTypeInfo {
                PgTypeInfo::with_oid(Oid($oids.1))
            }
        }
    };
}

typed!(Moment, TIMESTAMPTZ);
typed!(Day, DATE);

impl Encode<'_, Postgres> for Moment {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let micros = self.0.timestamp_micros() - epoch_moment()?.timestamp_micros();
        Encode::<Postgres>::encode(micros, buffer)
    }
}

impl Decode<'_, Postgres> for Moment {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let micros: i64 = binary(value)?;
        let moment = epoch_moment()?.checked_add_signed(TimeDelta::microseconds(micros));
        moment.map(Self).ok_or_else(|| "a time is out of range".into())
    }
}

impl Encode<'_, Postgres> for Day {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(i32::try_from(self.0.days_since(epoch()?))?, buffer)
    }
}

impl Decode<'_, Postgres> for Day {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let days: i32 = binary(value)?;
        let distance = u64::from(days.unsigned_abs());
        let epoch = epoch()?;
        Ok(Self(if days < 0 { epoch.minus_days(distance) } else { epoch.plus_days(distance) }))
    }
}

/// Decodes a binary value. All dates are read by prepared statements, which return binary values.
fn binary<'r, T: Decode<'r, Postgres>>(
    value: <Postgres as Database>::ValueRef<'r>,
) -> Result<T, BoxDynError> {
    match value.format() {
        PgValueFormat::Binary => T::decode(value),
        PgValueFormat::Text => Err("a date was sent as text".into()),
    }
}
