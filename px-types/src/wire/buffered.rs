//! Values that are buffered until their type is known.

use super::{NOT_JSON, error_at};
use serde::de::{
    self, Deserialize, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
    value::{MapDeserializer, SeqDeserializer},
};
use serde_json::{Map, Number, Value};
use std::fmt;

/// A buffered value, for example the fields of an account until its type is known.
///
/// Unlike [`Value`], it keeps repeated members and the bytes that the tolerant reader passes for
/// unreadable values. The type that finally reads them reports the error with its path.
pub(crate) enum BufferedValue {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    /// A value that is not valid JSON. Only the tolerant reader passes it.
    Unreadable,
    List(Vec<BufferedValue>),
    Object(Vec<(String, BufferedValue)>),
}

/// The bytes that represent a value that is not valid JSON. No type accepts them: they are not UTF-8.
pub(crate) const UNREADABLE: &[u8] = &[0xff];

impl BufferedValue {
    /// Returns the tag: the member that names the type of the object.
    pub(crate) fn tag<E: de::Error>(&self, name: &'static str) -> Result<&str, E> {
        let Self::Object(members) = self else {
            return Err(E::custom("expected an object"));
        };
        let mut tags = members.iter().filter(|(key, _)| key == name);
        match (tags.next(), tags.next()) {
            (Some((_, Self::Text(tag))), None) => Ok(tag),
            (Some(_), None) => Err(error_at(name, "expected a string")),
            (Some(_), Some(_)) => Err(error_at(name, "given twice")),
            (None, _) => Err(E::missing_field(name)),
        }
    }

    /// Converts the members to JSON.
    ///
    /// # Errors
    /// If it is not an object, if a value is not valid JSON, or if a member is repeated.
    pub(crate) fn into_map<E: de::Error>(self) -> Result<Map<String, Value>, E> {
        match self.into_value()? {
            Value::Object(map) => Ok(map),
            _ => Err(E::custom("expected an object")),
        }
    }

    fn into_value<E: de::Error>(self) -> Result<Value, E> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Number(value) => Value::Number(value),
            Self::Text(text) => Value::String(text),
            Self::Unreadable => return Err(E::custom(NOT_JSON)),
            Self::List(entries) => {
                Value::Array(entries.into_iter().map(Self::into_value).collect::<Result<_, E>>()?)
            }
            Self::Object(members) => {
                let mut map = Map::new();
                for (key, buffered) in members {
                    if map.contains_key(&key) {
                        // The text of serde, which the tolerant reader recognizes.
                        return Err(E::custom(format_args!("duplicate field `{key}`")));
                    }
                    map.insert(key, buffered.into_value()?);
                }
                Value::Object(map)
            }
        })
    }
}

impl<'de> Deserialize<'de> for BufferedValue {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct BufferedValueVisitor;
        impl<'de> Visitor<'de> for BufferedValueVisitor {
            type Value = BufferedValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_unit<E: de::Error>(self) -> Result<BufferedValue, E> {
                Ok(BufferedValue::Null)
            }
            fn visit_none<E: de::Error>(self) -> Result<BufferedValue, E> {
                Ok(BufferedValue::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<BufferedValue, D::Error> {
                d.deserialize_any(self)
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<BufferedValue, E> {
                Ok(BufferedValue::Bool(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<BufferedValue, E> {
                Ok(BufferedValue::Number(value.into()))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<BufferedValue, E> {
                Ok(BufferedValue::Number(value.into()))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<BufferedValue, E> {
                Ok(Number::from_f64(value).map_or(BufferedValue::Null, BufferedValue::Number))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<BufferedValue, E> {
                Ok(BufferedValue::Text(text.to_owned()))
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<BufferedValue, E> {
                Ok(BufferedValue::Text(text))
            }
            fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<BufferedValue, E> {
                Ok(BufferedValue::Unreadable)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<BufferedValue, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    entries.push(entry);
                }
                Ok(BufferedValue::List(entries))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BufferedValue, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(BufferedValue::Object(members))
            }
        }
        d.deserialize_any(BufferedValueVisitor)
    }
}

impl<'de> Deserializer<'de> for &'de BufferedValue {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self {
            BufferedValue::Null => visitor.visit_unit(),
            BufferedValue::Bool(value) => visitor.visit_bool(*value),
            BufferedValue::Number(number) => number.deserialize_any(visitor),
            BufferedValue::Text(text) => visitor.visit_borrowed_str(text),
            BufferedValue::Unreadable => visitor.visit_bytes(UNREADABLE),
            BufferedValue::List(entries) => visitor.visit_seq(SeqDeserializer::new(entries.iter())),
            BufferedValue::Object(members) => {
                let members = members.iter().map(|(key, value)| (key.as_str(), value));
                visitor.visit_map(MapDeserializer::new(members))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self {
            BufferedValue::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match self {
            BufferedValue::List(_) => Err(de::Error::invalid_type(de::Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map enum identifier
    }
}

impl<'de> IntoDeserializer<'de, serde_json::Error> for &'de BufferedValue {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}
