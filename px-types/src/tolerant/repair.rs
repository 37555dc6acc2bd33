//! The lossless repairs, as a table.
//!
//! Each row has an expected type, a function that converts a received value to it, and the rule that
//! the value violates. The function returns `None` if the value is ambiguous; it never guesses.

use crate::{
    json::{Flaw, Node},
    rule::{self, Rule},
};

/// The expected type of a value, as far as repairs distinguish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Id,
    Text,
    Secret,
    Decimal,
    Date,
    Timestamp,
    Currency,
    Whole,
    Boolean,
    Float,
    List,
    Object,
}

impl Expected {
    /// Returns the expected type from the reason of an error. The reasons are the texts of the primitive
    /// types, of serde and of serde_json; a test compares them.
    pub(super) fn of(reason: &str) -> Option<Self> {
        let known =
            |(begin, expected): &(&str, Self)| reason.starts_with(begin).then_some(*expected);
        REASONS.iter().find_map(known)
    }

    /// Describes the expected type in words.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Id => "an id (a string)",
            Self::Text | Self::Secret => "a string",
            Self::Decimal => "a decimal number (a string such as \"12.50\")",
            Self::Date => "a date (a string such as \"2018-08-28\")",
            Self::Timestamp => "a date or a timestamp with an offset (a string)",
            Self::Currency => "a currency code (a string such as \"USD\")",
            Self::Whole => "a whole number, 0 or more",
            Self::Boolean => "a boolean",
            Self::Float => "a number",
            Self::List => "a list",
            Self::Object => "an object",
        }
    }
}

const REASONS: &[(&str, Expected)] = &[
    ("expected an id ", Expected::Id),
    ("an id ", Expected::Id),
    ("expected a string", Expected::Text),
    ("expected a secret ", Expected::Secret),
    ("expected an account identifier ", Expected::Secret),
    ("empty; expected an account identifier ", Expected::Secret),
    ("expected an amount ", Expected::Decimal),
    ("expected a rate ", Expected::Decimal),
    ("not a fixed-point decimal ", Expected::Decimal),
    ("too many decimal places", Expected::Decimal),
    ("too many digits", Expected::Decimal),
    ("expected a date or a timestamp ", Expected::Timestamp),
    ("expected a timestamp ", Expected::Timestamp),
    ("not an RFC 3339 timestamp ", Expected::Timestamp),
    ("more precise than a nanosecond", Expected::Timestamp),
    ("expected a date ", Expected::Date),
    ("not a calendar date ", Expected::Date),
    ("expected a currency code ", Expected::Currency),
    ("not a currency code ", Expected::Currency),
    ("expected a whole number", Expected::Whole),
    ("expected a boolean", Expected::Boolean),
    ("expected f64", Expected::Float),
    ("expected a sequence", Expected::List),
    ("expected struct ", Expected::Object),
    ("expected a map", Expected::Object),
    ("expected an object", Expected::Object),
];

/// Members with the number of an account, bank, payment or security. They are never repaired: a JSON
/// number has lost its leading zeros, and U+FFFD replaces a digit that is lost.
const IDENTIFIERS: &[&str] = &[
    "account_number",
    "bic",
    "branch_number",
    "check_number",
    "cusip",
    "display_mask",
    "iban",
    "institution_number",
    "isin",
    "payment_reference_number",
    "routing_number",
    "sedol",
    "sort_code",
    "wire_routing_number",
];

/// Returns whether a member is one of [`IDENTIFIERS`].
pub(super) fn is_identifier(member: &str) -> bool {
    IDENTIFIERS.contains(&member)
}

