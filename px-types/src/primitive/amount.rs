//! Fixed-point decimals: [`Amount`] and [`Rate`].
//!
//! Both are parsed from JSON strings, keep every digit and their scale, and never pass through a
//! float. An amount can have more decimal places than the contract allows (18 instead of 6), because
//! no digit of a cryptocurrency balance may be lost. The validator reports amounts beyond the contract.

use rust_decimal::Decimal;
use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

/// Maximum number of digits before and after the point. A `Decimal` holds any 28 digits exactly.
const MAX_DIGITS: usize = 28;

/// An error while parsing or converting an [`Amount`] or a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidNumber {
    /// The text is not `-?(0|[1-9][0-9]*)(\.[0-9]+)?`.
    #[error("not a fixed-point decimal such as \"-12.50\" (no exponent, no `+`, no leading zeros)")]
    Grammar,
    /// The number has more decimal places than its type allows.
    #[error("too many decimal places: at most {0}")]
    Scale(u32),
    /// The number has more than 28 digits in all.
    #[error("too many digits: at most 28 in all")]
    Digits,
}

/// A decimal that also keeps the sign of `-0.00`, which `Decimal` loses.
#[derive(Clone, Copy)]
struct FixedPoint {
    value: Decimal,
    negative_zero: bool,
}

impl FixedPoint {
    fn parse(text: &str, max_scale: u32) -> Result<Self, InvalidNumber> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (integer, fraction) = match digits.split_once('.') {
            Some((_, "")) => return Err(InvalidNumber::Grammar),
            Some((integer, fraction)) => (integer, fraction),
            None => (digits, ""),
        };
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if integer.is_empty() || !all_digits(integer) || !all_digits(fraction) {
            return Err(InvalidNumber::Grammar);
        }
        if integer.len() > 1 && integer.starts_with('0') {
            return Err(InvalidNumber::Grammar);
        }
        // Check the lengths before any arithmetic.
        if fraction.len() > max_scale as usize {
            return Err(InvalidNumber::Scale(max_scale));
        }
        if integer.len() + fraction.len() > MAX_DIGITS {
            return Err(InvalidNumber::Digits);
        }
        let scale = fraction.len() as u32;
        let mantissa = integer
            .bytes()
            .chain(fraction.bytes())
            .fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
        let signed = if negative { -mantissa } else { mantissa };
        Ok(Self {
            value: Decimal::from_i128_with_scale(signed, scale),
            negative_zero: negative && mantissa == 0,
        })
    }

    /// Converts a decimal without rounding. Only trailing zeros may be removed.
    fn exact(value: Decimal, max_scale: u32) -> Result<Self, InvalidNumber> {
        if value.scale() > max_scale {
            let normal = value.normalize();
            if normal.scale() > max_scale {
                return Err(InvalidNumber::Scale(max_scale));
            }
            return Self::exact(normal, max_scale);
        }
        if value.mantissa().unsigned_abs() >= 10_u128.pow(MAX_DIGITS as u32) {
            return Err(InvalidNumber::Digits);
        }
        Ok(Self { value, negative_zero: false })
    }

    /// Returns the exact sum, or `None` if it has too many digits.
    ///
    /// The addition of `Decimal` itself would round such a sum.
    fn add(self, other: Self, max_scale: u32) -> Option<Self> {
        let scale = self.value.scale().max(other.value.scale());
        let aligned = |value: Decimal| {
            value.mantissa().checked_mul(10_i128.checked_pow(scale - value.scale())?)
        };
        let sum = aligned(self.value)?.checked_add(aligned(other.value)?)?;
        Self::exact(Decimal::try_from_i128_with_scale(sum, scale).ok()?, max_scale).ok()
    }

    /// Returns the number of digits before the point.
    fn integer_digits(self) -> u32 {
        let integer = self.value.mantissa().unsigned_abs() / 10_u128.pow(self.value.scale());
        integer.checked_ilog10().map_or(1, |power| power + 1)
    }
}

impl fmt::Display for FixedPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.negative_zero {
            f.write_str("-")?;
        }
        let scale = self.value.scale() as usize;
        // Most amounts fit 64 bits, where division is much cheaper than for a `Decimal`.
        let Ok(mantissa) = i64::try_from(self.value.mantissa()) else {
            return fmt::Display::fmt(&self.value, f);
        };
        let mut text = [b'0'; 32];
        let mut start = text.len();
        let mut rest = mantissa.unsigned_abs();
        let mut written = 0;
        while rest > 0 || written <= scale {
            if written == scale && scale > 0 {
                start -= 1;
                text[start] = b'.';
            }
            start -= 1;
            text[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            written += 1;
        }
        if mantissa < 0 {
            start -= 1;
            text[start] = b'-';
        }
        f.write_str(std::str::from_utf8(&text[start..]).map_err(|_| fmt::Error)?)
    }
}

