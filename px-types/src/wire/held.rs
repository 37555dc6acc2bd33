//! Values that are held back until it is known what they are.

use super::error_at;
use serde::de::{
    self, Deserialize, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
    value::{MapDeserializer, SeqDeserializer},
};
use serde_json::{Map, Number, Value};
use std::fmt;

/// A value that is held back: the fields of an account, say, until its type is known.
///
/// Unlike [`Value`] it keeps a member that is given twice, and what the tolerant reader shows as
/// bytes, for the type that reads it in the end: that type's error has the path.
pub(crate) enum Held {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    /// What only the tolerant reader has: a value that JSON does not have.
    Unreadable,
    List(Vec<Held>),
    Object(Vec<(String, Held)>),
}

/// Stands for a value that JSON does not have. No type takes it: it is not even UTF-8.
pub(crate) const UNREADABLE: &[u8] = &[0xff];

impl Held {
    /// The member that tells what the object is, a text that is given once.
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

    /// The members as JSON, to be kept whole. `None` if one of them is no JSON, or given twice.
    pub(crate) fn into_map(self) -> Option<Map<String, Value>> {
        match self.into_value()? {
            Value::Object(map) => Some(map),
            _ => None,
        }
    }

    fn into_value(self) -> Option<Value> {
        Some(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Number(value) => Value::Number(value),
            Self::Text(text) => Value::String(text),
            Self::Unreadable => return None,
            Self::List(entries) => {
                Value::Array(entries.into_iter().map(Self::into_value).collect::<Option<_>>()?)
            }
            Self::Object(members) => {
                let members =
                    members.into_iter().map(|(key, held)| Some((key, held.into_value()?)));
                Value::Object(members.collect::<Option<_>>()?)
            }
        })
    }
}

impl<'de> Deserialize<'de> for Held {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct HeldVisitor;
        impl<'de> Visitor<'de> for HeldVisitor {
            type Value = Held;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Held, E> {
                Ok(Held::Null)
            }
            fn visit_none<E: de::Error>(self) -> Result<Held, E> {
                Ok(Held::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Held, D::Error> {
                d.deserialize_any(self)
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Held, E> {
                Ok(Held::Bool(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Held, E> {
                Ok(Held::Number(value.into()))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Held, E> {
                Ok(Held::Number(value.into()))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Held, E> {
                Ok(Number::from_f64(value).map_or(Held::Null, Held::Number))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Held, E> {
                Ok(Held::Text(text.to_owned()))
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<Held, E> {
                Ok(Held::Text(text))
            }
            fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<Held, E> {
                Ok(Held::Unreadable)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Held, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    entries.push(entry);
                }
                Ok(Held::List(entries))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Held, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Held::Object(members))
            }
        }
        d.deserialize_any(HeldVisitor)
    }
}

impl<'de> Deserializer<'de> for &'de Held {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self {
            Held::Null => visitor.visit_unit(),
            Held::Bool(value) => visitor.visit_bool(*value),
            Held::Number(number) => number.deserialize_any(visitor),
            Held::Text(text) => visitor.visit_borrowed_str(text),
            Held::Unreadable => visitor.visit_bytes(UNREADABLE),
            Held::List(entries) => visitor.visit_seq(SeqDeserializer::new(entries.iter())),
            Held::Object(members) => {
                let members = members.iter().map(|(key, value)| (key.as_str(), value));
                visitor.visit_map(MapDeserializer::new(members))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self {
            Held::Null => visitor.visit_none(),
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
            Held::List(_) => Err(de::Error::invalid_type(de::Unexpected::Seq, &visitor)),
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

impl<'de> IntoDeserializer<'de, serde_json::Error> for &'de Held {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}
