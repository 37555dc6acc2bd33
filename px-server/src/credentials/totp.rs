//! Codes that the user's device makes: RFC 6238 with SHA-1, 6 digits, 30 s.

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use px_types::OneTimeCode;
use sha1::Sha1;
use std::fmt;
use zeroize::Zeroizing;

/// The seconds that a code is shown.
const STEP: i64 = 30;
/// How many steps the device's clock may be off.
const DRIFT: i64 = 1;

/// The secret that a user's device shares with the bank.
///
/// `Debug` masks it, and its bytes are wiped on drop.
#[derive(Clone)]
pub struct TotpSecret(Zeroizing<Vec<u8>>);

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpSecret(***)")
    }
}

impl TotpSecret {
    /// Takes bytes as a secret; 20 random ones are usual.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// Reads the base32 that is shown to users; case, spaces and padding do not matter.
    #[must_use]
    pub fn from_base32(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() * 5 / 8));
        let (mut held, mut bits) = (0_u32, 0_u32);
        for byte in text.bytes().filter(|b| !matches!(b, b' ' | b'-' | b'=')) {
            let value = match byte.to_ascii_uppercase() {
                letter @ b'A'..=b'Z' => letter - b'A',
                digit @ b'2'..=b'7' => digit - b'2' + 26,
                _ => return None,
            };
            held = (held << 5 | u32::from(value)) & 0xfff;
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                bytes.push((held >> bits & 0xff) as u8);
            }
        }
        (!bytes.is_empty()).then_some(Self(bytes))
    }

    /// The code that the user's device shows at a moment.
    #[must_use]
    pub fn code(&self, at: DateTime<Utc>) -> OneTimeCode {
        self.code_of(step(at))
    }

    /// The step whose code this is, if it is one that counts now and comes after `last`.
    ///
    /// Every step that counts is compared, so that the time says nothing.
    pub(super) fn check(
        &self,
        code: &OneTimeCode,
        now: DateTime<Utc>,
        last: Option<i64>,
    ) -> Option<i64> {
        let now = step(now);
        let mut found = None;
        for step in now - DRIFT..=now + DRIFT {
            let same = self.code_of(step) == *code;
            if same && last.is_none_or(|last| step > last) {
                found = Some(step);
            }
        }
        found
    }

    fn code_of(&self, step: i64) -> OneTimeCode {
        OneTimeCode::new(format!("{:06}", self.truncated(step) % 1_000_000))
    }

    /// Dynamic truncation, RFC 4226 section 5.3.
    fn truncated(&self, step: i64) -> u32 {
        let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(&self.0) else {
            // HMAC takes keys of every length, so this is never reached.
            return 0;
        };
        mac.update(&step.to_be_bytes());
        let tag = mac.finalize().into_bytes();
        let offset = usize::from(tag[19] & 0xf);
        let four = [tag[offset], tag[offset + 1], tag[offset + 2], tag[offset + 3]];
        u32::from_be_bytes(four) & 0x7fff_ffff
    }
}

fn step(at: DateTime<Utc>) -> i64 {
    at.timestamp().div_euclid(STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn vectors_of_rfc_6238() {
        let secret = TotpSecret::new(*b"12345678901234567890");
        // Appendix B gives eight digits; a code here is the last six of them.
        for (seconds, digits) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            assert_eq!(secret.code(at(seconds)).expose(), &digits[2..], "{seconds}");
            let eight = secret.truncated(seconds / 30) % 100_000_000;
            assert_eq!(format!("{eight:08}"), digits);
        }
    }

    #[test]
    fn base32_as_users_see_it() {
        let secret = TotpSecret::from_base32("gezd gnbv-GY3TQOJQ GEZDGNBVGY3TQOJQ====").unwrap();
        assert_eq!(secret.0.as_slice(), b"12345678901234567890");
        assert!(TotpSecret::from_base32("01").is_none());
        assert!(TotpSecret::from_base32("").is_none());
        assert_eq!(format!("{secret:?}"), "TotpSecret(***)");
    }

    #[test]
    fn one_step_off_counts_and_a_used_one_does_not() {
        let secret = TotpSecret::new(*b"12345678901234567890");
        let now = at(1_234_567_890);
        let step = step(now);
        for (seconds, good) in [(-60, false), (-30, true), (0, true), (30, true), (60, false)] {
            let code = secret.code(now + chrono::TimeDelta::seconds(seconds));
            assert_eq!(secret.check(&code, now, None).is_some(), good, "{seconds}");
        }
        let code = secret.code(now);
        assert_eq!(secret.check(&code, now, Some(step - 1)), Some(step));
        assert_eq!(secret.check(&code, now, Some(step)), None);
        let malformed = OneTimeCode::new("12345");
        assert_eq!(secret.check(&malformed, now, None), None);
    }
}
