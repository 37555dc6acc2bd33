//! JSON encoding and strict decoding, with the rules that all messages share.
//!
//! - A field that is not required may be absent, `null` or `""`, whatever its type.
//! - An error names the path of the fault, but never a value.

mod buffered;
pub(crate) mod path;

pub(crate) use self::buffered::{BufferedValue, UNREADABLE};

use self::path::push_key;
use serde::de::{
    Deserialize, Deserializer, IntoDeserializer as _, MapAccess, SeqAccess, Visitor,
    value::{
        BorrowedStrDeserializer, BytesDeserializer, MapAccessDeserializer, SeqAccessDeserializer,
        StrDeserializer,
    },
};
use std::{fmt, marker::PhantomData};

/// Parses a value from a JSON string, without copying the string.
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

/// Deserializes the number of an account or a bank: a string that is not empty.
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

/// Deserializes an optional field. Absent (with `#[serde(default)]`), `null` and `""` are equivalent.
pub(crate) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_any(OptionalVisitor(PhantomData))
}

/// Deserializes an optional list. An absent list is empty.
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

    // Only coordinates are read as floats; amounts are strings.
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Self::Value, E> {
        T::deserialize(value.into_deserializer()).map(Some)
    }

    // JSON has no bytes: the tolerant reader passes unreadable values this way.
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

/// The reason if a value of unknown type contains something that is not valid JSON.
pub(crate) const NOT_JSON: &str = "contains something that is not valid JSON";

/// A deserializer of lists that refuses structs. Serde would accept the values in the order of the
/// fields.
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

/// A mark around the rest of the path in an error text, where only the failing code knows that path.
const PATH_MARK: char = '\u{1}';

/// Creates an error at a path below the value that is being read.
pub(crate) fn error_at<E: serde::de::Error>(path: &str, text: impl fmt::Display) -> E {
    E::custom(format_args!("{PATH_MARK}{path}{PATH_MARK}{text}"))
}

/// Deserializes a part of a message from a buffered value, keeping the path of an error.
pub(crate) fn from_buffered<'de, T, E>(
    buffered: impl Deserializer<'de, Error = serde_json::Error> + Copy,
) -> Result<T, E>
where
    T: Deserialize<'de>,
    E: serde::de::Error,
{
    // As in `decode`, the path is determined only if there is an error.
    T::deserialize(buffered)
        .or_else(|_| read(buffered))
        .map_err(|error| error_at(&error.path, error.reason))
}

/// Deserializes a value in memory, keeping track of the path.
pub(crate) fn read<'de, T: Deserialize<'de>>(
    value: impl Deserializer<'de, Error = serde_json::Error>,
) -> Result<T, DecodeError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (path, reason) = locate(&error);
        DecodeError { path, reason }
    })
}

/// An error while decoding a message.
///
/// It names the path of the fault, such as `transactions[3].amount`, but never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    path: String,
    reason: String,
}

impl DecodeError {
    pub(crate) fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }

    /// Returns the path of the fault, such as `transactions[3].amount`; `.` is the whole message.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the reason.
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

/// Decodes a message from JSON.
///
/// # Errors
/// If the bytes are not JSON, or not a valid message of this type. The error names the path of the first
/// fault.
pub fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, DecodeError> {
    // Keeping track of the path takes time, so it is done only after decoding has failed.
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

/// Decodes a message from a JSON value.
///
/// # Errors
/// If the value is not a valid message of this type. The error names the path of the first fault.
pub fn decode_value<'de, T: Deserialize<'de>>(
    value: &'de serde_json::Value,
) -> Result<T, DecodeError> {
    read(value)
}

/// Encodes a message as JSON.
#[must_use]
pub fn encode<T: serde::Serialize>(message: &T) -> Vec<u8> {
    // Messages have string keys and no fallible `Serialize`, so this cannot fail.
    serde_json::to_vec(message).unwrap_or_default()
}

/// Returns the path and the reason of an error, without values.
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

/// Returns the text of a JSON error without the value that it quotes.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = match text.rfind(" at line ") {
        // An error with a path does not need line and column.
        Some(end) if error.is_data() => &text[..end],
        _ => &text,
    };
    // In `invalid type: string "…", expected a date`, the first part quotes the value. The last
    // ", expected " is never part of the value, so a value that contains it is removed as well.
    match text.rfind(", expected ") {
        Some(at) if text.starts_with("invalid ") => match &text[at + 2..] {
            "expected u64" => "expected a whole number, 0 or more".to_owned(),
            expected => expected.to_owned(),
        },
        _ => text.to_owned(),
    }
}

/// Returns the maximum nesting of arrays and objects in JSON. Brackets in strings do not count.
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
