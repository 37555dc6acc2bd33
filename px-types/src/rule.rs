//! The rules that messages can break, in one list.
//!
//! The validator, the tolerant reader and the checker name the same rules. A [`Rule`] is written
//! as its id, `PX-AGG-014`. Ids are stable: reports and dashboards may rely on them, so a rule
//! that is no longer used keeps its line.

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

    /// Returns the id, `PX-AGG-014`.
    #[must_use]
    pub fn id(self) -> &'static str {
        self.entry().id
    }

    /// Returns the name, `known_currency`, for labels of metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// Returns what breaks the rule, in one sentence.
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

/// Declares the list. The description of a rule is its documentation.
macro_rules! rules {
    ($(#[doc = $description:literal] $constant:ident = $id:literal, $name:literal;)+) => {
        /// Every rule, in the order of the ids.
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
    /// A field is of another type, or its text is not of the field's form.
    MALFORMED = "PX-AGG-002", "malformed";
    /// An amount has more than six decimal places, or a rate more than four.
    DECIMAL_PLACES = "PX-AGG-003", "decimal_places";
    /// Not exactly one of `currency` and `non_iso_currency` is set.
    ONE_CURRENCY = "PX-AGG-004", "one_currency";
    /// A field that the contract does not know. A hint.
    UNKNOWN_FIELD = "PX-AGG-005", "unknown_field";
    /// A field that only another type, subtype or network has.
    MISPLACED_FIELD = "PX-AGG-006", "misplaced_field";
    /// A value that the contract does not list. A hint.
    UNKNOWN_VALUE = "PX-AGG-007", "unknown_value";
    /// An account of unknown type. A hint: its own rules were not applied.
    UNKNOWN_TYPE = "PX-AGG-008", "unknown_type";
    /// A transfer code of unknown network. A hint: its own rules were not applied.
    UNKNOWN_NETWORK = "PX-AGG-009", "unknown_network";
    /// Two entries of a collection have the same id.
    UNIQUE_ID = "PX-AGG-010", "unique_id";
    /// An id refers to nothing.
    REFERENCE = "PX-AGG-011", "reference";
    /// There is no identity at all.
    IDENTITIES_PRESENT = "PX-AGG-012", "identities_present";
    /// An account has no owner.
    OWNERS_PRESENT = "PX-AGG-013", "owners_present";
    /// A code in `currency` that ISO 4217 does not list.
    KNOWN_CURRENCY = "PX-AGG-014", "known_currency";
    /// Money of ISO 4217 in `non_iso_currency`.
    ISO_MONEY = "PX-AGG-015", "iso_money";
    /// A subtype that another type has and this one has not.
    SUBTYPE = "PX-AGG-016", "subtype";
    /// A depository account without `transfer_codes`.
    TRANSFER_CODES_PRESENT = "PX-AGG-017", "transfer_codes_present";
    /// A routing number without its form or its checksum.
    ROUTING_NUMBER = "PX-AGG-018", "routing_number";
    /// An IBAN without its form or its checksum.
    IBAN = "PX-AGG-019", "iban";
    /// A BIC without its form.
    BIC = "PX-AGG-020", "bic";
    /// An EFT number that is not of so many digits.
    EFT_DIGITS = "PX-AGG-021", "eft_digits";
    /// A Bacs number that is not of so many digits.
    BACS_DIGITS = "PX-AGG-022", "bacs_digits";
    /// An ISIN without its form or its checksum.
    ISIN = "PX-AGG-023", "isin";
    /// A display mask that is not of 2–4 characters.
    DISPLAY_MASK = "PX-AGG-024", "display_mask";
    /// What is owed is below zero. A hint: the sign may be the wrong way round.
    BALANCE_SIGN = "PX-AGG-025", "balance_sign";
    /// A merchant category code that is not of four digits.
    MCC = "PX-AGG-026", "mcc";
    /// A country that is not of two capital letters.
    COUNTRY = "PX-AGG-027", "country";
    /// Coordinates that are nowhere on the globe.
    COORDINATES = "PX-AGG-028", "coordinates";
    /// A transaction settled on a date before it was made.
    SETTLED_AFTER_MADE = "PX-AGG-029", "settled_after_made";
    /// A transaction whose `type` is not that of its account.
    ACCOUNT_TYPE = "PX-AGG-030", "account_type";
    /// A transaction outside the window.
    WINDOW = "PX-AGG-031", "window";
    /// A page longer than `limit`.
    LIMIT = "PX-AGG-032", "limit";
    /// A page that is not sorted by date, newest first, then by id.
    ORDER = "PX-AGG-033", "order";
    /// A total that is smaller than what was given.
    TOTAL = "PX-AGG-034", "total";
    /// `null` or an empty text where a value is required.
    UNEXPECTED_NULL = "PX-AGG-035", "unexpected_null";
    /// An id of more than 255 bytes.
    WIDE_ID = "PX-AGG-036", "wide_id";
    /// An amount of more than 22 digits before the point.
    WIDE_AMOUNT = "PX-AGG-037", "wide_amount";
    /// A JSON number where the contract has an id or a text.
    NUMBER_FOR_TEXT = "PX-AGG-038", "number_for_text";
    /// A JSON number where the contract has a number of an account or of a bank: leading zeros are lost.
    IDENTIFIER_AS_NUMBER = "PX-AGG-039", "identifier_as_number";
    /// An amount or a rate that is a JSON number, or has an exponent, a `+` or leading zeros.
    AMOUNT_FORM = "PX-AGG-040", "amount_form";
    /// A whole number that is written with a point, or as a text.
    WHOLE_NUMBER_FORM = "PX-AGG-041", "whole_number_form";
    /// A boolean that is written as a text.
    BOOLEAN_FORM = "PX-AGG-042", "boolean_form";
    /// A coordinate that is written as a text.
    COORDINATE_FORM = "PX-AGG-043", "coordinate_form";
    /// A date or a timestamp that is not written as RFC 3339 says.
    DATE_FORM = "PX-AGG-044", "date_form";
    /// A timestamp without an offset.
    TIMESTAMP_OFFSET = "PX-AGG-045", "timestamp_offset";
    /// A currency code in lower case.
    CURRENCY_CASE = "PX-AGG-046", "currency_case";
    /// An object has a member more than once.
    REPEATED_MEMBER = "PX-AGG-047", "repeated_member";
    /// A text with half a surrogate pair, bytes that are not UTF-8, or control characters that are not escaped.
    DAMAGED_TEXT = "PX-AGG-048", "damaged_text";
    /// A literal that JSON does not have, such as `NaN`, or a comma too many.
    NOT_JSON = "PX-AGG-049", "not_json";
    /// A list that is `null`, empty in another form, or missing.
    NULL_LIST = "PX-AGG-050", "null_list";
    /// An element of a list that is no object.
    ELEMENT_FORM = "PX-AGG-051", "element_form";
    /// A message that takes more time or memory to read than the reader may use.
    READER_LIMITS = "PX-AGG-052", "reader_limits";
    /// A byte order mark before the JSON.
    BYTE_ORDER_MARK = "PX-AGG-053", "byte_order_mark";
    /// NUL bytes after the JSON.
    TRAILING_BYTES = "PX-AGG-054", "trailing_bytes";
    /// A media type other than `application/json`.
    CONTENT_TYPE = "PX-AGG-055", "content_type";
    /// A `Content-Encoding` that names no encoding.
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
