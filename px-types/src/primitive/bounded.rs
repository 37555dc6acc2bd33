//! Lists with a limited length.

use serde::{Deserialize, Serialize};
use std::{fmt, ops::Deref};

/// An error for a list that is too short or too long for a [`Bounded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidLength {
    min: usize,
    max: usize,
}

impl fmt::Display for InvalidLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.max {
            usize::MAX => write!(f, "the list must have at least {} entries", self.min),
            max => write!(f, "the list must have from {} to {max} entries", self.min),
        }
    }
}

impl std::error::Error for InvalidLength {}

/// A list of `MIN` to `MAX` entries.
///
/// It dereferences to a slice; [`into_vec`](Self::into_vec) returns the list.
#[derive(Clone, PartialEq, Eq)]
pub struct Bounded<T, const MIN: usize, const MAX: usize>(Vec<T>);

/// A list of at least one entry.
pub type AtLeastOne<T> = Bounded<T, 1, { usize::MAX }>;

impl<T, const MIN: usize, const MAX: usize> Bounded<T, MIN, MAX> {
    /// Creates a bounded list.
    ///
    /// # Errors
    /// If the list is shorter than `MIN` or longer than `MAX`.
    pub fn new(entries: Vec<T>) -> Result<Self, InvalidLength> {
        if (MIN..=MAX).contains(&entries.len()) {
            Ok(Self(entries))
        } else {
            Err(InvalidLength { min: MIN, max: MAX })
        }
    }

    /// Returns the entries.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MIN: usize, const MAX: usize> Deref for Bounded<T, MIN, MAX> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, const MIN: usize, const MAX: usize> TryFrom<Vec<T>> for Bounded<T, MIN, MAX> {
    type Error = InvalidLength;
    fn try_from(entries: Vec<T>) -> Result<Self, InvalidLength> {
        Self::new(entries)
    }
}

impl<T: fmt::Debug, const MIN: usize, const MAX: usize> fmt::Debug for Bounded<T, MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Serialize, const MIN: usize, const MAX: usize> Serialize for Bounded<T, MIN, MAX> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

impl<'de, T: Deserialize<'de>, const MIN: usize, const MAX: usize> Deserialize<'de>
    for Bounded<T, MIN, MAX>
{
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(Vec::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "openapi")]
impl<T: schemars::JsonSchema, const MIN: usize, const MAX: usize> schemars::JsonSchema
    for Bounded<T, MIN, MAX>
{
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Bounded_{}_{MIN}_{MAX}", T::schema_name()).into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let items = generator.subschema_for::<T>();
        let mut schema =
            schemars::json_schema!({ "type": "array", "items": items, "minItems": MIN });
        if MAX != usize::MAX {
            schema.insert("maxItems".into(), MAX.into());
        }
        schema
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_hold() {
        assert!(Bounded::<u8, 1, 2>::new(vec![]).is_err());
        assert!(Bounded::<u8, 1, 2>::new(vec![1, 2]).is_ok());
        let error = serde_json::from_str::<Bounded<u8, 1, 2>>("[1,2,3]").unwrap_err();
        assert!(error.to_string().contains("from 1 to 2"), "{error}");
        assert!(AtLeastOne::new(vec![1]).is_ok());
    }
}
