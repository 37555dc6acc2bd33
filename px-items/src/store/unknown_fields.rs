//! Preservation of stored fields that this version of the program does not know.
//!
//! Two versions can work on one store. A version reads the fields of a record that it knows and
//! remembers the others. When it stores the record, the others are written back unchanged.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Objects with unknown fields that are dropped once this version changes any part of the object,
/// because those fields describe the earlier contents.
const ATOMIC_OBJECTS: [&str; 1] = ["last_failure"];

/// The parts of a stored record that this version writes differently from what it read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct UnknownFields(Vec<Difference>);

#[derive(Clone, Debug, PartialEq)]
struct Difference {
    path: Vec<String>,
    /// The value as this version would write it; `None` if it does not know the field.
    read_as: Option<Value>,
    stored: Value,
}

/// A record that preserves fields that this version does not know.
pub(crate) trait PreservesUnknownFields: Serialize + DeserializeOwned {
    fn carried(&mut self) -> &mut UnknownFields;
    fn carried_along(&self) -> &UnknownFields;
}

/// Reads a record. Returns `None` if this version cannot read it.
pub(crate) fn read<T: PreservesUnknownFields>(text: &str) -> Option<T> {
    let mut record: T = serde_json::from_str(text).ok()?;
    // Usually this version wrote the record, and the text is the same.
    if serde_json::to_string(&record).ok()? != text {
        let (stored, read) =
            (serde_json::from_str(text).ok()?, serde_json::to_value(&record).ok()?);
        let mut all = Vec::new();
        compare(&stored, &read, &mut Vec::new(), &mut all);
        *record.carried() = UnknownFields(all);
    }
    Some(record)
}

/// Writes a record including its preserved fields.
pub(crate) fn write<T: PreservesUnknownFields>(record: &T) -> Option<String> {
    let carried = record.carried_along();
    if carried.0.is_empty() {
        return serde_json::to_string(record).ok();
    }
    let mut value = serde_json::to_value(record).ok()?;
    for difference in &carried.0 {
        difference.put_back(&mut value);
    }
    serde_json::to_string(&value).ok()
}

fn compare(stored: &Value, read: &Value, path: &mut Vec<String>, all: &mut Vec<Difference>) {
    let is_atomic = path.last().is_some_and(|name| ATOMIC_OBJECTS.contains(&name.as_str()));
    match (stored, read) {
        (Value::Object(stored), Value::Object(read)) if !is_atomic => {
            for (name, stored) in stored {
                path.push(name.clone());
                match read.get(name) {
                    Some(read) => compare(stored, read, path, all),
                    None => all.push(Difference {
                        path: path.clone(),
                        read_as: None,
                        stored: stored.clone(),
                    }),
                }
                path.pop();
            }
        }
        _ if stored == read => {}
        _ => all.push(Difference {
            path: path.clone(),
            read_as: Some(read.clone()),
            stored: stored.clone(),
        }),
    }
}

impl Difference {
    /// Writes the stored part back, unless this version changed it or its parent object no longer
    /// exists.
    fn put_back(&self, value: &mut Value) {
        let Some((last, parents)) = self.path.split_last() else { return };
        let mut place = value;
        for name in parents {
            match place.get_mut(name) {
                Some(next) => place = next,
                None => return,
            }
        }
        let Value::Object(place) = place else { return };
        if place.get(last) == self.read_as.as_ref() {
            place.insert(last.clone(), self.stored.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync_state::{FailureKind, History, SyncState};

    fn round(text: &str, change: impl Fn(&mut SyncState)) -> Value {
        let mut sync_state: SyncState = read(text).unwrap();
        change(&mut sync_state);
        serde_json::from_str(&write(&sync_state).unwrap()).unwrap()
    }

    #[test]
    fn what_is_not_known_comes_back_as_it_was() {
        let text = r#"{"new":[1,{"a":null}],"history":{"Fetching":{"walk":{"next_end":"2026-01-01",
            "start":"2025-01-01","end":"2026-02-01","began_at":"2026-02-01T00:00:00Z","speed":3},"recent":true}},"fresh":{"loans":"x"},"failures":1}"#;
        let same = round(text, |_| {});
        assert_eq!(same["new"], serde_json::json!([1, {"a": null}]));
        assert_eq!(same["history"]["Fetching"]["walk"]["speed"], 3);
        assert_eq!(same["fresh"]["loans"], "x");
        let changed = round(text, |sync_state| {
            sync_state.history = History::Complete;
            sync_state.failures = 9;
        });
        assert_eq!(changed["history"], "Complete", "what it belonged to is gone");
        assert_eq!((&changed["failures"], &changed["fresh"]["loans"]), (&9.into(), &"x".into()));
        assert_eq!(write(&read::<SyncState>("{}").unwrap()), write(&SyncState::default()));
    }

    #[test]
    fn only_what_informs_may_be_unknown() {
        for acted_on in [
            r#"{"history":"Frozen"}"#,
            r#"{"suspicion":"the_bank_moved"}"#,
            r#"{"history":{"Fetching":{}}}"#,
            "",
        ] {
            assert!(read::<SyncState>(acted_on).is_none(), "{acted_on}");
        }
        let text = r#"{"last_failure":{"at":"2026-01-01T00:00:00Z","kind":"odd","what":"w"}}"#;
        let sync_state: SyncState = read(text).unwrap();
        assert_eq!(sync_state.last_failure.as_ref().unwrap().kind, FailureKind::Unknown);
        assert_eq!(round(text, |_| {})["last_failure"]["kind"], "odd");
        let other = round(text, |sync_state| {
            sync_state.last_failure.as_mut().unwrap().kind = FailureKind::Network;
        });
        assert_eq!(other["last_failure"]["kind"], "network");
    }
}
