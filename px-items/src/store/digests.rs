//! Keyed digests of tokens, by which stores recognize equal tokens without opening them.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use px_client::oauth::TokenSet;
use px_core::Random;
use px_types::InstitutionId;
use std::fmt;
use zeroize::Zeroizing;

/// Name of the first key among the store's secrets.
pub(super) const KEY_NAME: &str = "token-digests";
/// Number of attempts to read or create the key.
pub(super) const MAX_TRIES: u32 = 3;

/// Returns the name of the key that is created after `before` others. If the vault can open none of
/// them, a further one is created, so that a lost key only prevents the comparison with older
/// tokens. The newest key that can be opened is used.
pub(super) fn key_name(before: usize) -> String {
    match before {
        0 => KEY_NAME.to_owned(),
        _ => format!("{KEY_NAME}-{}", before + 1),
    }
}

/// The key of the digests. It is created once for each database and sealed like every other secret,
/// so that a change of the sealing key does not change digests.
pub(super) struct DigestKey(Key);

/// The digests of a pair of tokens. There is one for each, because partners may replace only one of
/// them.
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
