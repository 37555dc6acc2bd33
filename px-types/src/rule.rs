//! The rules that messages can violate.
//!
//! The validator, the tolerant reader and the checker use the same rules. A [`Rule`] is written as its
//! id, such as `PX-AGG-014`. Ids are stable, because reports and dashboards rely on them: a rule that
//! is no longer used stays in the list.

use std::fmt;

/// A rule of the contract.
///
/// Every rule is a constant of [this module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule(u8);

struct Entry {
    id: &'static str,
    name: &'static str,
    description: &'static str,
}

impl Rule {
    fn entry(self) -> &'static Entry {
        &ENTRIES[usize::from(self.0)]
    }

    /// Returns the id, such as `PX-AGG-014`.
    #[must_use]
    pub fn id(self) -> &'static str {
        self.entry().id
    }

    /// Returns the name, such as `known_currency`, for metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// Returns a description of the violation, in one sentence.
    #[must_use]
    pub fn description(self) -> &'static str {
        self.entry().description
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id(), self.name())
    }
}

impl serde::Serialize for Rule {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.id())
    }
}

/// Declares the rules. The doc comment of a rule is its description.
macro_rules! rules {
    ($(#[doc = $description:literal] $constant:ident = $id:literal, $name:literal;)+) => {
        /// All rules, in the order of their ids.
        pub const ALL: &[Rule] = &[$($constant,)+];
        static ENTRIES: &[Entry] =
            &[$(Entry { id: $id, name: $name, description: $description.trim_ascii() },)+];
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "counts the constants")]
        enum Index { $($constant,)+ }
        $(
            #[doc = $description]
            #[doc = concat!(" (`", $id, "`)")]
            pub const $constant: Rule = Rule(Index::$constant as u8);
        )+
    };
}

