//! Money as whole minor units (cents), and the amounts that the wire writes.

use px_types::{Amount, Unit};
use rust_decimal::Decimal;

/// The decimal places of a unit; two where ISO 4217 says nothing.
#[must_use]
pub fn scale_of(unit: &Unit) -> u32 {
    match unit {
        Unit::Iso(code) => code.exponent().map_or(2, u32::from).min(Amount::MAX_SCALE),
        Unit::NonIso(_) => 2,
    }
}

/// Minor units as an amount.
#[must_use]
pub fn amount(minor: i64, scale: u32) -> Amount {
    // 64 bits and at most six places always fit the grammar.
    Amount::new(Decimal::new(minor, scale)).unwrap_or(Amount::ZERO)
}

/// Cents as an amount.
#[must_use]
pub fn cents(cents: i64) -> Amount {
    amount(cents, 2)
}

/// `value × parts / whole`, rounded towards zero.
#[must_use]
pub fn share(value: i64, parts: i64, whole: i64) -> i64 {
    (i128::from(value) * i128::from(parts) / i128::from(whole.max(1))) as i64
}