macro_rules! number {
    ($($(#[$meta:meta])* $name:ident: $scale:literal, $expected:literal, $pattern:literal;)+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy)]
        pub struct $name(FixedPoint);

        impl $name {
            /// Maximum number of decimal places.
            pub const MAX_SCALE: u32 = $scale;

            /// Zero, without decimal places.
            pub const ZERO: Self = Self(FixedPoint { value: Decimal::ZERO, negative_zero: false });

            /// Converts a decimal without rounding.
            ///
            /// # Errors
            /// If the decimal has too many decimal places or digits.
            pub fn new(value: Decimal) -> Result<Self, InvalidNumber> {
                FixedPoint::exact(value, Self::MAX_SCALE).map(Self)
            }

            /// Returns the value, with the scale as it was read.
            #[must_use]
            pub fn decimal(self) -> Decimal {
                self.0.value
            }

            /// Returns the number of decimal places as it was read.
            #[must_use]
            pub fn scale(self) -> u32 {
                self.0.value.scale()
            }
        }

        impl FromStr for $name {
            type Err = InvalidNumber;
            fn from_str(text: &str) -> Result<Self, InvalidNumber> {
                FixedPoint::parse(text, Self::MAX_SCALE).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        /// Compares by value: `1.0` equals `1.00`, and `-0` equals `0`.
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.value == other.0.value
            }
        }

        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.0.value.cmp(&other.0.value)
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.0.value.hash(state);
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(&self.0)
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
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    )+};
}

number! {
    /// An amount of money or a quantity, as a fixed-point decimal.
    ///
    /// The scale is kept: `"100.950000"` is written back unchanged. An amount has at most 18 decimal
    /// places and 28 digits in all; parsing never rounds. The contract allows partners to write at most 6
    /// decimal places ([`CONTRACT_SCALE`](Self::CONTRACT_SCALE)) and 22 digits before the point. Use
    /// [`rounded`](Self::rounded) for more precise numbers.
    ///
    /// Contract: `px.md` section 1, `amount`.
    ///
    /// ```
    /// use px_types::Amount;
    /// let amount: Amount = "100.950000".parse()?;
    /// assert_eq!(amount.to_string(), "100.950000");
    /// assert_eq!(amount, "100.95".parse()?);
    /// assert_eq!("0.00014884".parse::<Amount>()?.to_string(), "0.00014884");
    /// # Ok::<(), px_types::InvalidNumber>(())
    /// ```
    Amount: 18, "an amount (a string such as \"12.50\")", r"^-?(0|[1-9][0-9]{0,21})(\.[0-9]{1,6})?$";
    /// A rate in percent with at most four decimal places, such as `19.99`.
    ///
    /// Contract: `px.md` section 1, `rate`.
    Rate: 4, "a rate (a string such as \"19.99\")", r"^-?(0|[1-9][0-9]{0,21})(\.[0-9]{1,4})?$";
}

impl Amount {
    /// Maximum number of decimal places that a partner may write.
    pub const CONTRACT_SCALE: u32 = 6;
    /// Maximum number of digits before the point that a partner may write.
    pub const CONTRACT_INTEGER_DIGITS: u32 = 22;

    /// Rounds a number to the six decimal places that a partner may write, half to even.
    ///
    /// Use it in banks that store more decimal places than the contract allows. No other function rounds,
    /// so that rounding is always an explicit decision of the bank.
    ///
    /// # Errors
    /// If the number has more than 22 digits before the point.
    ///
    /// # Examples
    /// ```
    /// use px_types::Amount;
    /// let exact: Amount = "0.00014884".parse()?;
    /// assert_eq!(Amount::rounded(exact.decimal())?.to_string(), "0.000149");
    /// # Ok::<(), px_types::InvalidNumber>(())
    /// ```
    pub fn rounded(value: Decimal) -> Result<Self, InvalidNumber> {
        let amount = Self::new(value.round_dp(Self::CONTRACT_SCALE))?;
        match amount.has_contract_digits() {
            true => Ok(amount),
            false => Err(InvalidNumber::Digits),
        }
    }

    /// Returns whether the contract allows a partner to write this amount.
    #[must_use]
    pub fn is_conforming(self) -> bool {
        // Most amounts fit 64 bits, which are fewer than 22 digits.
        self.scale() <= Self::CONTRACT_SCALE
            && (i64::try_from(self.0.value.mantissa()).is_ok() || self.has_contract_digits())
    }

    fn has_contract_digits(self) -> bool {
        self.0.integer_digits() <= Self::CONTRACT_INTEGER_DIGITS
    }

    /// Returns the exact sum, or `None` if it has too many digits for an amount.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.add(other.0, Self::MAX_SCALE).map(Self)
    }

    /// Returns the exact difference, or `None` if it has too many digits for an amount.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.checked_add(-other)
    }

    /// Returns whether the amount is greater than zero. In a transaction, money then leaves the account.
    #[must_use]
    pub fn is_positive(self) -> bool {
        self.decimal() > Decimal::ZERO
    }
}

