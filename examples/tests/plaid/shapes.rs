//! Comparison of responses with the golden vectors: the same names, and the same kinds of values.

use px_types::testing::PLAID_VECTORS;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The endpoints with checked responses.
#[derive(Default)]
pub(crate) struct Shapes(BTreeSet<&'static str>);

impl Shapes {
    /// Checks a response: it decodes, has no field that is unknown to its type, and each field is
    /// in the golden vector, which is independent of our types. Required fields are present,
    /// because it decodes.
    pub(crate) fn is<T: DeserializeOwned + Serialize>(&mut self, id: &str, response: &Value) -> T {
        let text = response.to_string();
        let message: T =
            px_types::decode(text.as_bytes()).unwrap_or_else(|e| panic!("{e}: {text}"));
        let written = serde_json::to_value(&message).unwrap();
        assert_eq!(written, *response, "unknown fields");
        let (id, vector) = PLAID_VECTORS.iter().find(|(name, _)| *name == id).unwrap();
        let vector: Value = serde_json::from_str(vector).unwrap();
        let faults = faults(response, &vector["response"], id);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        self.0.insert(id);
        message
    }

    /// Checks that every endpoint was checked.
    pub(crate) fn are_all(self) {
        let all: BTreeSet<_> = PLAID_VECTORS.iter().map(|(id, _)| *id).collect();
        assert_eq!(self.0, all);
    }
}

/// Returns the differences between a response and a document that has every field.
fn faults(response: &Value, whole: &Value, path: &str) -> Vec<String> {
    match (response, whole) {
        (Value::Object(fields), Value::Object(known)) => {
            let fault = |(name, value): (&String, &Value)| match known.get(name) {
                Some(known) => faults(value, known, &format!("{path}.{name}")),
                None => vec![format!("{path}.{name} is unknown")],
            };
            fields.iter().flat_map(fault).collect()
        }
        (Value::Array(items), Value::Array(known)) => {
            let known = merged(known);
            let fault = |item| faults(item, &known, &format!("{path}[]"));
            items.iter().flat_map(fault).collect()
        }
        (Value::Null, _) | (_, Value::Null) => Vec::new(),
        _ if std::mem::discriminant(response) == std::mem::discriminant(whole) => Vec::new(),
        _ => vec![format!("{path} is {response}, and not like {whole}")],
    }
}

/// Merges the items of a list to one that has all fields.
fn merged(items: &[Value]) -> Value {
    let mut fields = Map::new();
    for item in items {
        let Value::Object(more) = item else { return item.clone() };
        fields.extend(more.clone());
    }
    Value::Object(fields)
}

#[test]
fn an_answer_with_another_name_or_another_kind_of_value_is_found() {
    let whole = serde_json::json!({ "a": "x", "list": [{ "n": 1 }, { "m": null }], "ids": ["x"] });
    let found = |response: Value| faults(&response, &whole, "e");
    assert_eq!(found(whole.clone()), [""; 0]);
    assert_eq!(found(serde_json::json!({ "a": 1 })), ["e.a is 1, and not like \"x\""]);
    assert_eq!(found(serde_json::json!({ "b": "x" })), ["e.b is unknown"]);
    assert_eq!(
        found(serde_json::json!({ "list": [{ "m": 1, "o": 1 }] })),
        ["e.list[].o is unknown"]
    );
    assert_eq!(found(serde_json::json!({ "ids": [1] })), ["e.ids[] is 1, and not like \"x\""]);
}
