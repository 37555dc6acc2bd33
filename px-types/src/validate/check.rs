//! The check of raw bytes, which reports all faults and not only the first.
//!
//! A decoder stops at the first fault. The check reports each fault and repairs it in a copy of the
//! document, by removing the field or with a placeholder, until the copy can be decoded. Then it
//! applies the rules of the whole message. Violations that a repair causes are not reported.

use super::{Report, Rule, Severity, rule};
use crate::wire::{
    self, DecodeError,
    path::{self, Step, parse},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Maximum number of repaired faults. A document with more is probably not such a message.
const MAX_REPAIRS: usize = 2000;

/// Checks a message in raw bytes: its encoding, its fields and its rules.
///
/// Use it to test a partner. Unknown fields are reported as hints. `rules` validates the whole message;
/// the caller provides it, because some rules depend on the request. It is called with as much of the
/// message as can be read.
///
/// ```
/// use px_types::{partner::TransactionsResponse, validate::{PageContext, check, rule}};
/// let report = check(br#"{"total":"1","transactions":[{"id":5}]}"#, |page: &TransactionsResponse| {
///     page.validate(&PageContext::new())
/// });
/// assert!(report.has(rule::MALFORMED, "total"));
/// assert!(report.has(rule::MALFORMED, "transactions[0].id"));
/// assert!(report.has(rule::MISSING_FIELD, "transactions[0].amount"));
/// ```
pub fn check<T>(bytes: &[u8], rules: impl FnOnce(&T) -> Report) -> Report
where
    T: Serialize + DeserializeOwned,
{
    let mut report = Report::default();
    let original: Value = match wire::decode(bytes) {
        Ok(value) => value,
        Err(error) => {
            report.push(rule::MALFORMED, ".".into(), error.reason().to_owned(), Severity::Error);
            return report;
        }
    };
    let mut repair = Repair::new(original.clone());
    let message: Option<T> = repair.run(&mut report);
    let Some(message) = message else {
        return report;
    };
    if let Ok(written) = serde_json::to_value(&message) {
        report_unread(&repair, &original, &written, &mut Vec::new(), &mut report);
    }
    for violation in rules(&message).into_violations() {
        if !repair.is_caused_by_repair(violation.rule, &violation.path) {
            report.0.push(violation);
        }
    }
    if report.is_empty()
        && let Err(error) = wire::decode::<T>(bytes)
    {
        // A repeated key is lost in the parsed document.
        report.push(
            rule::MALFORMED,
            error.path().into(),
            error.reason().to_owned(),
            Severity::Error,
        );
    }
    report
}

/// A document that is repaired until it can be decoded.
struct Repair {
    document: Value,
    /// The paths of the repaired values.
    repaired: Vec<String>,
    /// The last successful remedy of a field, by its path without indices.
    learned: HashMap<String, Remedy>,
}

/// A change that makes a value readable.
#[derive(Clone, Debug)]
enum Remedy {
    /// Remove the field.
    Omit,
    /// Replace the value.
    Replace(Value),
}

impl Repair {
    fn new(document: Value) -> Self {
        Self { document, repaired: Vec::new(), learned: HashMap::new() }
    }

    /// Reports and repairs one fault after the other. Returns `None` if a fault cannot be repaired.
    fn run<T: DeserializeOwned>(&mut self, report: &mut Report) -> Option<T> {
        for _ in 0..MAX_REPAIRS {
            let fault = match wire::decode_value::<T>(&self.document) {
                Ok(message) => return Some(message),
                Err(error) => Fault::new(&error),
            };
            if !self.is_repaired(&fault.path) {
                report.push(fault.rule, fault.path.clone(), fault.text.clone(), Severity::Error);
            }
            if !self.repair_fault::<T>(&fault) {
                return None;
            }
        }
        None
    }

    /// Returns whether a path is within a value that was repaired.
    fn is_repaired(&self, path: &str) -> bool {
        self.repaired.iter().any(|place| is_within(path, place))
    }

    fn repair_fault<T: DeserializeOwned>(&mut self, fault: &Fault) -> bool {
        let steps = parse(&fault.path);
        let again = self.repaired.contains(&fault.path);
        let pattern = pattern(&steps);
        if !again && let Some(remedy) = self.learned.get(&pattern).cloned() {
            self.repaired.push(fault.path.clone());
            return apply(&mut self.document, &steps, &remedy);
        }
        let placeholder = json!(format!("placeholder-{}", self.repaired.len()));
        let mut remedies = vec![Remedy::Omit];
        remedies.extend(
            [
                placeholder,
                json!("0"),
                json!("2000-01-01"),
                json!("2000-01-01T00:00:00Z"),
                json!("AAA"),
                json!(true),
                json!(0),
                json!([]),
                json!({}),
                json!([{}]),
                json!(["placeholder"]),
            ]
            .map(Remedy::Replace),
        );
        let mut partly = None;
        for remedy in remedies {
            let saved = self.document.clone();
            if !apply(&mut self.document, &steps, &remedy) {
                self.document = saved;
                continue;
            }
            let next = wire::decode_value::<T>(&self.document).err();
            match next.map(|error| Fault::new(&error)) {
                Some(next) if next.path == fault.path => {}
                // The value itself is valid now, but incomplete. Use this remedy only if no other works;
                // the missing parts are not reported.
                Some(next) if is_within(&next.path, &fault.path) => partly = Some(remedy),
                _ => {
                    if !again {
                        self.repaired.push(fault.path.clone());
                    }
                    self.learned.insert(pattern, remedy);
                    return true;
                }
            }
            self.document = saved;
        }
        match partly {
            Some(remedy) if !again => {
                self.repaired.push(fault.path.clone());
                apply(&mut self.document, &steps, &remedy)
            }
            _ => false,
        }
    }

    /// Returns whether a repair caused the violation of a rule.
    fn is_caused_by_repair(&self, broken: Rule, path: &str) -> bool {
        let parent = path.rfind(['.', '[']).map_or("", |at| &path[..at]);
        // The other fields that the rule depends on.
        let siblings: &[&str] = match broken {
            rule::SETTLED_AFTER_MADE => &["transacted_at"],
            rule::WINDOW => &["settled_at", "transacted_at"],
            rule::SUBTYPE | rule::MISPLACED_FIELD => &["type", "subtype"],
            rule::TRANSFER_CODES_PRESENT => &["type", "status"],
            rule::ACCOUNT_TYPE => &["account_id"],
            _ => &[],
        };
        let referred = match broken {
            rule::REFERENCE if path.ends_with("security_id") => Some("securities"),
            rule::REFERENCE if path.contains("identity_id") => Some("identities"),
            _ => None,
        };
        self.repaired.iter().any(|place| {
            let field = place.rsplit('.').next().unwrap_or_default();
            let in_collection =
                |name: &str| is_within(place, name) && (!place.contains('.') || field == "id");
            is_within(path, place)
                || is_within(place, path) && broken != rule::ORDER
                || siblings.contains(&field)
                    && place.strip_suffix(field) == Some(&format!("{parent}."))
                || referred.is_some_and(in_collection)
                || broken == rule::ORDER
                    && matches!(field, "settled_at" | "transacted_at" | "id")
                    && are_neighbours(place, path)
        })
    }
}

/// Returns whether a repaired row is the row of an order violation or the one before it.
fn are_neighbours(place: &str, path: &str) -> bool {
    let row = |path: &str| match parse(path).get(1) {
        Some(Step::Index(index)) => Some(*index),
        _ => None,
    };
    match (row(place), row(path)) {
        (Some(repaired), Some(broken)) => repaired == broken || repaired + 1 == broken,
        _ => false,
    }
}

/// A fault that the decoder reported.
struct Fault {
    path: String,
    rule: Rule,
    text: String,
}

impl Fault {
    fn new(error: &DecodeError) -> Self {
        let (mut path, reason) = (error.path().to_owned(), error.reason());
        let mut text = reason.to_owned();
        let mut broken = rule::MALFORMED;
        if let Some(name) = reason.strip_prefix("missing field `").and_then(|r| r.strip_suffix('`'))
        {
            // The decoder reports the path of the object; the check reports the path of the field.
            path = match path.as_str() {
                "." => name.to_owned(),
                parent => format!("{parent}.{name}"),
            };
            broken = rule::MISSING_FIELD;
            text = "missing, and required".to_owned();
        } else if reason.contains("exactly one of") {
            broken = rule::ONE_CURRENCY;
        } else if reason.starts_with("too many decimal places") {
            broken = rule::DECIMAL_PLACES;
        } else if reason.starts_with("missing:") {
            broken = rule::MISSING_FIELD;
        }
        Self { path, rule: broken, text }
    }
}

/// Returns whether a path is equal to or below another path.
fn is_within(path: &str, place: &str) -> bool {
    place == "."
        || path
            .strip_prefix(place)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Returns a path without indices, which is the same for the field in all entries.
fn pattern(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Step::Index(_) => text.push_str("[]"),
        }
    }
    text
}

