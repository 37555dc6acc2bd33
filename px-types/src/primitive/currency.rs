//! Units of amounts: ISO 4217 currencies and other units.

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicU8, Ordering},
};

/// An error for a text that is not a [`CurrencyCode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a currency code of three capital letters such as \"USD\"")]
pub struct InvalidCurrency;

/// A currency code of three capital letters, such as `USD`.
///
/// Codes that ISO 4217 does not list are accepted; the validator reports them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CurrencyCode([u8; 3]);

impl CurrencyCode {
    /// Returns the code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Always valid: only `from_str` creates a code, from three ASCII letters.
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }

    /// Returns whether ISO 4217 has withdrawn the code, such as `HRK` when Croatia adopted the euro.
    ///
    /// Old transactions still have withdrawn codes.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        WITHDRAWN.binary_search(&self.as_str()).is_ok()
    }

    /// Returns whether ISO 4217 lists the code or has listed it in the past.
    #[must_use]
    pub fn is_known(&self) -> bool {
        // Cache the result, one byte per code: the library searches its list linearly, and a page
        // can need hundreds of lookups.
        const LETTERS: usize = 26;
        const KNOWN: u8 = 1;
        const UNKNOWN: u8 = 2;
        static CACHE: [AtomicU8; LETTERS * LETTERS * LETTERS] =
            [const { AtomicU8::new(0) }; LETTERS * LETTERS * LETTERS];
        let index = self
            .0
            .iter()
            .fold(0, |index, letter| index * LETTERS + usize::from(letter.wrapping_sub(b'A')));
        let listed = || {
            let code = self.as_str();
            iso_currency::Currency::from_code(code).is_some()
                || RECENT.contains(&code)
                || self.is_withdrawn()
        };
        let Some(entry) = CACHE.get(index) else {
            return listed();
        };
        match entry.load(Ordering::Relaxed) {
            KNOWN => true,
            UNKNOWN => false,
            _ => {
                let listed = listed();
                entry.store(if listed { KNOWN } else { UNKNOWN }, Ordering::Relaxed);
                listed
            }
        }
    }

    /// Returns the number of decimal places of the currency in ISO 4217.
    ///
    /// Returns `None` if the currency has no minor unit or is not listed.
    #[must_use]
    pub fn exponent(&self) -> Option<u16> {
        iso_currency::Currency::from_code(self.as_str())?.exponent()
    }
}

impl FromStr for CurrencyCode {
    type Err = InvalidCurrency;
    fn from_str(text: &str) -> Result<Self, InvalidCurrency> {
        match *text.as_bytes() {
            [a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(InvalidCurrency),
        }
    }
}

impl fmt::Debug for CurrencyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for CurrencyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for CurrencyCode {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for CurrencyCode {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        crate::wire::from_text(d, "a currency code (a string such as \"USD\")", str::parse)
    }
}

#[cfg(feature = "openapi")]
impl schemars::JsonSchema for CurrencyCode {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CurrencyCode".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[A-Z]{3}$" })
    }
}

/// Codes that ISO 4217 added recently and the library may not know.
const RECENT: [&str; 2] = ["XCG", "ZWG"];

/// Codes that ISO 4217 has withdrawn (its table A.3), sorted.
#[rustfmt::skip]
const WITHDRAWN: &[&str] = &[
    "ADP", "AFA", "ALK", "ANG", "AOK", "AON", "AOR", "ARA", "ARP", "ARY", "ATS", "AYM",
    "AZM", "BAD", "BEC", "BEF", "BEL", "BGJ", "BGK", "BGL", "BGN", "BOP", "BRB", "BRC",
    "BRE", "BRN", "BRR", "BUK", "BYB", "BYR", "CHC", "CSD", "CSJ", "CSK", "CUC", "CYP",
    "DDM", "DEM", "ECS", "ECV", "EEK", "ESA", "ESB", "ESP", "FIM", "FRF", "GEK", "GHC",
    "GHP", "GNE", "GNS", "GQE", "GRD", "GWE", "GWP", "HRD", "HRK", "IEP", "ILP", "ILR",
    "ISJ", "ITL", "LAJ", "LSM", "LTL", "LTT", "LUC", "LUF", "LUL", "LVL", "LVR", "MGF",
    "MLF", "MRO", "MTL", "MTP", "MVQ", "MXP", "MZE", "MZM", "NIC", "NLG", "PEH", "PEI",
    "PES", "PLZ", "PTE", "RHD", "ROK", "ROL", "RUR", "SDD", "SDP", "SIT", "SKK", "SLL",
    "SRG", "STD", "SUR", "TJR", "TMM", "TPE", "TRL", "UAK", "UGS", "UGW", "USS", "UYN",
    "UYP", "VEB", "VEF", "VNC", "XEU", "XFO", "XFU", "XRE", "YDD", "YUD", "YUM", "YUN",
    "ZAL", "ZMK", "ZRN", "ZRZ", "ZWC", "ZWD", "ZWL", "ZWN", "ZWR",
];

