//! Cursors: positions of a reader, sealed so that they reveal nothing and cannot be altered.
//!
//! A position counts every change of an Item, including those that the application may not see. So
//! it is sealed under the key of the connection, and bound to Item, application and epoch. A cursor
//! that was altered, or that belongs to another reader, cannot be opened.

use crate::connection::Connection;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use px_core::Random;
use px_types::{Date, ItemId, TransactionId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Maximum length of a cursor in bytes.
const MAX_BYTES: usize = 4096;

/// Cursor of changes: the position of its reader, and the time from which removals are complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SyncCursor {
    /// Time at which the cursor that began the reader's pass was returned, in seconds since 1970.
    #[serde(with = "wide")]
    pub(super) given_at: i64,
    /// Position of the reader.
    pub(super) position: Position,
}

/// Position of a reader of changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Position {
    /// The reader has everything up to the change of that number.
    Rest(#[serde(with = "wide")] i64),
    /// The reader is in the middle of a pass.
    Pass {
        /// Number at which the pass began.
        #[serde(with = "wide")]
        base: i64,
        /// Number of the change after which the next page begins.
        #[serde(with = "wide")]
        after: i64,
        /// Transaction of that change.
        id: Option<TransactionId>,
        /// The Item's number when the pass began.
        #[serde(with = "wide")]
        head: i64,
    },
}

/// Numbers with a fixed width, so that the length of a cursor reveals nothing about them.
mod wide {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(number: &i64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{number:020}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Position of a reader of a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WindowCursor {
    /// Digest of the requested window and accounts. They stay the same on all pages.
    #[serde(rename = "asked")]
    pub(super) request_digest: String,
    /// Last row of the previous page.
    pub(super) after: (Date, TransactionId),
    /// Number of rows over all pages when the first one was read.
    #[serde(with = "wide")]
    pub(super) total: i64,
}

/// Name that keeps the two kinds of cursors, and all other uses of the key, apart.
pub(super) trait CursorKind: Serialize + DeserializeOwned {
    const NAME: &'static str;
}

impl CursorKind for SyncCursor {
    const NAME: &'static str = "sync";
}

impl CursorKind for WindowCursor {
    const NAME: &'static str = "window";
}

/// Seals a cursor. Returns `None` if the key cannot be used, which does not happen.
pub(super) fn seal<T: CursorKind>(
    cursor: &T,
    item: &ItemId,
    connection: &Connection,
    random: &dyn Random,
) -> Option<String> {
    let mut nonce = [0; NONCE_LEN];
    random.fill(&mut nonce);
    let mut text = serde_json::to_vec(cursor).ok()?;
    key(connection)?
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(bound_to::<T>(item, connection)),
            &mut text,
        )
        .ok()?;
    let mut bytes = nonce.to_vec();
    bytes.append(&mut text);
    Some(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Opens a cursor. Returns `None` if it does not belong to this kind, connection and epoch.
pub(super) fn open<T: CursorKind>(text: &str, item: &ItemId, connection: &Connection) -> Option<T> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
    let mut sealed = sealed.to_vec();
    let plain = key(connection)?
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(bound_to::<T>(item, connection)),
            &mut sealed,
        )
        .ok()?;
    serde_json::from_slice(plain).ok()
}

fn key(connection: &Connection) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, connection.cursor_key.as_bytes()).ok().map(LessSafeKey::new)
}

/// Returns the bytes that a cursor is bound to. Each part has its length, so that no two readers
/// share the same bytes.
fn bound_to<T: CursorKind>(item: &ItemId, connection: &Connection) -> Vec<u8> {
    let epoch = connection.epoch.to_string();
    let mut bytes = Vec::new();
    for part in [T::NAME, item.as_str(), connection.application_id.as_str(), &epoch] {
        bytes.extend(part.len().to_be_bytes());
        bytes.extend(part.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::CursorKey;
    use chrono::DateTime;
    use px_core::SeededRandom;
    use px_types::ApplicationId;

    fn connection(application: &str, epoch: u64, key: u8) -> Connection {
        let id = ApplicationId::new(application).unwrap();
        let mut connection = Connection::new(id, [], DateTime::UNIX_EPOCH);
        (connection.epoch, connection.cursor_key) = (epoch, CursorKey::new([key; 32]));
        connection
    }

    fn rest(number: i64, given_at: i64) -> SyncCursor {
        SyncCursor { given_at, position: Position::Rest(number) }
    }

    fn item(id: &str) -> ItemId {
        ItemId::new(id).unwrap()
    }

    #[test]
    fn a_cursor_opens_for_its_reader_alone() {
        let random = SeededRandom::new(1);
        let position = Position::Pass {
            base: 3,
            after: 4,
            id: Some(TransactionId::new("secret-row").unwrap()),
            head: 9,
        };
        let cursor = SyncCursor { given_at: 5, position };
        let mine = connection("app", 2, 1);
        let text = seal(&cursor, &item("i"), &mine, &random).unwrap();
        assert_eq!(open(&text, &item("i"), &mine), Some(cursor));
        assert_eq!(open::<SyncCursor>(&text, &item("j"), &mine), None);
        for other in [connection("app", 3, 1), connection("bpp", 2, 1), connection("app", 2, 2)] {
            assert_eq!(open::<SyncCursor>(&text, &item("i"), &other), None, "{other:?}");
        }
        assert_eq!(open::<WindowCursor>(&text, &item("i"), &mine), None);
    }

    #[test]
    fn an_altered_cursor_opens_to_nothing() {
        let random = SeededRandom::new(1);
        let mine = connection("app", 0, 0);
        let text = seal(&rest(7, 0), &item("i"), &mine, &random).unwrap();
        for at in 0..text.len() {
            let mut altered = text.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(open::<SyncCursor>(&altered, &item("i"), &mine), None, "at {at}");
        }
        for odd in ["", "A", "=", "no base64!", &text[1..], &"A".repeat(MAX_BYTES + 1)] {
            assert_eq!(open::<SyncCursor>(odd, &item("i"), &mine), None);
        }
    }

    #[test]
    fn a_cursor_tells_nothing() {
        let random = SeededRandom::new(1);
        let mine = connection("app", 0, 0);
        let one = seal(&rest(7, 1), &item("i"), &mine, &random).unwrap();
        let two = seal(&rest(7, 1), &item("i"), &mine, &random).unwrap();
        let far = seal(&rest(123_456, 1_700_000_000), &item("i"), &mine, &random).unwrap();
        assert_eq!(one.len(), far.len());
        let apart = one.bytes().zip(two.bytes()).filter(|(a, b)| a != b).count();
        assert!(apart > one.len() / 2, "not even the same position looks alike twice");
    }
}