rules! {
    /// A required field is missing.
    MISSING_FIELD = "PX-AGG-001", "missing_field";
    /// A field has the wrong type, or its text has the wrong format.
    MALFORMED = "PX-AGG-002", "malformed";
    /// An amount has more than six decimal places, or a rate more than four.
    DECIMAL_PLACES = "PX-AGG-003", "decimal_places";
    /// Not exactly one of `currency` and `non_iso_currency` is set.
    ONE_CURRENCY = "PX-AGG-004", "one_currency";
    /// A field is not part of the contract. A hint.
    UNKNOWN_FIELD = "PX-AGG-005", "unknown_field";
    /// A field belongs to another type, subtype or network.
    MISPLACED_FIELD = "PX-AGG-006", "misplaced_field";
    /// A value is not listed in the contract. A hint.
    UNKNOWN_VALUE = "PX-AGG-007", "unknown_value";
    /// An account has an unknown type. A hint: the rules of its type were not applied.
    UNKNOWN_TYPE = "PX-AGG-008", "unknown_type";
    /// A transfer code has an unknown network. A hint: the rules of its network were not applied.
    UNKNOWN_NETWORK = "PX-AGG-009", "unknown_network";
    /// Two entries of a collection have the same id.
    UNIQUE_ID = "PX-AGG-010", "unique_id";
    /// An id refers to an object that does not exist.
    REFERENCE = "PX-AGG-011", "reference";
    /// The list of identities is empty.
    IDENTITIES_PRESENT = "PX-AGG-012", "identities_present";
    /// An account has no owner.
    OWNERS_PRESENT = "PX-AGG-013", "owners_present";
    /// The code in `currency` is not listed in ISO 4217.
    KNOWN_CURRENCY = "PX-AGG-014", "known_currency";
    /// The value of `non_iso_currency` is a code of ISO 4217.
    ISO_MONEY = "PX-AGG-015", "iso_money";
    /// A subtype belongs to another account type.
    SUBTYPE = "PX-AGG-016", "subtype";
    /// A depository account has no `transfer_codes`.
    TRANSFER_CODES_PRESENT = "PX-AGG-017", "transfer_codes_present";
    /// A routing number has the wrong format or checksum.
    ROUTING_NUMBER = "PX-AGG-018", "routing_number";
    /// An IBAN has the wrong format or checksum.
    IBAN = "PX-AGG-019", "iban";
    /// A BIC has the wrong format.
    BIC = "PX-AGG-020", "bic";
    /// An EFT number has the wrong number of digits.
    EFT_DIGITS = "PX-AGG-021", "eft_digits";
    /// A Bacs number has the wrong number of digits.
    BACS_DIGITS = "PX-AGG-022", "bacs_digits";
    /// An ISIN has the wrong format or checksum.
    ISIN = "PX-AGG-023", "isin";
    /// A display mask does not have 2–4 characters.
    DISPLAY_MASK = "PX-AGG-024", "display_mask";
    /// The amount owed is negative. A hint: the sign may be inverted.
    BALANCE_SIGN = "PX-AGG-025", "balance_sign";
    /// A merchant category code does not have four digits.
    MCC = "PX-AGG-026", "mcc";
    /// A country is not two capital letters.
    COUNTRY = "PX-AGG-027", "country";
    /// Coordinates are out of range.
    COORDINATES = "PX-AGG-028", "coordinates";
    /// The settlement date of a transaction is before the date on which it was made.
    SETTLED_AFTER_MADE = "PX-AGG-029", "settled_after_made";
    /// The `type` of a transaction differs from the type of its account.
    ACCOUNT_TYPE = "PX-AGG-030", "account_type";
    /// A transaction is outside the requested window.
    WINDOW = "PX-AGG-031", "window";
    /// A page is longer than `limit`.
    LIMIT = "PX-AGG-032", "limit";
    /// A page is not sorted by date, newest first, then by id.
    ORDER = "PX-AGG-033", "order";
    /// The total is smaller than the number of transactions served.
    TOTAL = "PX-AGG-034", "total";
    /// A required value is `null` or an empty string.
    UNEXPECTED_NULL = "PX-AGG-035", "unexpected_null";
    /// An id has more than 255 bytes.
    WIDE_ID = "PX-AGG-036", "wide_id";
    /// An amount has more than 22 digits before the point.
    WIDE_AMOUNT = "PX-AGG-037", "wide_amount";
    /// A JSON number is used for an id or a string.
    NUMBER_FOR_TEXT = "PX-AGG-038", "number_for_text";
    /// A JSON number is used for an account or bank identifier, which loses leading zeros.
    IDENTIFIER_AS_NUMBER = "PX-AGG-039", "identifier_as_number";
    /// An amount or a rate is a JSON number, or has an exponent, a `+` or leading zeros.
    AMOUNT_FORM = "PX-AGG-040", "amount_form";
    /// A whole number is written with a decimal point or as a string.
    WHOLE_NUMBER_FORM = "PX-AGG-041", "whole_number_form";
    /// A boolean is written as a string.
    BOOLEAN_FORM = "PX-AGG-042", "boolean_form";
    /// A coordinate is written as a string.
    COORDINATE_FORM = "PX-AGG-043", "coordinate_form";
    /// A date or a timestamp is not in the format of RFC 3339.
    DATE_FORM = "PX-AGG-044", "date_form";
    /// A timestamp has no offset.
    TIMESTAMP_OFFSET = "PX-AGG-045", "timestamp_offset";
    /// A currency code is in lower case.
    CURRENCY_CASE = "PX-AGG-046", "currency_case";
    /// An object has a member more than once.
    REPEATED_MEMBER = "PX-AGG-047", "repeated_member";
    /// A string has half of a surrogate pair, bytes that are not UTF-8, or unescaped control characters.
    DAMAGED_TEXT = "PX-AGG-048", "damaged_text";
    /// The JSON has an invalid literal, such as `NaN`, or an extra comma.
    NOT_JSON = "PX-AGG-049", "not_json";
    /// A list is missing, `null`, or empty in another form.
    NULL_LIST = "PX-AGG-050", "null_list";
    /// An element of a list is not an object.
    ELEMENT_FORM = "PX-AGG-051", "element_form";
    /// Reading the message takes more time or memory than the reader may use.
    READER_LIMITS = "PX-AGG-052", "reader_limits";
    /// A byte order mark precedes the JSON.
    BYTE_ORDER_MARK = "PX-AGG-053", "byte_order_mark";
    /// NUL bytes follow the JSON.
    TRAILING_BYTES = "PX-AGG-054", "trailing_bytes";
    /// The media type is not `application/json`.
    CONTENT_TYPE = "PX-AGG-055", "content_type";
    /// The `Content-Encoding` names no encoding.
    CONTENT_ENCODING = "PX-AGG-056", "content_encoding";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_in_order_and_names_are_unique() {
        for (index, rule) in ALL.iter().enumerate() {
            assert_eq!(rule.id(), format!("PX-AGG-{:03}", index + 1));
            assert!(rule.description().ends_with('.'), "{rule:?}");
        }
        let names: HashSet<_> = ALL.iter().map(|rule| rule.name()).collect();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn an_id_never_changes() {
        let listed: Vec<_> = ALL.iter().map(|rule| format!("{rule:?}")).collect();
        insta::assert_snapshot!(listed.join("\n"), @r"
        PX-AGG-001 missing_field
        PX-AGG-002 malformed
        PX-AGG-003 decimal_places
        PX-AGG-004 one_currency
        PX-AGG-005 unknown_field
        PX-AGG-006 misplaced_field
        PX-AGG-007 unknown_value
        PX-AGG-008 unknown_type
        PX-AGG-009 unknown_network
        PX-AGG-010 unique_id
        PX-AGG-011 reference
        PX-AGG-012 identities_present
        PX-AGG-013 owners_present
        PX-AGG-014 known_currency
        PX-AGG-015 iso_money
        PX-AGG-016 subtype
        PX-AGG-017 transfer_codes_present
        PX-AGG-018 routing_number
        PX-AGG-019 iban
        PX-AGG-020 bic
        PX-AGG-021 eft_digits
        PX-AGG-022 bacs_digits
        PX-AGG-023 isin
        PX-AGG-024 display_mask
        PX-AGG-025 balance_sign
        PX-AGG-026 mcc
        PX-AGG-027 country
        PX-AGG-028 coordinates
        PX-AGG-029 settled_after_made
        PX-AGG-030 account_type
        PX-AGG-031 window
        PX-AGG-032 limit
        PX-AGG-033 order
        PX-AGG-034 total
        PX-AGG-035 unexpected_null
        PX-AGG-036 wide_id
        PX-AGG-037 wide_amount
        PX-AGG-038 number_for_text
        PX-AGG-039 identifier_as_number
        PX-AGG-040 amount_form
        PX-AGG-041 whole_number_form
        PX-AGG-042 boolean_form
        PX-AGG-043 coordinate_form
        PX-AGG-044 date_form
        PX-AGG-045 timestamp_offset
        PX-AGG-046 currency_case
        PX-AGG-047 repeated_member
        PX-AGG-048 damaged_text
        PX-AGG-049 not_json
        PX-AGG-050 null_list
        PX-AGG-051 element_form
        PX-AGG-052 reader_limits
        PX-AGG-053 byte_order_mark
        PX-AGG-054 trailing_bytes
        PX-AGG-055 content_type
        PX-AGG-056 content_encoding
        ");
    }
}
