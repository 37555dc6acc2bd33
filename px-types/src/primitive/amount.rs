//! Decimal numbers as the wire writes them: [`Amount`] with up to six decimal
//! places and [`Rate`] with up to four.
//!
//! Both are read from the JSON text itself, keep every digit and their scale,
//! and never pass through a float.

use rust_decimal::Decimal;
use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

/// The most digits before the point.
const MAX_INTEGER_DIGITS: usize = 22;

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
    /// The text has more than 22 digits before the point.
    #[error("too many digits before the point: at most 22")]
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
        if integer.len() > MAX_INTEGER_DIGITS {
            return Err(InvalidNumber::Digits);
        }
        if fraction.len() > max_scale as usize {
            return Err(InvalidNumber::Scale(max_scale));
        }
        let scale = fraction.len() as u32;
        // At most 22 + 6 digits, which the 96 bits of a Decimal hold exactly.
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
        let integer_limit = 10_i128.pow(MAX_INTEGER_DIGITS as u32 + value.scale());
        if value.mantissa().abs() >= integer_limit {
            return Err(InvalidNumber::Digits);
        }
        Ok(Self { value, negative_zero: false })
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
            /// The most decimal places.
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
    /// An amount of money or a quantity: a fixed-point decimal with at most six places.
    ///
    /// The scale is kept as read: `"100.950000"` is written back as that.
    /// Contract: `px.md` section 1, `amount`.
    ///
    /// ```
    /// use px_types::Amount;
    /// let amount: Amount = "100.950000".parse()?;
    /// assert_eq!(amount.to_string(), "100.950000");
    /// assert_eq!(amount, "100.95".parse()?);
    /// assert!("1.2345678".parse::<Amount>().is_err());
    /// # Ok::<(), px_types::InvalidNumber>(())
    /// ```
    Amount: 6, "an amount (a string such as \"12.50\")", r"^-?(0|[1-9][0-9]{0,21})(\.[0-9]{1,6})?$";
    /// A rate with at most four places; a percentage is written as such (`19.99`).
    ///
    /// Contract: `px.md` section 1, `rate`.
    Rate: 4, "a rate (a string such as \"19.99\")", r"^-?(0|[1-9][0-9]{0,21})(\.[0-9]{1,4})?$";
}

impl Amount {
    /// The sum, or `None` when it leaves the grammar of amounts.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::new(self.decimal().checked_add(other.decimal())?).ok()
    }

    /// The difference, or `None` when it leaves the grammar of amounts.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        Self::new(self.decimal().checked_sub(other.decimal())?).ok()
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
        assert_eq!("1.2345678".parse::<Amount>(), Err(InvalidNumber::Scale(6)));
        assert_eq!("1.23456".parse::<Rate>(), Err(InvalidNumber::Scale(4)));
        assert_eq!("1".repeat(23).parse::<Amount>(), Err(InvalidNumber::Digits));
    }

    #[test]
    fn decimals_are_taken_exactly_or_not_at_all() {
        let seven = Decimal::from_str_exact("1.2345670").unwrap();
        assert_eq!(Amount::new(seven).unwrap().to_string(), "1.234567");
        assert!(Amount::new(Decimal::from_str_exact("1.2345678").unwrap()).is_err());
        assert!(Amount::new(Decimal::MAX).is_err());
        let max: Amount = "9999999999999999999999.999999".parse().unwrap();
        assert_eq!(max.checked_add("0.000001".parse().unwrap()), None);
    }

    proptest! {
        #[test]
        fn text_survives(text in r"-?(0|[1-9][0-9]{0,21})(\.[0-9]{1,6})?") {
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
