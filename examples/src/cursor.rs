//! Pagination cursors, signed so that a client cannot alter them.
//!
//! The signature covers the cursor's user, grant, window and limit, which are not sent. With any
//! other of these, the signature is invalid.

use crate::{
    ledger::read::{PagePosition, Window},
    seed::Day,
};
use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};

const SIGNATURE_BYTES: usize = 32;
const NUMBERS_BYTES: usize = 24;

/// The key that signs cursors.
#[derive(Debug)]
pub struct CursorKey(hmac::Key);

/// The pagination to which a cursor is bound.
#[derive(Clone, Copy, Debug)]
pub struct CursorContext<'a> {
    /// The user that the transactions belong to.
    pub user: &'a str,
    /// The grant under which they are read.
    pub grant: &'a str,
    /// The window.
    pub window: Window,
    /// The limit of each page.
    pub limit: u64,
}

/// The position at which a pagination continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The position after the last transaction that was read.
    pub position: PagePosition,
    /// The number of the latest ledger change when the first page was read.
    pub change: i64,
    /// The total of the first page.
    pub total: u64,
}

impl CursorKey {
    /// Creates a key from bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Encodes and signs a cursor.
    #[must_use]
    pub fn write(&self, context: CursorContext<'_>, cursor: &Cursor) -> String {
        let mut bytes =
            Vec::with_capacity(NUMBERS_BYTES + cursor.position.id.len() + SIGNATURE_BYTES);
        bytes.extend(cursor.change.to_be_bytes());
        bytes.extend(cursor.total.to_be_bytes());
        bytes.extend(cursor.position.before.to_be_bytes());
        bytes.extend(cursor.position.id.as_bytes());
        let signature = hmac::sign(&self.0, &signed(context, &bytes));
        bytes.extend(signature.as_ref());
        BASE64.encode(bytes)
    }

    /// Decodes a cursor. Returns `None` if it was altered or belongs to another pagination.
    #[must_use]
    pub fn read(&self, context: CursorContext<'_>, text: &str) -> Option<Cursor> {
        let bytes = BASE64.decode(text).ok()?;
        let (body, signature) =
            bytes.split_at_checked(bytes.len().checked_sub(SIGNATURE_BYTES)?)?;
        hmac::verify(&self.0, &signed(context, body), signature).ok()?;
        let (numbers, id) = body.split_at_checked(NUMBERS_BYTES)?;
        let number = |at: usize| numbers.get(at..at + 8)?.try_into().ok();
        Some(Cursor {
            change: i64::from_be_bytes(number(0)?),
            total: u64::from_be_bytes(number(8)?),
            position: PagePosition {
                before: Day::from_be_bytes(number(16)?),
                id: String::from_utf8(id.to_vec()).ok()?,
            },
        })
    }
}

/// Returns the bytes that are signed. Each part has its length, so that none can run into the next.
fn signed(context: CursorContext<'_>, body: &[u8]) -> Vec<u8> {
    let window = format!("{}/{}/{}", context.window.start, context.window.end, context.limit);
    let mut out = Vec::new();
    for part in [context.user.as_bytes(), context.grant.as_bytes(), window.as_bytes(), body] {
        out.extend((part.len() as u64).to_be_bytes());
        out.extend(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_walk_alone() {
        let key = CursorKey::new(&[7; 32]);
        let [start, end] = ["2026-01-01", "2026-02-01"].map(|date| date.parse().unwrap());
        let context =
            CursorContext { user: "u", grant: "g", window: Window { start, end }, limit: 100 };
        let position = PagePosition { before: -20_000, id: "txn-é".to_owned() };
        let cursor = Cursor { position, change: 3, total: 250 };
        let text = key.write(context, &cursor);
        assert_eq!(key.read(context, &text), Some(cursor));
        let others = [
            CursorContext { user: "ug", grant: "", ..context },
            CursorContext { grant: "h", ..context },
            CursorContext { limit: 99, ..context },
            CursorContext { window: Window { start: end, end }, ..context },
        ];
        assert!(others.into_iter().all(|other| key.read(other, &text).is_none()));
        for at in 0..text.len() {
            let mut altered = text.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(key.read(context, std::str::from_utf8(&altered).unwrap()), None);
        }
        assert_eq!(key.read(context, ""), None);
    }
}
