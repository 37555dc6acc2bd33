//! The retry policy. Pure: no clock, no network, no randomness of its own.
//!
//! Contract: `px.md` section 2.2.1.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use px_core::{Random, TransportErrorKind, backoff::Backoff};
use std::time::Duration;

/// A retry policy: limits of attempts, delays and total time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Maximum number of attempts, including the first.
    pub attempts: u32,
    /// Maximum total time of all attempts and the delays between them.
    pub budget: Duration,
    /// Minimum delay between attempts.
    pub min_wait: Duration,
    /// Maximum delay that is chosen here. The other side may request a longer one.
    pub max_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 4,
            budget: Duration::from_secs(30),
            min_wait: Duration::from_millis(100),
            max_wait: Duration::from_secs(5),
        }
    }
}

impl RetryPolicy {
    /// Returns a policy without retries.
    #[must_use]
    pub fn never() -> Self {
        Self { attempts: 1, ..Self::default() }
    }
}

/// The failure of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// No response, or an incomplete one.
    Transport(TransportErrorKind),
    /// A response with a status that is not a success.
    Status(u16),
}

/// Returns whether a failure may be temporary.
#[must_use]
pub fn is_transient(failure: Failure) -> bool {
    use TransportErrorKind as T;
    match failure {
        Failure::Transport(kind) => {
            matches!(kind, T::Connect | T::Timeout | T::Truncated | T::Other)
        }
        Failure::Status(status) => matches!(status, 408 | 429 | 500..=599),
    }
}

/// The decision after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Wait for this time, then try again.
    Retry(Duration),
    /// Give up.
    GiveUp,
}

/// A failed attempt, as input of [`decide`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// The failure.
    pub failure: Failure,
    /// Whether the request may be repeated even if the other side has processed it.
    pub safe: bool,
    /// Whether the other side may have received the request.
    pub may_have_been_sent: bool,
    /// Number of attempts so far, including this one.
    pub made: u32,
    /// Total time of all attempts and delays so far.
    pub spent: Duration,
    /// The delay before this attempt.
    pub last_wait: Option<Duration>,
    /// The delay that the other side requests.
    pub requested_wait: Option<Duration>,
}

impl Attempt {
    /// Returns the first attempt of a request that is safe to repeat.
    #[must_use]
    pub fn first(failure: Failure) -> Self {
        Self {
            failure,
            safe: true,
            may_have_been_sent: true,
            made: 1,
            spent: Duration::ZERO,
            last_wait: None,
            requested_wait: None,
        }
    }
}

/// Decides what to do after a failed attempt.
///
/// The delay has decorrelated jitter: it is random between the minimum delay and three times the last one. A
/// longer delay that the other side requests is used instead. If the budget does not allow the delay, the
/// result is [`GiveUp`](Decision::GiveUp).
pub fn decide(policy: &RetryPolicy, attempt: &Attempt, random: &dyn Random) -> Decision {
    let repeatable = attempt.safe || !attempt.may_have_been_sent;
    if !repeatable || !is_transient(attempt.failure) || attempt.made >= policy.attempts {
        return Decision::GiveUp;
    }
    let backoff = Backoff::new(policy.min_wait, policy.max_wait);
    let jitter = backoff.decorrelated_jitter(attempt.last_wait, random);
    let wait = jitter.max(attempt.requested_wait.unwrap_or_default());
    if attempt.spent.saturating_add(wait) >= policy.budget {
        return Decision::GiveUp;
    }
    Decision::Retry(wait)
}

/// Returns the time in a `Retry-After` header: seconds from now, or an HTTP date.
///
/// A number that is too large counts as a hundred years. Returns `None` if the value is neither.
#[must_use]
pub fn retry_after(value: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    const CENTURY: i64 = 100 * 366 * 86_400;
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        let seconds = value.parse().unwrap_or(CENTURY).min(CENTURY);
        return now.checked_add_signed(TimeDelta::seconds(seconds));
    }
    http_date(value)
}

/// Parses the three date forms of RFC 9110 section 5.6.7.
fn http_date(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(date) = DateTime::parse_from_rfc2822(text) {
        return Some(date.to_utc());
    }
    ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .map(|date| date.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use px_core::SeededRandom;

    fn random() -> SeededRandom {
        SeededRandom::new(7)
    }

    #[test]
    fn only_what_may_go_away_is_repeated() {
        use TransportErrorKind as T;
        let policy = RetryPolicy::default();
        for (failure, again) in [
            (Failure::Status(408), true),
            (Failure::Status(429), true),
            (Failure::Status(500), true),
            (Failure::Status(503), true),
            (Failure::Status(400), false),
            (Failure::Status(401), false),
            (Failure::Status(403), false),
            (Failure::Status(302), false),
            (Failure::Transport(T::Connect), true),
            (Failure::Transport(T::Truncated), true),
            (Failure::Transport(T::Timeout), true),
            (Failure::Transport(T::TooLarge), false),
            (Failure::Transport(T::Refused), false),
        ] {
            let decision = decide(&policy, &Attempt::first(failure), &random());
            assert_eq!(matches!(decision, Decision::Retry(_)), again, "{failure:?}");
        }
    }

    #[test]
    fn an_unsafe_request_is_repeated_only_when_it_was_not_sent() {
        let mut attempt = Attempt::first(Failure::Status(503));
        attempt.safe = false;
        let policy = RetryPolicy::default();
        assert_eq!(decide(&policy, &attempt, &random()), Decision::GiveUp);
        attempt.failure = Failure::Transport(TransportErrorKind::Connect);
        attempt.may_have_been_sent = false;
        assert_ne!(decide(&policy, &attempt, &random()), Decision::GiveUp);
    }

    #[test]
    fn a_wait_beyond_the_budget_ends_at_once() {
        let policy = RetryPolicy::default();
        let mut attempt = Attempt::first(Failure::Status(503));
        attempt.requested_wait = Some(Duration::from_secs(29));
        let again = Decision::Retry(Duration::from_secs(29));
        assert_eq!(decide(&policy, &attempt, &random()), again);
        attempt.spent = Duration::from_secs(1);
        assert_eq!(decide(&policy, &attempt, &random()), Decision::GiveUp);
    }

    #[test]
    fn retry_after_in_all_its_forms() {
        let now: DateTime<Utc> = "1994-11-06T08:49:00Z".parse().unwrap();
        let then = Some("1994-11-06T08:49:37Z".parse().unwrap());
        for text in [
            "37",
            " 37 ",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(retry_after(text, now), then, "{text}");
        }
        for text in ["", "-1", "1.5", "soon", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(retry_after(text, now), None, "{text}");
        }
        assert!(retry_after("99999999999999999999999", now).is_some());
    }

    proptest! {
        #[test]
        fn no_call_outlasts_its_budget(seed: u64, requested in proptest::option::of(0_u64..40_000)) {
            let (policy, random) = (RetryPolicy::default(), SeededRandom::new(seed));
            let mut attempt = Attempt::first(Failure::Status(500));
            attempt.requested_wait = requested.map(Duration::from_millis);
            while let Decision::Retry(wait) = decide(&policy, &attempt, &random) {
                prop_assert!(wait >= policy.min_wait.max(attempt.requested_wait.unwrap_or_default()));
                attempt.spent += wait;
                attempt.made += 1;
                attempt.last_wait = Some(wait);
            }
            prop_assert!(attempt.made <= policy.attempts && attempt.spent < policy.budget);
        }

        #[test]
        fn no_header_panics(text in ".*") {
            let _ = retry_after(&text, "1994-11-06T08:49:00Z".parse().unwrap());
        }
    }
}
