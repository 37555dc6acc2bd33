//! Conversions between minor units (cents) and the amounts of the wire.

use px_types::{Amount, Unit};
use rust_decimal::Decimal;

/// Returns the number of decimal places of a unit; two if ISO 4217 has none.
#[must_use]
pub fn scale_of(unit: &Unit) -> u32 {
    match unit {
        Unit::Iso(code) => code.exponent().map_or(2, u32::from).min(Amount::MAX_SCALE),
        Unit::NonIso(_) => 2,
    }
}

/// Converts minor units to an amount.
#[must_use]
pub fn amount(minor: i64, scale: u32) -> Amount {
    // 64 bits and at most six places always fit the grammar.
    Amount::new(Decimal::new(minor, scale)).unwrap_or(Amount::ZERO)
}

/// Converts cents to an amount.
#[must_use]
pub fn cents(cents: i64) -> Amount {
    amount(cents, 2)
}

/// Returns `value × parts / whole`, rounded towards zero.
#[must_use]
pub fn share(value: i64, parts: i64, whole: i64) -> i64 {
    (i128::from(value) * i128::from(parts) / i128::from(whole.max(1))) as i64
}
