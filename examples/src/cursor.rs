//! Cursors: where a walk of a window goes on, signed so that nobody can bend one.
//!
//! Whom a cursor is for, its window and its limit are part of what is signed and not of
//! what is sent: shown anywhere else, its signature is wrong.

use crate::{
    ledger::read::{Place, Window},
    seed::Day,
};
use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};

const SIGNATURE: usize = 32;
const NUMBERS: usize = 24;

/// The key that signs cursors.
#[derive(Debug)]
pub struct CursorKey(hmac::Key);

/// What a cursor is for.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'a> {
    /// The user whose transactions are read.
    pub user: &'a str,
    /// The grant under which they are read.
    pub grant: &'a str,
    /// The window.
    pub window: Window,
    /// The limit of each page.
    pub limit: u64,
}

/// Where a walk goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The place after the last transaction that was read.
    pub place: Place,
    /// The change of the books at which the first page was read.
    pub change: i64,
    /// The total that the first page told.
    pub total: u64,
}

impl CursorKey {
    /// Takes a key.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Writes a cursor for a walk.
    #[must_use]
    pub fn write(&self, walk: Walk<'_>, cursor: &Cursor) -> String {
        let mut bytes = Vec::with_capacity(NUMBERS + cursor.place.id.len() + SIGNATURE);
        bytes.extend(cursor.change.to_be_bytes());
        bytes.extend(cursor.total.to_be_bytes());
        bytes.extend(cursor.place.before.to_be_bytes());
        bytes.extend(cursor.place.id.as_bytes());
        let signature = hmac::sign(&self.0, &signed(walk, &bytes));
        bytes.extend(signature.as_ref());
        BASE64.encode(bytes)
    }

    /// Reads a cursor; `None` when it was altered or is of another walk.
    #[must_use]
    pub fn read(&self, walk: Walk<'_>, text: &str) -> Option<Cursor> {
        let bytes = BASE64.decode(text).ok()?;
        let (body, signature) = bytes.split_at_checked(bytes.len().checked_sub(SIGNATURE)?)?;
        hmac::verify(&self.0, &signed(walk, body), signature).ok()?;
        let (numbers, id) = body.split_at_checked(NUMBERS)?;
        let number = |at: usize| numbers.get(at..at + 8)?.try_into().ok();
        Some(Cursor {
            change: i64::from_be_bytes(number(0)?),
            total: u64::from_be_bytes(number(8)?),
            place: Place {
                before: Day::from_be_bytes(number(16)?),
                id: String::from_utf8(id.to_vec()).ok()?,
            },
        })
    }
}

/// Everything that is signed; each part with its length, so that none can run into the next.
fn signed(walk: Walk<'_>, body: &[u8]) -> Vec<u8> {
    let window = format!("{}/{}/{}", walk.window.start, walk.window.end, walk.limit);
    let mut out = Vec::new();
    for part in [walk.user.as_bytes(), walk.grant.as_bytes(), window.as_bytes(), body] {
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
        let walk = Walk { user: "u", grant: "g", window: Window { start, end }, limit: 100 };
        let place = Place { before: -20_000, id: "txn-é".to_owned() };
        let cursor = Cursor { place, change: 3, total: 250 };
        let text = key.write(walk, &cursor);
        assert_eq!(key.read(walk, &text), Some(cursor));
        let others = [
            Walk { user: "ug", grant: "", ..walk },
            Walk { grant: "h", ..walk },
            Walk { limit: 99, ..walk },
            Walk { window: Window { start: end, end }, ..walk },
        ];
        assert!(others.into_iter().all(|other| key.read(other, &text).is_none()));
        for at in 0..text.len() {
            let mut altered = text.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(key.read(walk, std::str::from_utf8(&altered).unwrap()), None);
        }
        assert_eq!(key.read(walk, ""), None);
    }
}
