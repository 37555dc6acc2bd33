//! Paths in messages, such as `transactions[3].amount`.

use std::fmt::Write as _;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A member of an object.
    Key(String),
    /// An entry of a list.
    Index(usize),
}

/// Parses the path of an error; `.` is the whole message.
pub(crate) fn parse(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let mut pieces = part.split('[');
        if let Some(key) = pieces.next().filter(|key| !key.is_empty()) {
            steps.push(Step::Key(key.to_owned()));
        }
        for index in pieces {
            if let Ok(index) = index.trim_end_matches(']').parse() {
                steps.push(Step::Index(index));
            }
        }
    }
    steps
}

/// Appends steps to a path.
pub(crate) fn push(path: &mut String, steps: &[Step]) {
    for step in steps {
        match step {
            Step::Key(key) => push_key(path, key),
            Step::Index(index) => {
                let _ = write!(path, "[{index}]");
            }
        }
    }
}

/// Appends a key to a path. A key that is not a plain name may contain a value and becomes `?`.
pub(crate) fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    let plain =
        key.len() <= 64 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    path.push_str(if plain { key } else { "?" });
}