impl std::ops::Neg for Amount {
    type Output = Self;
    fn neg(self) -> Self {
        Self(FixedPoint { value: -self.0.value, negative_zero: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn grammar() {
        for good in [
            "0",
            "-0",
            "0.00",
            "-0.00",
            "1",
            "-1.5",
            "100.950000",
            "0.000001",
            "9999999999999999999999.999999",
            "-9999999999999999999999.999999",
            "0.000000000000000001",
            "1234567890.123456789012345678",
            "9999999999999999999999999999",
            "-9999999999.999999999999999999",
            "922337203685477580.7",
            "92233720368547758.08",
            "-92233720368547758.08",
        ] {
            let amount: Amount = good.parse().unwrap();
            assert_eq!(amount.to_string(), good);
        }
        for bad in [
            "", "-", ".5", "5.", "+1", "01", "00", "1e3", "1,5", " 1", "1 ", "--1", "0x1", "1.-1",
            "NaN", "١",
        ] {
            assert_eq!(bad.parse::<Amount>(), Err(InvalidNumber::Grammar), "{bad:?}");
        }
        assert_eq!("1.1234567890123456789".parse::<Amount>(), Err(InvalidNumber::Scale(18)));
        assert_eq!("1.23456".parse::<Rate>(), Err(InvalidNumber::Scale(4)));
        assert_eq!("1".repeat(29).parse::<Amount>(), Err(InvalidNumber::Digits));
        assert_eq!("12345678901.123456789012345678".parse::<Amount>(), Err(InvalidNumber::Digits));
    }

    #[test]
    fn decimals_are_taken_exactly_or_not_at_all() {
        let nineteen = Decimal::from_str_exact("1.1234567890123456780").unwrap();
        assert_eq!(Amount::new(nineteen).unwrap().to_string(), "1.123456789012345678");
        assert!(Amount::new(Decimal::from_str_exact("1.1234567890123456781").unwrap()).is_err());
        assert!(Amount::new(Decimal::MAX).is_err());
        let max: Amount = "9999999999999999999999.999999".parse().unwrap();
        assert_eq!(max.checked_add("0.000001".parse().unwrap()), None);
    }

    #[test]
    fn sums_are_exact_or_not_at_all() {
        let amount = |text: &str| text.parse::<Amount>().unwrap();
        let sum = |a: &str, b: &str| amount(a).checked_add(amount(b)).map(|sum| sum.to_string());
        assert_eq!(sum("0.000000000000000001", "1"), Some("1.000000000000000001".into()));
        assert_eq!(sum("-0.50", "0.5"), Some("0.00".into()));
        // 22 digits before the point and 18 after it are more than a `Decimal` can hold.
        assert_eq!(sum("1000000000000000000000", "0.000000000000000001"), None);
        assert_eq!(sum("9999999999999999999999999999", "0.000000000000000001"), None);
        let less = amount("1").checked_sub(amount("0.000000000000000001")).unwrap();
        assert_eq!(less.to_string(), "0.999999999999999999");
    }

    #[test]
    fn a_bank_rounds_on_purpose() {
        let rounded = |text: &str| {
            Amount::rounded(Decimal::from_str_exact(text).unwrap()).map(|a| a.to_string())
        };
        assert_eq!(rounded("0.00014884"), Ok("0.000149".into()));
        assert_eq!(rounded("-1.00000050"), Ok("-1.000000".into()));
        assert_eq!(rounded("12.5"), Ok("12.5".into()));
        assert_eq!(rounded("12345678901234567890123"), Err(InvalidNumber::Digits));
        let conforming = |text: &str| text.parse::<Amount>().unwrap().is_conforming();
        assert!(conforming("-9999999999999999999999.999999") && conforming("0.000000"));
        assert!(!conforming("0.0000000") && !conforming("10000000000000000000000"));
    }

    proptest! {
        #[test]
        fn text_survives(
            text in r"-?(0|[1-9][0-9]{0,21})(\.[0-9]{1,6})?|-?(0|[1-9][0-9]{0,9})(\.[0-9]{1,18})?"
        ) {
            let amount: Amount = text.parse().unwrap();
            prop_assert_eq!(amount.to_string(), text);
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<Amount>();
            let _ = text.parse::<Rate>();
        }
    }
}