/// Applies a remedy. Returns `false` if the path is not in the document.
fn apply(document: &mut Value, steps: &[Step], remedy: &Remedy) -> bool {
    let Some((last, parents)) = steps.split_last() else {
        return match remedy {
            Remedy::Omit => false,
            Remedy::Replace(value) => {
                *document = value.clone();
                true
            }
        };
    };
    let mut place = document;
    for step in parents {
        let below = match step {
            Step::Key(key) => place.get_mut(key.as_str()),
            Step::Index(index) => place.get_mut(*index),
        };
        match below {
            Some(below) => place = below,
            None => return false,
        }
    }
    match (place, last, remedy) {
        (Value::Object(fields), Step::Key(key), Remedy::Omit) => fields.remove(key).is_some(),
        (Value::Object(fields), Step::Key(key), Remedy::Replace(value)) => {
            fields.insert(key.clone(), value.clone());
            true
        }
        // Removing an entry would change the indices of the others.
        (Value::Array(entries), Step::Index(index), Remedy::Replace(value)) => {
            match entries.get_mut(*index) {
                Some(entry) => {
                    *entry = value.clone();
                    true
                }
                None => false,
            }
        }
        _ => false,
    }
}

/// Reports the fields that the decoder did not read: unknown fields and fields of other types.
fn report_unread(
    repair: &Repair,
    read: &Value,
    written: &Value,
    steps: &mut Vec<Step>,
    report: &mut Report,
) {
    match (read, written) {
        (Value::Object(read), Value::Object(written)) => {
            for (key, value) in read {
                steps.push(Step::Key(key.clone()));
                match written.get(key) {
                    Some(written) => report_unread(repair, value, written, steps, report),
                    None if is_absent(value) || repair.is_repaired(&text(steps)) => {}
                    None => report_field(key, read, steps, report),
                }
                steps.pop();
            }
        }
        (Value::Array(read), Value::Array(written)) => {
            for (i, (read, written)) in read.iter().zip(written).enumerate() {
                steps.push(Step::Index(i));
                report_unread(repair, read, written, steps, report);
                steps.pop();
            }
        }
        _ => {}
    }
}

