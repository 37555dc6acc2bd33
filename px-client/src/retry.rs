//! Whether a failed call is repeated, and when. Pure: no clock, no network, no own randomness.
//!
//! Contract: `px.md` section 2.2.1.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use px_core::TransportErrorKind;
use px_core::{Random, random};
use std::time::Duration;

/// How often and how long a call is tried.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The most attempts, the first included.
    pub attempts: u32,
    /// The time for all attempts and the waits between them.
    pub budget: Duration,
    /// The shortest wait.
    pub shortest_wait: Duration,
    /// The longest wait that is chosen here; a partner may ask for longer ones.
    pub longest_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 4,
            budget: Duration::from_secs(30),
            shortest_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(5),
        }
    }
}

impl RetryPolicy {
    /// Never repeats anything.
    #[must_use]
    pub fn never() -> Self {
        Self { attempts: 1, ..Self::default() }
    }
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// No answer, or not a whole one.
    Transport(TransportErrorKind),
    /// An answer with a status that is no success.
    Status(u16),
}

/// Whether a failure may go away by itself.
#[must_use]
pub fn is_transient(failure: Failure) -> bool {
    use TransportErrorKind as T;
    match failure {
        Failure::Transport(kind) => {
            matches!(kind, T::Connect | T::Timeout | T::Cut | T::Other)
        }
        Failure::Status(status) => matches!(status, 408 | 429 | 500..=599),
    }
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Wait, then try again.
    Again(Duration),
    /// Give up.
    GiveUp,
}

/// What is known of a failed attempt.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// How it failed.
    pub failure: Failure,
    /// Whether the request changes nothing at the partner.
    pub safe: bool,
    /// Whether the partner may have seen it.
    pub may_have_been_sent: bool,
    /// How many attempts were made, this one included.
    pub made: u32,
    /// The time that all of them and the waits took.
    pub spent: Duration,
    /// The wait before this attempt.
    pub last_wait: Option<Duration>,
    /// How long the partner wants to be left alone.
    pub asked_wait: Option<Duration>,
}

impl Attempt {
    /// A first attempt of a safe request.
    #[must_use]
    pub fn first(failure: Failure) -> Self {
        Self {
            failure,
            safe: true,
            may_have_been_sent: true,
            made: 1,
            spent: Duration::ZERO,
            last_wait: None,
            asked_wait: None,
        }
    }
}

/// Decides what to do after a failed attempt.
///
/// The wait is decorrelated jitter: random between the shortest wait and three times the
/// last. A longer wait that the partner asks for wins; if the budget does not hold it, the
/// call ends at once.
pub fn decide(policy: &RetryPolicy, attempt: &Attempt, random: &dyn Random) -> Decision {
    let repeatable = attempt.safe || !attempt.may_have_been_sent;
    if !repeatable || !is_transient(attempt.failure) || attempt.made >= policy.attempts {
        return Decision::GiveUp;
    }
    let last = attempt.last_wait.unwrap_or(policy.shortest_wait);
    let longest = last.saturating_mul(3).min(policy.longest_wait);
    let jitter = random::duration(random, policy.shortest_wait..=longest);
    let wait = jitter.max(attempt.asked_wait.unwrap_or_default());
    if attempt.spent.saturating_add(wait) >= policy.budget {
        return Decision::GiveUp;
    }
    Decision::Again(wait)
}

/// The moment that a `Retry-After` header names: seconds from now, or an HTTP date.
///
/// A number too large to be a moment is a hundred years.
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

/// The three forms of RFC 9110 section 5.6.7.
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
            (Failure::Transport(T::Cut), true),
            (Failure::Transport(T::Timeout), true),
            (Failure::Transport(T::TooLarge), false),
            (Failure::Transport(T::Refused), false),
        ] {
            let decision = decide(&policy, &Attempt::first(failure), &random());
            assert_eq!(matches!(decision, Decision::Again(_)), again, "{failure:?}");
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
        attempt.asked_wait = Some(Duration::from_secs(29));
        let again = Decision::Again(Duration::from_secs(29));
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
        fn no_call_outlasts_its_budget(seed: u64, asked in proptest::option::of(0_u64..40_000)) {
            let (policy, random) = (RetryPolicy::default(), SeededRandom::new(seed));
            let mut attempt = Attempt::first(Failure::Status(500));
            attempt.asked_wait = asked.map(Duration::from_millis);
            while let Decision::Again(wait) = decide(&policy, &attempt, &random) {
                prop_assert!(wait >= policy.shortest_wait.max(attempt.asked_wait.unwrap_or_default()));
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
