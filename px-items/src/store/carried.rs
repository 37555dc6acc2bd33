//! What another version of this program stored, carried along by one that does not know it.
//!
//! Two versions can work on one store. A version reads what it knows of a record and remembers
//! the rest; when it stores the record, the rest goes back as it was.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Objects of which this version carries nothing along once it has changed any of it: what an
/// unknown field of them said belongs to what was there.
const WHOLE: [&str; 1] = ["last_failure"];

/// The parts of a stored record that this version reads differently from how it writes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Carried(Vec<Difference>);

#[derive(Clone, Debug, PartialEq)]
struct Difference {
    path: Vec<String>,
    /// How this version would have written what it read; `None` if it does not know the field.
    read_as: Option<Value>,
    stored: Value,
}

/// A record that remembers what it does not know.
pub(crate) trait Carries: Serialize + DeserializeOwned {
    fn carried(&mut self) -> &mut Carried;
    fn carried_along(&self) -> &Carried;
}

/// Reads a record; `None` if this version cannot read it.
pub(crate) fn read<T: Carries>(text: &str) -> Option<T> {
    let mut record: T = serde_json::from_str(text).ok()?;
    // Nearly always this version wrote it: then it is the same text.
    if serde_json::to_string(&record).ok()? != text {
        let (stored, read) =
            (serde_json::from_str(text).ok()?, serde_json::to_value(&record).ok()?);
        let mut all = Vec::new();
        compare(&stored, &read, &mut Vec::new(), &mut all);
        *record.carried() = Carried(all);
    }
    Some(record)
}

/// Writes a record, with what it carries along.
pub(crate) fn write<T: Carries>(record: &T) -> Option<String> {
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
    let is_whole = path.last().is_some_and(|name| WHOLE.contains(&name.as_str()));
    match (stored, read) {
        (Value::Object(stored), Value::Object(read)) if !is_whole => {
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
    /// Puts the stored part back, unless this version changed it or its surroundings are gone.
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
    use crate::life::{FailureKind, History, Life};

    fn round(text: &str, change: impl Fn(&mut Life)) -> Value {
        let mut life: Life = read(text).unwrap();
        change(&mut life);
        serde_json::from_str(&write(&life).unwrap()).unwrap()
    }

    #[test]
    fn what_is_not_known_comes_back_as_it_was() {
        let text = r#"{"new":[1,{"a":null}],"history":{"Fetching":{"walk":{"next_end":"2026-01-01",
            "start":"2025-01-01","end":"2026-02-01","began_at":"2026-02-01T00:00:00Z","speed":3},"recent":true}},"fresh":{"loans":"x"},"failures":1}"#;
        let same = round(text, |_| {});
        assert_eq!(same["new"], serde_json::json!([1, {"a": null}]));
        assert_eq!(same["history"]["Fetching"]["walk"]["speed"], 3);
        assert_eq!(same["fresh"]["loans"], "x");
        let changed = round(text, |life| {
            life.history = History::Complete;
            life.failures = 9;
        });
        assert_eq!(changed["history"], "Complete", "what it belonged to is gone");
        assert_eq!((&changed["failures"], &changed["fresh"]["loans"]), (&9.into(), &"x".into()));
        assert_eq!(write(&read::<Life>("{}").unwrap()), write(&Life::default()));
    }

    #[test]
    fn only_what_informs_may_be_unknown() {
        for acted_on in [
            r#"{"history":"Frozen"}"#,
            r#"{"suspicion":"the_bank_moved"}"#,
            r#"{"history":{"Fetching":{}}}"#,
            "",
        ] {
            assert!(read::<Life>(acted_on).is_none(), "{acted_on}");
        }
        let text = r#"{"last_failure":{"at":"2026-01-01T00:00:00Z","kind":"odd","what":"w"}}"#;
        let life: Life = read(text).unwrap();
        assert_eq!(life.last_failure.as_ref().unwrap().kind, FailureKind::Unknown);
        assert_eq!(round(text, |_| {})["last_failure"]["kind"], "odd");
        let other = round(text, |life| {
            life.last_failure.as_mut().unwrap().kind = FailureKind::Network;
        });
        assert_eq!(other["last_failure"]["kind"], "network");
    }
}