/// Returns whether a value is equivalent to an absent optional field: `null`, `""` or an empty list.
fn is_absent(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(entries) => entries.is_empty(),
        _ => false,
    }
}

fn report_field(key: &str, beside: &Map<String, Value>, steps: &[Step], report: &mut Report) {
    let path = text(steps);
    let of_account = beside.contains_key("subtype")
        && beside.contains_key("current_balance")
        && ACCOUNT_FIELDS.contains(&key);
    let of_code = beside.contains_key("network") && TRANSFER_CODE_FIELDS.contains(&key);
    if of_account {
        let text = "an account of this type does not have the field";
        report.push(rule::MISPLACED_FIELD, path, text, Severity::Error);
    } else if of_code {
        let text = "a transfer code of this network does not have the field";
        report.push(rule::MISPLACED_FIELD, path, text, Severity::Error);
    } else {
        let text = "the contract does not have this field";
        report.push(rule::UNKNOWN_FIELD, path, text, Severity::Hint);
    }
}

fn text(steps: &[Step]) -> String {
    let mut text = String::new();
    path::push(&mut text, steps);
    text
}

/// The fields that only accounts of some types have.
const ACCOUNT_FIELDS: &[&str] = &[
    "transfer_codes",
    "credit_limit",
    "aprs",
    "is_overdue",
    "last_payment_amount",
    "minimum_payment_amount",
    "last_statement_balance",
    "last_payment_date",
    "next_payment_due_date",
    "last_statement_issue_date",
    "interest_rate",
    "origination_date",
    "maturity_date",
    "origination_principal_amount",
    "outstanding_interest_amount",
    "ytd_interest_paid",
    "ytd_principal_paid",
    "past_due_amount",
    "escrow_balance",
    "mortgage",
    "student",
    "holdings",
];

/// The fields that only transfer codes of some networks have.
const TRANSFER_CODE_FIELDS: &[&str] = &[
    "account_number",
    "routing_number",
    "wire_routing_number",
    "tokenized",
    "institution_number",
    "branch_number",
    "sort_code",
    "iban",
    "bic",
];
