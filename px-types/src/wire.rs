//! How JSON is read here: the few rules that every message shares.
//!
//! - a field that is not required may be absent, `null` or `""`, whatever its type;
//! - an error names the path and never the value.

mod held;
pub(crate) mod path;

pub(crate) use self::held::{Held, UNREADABLE};

use self::path::push_key;
use serde::de::{
    Deserialize, Deserializer, IntoDeserializer as _, MapAccess, SeqAccess, Visitor,
    value::{
        BorrowedStrDeserializer, BytesDeserializer, MapAccessDeserializer, SeqAccessDeserializer,
        StrDeserializer,
    },
};
use std::{fmt, marker::PhantomData};

/// Reads a value from a JSON string, without a copy of the string.
pub(crate) fn from_text<'de, D, T, E>(
    deserializer: D,
    expected: &'static str,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    E: fmt::Display,
{
    struct Text<F, T, E>(&'static str, F, PhantomData<(T, E)>);
    impl<F: FnOnce(&str) -> Result<T, E>, T, E: fmt::Display> Visitor<'_> for Text<F, T, E> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<X: serde::de::Error>(self, text: &str) -> Result<T, X> {
            (self.1)(text).map_err(X::custom)
        }
    }
    deserializer.deserialize_str(Text(expected, read, PhantomData))
}

/// Reads a number by which money finds an account or a bank: never empty, never a JSON number.
pub(crate) fn identifier<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: From<String>,
{
    from_text(deserializer, "an account identifier (a string)", |text| match text {
        "" => Err("empty; expected an account identifier (a string)"),
        _ => Ok(T::from(text.to_owned())),
    })
}

/// Reads an optional field: absent (with `#[serde(default)]`), `null` and `""` are alike.
pub(crate) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_any(OptionalVisitor(PhantomData))
}

/// Reads an optional list; absent is the empty list.
pub(crate) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    optional(deserializer).map(Option::unwrap_or_default)
}

struct OptionalVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OptionalVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the field's type, null or \"\"")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_any(self)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        match text {
            "" => Ok(None),
            _ => T::deserialize(StrDeserializer::new(text)).map(Some),
        }
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        match text {
            "" => Ok(None),
            _ => T::deserialize(BorrowedStrDeserializer::new(text)).map(Some),
        }
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(Some)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(Some)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(Some)
    }

    // Coordinates alone are read this way; an amount is a string.
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(Some)
    }

    // JSON has no bytes: the tolerant reader shows what it cannot read in this way.
    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        T::deserialize(BytesDeserializer::new(bytes)).map(Some)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        T::deserialize(ListDeserializer(seq)).map(Some)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}

/// The reason when something that is kept whole holds what JSON does not have.
pub(crate) const NOT_JSON: &str = "holds what JSON does not have";

/// A list of which no struct can be made; serde's own would take the values by their order.
struct ListDeserializer<A>(A);

impl<'de, A: SeqAccess<'de>> Deserializer<'de> for ListDeserializer<A> {
    type Error = A::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        SeqAccessDeserializer::new(self.0).deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        Err(serde::de::Error::invalid_type(serde::de::Unexpected::Seq, &visitor))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Marks an error with the rest of its path, where the path is known only to the code that found it.
const PATH_MARK: char = '\u{1}';

/// An error at a path below the place where the reader stands.
pub(crate) fn error_at<E: serde::de::Error>(path: &str, text: impl fmt::Display) -> E {
    E::custom(format_args!("{PATH_MARK}{path}{PATH_MARK}{text}"))
}

/// Reads a part of a message out of a value that was held back, keeping the path of an error.
pub(crate) fn from_held<'de, T, E>(
    held: impl Deserializer<'de, Error = serde_json::Error> + Copy,
) -> Result<T, E>
where
    T: Deserialize<'de>,
    E: serde::de::Error,
{
    // As in `decode`, the path is found only where there is an error.
    T::deserialize(held)
        .or_else(|_| read(held))
        .map_err(|error| error_at(&error.path, error.reason))
}

/// Reads from a value in memory, keeping track of the path.
pub(crate) fn read<'de, T: Deserialize<'de>>(
    value: impl Deserializer<'de, Error = serde_json::Error>,
) -> Result<T, DecodeError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (path, reason) = locate(&error);
        DecodeError { path, reason }
    })
}

