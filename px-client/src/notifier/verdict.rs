//! The outcome of a failed call for its batch, and the delay after it. Pure.

use crate::error::{Error, Kind};
use chrono::{DateTime, Utc};
use px_core::{Random, random};
use std::time::Duration;

/// Maximum delay that Plaid may request (A: as its own webhooks do).
const LONGEST_ASKED: Duration = Duration::from_secs(4 * 3600);

/// The outcome of a failed call for its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This entry is at fault.
    Entry(usize),
    /// One of the entries is at fault: halve the batch to find it.
    Halve,
    /// No entry is at fault: send the batch again later.
    Later,
}

/// Returns the outcome of a failed call for a batch of `entries` entries.
pub(super) fn verdict(error: &Error, entries: usize) -> Verdict {
    match (error.kind(), error.status()) {
        (Kind::Api, Some(400 | 413 | 422)) => match error.batch_entry() {
            Some(index) if index < entries => Verdict::Entry(index),
            _ if entries == 1 => Verdict::Entry(0),
            _ => Verdict::Halve,
        },
        _ => Verdict::Later,
    }
}

/// Returns whether Plaid says that the entry's token belongs to no Item.
pub(super) fn names_a_token(error: &Error) -> bool {
    matches!(error.plaid_error_code(), Some("INVALID_ACCESS_TOKEN" | "ITEM_NOT_FOUND"))
}

/// Returns the delay of a lane after consecutive failures.
///
/// It doubles from one second. Up to half of it is subtracted at random, so that many notifiers do not
/// retry at the same moment. It is at least what Plaid requested.
pub(super) fn rest(
    failures: u32,
    longest: Duration,
    asked: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    random: &dyn Random,
) -> Duration {
    let doubled = Duration::from_secs(1 << failures.saturating_sub(1).min(20)).min(longest);
    let own = random::duration(random, doubled / 2..=doubled);
    let asked = asked.and_then(|at| (at - now).to_std().ok()).unwrap_or_default();
    own.max(asked.min(LONGEST_ASKED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use px_core::SeededRandom;

    fn refused(status: u16, entry: Option<usize>) -> Error {
        let kind = if status == 401 { Kind::Auth } else { Kind::Api };
        Error::new(kind, "notify_transactions", "answered")
            .status_is(StatusCode::from_u16(status).unwrap())
            .plaid_says(None, None, entry)
    }

    #[test]
    fn only_what_plaid_says_of_the_batch_is_held_against_an_entry() {
        for (status, entry, entries, expected) in [
            (400, Some(3), 5, Verdict::Entry(3)),
            (400, Some(5), 5, Verdict::Halve),
            (400, None, 5, Verdict::Halve),
            (400, None, 1, Verdict::Entry(0)),
            (400, Some(7), 1, Verdict::Entry(0)),
            (413, None, 2, Verdict::Halve),
            (401, Some(0), 5, Verdict::Later),
            (403, None, 5, Verdict::Later),
            (404, None, 1, Verdict::Later),
            (429, None, 1, Verdict::Later),
            (503, Some(0), 1, Verdict::Later),
        ] {
            assert_eq!(verdict(&refused(status, entry), entries), expected, "{status} {entry:?}");
        }
        let lost = Error::new(Kind::Timeout, "notify_transactions", "no whole answer");
        assert_eq!(verdict(&lost, 1), Verdict::Later);
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
                let drawn = rest(failures, longest, None, now, &random);
                assert!((full / 2..=full).contains(&drawn), "{failures}: {drawn:?}");
            }
        }
        for (asked, expected) in [(90, 90), (1 << 40, 4 * 3600)] {
            let asked = now.checked_add_signed(chrono::TimeDelta::seconds(asked));
            let asked = asked.or(Some(DateTime::<Utc>::MAX_UTC));
            assert_eq!(rest(1, longest, asked, now, &random), Duration::from_secs(expected));
        }
    }
}