type RepairFn = fn(&Node<'_>) -> Option<Node<'static>>;

/// The expected type, the conversion and the violated rule of each repair.
const REPAIRS: &[(Expected, RepairFn, Rule)] = &[
    (Expected::Text, flawed_text, rule::DAMAGED_TEXT),
    (Expected::Text, number_as_text, rule::NUMBER_FOR_TEXT),
    (Expected::Id, number_as_text, rule::NUMBER_FOR_TEXT),
    (Expected::Decimal, decimal, rule::AMOUNT_FORM),
    (Expected::Whole, whole, rule::WHOLE_NUMBER_FORM),
    (Expected::Boolean, boolean, rule::BOOLEAN_FORM),
    (Expected::Float, float, rule::COORDINATE_FORM),
    (Expected::Timestamp, timestamp, rule::DATE_FORM),
    (Expected::Timestamp, date_of_timestamp, rule::TIMESTAMP_OFFSET),
    (Expected::Date, date_of_timestamp, rule::DATE_FORM),
    (Expected::Currency, currency, rule::CURRENCY_CASE),
    (Expected::List, empty_list, rule::NULL_LIST),
];

/// Converts an invalid value to the value that it unambiguously means.
pub(super) fn repair(
    expected: Expected,
    member: &str,
    node: &Node<'_>,
) -> Option<(Node<'static>, Rule)> {
    if is_identifier(member) {
        return None;
    }
    let (read, rule) = REPAIRS
        .iter()
        .filter(|(of, ..)| *of == expected)
        .find_map(|(_, read, rule)| Some((read(node).filter(|read| read != node)?, *rule)))?;
    Some(match read {
        // A JSON number loses the leading zeros of a merchant category code, which has four digits.
        Node::Text(text) if member == "mcc" && matches!(node, Node::Number(_)) => {
            (Node::Text(format!("{text:0>4}").into()), rule)
        }
        read => (read, rule),
    })
}

fn flawed_text(node: &Node<'_>) -> Option<Node<'static>> {
    match node {
        Node::FlawedText(text, Flaw::Replaced | Flaw::Control) => {
            Some(Node::Text(text.clone().into_owned().into()))
        }
        _ => None,
    }
}

fn number_as_text(node: &Node<'_>) -> Option<Node<'static>> {
    match node {
        Node::Number(literal) => Some(Node::Text(literal.clone().into_owned().into())),
        _ => None,
    }
}

fn decimal(node: &Node<'_>) -> Option<Node<'static>> {
    Some(Node::Text(plain_decimal(literal(node)?)?.into()))
}

fn whole(node: &Node<'_>) -> Option<Node<'static>> {
    let decimal = plain_decimal(literal(node)?)?;
    let whole = match decimal.split_once('.') {
        Some((whole, fraction)) => fraction.bytes().all(|b| b == b'0').then_some(whole)?,
        None => &decimal,
    };
    Some(Node::Number(whole.to_owned().into()))
}

fn boolean(node: &Node<'_>) -> Option<Node<'static>> {
    match node {
        Node::Text(text) | Node::InvalidLiteral(text) if text.eq_ignore_ascii_case("true") => {
            Some(Node::Bool(true))
        }
        Node::Text(text) | Node::InvalidLiteral(text) if text.eq_ignore_ascii_case("false") => {
            Some(Node::Bool(false))
        }
        _ => None,
    }
}

fn float(node: &Node<'_>) -> Option<Node<'static>> {
    Some(Node::Number(plain_decimal(literal(node)?)?.into()))
}

fn currency(node: &Node<'_>) -> Option<Node<'static>> {
    match node {
        Node::Text(text) => Some(Node::Text(text.trim_ascii().to_ascii_uppercase().into())),
        _ => None,
    }
}

fn empty_list(node: &Node<'_>) -> Option<Node<'static>> {
    node.is_empty().then(|| Node::List(Vec::new()))
}

/// Repairs a timestamp with an offset: a space instead of `T`, `+0000` or `+00` instead of `+00:00`,
/// missing seconds, or a zone name in brackets at the end.
fn timestamp(node: &Node<'_>) -> Option<Node<'static>> {
    let parts = DateTimeParts::of(node)?;
    let DateTimeParts { date, time, offset } = parts;
    let offset = match offset.as_bytes() {
        [b'Z' | b'z'] => "Z".to_owned(),
        [b'+' | b'-', _, _] => format!("{offset}:00"),
        [b'+' | b'-', _, _, b':', _, _] => offset.to_owned(),
        [b'+' | b'-', _, _, _, _] => format!("{}:{}", offset.get(..3)?, offset.get(3..)?),
        _ => return None,
    };
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let seconds = if clock.len() == 5 { ":00" } else { "" };
    // Digits beyond nanoseconds are removed only if they are zeros.
    let fraction = match fraction.len() {
        0..=9 => fraction,
        _ => fraction.get(..9).filter(|_| fraction[9..].bytes().all(|b| b == b'0'))?,
    };
    let point = if fraction.is_empty() { "" } else { "." };
    Some(Node::Text(format!("{date}T{clock}{seconds}{point}{fraction}{offset}").into()))
}

/// Returns the date of a timestamp as written (`px.md` section 1, `iso8601`).
fn date_of_timestamp(node: &Node<'_>) -> Option<Node<'static>> {
    Some(Node::Text(DateTimeParts::of(node)?.date.to_owned().into()))
}

/// The parts of a date with or without a time.
struct DateTimeParts<'a> {
    date: &'a str,
    time: &'a str,
    offset: &'a str,
}

impl<'a> DateTimeParts<'a> {
    fn of(node: &'a Node<'_>) -> Option<Self> {
        let Node::Text(text) = node else {
            return None;
        };
        let text = text.trim_ascii();
        let (date, rest) = text.split_at_checked(10)?;
        date.parse::<crate::Date>().ok()?;
        if rest.is_empty() {
            return Some(Self { date, time: "", offset: "" });
        }
        let rest = rest.strip_prefix(['T', 't', ' '])?;
        let rest = match rest.split_once('[') {
            Some((rest, zone)) => zone.ends_with(']').then_some(rest)?,
            None => rest,
        };
        let end = rest.find(['Z', 'z', '+', '-', ' ']).unwrap_or(rest.len());
        let (time, offset) = rest.split_at(end);
        // Without a valid time, the text is not a timestamp.
        let form = time.split_once('.').map_or(time, |(clock, _)| clock);
        let fraction = &time[form.len()..];
        let clock = match form.len() {
            5 => format!("2000-01-01T{form}:00Z"),
            _ => format!("2000-01-01T{form}Z"),
        };
        clock.parse::<crate::Timestamp>().ok()?;
        if fraction.len() == 1 || !fraction.bytes().skip(1).all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(Self { date, time, offset: offset.trim_ascii() })
    }
}

/// Returns the literal text of a number.
fn literal<'n>(node: &'n Node<'_>) -> Option<&'n str> {
    match node {
        Node::Number(text) | Node::Text(text) | Node::InvalidLiteral(text) => {
            Some(text.trim_ascii())
        }
        _ => None,
    }
}

/// Maximum number of digits that an exponent may add; an amount has at most 28 in all.
const MAX_SHIFT: i32 = 40;
/// Maximum size of a number that is repaired. A longer one has too many digits for an amount.
const MAX_LITERAL_BYTES: usize = 128;

/// Rewrites a decimal number without exponent, `+` and leading zeros. All digits are kept, except
/// trailing zeros beyond the decimal places of an amount.
fn plain_decimal(literal: &str) -> Option<String> {
    if literal.len() > MAX_LITERAL_BYTES {
        return None;
    }
    let (negative, unsigned) = match literal.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, literal.strip_prefix('+').unwrap_or(literal)),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            (mantissa, exponent.parse::<i32>().ok().filter(|e| e.abs() <= MAX_SHIFT)?)
        }
        None => (unsigned, 0),
    };
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if integer.len() + fraction.len() == 0 || !all_digits(integer) || !all_digits(fraction) {
        return None;
    }
    let point = i32::try_from(integer.len()).ok()?.checked_add(exponent)?;
    let mut digits = format!("{integer}{fraction}");
    if point <= 0 {
        digits.insert_str(0, &"0".repeat(point.unsigned_abs() as usize + 1));
    }
    let point = usize::try_from(point.max(1)).ok()?;
    while digits.len() < point {
        digits.push('0');
    }
    let (integer, fraction) = digits.split_at(point);
    let integer = match integer.trim_start_matches('0') {
        "" => "0",
        integer => integer,
    };
    let mut fraction = fraction;
    while fraction.len() > crate::Amount::MAX_SCALE as usize && fraction.ends_with('0') {
        fraction = &fraction[..fraction.len() - 1];
    }
    let sign = if negative { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{sign}{integer}{point}{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_written_out_digit_by_digit() {
        for (literal, plain) in [
            ("12.5", "12.5"),
            ("12.50", "12.50"),
            ("+12.50", "12.50"),
            ("0012.5", "12.5"),
            ("-007", "-7"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1E+3", "1000"),
            ("1.25e1", "12.5"),
            ("1.25e2", "125"),
            ("1.5e-3", "0.0015"),
            ("-1e-8", "-0.00000001"),
            ("12345.678e-2", "123.45678"),
            ("0e5", "0"),
            ("-0", "-0"),
            ("0.1", "0.1"),
            ("9007199254740993", "9007199254740993"),
            ("1.100000000000000000000000", "1.100000000000000000"),
        ] {
            assert_eq!(plain_decimal(literal).as_deref(), Some(plain), "{literal}");
        }
        for bad in [
            "",
            ".",
            "+",
            "-",
            "1e",
            "1e+",
            "1,5",
            "0x1",
            "NaN",
            "1e99",
            "1e999999999999",
            "--1",
            "+-1",
            "1 2",
            "1e+-2",
            "١",
        ] {
            assert_eq!(plain_decimal(bad), None, "{bad}");
        }
    }

    #[test]
    fn timestamps_are_completed() {
        let read = |text: &'static str| match timestamp(&Node::Text(text.into())) {
            Some(Node::Text(text)) => Some(text.into_owned()),
            _ => None,
        };
        for (text, good) in [
            ("2024-03-05 10:11:12+0000", "2024-03-05T10:11:12+00:00"),
            ("2024-03-05 10:11:12 +0100", "2024-03-05T10:11:12+01:00"),
            ("2024-03-05 10:11:12.5+00", "2024-03-05T10:11:12.5+00:00"),
            ("2024-03-05T10:11Z", "2024-03-05T10:11:00Z"),
            ("2024-03-05T10:11-0500", "2024-03-05T10:11:00-05:00"),
            ("2024-03-05T10:11:12.1234567890Z", "2024-03-05T10:11:12.123456789Z"),
            ("2024-03-05T10:11:12+01:00[Europe/Berlin]", "2024-03-05T10:11:12+01:00"),
        ] {
            assert_eq!(read(text).as_deref(), Some(good), "{text}");
            assert!(good.parse::<crate::Iso8601>().is_ok(), "{good}");
        }
        for bad in [
            "2024-03-05T10:11:12",
            "2024-02-30 10:11:12Z",
            "2024-03-05T10Z",
            "2024-03-05 noon",
            "05.03.2024 10:11Z",
            "2024-03-05T10:11:12.1234567891Z",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let date = |text: &'static str| match date_of_timestamp(&Node::Text(text.into())) {
            Some(Node::Text(text)) => Some(text.into_owned()),
            _ => None,
        };
        assert_eq!(date("2024-03-05T23:11:12").as_deref(), Some("2024-03-05"));
        assert_eq!(date("2024-03-05 23:11").as_deref(), Some("2024-03-05"));
        assert_eq!(date(" 2024-03-05 ").as_deref(), Some("2024-03-05"));
        for bad in [
            "2024-03-05Tnever",
            "2024-03-05x",
            "2024-13-05T00:00:00",
            "20240305",
            "2024-03-05T25:00",
        ] {
            assert_eq!(date(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_merchant_code_keeps_four_digits_and_an_account_number_is_never_taken() {
        let number = |text: &'static str| Node::Number(text.into());
        let text = |node: Node<'static>| match node {
            Node::Text(text) => text.into_owned(),
            _ => String::new(),
        };
        let read = |member, literal| {
            repair(Expected::Text, member, &number(literal)).map(|(node, _)| text(node))
        };
        assert_eq!(read("mcc", "742").as_deref(), Some("0742"));
        assert_eq!(read("description", "742").as_deref(), Some("742"));
        for member in IDENTIFIERS {
            assert_eq!(read(member, "742"), None, "{member}");
        }
    }

    /// Compares [`REASONS`] with the errors of the types themselves.
    #[test]
    fn every_type_says_what_it_expects() {
        use crate::*;
        macro_rules! reasons {
            ($($name:ty: $expected:ident, [$($bad:literal),*];)*) => {$($({
                let error = decode::<$name>($bad.as_bytes()).unwrap_err();
                assert_eq!(Expected::of(error.reason()), Some(Expected::$expected), "{error}");
            })*)*};
        }
        reasons! {
            AccountId: Id, ["5", "\"\"", "\"..\"", "\"\\u0001\""];
            String: Text, ["5"];
            AccountNumber: Secret, ["5"];
            Amount: Decimal, ["5", "\"x\"", "\"1.1234567890123456789\"", "\"11111111111111111111111111111\""];
            Rate: Decimal, ["5", "\"1.12345\""];
            Date: Date, ["5", "\"x\""];
            Iso8601: Timestamp, ["5", "\"x\"", "\"2018-08-28T10:15:00.1234567890Z\""];
            Timestamp: Timestamp, ["5", "\"x\""];
            CurrencyCode: Currency, ["5", "\"usd\""];
            u64: Whole, ["\"5\"", "-1", "1.5"];
            bool: Boolean, ["\"true\""];
            f64: Float, ["\"1\""];
            Vec<u64>: List, ["5", "null"];
            model::location::Address: Object, ["5"];
        }
    }
}
