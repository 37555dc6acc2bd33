//! Decimal numbers as the wire writes them: [`Amount`] and [`Rate`].
//!
//! Both are read from the JSON text itself, keep every digit and their scale,
//! and never pass through a float. An amount is wider than the contract allows a partner to write
//! (18 decimal places instead of 6), because no digit of a crypto balance may be lost on reading;
//! the validator reports what is beyond the contract.

use rust_decimal::Decimal;
use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

/// Maximum number of digits, before and after the point together. A `Decimal` holds any 28 exactly.
const MAX_DIGITS: usize = 28;

/// Why a text is not an [`Amount`] or a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidNumber {
    /// The text is not `-?(0|[1-9][0-9]*)(\.[0-9]+)?`.
    #[error("not a fixed-point decimal such as \"-12.50\" (no exponent, no `+`, no leading zeros)")]
    Grammar,
    /// The text has more decimal places than its kind allows.
    #[error("too many decimal places: at most {0}")]
    Scale(u32),
    /// The text has more than 28 digits in all.
    #[error("too many digits: at most 28 in all")]
    Digits,
}

/// A decimal with its sign kept apart, because `-0.00` is read and written as such.
#[derive(Clone, Copy)]
struct Fixed {
    value: Decimal,
    negative_zero: bool,
}

impl Fixed {
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
        // All digits are counted before any arithmetic.
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

    /// Keeps a decimal if it fits the grammar as it is; nothing is rounded.
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

    /// Adds exactly. Returns `None` if the sum has too many digits.
    ///
    /// `Decimal` itself rounds a sum that it cannot hold.
    fn add(self, other: Self, max_scale: u32) -> Option<Self> {
        let scale = self.value.scale().max(other.value.scale());
        let aligned = |value: Decimal| {
            value.mantissa().checked_mul(10_i128.checked_pow(scale - value.scale())?)
        };
        let sum = aligned(self.value)?.checked_add(aligned(other.value)?)?;
        Self::exact(Decimal::try_from_i128_with_scale(sum, scale).ok()?, max_scale).ok()
    }

    /// The digits before the point.
    fn integer_digits(self) -> u32 {
        let integer = self.value.mantissa().unsigned_abs() / 10_u128.pow(self.value.scale());
        integer.checked_ilog10().map_or(1, |power| power + 1)
    }
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.negative_zero {
            f.write_str("-")?;
        }
        let scale = self.value.scale() as usize;
        // Most money fits 64 bits, whose division is far cheaper than a Decimal's.
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
        pub struct $name(Fixed);

        impl $name {
            /// Maximum number of decimal places.
            pub const MAX_SCALE: u32 = $scale;

            /// Zero, without decimal places.
            pub const ZERO: Self = Self(Fixed { value: Decimal::ZERO, negative_zero: false });

            /// Takes a decimal as it is; nothing is rounded.
            ///
            /// # Errors
            /// When it has too many decimal places or digits.
            pub fn new(value: Decimal) -> Result<Self, InvalidNumber> {
                Fixed::exact(value, Self::MAX_SCALE).map(Self)
            }

            /// The value, with the scale as it was read.
            #[must_use]
            pub fn decimal(self) -> Decimal {
                self.0.value
            }

            /// The decimal places as they were read.
            #[must_use]
            pub fn scale(self) -> u32 {
                self.0.value.scale()
            }
        }

        impl FromStr for $name {
            type Err = InvalidNumber;
            fn from_str(text: &str) -> Result<Self, InvalidNumber> {
                Fixed::parse(text, Self::MAX_SCALE).map(Self)
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

        /// By value: `1.0` equals `1.00`, and `-0` equals `0`.
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
    /// An amount of money or a quantity: a fixed-point decimal.
    ///
    /// The scale is kept as read: `"100.950000"` is written back as that. At most 18 decimal
    /// places and 28 digits in all are read, and nothing is ever rounded. The contract allows a
    /// partner to write at most 6 places ([`CONTRACT_SCALE`](Self::CONTRACT_SCALE)) and 22 digits
    /// before the point; [`rounded`](Self::rounded) brings a more precise number into that form.
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
    /// A rate with at most four places; a percentage is written as such (`19.99`).
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
    /// For banks that keep more decimals than the contract allows. This is the only function that
    /// rounds, so that rounding is always the bank's own decision.
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
        // Most money fits 64 bits, which are fewer than 22 digits.
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

    /// Whether money leaves the account, in a transaction's sense of the sign.
    #[must_use]
    pub fn is_positive(self) -> bool {
        self.decimal() > Decimal::ZERO
    }
}

impl std::ops::Neg for Amount {
    type Output = Self;
    fn neg(self) -> Self {
        Self(Fixed { value: -self.0.value, negative_zero: false })
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
        // 22 digits before the point and 18 after it are more than a Decimal holds.
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
