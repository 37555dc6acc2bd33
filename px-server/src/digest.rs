//! The only form in which codes and tokens are kept, and how new ones are made.

use crate::clock::{NoRandomness, Random};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use std::fmt;
use subtle::ConstantTimeEq as _;

/// The SHA-256 of a code or a token.
///
/// What a store keeps in place of the secret. Comparison takes constant time. Written as
/// 43 characters of base64url, in JSON and by [`to_string`](ToString::to_string).
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of a secret.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// The digest's bytes, for a store that keeps them as such.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Digest {}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("expected a SHA-256 in base64url"))
    }
}

/// 256 random bits as base64url.
pub(crate) fn secret(random: &dyn Random) -> Result<String, NoRandomness> {
    text::<32>(random)
}

/// 128 random bits as base64url: for names that are no secrets.
pub(crate) fn name(random: &dyn Random) -> Result<String, NoRandomness> {
    text::<16>(random)
}

fn text<const N: usize>(random: &dyn Random) -> Result<String, NoRandomness> {
    let mut bytes = [0; N];
    random.fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_survives_json() {
        let digest = Digest::of("a secret");
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(json.len(), 45);
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        assert!(serde_json::from_str::<Digest>("\"short\"").is_err());
        assert_eq!(format!("{digest:?}"), "Digest(…)");
    }
}
