//! Time-based one-time codes of a user's device: RFC 6238 with SHA-1, 6 digits, 30 s.

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use px_types::OneTimeCode;
use sha1::Sha1;
use std::fmt;
use zeroize::Zeroizing;

/// Duration of one time step, in seconds.
const STEP_SECONDS: i64 = 30;
/// Maximum difference between the device's clock and the server's, in steps.
const MAX_DRIFT_STEPS: i64 = 1;

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
    /// Creates a secret from bytes; 20 random bytes are usual.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// Parses the base32 form that is shown to users. Case, spaces and padding are ignored.
    /// Returns `None` if the text is not base32 or is empty.
    #[must_use]
    pub fn from_base32(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() * 5 / 8));
        let (mut buffer, mut bits) = (0_u32, 0_u32);
        for byte in text.bytes().filter(|b| !matches!(b, b' ' | b'-' | b'=')) {
            let value = match byte.to_ascii_uppercase() {
                letter @ b'A'..=b'Z' => letter - b'A',
                digit @ b'2'..=b'7' => digit - b'2' + 26,
                _ => return None,
            };
            buffer = (buffer << 5 | u32::from(value)) & 0xfff;
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                bytes.push((buffer >> bits & 0xff) as u8);
            }
        }
        (!bytes.is_empty()).then_some(Self(bytes))
    }

    /// Returns the code that the user's device shows at a given time.
    #[must_use]
    pub fn code(&self, at: DateTime<Utc>) -> OneTimeCode {
        self.code_of(step(at))
    }

    /// Returns the step of a code if it is within the permitted drift and after `last`.
    ///
    /// Compares the code of every permitted step, so that the duration reveals nothing.
    pub(super) fn check(
        &self,
        code: &OneTimeCode,
        now: DateTime<Utc>,
        last: Option<i64>,
    ) -> Option<i64> {
        let now = step(now);
        let mut found = None;
        for step in now - MAX_DRIFT_STEPS..=now + MAX_DRIFT_STEPS {
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

    /// Returns the dynamically truncated value of RFC 4226 section 5.3.
    fn truncated(&self, step: i64) -> u32 {
        let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(&self.0) else {
            // HMAC accepts keys of any length, so this is unreachable.
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
    at.timestamp().div_euclid(STEP_SECONDS)
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
        // Appendix B has codes of eight digits. A code here is the last six of them.
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
