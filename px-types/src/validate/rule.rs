//! The ids of the rules. They are stable: reports and dashboards may rely on them.

/// A required field is missing.
pub const MISSING_FIELD: &str = "missing_field";
/// A field is of another type, or its text is not of the field's form.
pub const MALFORMED: &str = "malformed";
/// An amount has more than six decimal places, or a rate more than four.
pub const DECIMAL_PLACES: &str = "decimal_places";
/// Not exactly one of `currency` and `non_iso_currency` is set.
pub const ONE_CURRENCY: &str = "one_currency";
/// A field that the contract does not know. A hint.
pub const UNKNOWN_FIELD: &str = "unknown_field";
/// A field that only another type, subtype or network has.
pub const MISPLACED_FIELD: &str = "misplaced_field";
/// A value that the contract does not list. A hint.
pub const UNKNOWN_VALUE: &str = "unknown_value";
/// An account of unknown type. A hint: its own rules were not applied.
pub const UNKNOWN_TYPE: &str = "unknown_type";
/// A transfer code of unknown network. A hint: its own rules were not applied.
pub const UNKNOWN_NETWORK: &str = "unknown_network";
/// Two entries of a collection have the same id.
pub const UNIQUE_ID: &str = "unique_id";
/// An id refers to nothing.
pub const REFERENCE: &str = "reference";
/// There is no identity at all.
pub const IDENTITIES_PRESENT: &str = "identities_present";
/// An account has no owner.
pub const OWNERS_PRESENT: &str = "owners_present";
/// A code in `currency` that ISO 4217 does not list.
pub const KNOWN_CURRENCY: &str = "known_currency";
/// Money of ISO 4217 in `non_iso_currency`.
pub const ISO_MONEY: &str = "iso_money";
/// A subtype that another type has and this one has not.
pub const SUBTYPE: &str = "subtype";
/// A depository account without `transfer_codes`.
pub const TRANSFER_CODES_PRESENT: &str = "transfer_codes_present";
/// A routing number without its form or its checksum.
pub const ROUTING_NUMBER: &str = "routing_number";
/// An IBAN without its form or its checksum.
pub const IBAN: &str = "iban";
/// A BIC without its form.
pub const BIC: &str = "bic";
/// An EFT number that is not of so many digits.
pub const EFT_DIGITS: &str = "eft_digits";
/// A Bacs number that is not of so many digits.
pub const BACS_DIGITS: &str = "bacs_digits";
/// An ISIN without its form or its checksum.
pub const ISIN: &str = "isin";
/// A display mask that is not of 2–4 characters.
pub const DISPLAY_MASK: &str = "display_mask";
/// What is owed is below zero. A hint: the sign may be the wrong way round.
pub const BALANCE_SIGN: &str = "balance_sign";
/// A merchant category code that is not of four digits.
pub const MCC: &str = "mcc";
/// A country that is not of two capital letters.
pub const COUNTRY: &str = "country";
/// Coordinates that are nowhere on the globe.
pub const COORDINATES: &str = "coordinates";
/// A transaction settled on a date before it was made.
pub const SETTLED_AFTER_MADE: &str = "settled_after_made";
/// A transaction whose `type` is not that of its account.
pub const ACCOUNT_TYPE: &str = "account_type";
/// A transaction outside the window.
pub const WINDOW: &str = "window";
/// A page longer than `limit`.
pub const LIMIT: &str = "limit";
/// A page that is not sorted by date, newest first, then by id.
pub const ORDER: &str = "order";
/// A total that is smaller than what was given.
pub const TOTAL: &str = "total";
