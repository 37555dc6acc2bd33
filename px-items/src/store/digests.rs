//! Keyed digests of tokens, by which stores find the same token again without opening it.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use px_client::oauth::TokenSet;
use px_core::Random;
use px_types::InstitutionId;
use std::fmt;
use zeroize::Zeroizing;

/// The name of the first key among the store's secrets.
pub(super) const KEY_NAME: &str = "token-digests";
/// How often a store tries to read or to draw the key.
pub(super) const MAX_TRIES: u32 = 3;

/// The name of the key that is drawn after so many others. If the vault cannot open any of them, a
/// further one is drawn, so that a lost key stops nothing but the comparison with older tokens; the
/// newest that opens is used.
pub(super) fn key_name(before: usize) -> String {
    match before {
        0 => KEY_NAME.to_owned(),
        _ => format!("{KEY_NAME}-{}", before + 1),
    }
}

/// The key of the digests. It is drawn once for each database and sealed there like every other
/// secret, so that sealing everything under another key changes no digest.
pub(super) struct DigestKey(Key);

/// The digests of a pair of tokens, of each apart: partners may replace one and keep the other.
pub(super) struct TokenDigests {
    pub(super) access: Vec<u8>,
    pub(super) refresh: Option<Vec<u8>>,
}

impl DigestKey {
    /// Draws the bytes of a key.
    pub(super) fn draw(random: &dyn Random) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(vec![0; 32]);
        random.fill(&mut bytes);
        bytes
    }

    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(Key::new(HMAC_SHA256, bytes))
    }

    /// The digests of tokens of an institution. Equal tokens of two institutions are two tokens.
    pub(super) fn of(&self, institution: &InstitutionId, tokens: &TokenSet) -> TokenDigests {
        let digest = |kind: &str, token: &str| {
            let text = Zeroizing::new(format!("{kind}\0{institution}\0{token}"));
            sign(&self.0, text.as_bytes()).as_ref().to_vec()
        };
        let refresh = tokens.refresh_token.as_ref();
        TokenDigests {
            access: digest("access", tokens.access_token.expose()),
            refresh: refresh.map(|token| digest("refresh", token.expose())),
        }
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(***)")
    }
}