/// The unit of an amount; on the wire exactly one of `currency` and `non_iso_currency`.
///
/// Contract: `px.md` section 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// A currency of ISO 4217.
    Iso(CurrencyCode),
    /// Any other unit, such as bitcoin, miles or points.
    NonIso(Box<str>),
}

impl Unit {
    /// Creates the unit of a three-letter currency code.
    ///
    /// # Errors
    /// If the text is not three capital letters.
    pub fn iso(code: &str) -> Result<Self, InvalidCurrency> {
        code.parse().map(Self::Iso)
    }

    /// Returns the unit as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Iso(code) => code.as_str(),
            Self::NonIso(text) => text,
        }
    }
}

impl Serialize for Unit {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut out = s.serialize_struct("Unit", 1)?;
        match self {
            Self::Iso(code) => out.serialize_field("currency", code)?,
            Self::NonIso(text) => out.serialize_field("non_iso_currency", text)?,
        }
        out.end()
    }
}

impl<'de> Deserialize<'de> for Unit {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use crate::wire::error_at;
        #[derive(Deserialize)]
        struct Wire {
            #[serde(default, deserialize_with = "crate::wire::optional")]
            currency: Option<Text>,
            #[serde(default, deserialize_with = "crate::wire::optional")]
            non_iso_currency: Option<Text>,
        }
        // Read as text and parsed below, where the name of the field is known for the error.
        struct Text(Result<Box<str>, ()>);
        impl<'de> Deserialize<'de> for Text {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Ok(Self(Box::<str>::deserialize(d).map_err(|_| ())))
            }
        }
        let wire = Wire::deserialize(d)?;
        match (wire.currency, wire.non_iso_currency) {
            (Some(Text(code)), None) => match code.ok().and_then(|code| code.parse().ok()) {
                Some(code) => Ok(Self::Iso(code)),
                None => Err(error_at("currency", InvalidCurrency)),
            },
            (None, Some(Text(text))) => match text {
                Ok(text) => Ok(Self::NonIso(text)),
                Err(()) => Err(error_at("non_iso_currency", "expected a string")),
            },
            (None, None) => Err(error_at(
                "currency",
                "missing: exactly one of `currency` and `non_iso_currency` is required",
            )),
            (Some(_), Some(_)) => Err(error_at(
                "non_iso_currency",
                "set beside `currency`: exactly one of the two is allowed",
            )),
        }
    }
}

#[cfg(feature = "openapi")]
impl schemars::JsonSchema for Unit {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Unit".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let code = generator.subschema_for::<Option<CurrencyCode>>();
        schemars::json_schema!({
            "type": "object",
            "properties": {
                "currency": code,
                "non_iso_currency": { "type": ["string", "null"] }
            },
            "oneOf": [
                { "required": ["currency"], "properties": { "currency": { "type": "string" } } },
                { "required": ["non_iso_currency"], "properties": { "non_iso_currency": { "type": "string" } } },
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_is_set() {
        let unit: Unit =
            serde_json::from_str(r#"{"currency":"USD","non_iso_currency":""}"#).unwrap();
        assert_eq!(unit, Unit::iso("USD").unwrap());
        assert_eq!(serde_json::to_string(&unit).unwrap(), r#"{"currency":"USD"}"#);
        for bad in [
            "{}",
            r#"{"currency":"USD","non_iso_currency":"BTC"}"#,
            r#"{"currency":"usd"}"#,
            r#"{"currency":5}"#,
        ] {
            assert!(serde_json::from_str::<Unit>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn withdrawn_codes_are_known() {
        assert!(WITHDRAWN.is_sorted());
        for code in ["ANG", "HRK", "DEM", "XCG", "ZWG"] {
            assert!(code.parse::<CurrencyCode>().unwrap().is_known(), "{code}");
        }
        assert!("HRK".parse::<CurrencyCode>().unwrap().is_withdrawn());
        assert!(!"EUR".parse::<CurrencyCode>().unwrap().is_withdrawn());
    }

    #[test]
    fn unlisted_codes_are_kept() {
        let code: CurrencyCode = "ZZZ".parse().unwrap();
        assert!(!code.is_known());
        assert_eq!("JPY".parse::<CurrencyCode>().unwrap().exponent(), Some(0));
    }
}
