//! Generation of access tokens and ids. Only the digest of a token is stored.

use crate::store::AccessDigest;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use px_core::{Digest, Random};
use px_types::{ItemAccessToken, webhook::Environment};
use std::str::FromStr;
use zeroize::Zeroizing;

/// Generates an access token: `access-<environment>-<256 random bits>`.
pub(super) fn mint(random: &dyn Random, environment: &Environment) -> ItemAccessToken {
    ItemAccessToken::new(unguessable("access", random, environment))
}

/// Generates a token: `<kind>-<environment>-<256 random bits>`.
pub(crate) fn unguessable(kind: &str, random: &dyn Random, environment: &Environment) -> String {
    let mut bytes = Zeroizing::new([0; 32]);
    random.fill(&mut *bytes);
    let mut text = format!("{kind}-{environment}-");
    BASE64_URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut text);
    text
}

/// Returns the stored form of a token.
pub(super) fn digest(token: &ItemAccessToken) -> AccessDigest {
    AccessDigest(*Digest::of(token.expose()).as_bytes())
}

/// Generates an id of about 190 random bits, with letters and digits only. An id with a leading
/// dash would be parsed as an option by command lines.
pub(crate) fn id<T: FromStr>(random: &dyn Random) -> Option<T> {
    let mut bytes = [0; 24];
    random.fill(&mut bytes);
    BASE64_URL_SAFE_NO_PAD.encode(bytes).replace('-', "x").replace('_', "y").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use px_core::SeededRandom;
    use px_types::ItemId;

    #[test]
    fn tokens_name_their_environment_and_differ() {
        let random = SeededRandom::new(1);
        let one = mint(&random, &Environment::Sandbox);
        let other = mint(&random, &Environment::Sandbox);
        assert!(one.expose().starts_with("access-sandbox-"));
        assert_eq!(one.expose().len(), "access-sandbox-".len() + 43);
        assert_ne!(one, other);
        assert_ne!(digest(&one), digest(&other));
        assert_eq!(digest(&one), digest(&ItemAccessToken::new(one.expose())));
    }

    #[test]
    fn ids_of_items_are_ids() {
        let random = SeededRandom::new(1);
        let id: ItemId = id(&random).unwrap();
        assert_eq!(id.as_str().len(), 32);
        assert_ne!(Some(id), super::id(&random));
        let plain = |id: ItemId| id.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric());
        assert!((0..100).all(|_| super::id(&random).is_some_and(plain)));
    }
}