/// Why bytes are not the message that was expected.
///
/// Names the path of the fault, `transactions[3].amount`, and never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    path: String,
    reason: String,
}

impl DecodeError {
    pub(crate) fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }

    /// Where the fault is, `transactions[3].amount`; `.` is the whole message.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong there.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at `{}`: {}", self.path, self.reason)
    }
}

impl std::error::Error for DecodeError {}

/// Reads a message from JSON bytes.
///
/// # Errors
/// When the bytes are not JSON, or not this message; the error names the path of the first fault.
pub fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, DecodeError> {
    // Keeping track of the path costs time, so only a message that fails is read with it.
    serde_json::from_slice(bytes).or_else(|_| {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let (path, reason) = locate(&error);
            DecodeError { path, reason }
        })?;
        json.end().map_err(|error| DecodeError::new(".", reason(&error)))?;
        Ok(value)
    })
}

/// Reads a message from a JSON value.
///
/// # Errors
/// As [`decode`].
pub fn decode_value<'de, T: Deserialize<'de>>(
    value: &'de serde_json::Value,
) -> Result<T, DecodeError> {
    read(value)
}

/// Writes a message as JSON bytes.
#[must_use]
pub fn encode<T: serde::Serialize>(message: &T) -> Vec<u8> {
    // Messages have string keys and no fallible `Serialize`, so this cannot fail.
    serde_json::to_vec(message).unwrap_or_default()
}

/// The path and the reason of an error, both free of values.
fn locate(error: &serde_path_to_error::Error<serde_json::Error>) -> (String, String) {
    use serde_path_to_error::Segment;
    let mut path = String::new();
    for segment in error.path() {
        match segment {
            Segment::Seq { index } => path.push_str(&format!("[{index}]")),
            Segment::Map { key } | Segment::Enum { variant: key } => push_key(&mut path, key),
            Segment::Unknown => {}
        }
    }
    let reason = reason(error.inner());
    let reason = match reason.strip_prefix(PATH_MARK).and_then(|r| r.split_once(PATH_MARK)) {
        Some((below, text)) => {
            if below.starts_with('[') {
                path.push_str(below);
            } else if below != "." {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(below);
            }
            text.to_owned()
        }
        None => reason,
    };
    if path.is_empty() {
        path.push('.');
    }
    (path, reason)
}

/// The text of a JSON error without the value that it quotes.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = match text.rfind(" at line ") {
        // Where the fault has a path, line and column add nothing.
        Some(end) if error.is_data() => &text[..end],
        _ => &text,
    };
    // `invalid type: string "…", expected a date`: what comes before is the value. The last
    // ", expected " is the reader's own, so a value that contains one cannot slip through.
    match text.rfind(", expected ") {
        Some(at) if text.starts_with("invalid ") => match &text[at + 2..] {
            "expected u64" => "expected a whole number, 0 or more".to_owned(),
            expected => expected.to_owned(),
        },
        _ => text.to_owned(),
    }
}

/// The deepest nesting of arrays and objects in JSON bytes, strings left aside.
#[must_use]
pub fn nesting(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code, reason = "only read")]
    struct Sample {
        #[serde(default, deserialize_with = "optional")]
        flag: Option<bool>,
        #[serde(default, deserialize_with = "list")]
        dates: Vec<crate::Date>,
    }

    #[test]
    fn absent_null_and_empty_are_alike() {
        for text in ["{}", r#"{"flag":null,"dates":null}"#, r#"{"flag":"","dates":""}"#] {
            let sample: Sample = decode(text.as_bytes()).unwrap();
            assert!(sample.flag.is_none() && sample.dates.is_empty());
        }
    }

    #[test]
    fn an_error_names_the_path_and_not_the_value() {
        let error = decode::<Sample>(br#"{"dates":["2020-01-01","hunter2"]}"#).unwrap_err();
        assert_eq!(error.path(), "dates[1]");
        assert!(!error.to_string().contains("hunter2"));
        let error = decode::<Sample>(br#"{"flag":"hunter2, expected x"}"#).unwrap_err();
        assert_eq!(error.to_string(), "at `flag`: expected a boolean");
        let error = decode::<Sample>(br#"{"flag":"#).unwrap_err();
        assert!(error.reason().contains("EOF"), "{error}");
    }

    #[test]
    fn nesting_ignores_strings() {
        assert_eq!(nesting(br#"{"a":[{"b":"[[[\"["}]}"#), 3);
    }
}
