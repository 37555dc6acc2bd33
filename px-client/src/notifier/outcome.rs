//! The outcome of a failed call for its batch, and the delay after it. Pure.

use crate::error::{Error, ErrorKind};
use chrono::{DateTime, Utc};
use px_core::{Random, backoff::Backoff};
use std::time::Duration;

/// Delay after the first failure, before jitter.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Maximum delay that Plaid may request. Plaid's own webhooks have the same maximum (A).
const MAX_REQUESTED_DELAY: Duration = Duration::from_secs(4 * 3600);

/// The outcome of a failed call for its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureOutcome {
    /// This entry is at fault.
    Entry(usize),
    /// One of the entries is at fault: halve the batch to find it.
    Halve,
    /// No entry is at fault: send the batch again later.
    Later,
}

/// Returns the outcome of a failed call for a batch of `entries` entries.
pub(super) fn failure_outcome(error: &Error, entries: usize) -> FailureOutcome {
    match (error.kind(), error.status()) {
        (ErrorKind::Api, Some(400 | 413 | 422)) => match error.batch_entry() {
            Some(index) if index < entries => FailureOutcome::Entry(index),
            _ if entries == 1 => FailureOutcome::Entry(0),
            _ => FailureOutcome::Halve,
        },
        _ => FailureOutcome::Later,
    }
}

/// Returns whether Plaid reports that the entry's token belongs to no Item.
pub(super) fn is_unknown_token(error: &Error) -> bool {
    matches!(error.plaid_error_code(), Some("INVALID_ACCESS_TOKEN" | "ITEM_NOT_FOUND"))
}

/// Returns the delay of a lane after consecutive failures.
///
/// It doubles from one second. Up to half of it is subtracted at random, so that many notifiers do not
/// retry at the same moment. It is at least what Plaid requested.
pub(super) fn backoff(
    failures: u32,
    longest: Duration,
    requested: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    random: &dyn Random,
) -> Duration {
    let own = Backoff::new(FIRST_DELAY, longest).equal_jitter(failures, random);
    let requested = requested.and_then(|at| (at - now).to_std().ok()).unwrap_or_default();
    own.max(requested.min(MAX_REQUESTED_DELAY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use px_core::SeededRandom;

    fn refused(status: u16, entry: Option<usize>) -> Error {
        let kind = if status == 401 { ErrorKind::Auth } else { ErrorKind::Api };
        Error::new(kind, "notify_transactions", "refused")
            .with_status(StatusCode::from_u16(status).unwrap())
            .with_plaid_fields(None, None, entry)
    }

    #[test]
    fn only_what_plaid_says_of_the_batch_is_held_against_an_entry() {
        for (status, entry, entries, expected) in [
            (400, Some(3), 5, FailureOutcome::Entry(3)),
            (400, Some(5), 5, FailureOutcome::Halve),
            (400, None, 5, FailureOutcome::Halve),
            (400, None, 1, FailureOutcome::Entry(0)),
            (400, Some(7), 1, FailureOutcome::Entry(0)),
            (413, None, 2, FailureOutcome::Halve),
            (401, Some(0), 5, FailureOutcome::Later),
            (403, None, 5, FailureOutcome::Later),
            (404, None, 1, FailureOutcome::Later),
            (429, None, 1, FailureOutcome::Later),
            (503, Some(0), 1, FailureOutcome::Later),
        ] {
            assert_eq!(
                failure_outcome(&refused(status, entry), entries),
                expected,
                "{status} {entry:?}"
            );
        }
        let lost = Error::new(ErrorKind::Timeout, "notify_transactions", "no complete response");
        assert_eq!(failure_outcome(&lost, 1), FailureOutcome::Later);
    }

    #[test]
    fn rests_grow_to_a_limit_and_keep_what_was_asked_for() {
        let now: DateTime<Utc> = "2024-05-06T12:00:00Z".parse().unwrap();
        let longest = Duration::from_secs(300);
        let random = SeededRandom::new(1);
        for (failures, full) in [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (4_000_000_000, 300)]
        {
            let full = Duration::from_secs(full);
            for _ in 0..20 {
                let drawn = backoff(failures, longest, None, now, &random);
                assert!((full / 2..=full).contains(&drawn), "{failures}: {drawn:?}");
            }
        }
        for (requested, expected) in [(90, 90), (1 << 40, 4 * 3600)] {
            let requested = now.checked_add_signed(chrono::TimeDelta::seconds(requested));
            let requested = requested.or(Some(DateTime::<Utc>::MAX_UTC));
            assert_eq!(backoff(1, longest, requested, now, &random), Duration::from_secs(expected));
        }
    }
}
