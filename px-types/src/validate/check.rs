//! The check of raw bytes: every fault, not only the first.
//!
//! A reader stops at the first fault. Here each fault is noted and repaired in a copy of
//! the document, by leaving a field out or by a placeholder, until the copy can be read;
//! then the rules over the whole message are applied to it. What a repair itself would
//! break is not reported.

use super::{Report, Rule, Severity, rule};
use crate::wire::{
    self, DecodeError,
    path::{self, Step, parse},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// The most faults that are repaired; a document with more is another document altogether.
const MAX_REPAIRS: usize = 2000;

/// Checks bytes that should be a message: all that is wrong on the wire, and the rules.
///
/// For the partner's checker and for tests. Unknown fields are hints (strict mode). The
/// rules over the whole message are handed in, because they need to know what was asked
/// for; they run on as much of the message as can be read.
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
        strict(&repair, &original, &written, &mut Vec::new(), &mut report);
    }
    for breach in rules(&message).into_breaches() {
        if !repair.caused(breach.rule, &breach.path) {
            report.0.push(breach);
        }
    }
    if report.is_empty()
        && let Err(error) = wire::decode::<T>(bytes)
    {
        // What a document in memory cannot show: a key given twice.
        report.push(
            rule::MALFORMED,
            error.path().into(),
            error.reason().to_owned(),
            Severity::Error,
        );
    }
    report
}

/// A document on its way to being readable.
struct Repair {
    document: Value,
    /// The places that are no longer as they came.
    places: Vec<String>,
    /// What made a field readable the last time, by its path without indices.
    learned: HashMap<String, Remedy>,
}

/// What makes a place readable.
#[derive(Clone, Debug)]
enum Remedy {
    /// The field is left out.
    Leave,
    /// Something else stands there.
    Put(Value),
}

impl Repair {
    fn new(document: Value) -> Self {
        Self { document, places: Vec::new(), learned: HashMap::new() }
    }

    /// Notes and repairs fault after fault; `None` when nothing helps.
    fn run<T: DeserializeOwned>(&mut self, report: &mut Report) -> Option<T> {
        for _ in 0..MAX_REPAIRS {
            let fault = match wire::decode_value::<T>(&self.document) {
                Ok(message) => return Some(message),
                Err(error) => Fault::new(&error),
            };
            if !self.inside(&fault.path) {
                report.push(fault.rule, fault.path.clone(), fault.text.clone(), Severity::Error);
            }
            if !self.mend::<T>(&fault) {
                return None;
            }
        }
        None
    }

    /// Whether a path lies in a place that was repaired before.
    fn inside(&self, path: &str) -> bool {
        self.places.iter().any(|place| lies_in(path, place))
    }

    fn mend<T: DeserializeOwned>(&mut self, fault: &Fault) -> bool {
        let steps = parse(&fault.path);
        let again = self.places.contains(&fault.path);
        let pattern = pattern(&steps);
        if !again && let Some(remedy) = self.learned.get(&pattern).cloned() {
            self.places.push(fault.path.clone());
            return apply(&mut self.document, &steps, &remedy);
        }
        let placeholder = json!(format!("placeholder-{}", self.places.len()));
        let mut remedies = vec![Remedy::Leave];
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
            .map(Remedy::Put),
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
                // The place itself is good now, and what is missing in it is a fault of its own
                // that is not reported. Nothing simpler may do.
                Some(next) if lies_in(&next.path, &fault.path) => partly = Some(remedy),
                _ => {
                    if !again {
                        self.places.push(fault.path.clone());
                    }
                    self.learned.insert(pattern, remedy);
                    return true;
                }
            }
            self.document = saved;
        }
        match partly {
            Some(remedy) if !again => {
                self.places.push(fault.path.clone());
                apply(&mut self.document, &steps, &remedy)
            }
            _ => false,
        }
    }

    /// Whether a breach of a rule over the whole message comes from a repair.
    fn caused(&self, broken: Rule, path: &str) -> bool {
        let parent = path.rfind(['.', '[']).map_or("", |at| &path[..at]);
        // What else a rule looks at, beside the place that it names.
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
        self.places.iter().any(|place| {
            let field = place.rsplit('.').next().unwrap_or_default();
            let in_collection =
                |name: &str| lies_in(place, name) && (!place.contains('.') || field == "id");
            lies_in(path, place)
                || lies_in(place, path) && broken != rule::ORDER
                || siblings.contains(&field)
                    && place.strip_suffix(field) == Some(&format!("{parent}."))
                || referred.is_some_and(in_collection)
                || broken == rule::ORDER
                    && matches!(field, "settled_at" | "transacted_at" | "id")
                    && neighbours(place, path)
        })
    }
}

/// Whether a repaired row is the row of a breach of order, or the one before it.
fn neighbours(place: &str, path: &str) -> bool {
    let row = |path: &str| match parse(path).get(1) {
        Some(Step::Index(index)) => Some(*index),
        _ => None,
    };
    match (row(place), row(path)) {
        (Some(repaired), Some(broken)) => repaired == broken || repaired + 1 == broken,
        _ => false,
    }
}

/// A fault that the reader named.
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
            // A reader names the object; the checker names the field.
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

/// Whether a path is a place or lies below it.
fn lies_in(path: &str, place: &str) -> bool {
    place == "."
        || path
            .strip_prefix(place)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// A path without its indices: the same field of another entry.
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

/// Applies a remedy; `false` when the place is not in the document.
fn apply(document: &mut Value, steps: &[Step], remedy: &Remedy) -> bool {
    let Some((last, parents)) = steps.split_last() else {
        return match remedy {
            Remedy::Leave => false,
            Remedy::Put(value) => {
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
        (Value::Object(fields), Step::Key(key), Remedy::Leave) => fields.remove(key).is_some(),
        (Value::Object(fields), Step::Key(key), Remedy::Put(value)) => {
            fields.insert(key.clone(), value.clone());
            true
        }
        // An entry that was left out would move the others.
        (Value::Array(entries), Step::Index(index), Remedy::Put(value)) => {
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

/// Reports what the reader did not take: unknown fields, and fields of another type.
fn strict(
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
                    Some(written) => strict(repair, value, written, steps, report),
                    None if is_absent(value) || repair.inside(&text(steps)) => {}
                    None => report_field(key, read, steps, report),
                }
                steps.pop();
            }
        }
        (Value::Array(read), Value::Array(written)) => {
            for (i, (read, written)) in read.iter().zip(written).enumerate() {
                steps.push(Step::Index(i));
                strict(repair, read, written, steps, report);
                steps.pop();
            }
        }
        _ => {}
    }
}

/// Absent, `null`, `""` and an empty list are alike where a field is optional.
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
        let text = "the contract does not know the field";
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
