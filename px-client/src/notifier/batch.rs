//! The batches of entries. Pure.
//!
//! Contract: `px.md` section 6: a batch has 1 to 2000 entries and one `new_since`.

use super::{
    entry::{Entry, Lane},
    store::StoredEntry,
};
use chrono::{DateTime, TimeDelta, Utc};
use px_core::Digest;
use px_types::{
    AccountId, Date, ItemAccessToken,
    plaid::{
        AccountsNotification, AccountsNotificationEntry, NewTransactionsNotification,
        TokensNotification, TokensNotificationEntry, TransactionsNotificationEntry,
    },
    primitive::date::Iso8601,
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

/// Maximum number of entries of a batch.
pub const MAX_BATCH_ENTRIES: usize = 2000;

/// Maximum age of the `new_since` of a batch of fresh entries (P: under two minutes).
const MAX_FRESH_AGE: TimeDelta = TimeDelta::seconds(110);

/// An entry that stands for one or more equal stored ones.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BatchEntry {
    pub(super) entry: Entry,
    /// The numbers of the stored entries.
    pub(super) numbers: Vec<u64>,
}

/// The entries of one call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Batch {
    pub(super) lane: Lane,
    pub(super) parts: Vec<BatchEntry>,
}

/// The body of a call.
#[derive(Debug)]
pub(super) enum BatchBody {
    Transactions(NewTransactionsNotification),
    Accounts(AccountsNotification),
    Tokens(TokensNotification),
}

/// Groups the entries of one lane, oldest first, into batches.
///
/// - Equal entries are sent once. For an account's transactions the earliest `new_since` is used. Events of
///   an account and actions on a token keep their order; one that equals the previous one is left out.
/// - Plaid expects a `new_since` less than two minutes old and reads back to it. So fresh entries share
///   batches, and older ones (after an outage) are grouped by day: an old entry does not make Plaid read far
///   back for other entries.
pub(super) fn batches_of(lane: Lane, stored: Vec<StoredEntry>, now: DateTime<Utc>) -> Vec<Batch> {
    let parts = merge(stored);
    let groups = match lane {
        Lane::Transactions => by_age(parts, now),
        Lane::Accounts | Lane::Tokens => vec![parts],
    };
    let mut batches = Vec::new();
    for mut parts in groups {
        while !parts.is_empty() {
            let rest = parts.split_off(parts.len().min(MAX_BATCH_ENTRIES));
            batches.push(Batch { lane, parts });
            parts = rest;
        }
    }
    batches
}

/// The subject of an entry: a token and an account. The token's digest stands for it, so that no copy
/// of the token stays in memory.
type Subject = ([u8; 32], Option<AccountId>);

fn merge(stored: Vec<StoredEntry>) -> Vec<BatchEntry> {
    let mut last_of: HashMap<Subject, usize> = HashMap::with_capacity(stored.len());
    let mut parts: Vec<BatchEntry> = Vec::with_capacity(stored.len());
    for StoredEntry { number, entry } in stored {
        let account = match &entry {
            Entry::Transactions { account_id, .. } | Entry::Account { account_id, .. } => {
                Some(account_id.clone())
            }
            Entry::Token { .. } => None,
        };
        let token = entry.access_token().expose();
        let subject: Subject = (*Digest::of(token).as_bytes(), account);
        if let Some(&at) = last_of.get(&subject)
            && absorb(&mut parts[at].entry, &entry)
        {
            parts[at].numbers.push(number);
            if parts[at].entry.user_id().is_none()
                && let Some(user) = entry.user_id()
            {
                parts[at].entry = parts[at].entry.clone().of(user.clone());
            }
            continue;
        }
        last_of.insert(subject, parts.len());
        parts.push(BatchEntry { entry, numbers: vec![number] });
    }
    parts
}

/// Merges a later entry into an earlier one of the same subject.
///
/// Returns `false` if that would lose something.
fn absorb(earlier: &mut Entry, later: &Entry) -> bool {
    match (earlier, later) {
        (Entry::Transactions { new_since, .. }, Entry::Transactions { new_since: another, .. }) => {
            *new_since = earliest(*new_since, *another);
            true
        }
        (Entry::Account { event, .. }, Entry::Account { event: another, .. }) => event == another,
        (Entry::Token { action, .. }, Entry::Token { action: another, .. }) => action == another,
        _ => false,
    }
}

/// Groups entries: fresh ones first, then the others by day.
fn by_age(parts: Vec<BatchEntry>, now: DateTime<Utc>) -> Vec<Vec<BatchEntry>> {
    let mut fresh = Vec::new();
    let mut days: BTreeMap<Reverse<Date>, Vec<BatchEntry>> = BTreeMap::new();
    for part in parts {
        match &part.entry {
            Entry::Transactions { new_since: Iso8601::Timestamp(at), .. }
                if at.utc() > now - MAX_FRESH_AGE =>
            {
                fresh.push(part);
            }
            Entry::Transactions { new_since, .. } => {
                days.entry(Reverse(new_since.date())).or_default().push(part);
            }
            Entry::Account { .. } | Entry::Token { .. } => fresh.push(part),
        }
    }
    std::iter::once(fresh).chain(days.into_values()).collect()
}

/// Returns a time or date that is not later than either.
///
/// A date has no time zone, and Plaid may use the written date of a timestamp. So the earlier of two
/// timestamps is returned only if its written date is not later. Otherwise the result is the earliest date
/// that either can mean.
fn earliest(one: Iso8601, other: Iso8601) -> Iso8601 {
    if let (Iso8601::Timestamp(a), Iso8601::Timestamp(b)) = (one, other) {
        let (first, second) = if a <= b { (a, b) } else { (b, a) };
        if first.date() <= second.date() {
            return Iso8601::Timestamp(first);
        }
    }
    if let (Iso8601::Date(a), Iso8601::Date(b)) = (one, other) {
        return Iso8601::Date(a.min(b));
    }
    Iso8601::Date(first_date(one).min(first_date(other)))
}

/// Returns the earliest date that a time or date can mean.
fn first_date(at: Iso8601) -> Date {
    match at {
        Iso8601::Date(date) => date,
        Iso8601::Timestamp(moment) => moment.date().min(Date::from(moment.utc().date_naive())),
    }
}

impl Batch {
    /// Returns the numbers of its stored entries.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.parts.iter().flat_map(|part| part.numbers.iter().copied()).collect()
    }

    /// Splits the batch in halves. The second is empty if there is only one part.
    pub(super) fn halves(mut self) -> (Self, Self) {
        let second = self.parts.split_off(self.parts.len().div_ceil(2));
        let lane = self.lane;
        (self, Self { lane, parts: second })
    }

    /// Replaces an ended token with the current one. The store keeps the ended one, so after a crash the
    /// current token is requested again.
    pub(super) fn replace_token(&mut self, ended: &ItemAccessToken, current: &ItemAccessToken) {
        let renewed = self.parts.iter_mut().map(|part| &mut part.entry);
        for entry in renewed.filter(|entry| entry.access_token() == ended) {
            entry.replace_token(current.clone());
        }
    }

    /// Returns a `new_since` that is early enough for all entries.
    fn new_since(&self) -> Option<Iso8601> {
        let all = self.parts.iter().filter_map(|part| match part.entry {
            Entry::Transactions { new_since, .. } => Some(new_since),
            _ => None,
        });
        all.reduce(earliest)
    }

    /// Returns the body to send, or `None` if Plaid would not accept the size of the batch.
    pub(super) fn body(&self) -> Option<BatchBody> {
        fn listed<T>(
            parts: &[BatchEntry],
            pick: impl Fn(&Entry) -> Option<T>,
        ) -> Option<px_types::plaid::Batch<T>> {
            let list: Vec<T> = parts.iter().filter_map(|part| pick(&part.entry)).collect();
            list.try_into().ok()
        }
        let parts = &self.parts;
        Some(match self.lane {
            Lane::Transactions => BatchBody::Transactions(NewTransactionsNotification::new(
                listed(parts, transactions)?,
                self.new_since()?,
            )),
            Lane::Accounts => {
                BatchBody::Accounts(AccountsNotification::new(listed(parts, account)?))
            }
            Lane::Tokens => BatchBody::Tokens(TokensNotification::new(listed(parts, token)?)),
        })
    }
}

fn transactions(entry: &Entry) -> Option<TransactionsNotificationEntry> {
    match entry {
        Entry::Transactions { access_token, account_id, .. } => {
            Some(TransactionsNotificationEntry::new(access_token.clone(), account_id.clone()))
        }
        _ => None,
    }
}

fn account(entry: &Entry) -> Option<AccountsNotificationEntry> {
    match entry {
        Entry::Account { access_token, account_id, event, .. } => Some(
            AccountsNotificationEntry::new(access_token.clone(), account_id.clone(), event.clone()),
        ),
        _ => None,
    }
}

fn token(entry: &Entry) -> Option<TokensNotificationEntry> {
    match entry {
        Entry::Token { access_token, action, .. } => {
            Some(TokensNotificationEntry::new(access_token.clone(), action.clone()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use px_types::{
        ItemAccessToken,
        plaid::{AccountEvent, TokenAction},
    };

    fn now() -> DateTime<Utc> {
        "2024-05-06T12:00:00Z".parse().unwrap()
    }

    fn moment() -> impl Strategy<Value = Iso8601> {
        // Around the maximum age of fresh entries, and some days back, in several time zones.
        let seconds = prop_oneof![-300_i64..60, -400_000_i64..0];
        (seconds, any::<bool>(), prop_oneof![Just(0), Just(-11), Just(9), Just(14)]).prop_map(
            |(seconds, as_date, hours)| {
                let at = now() + TimeDelta::seconds(seconds);
                let zone = chrono::FixedOffset::east_opt(hours * 3600).unwrap();
                let at = at.with_timezone(&zone);
                let text = match as_date {
                    true => at.format("%Y-%m-%d").to_string(),
                    false => at.format("%Y-%m-%dT%H:%M:%S%:z").to_string(),
                };
                text.parse().unwrap()
            },
        )
    }

    fn entry(lane: Lane) -> BoxedStrategy<Entry> {
        let token = (0..6).prop_map(|n| ItemAccessToken::new(format!("access-{n}")));
        let account = (0..4).prop_map(|n| AccountId::new(format!("a{n}")).unwrap());
        match lane {
            Lane::Transactions => (token, account, moment())
                .prop_map(|(token, account, since)| Entry::transactions(token, account, since))
                .boxed(),
            Lane::Accounts => (token, account, 0..AccountEvent::ALL.len())
                .prop_map(|(token, account, n)| {
                    Entry::account(token, account, AccountEvent::ALL[n].clone())
                })
                .boxed(),
            Lane::Tokens => (token, 0..TokenAction::ALL.len())
                .prop_map(|(token, n)| Entry::token(token, TokenAction::ALL[n].clone()))
                .boxed(),
        }
    }

    fn lane_and_entries() -> impl Strategy<Value = (Lane, Vec<StoredEntry>)> {
        prop_oneof![Just(Lane::Transactions), Just(Lane::Accounts), Just(Lane::Tokens)]
            .prop_flat_map(|lane| (Just(lane), proptest::collection::vec(entry(lane), 0..80)))
            .prop_map(|(lane, entries)| {
                let stored = entries.into_iter().enumerate();
                (lane, stored.map(|(n, entry)| StoredEntry::new(n as u64 + 1, entry)).collect())
            })
    }

    /// Returns whether everything that is new since `other` is also new since `since`, whether Plaid reads
    /// the time or the date.
    fn covers(since: Iso8601, other: Iso8601) -> bool {
        let by_moment = match (since, other) {
            (Iso8601::Timestamp(a), Iso8601::Timestamp(b)) => a <= b,
            _ => first_date(since) <= first_date(other),
        };
        since.date() <= other.date() && by_moment
    }

    /// Returns the events of each subject, in order, without consecutive repetitions.
    fn notified(entries: impl Iterator<Item = Entry>) -> BTreeMap<String, Vec<String>> {
        let mut notified: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for entry in entries {
            let (account, what) = match &entry {
                Entry::Transactions { account_id, .. } => (account_id.to_string(), String::new()),
                Entry::Account { account_id, event, .. } => {
                    (account_id.to_string(), event.as_str().to_owned())
                }
                Entry::Token { action, .. } => (String::new(), action.as_str().to_owned()),
            };
            let subject = format!("{}/{account}", entry.access_token().expose());
            let list = notified.entry(subject).or_default();
            if list.last() != Some(&what) {
                list.push(what);
            }
        }
        notified
    }

    proptest! {
        #[test]
        fn every_entry_is_sent_in_order_and_none_too_late((lane, stored) in lane_and_entries()) {
            let batches = batches_of(lane, stored.clone(), now());
            let mut numbers: Vec<_> = batches.iter().flat_map(Batch::numbers).collect();
            numbers.sort_unstable();
            prop_assert_eq!(numbers, stored.iter().map(|stored| stored.number).collect::<Vec<_>>());
            let planned = batches.iter().flat_map(|batch| &batch.parts);
            prop_assert_eq!(
                notified(planned.map(|part| part.entry.clone())),
                notified(stored.iter().map(|stored| stored.entry.clone()))
            );
            for batch in &batches {
                prop_assert!(batch.body().is_some());
                let stored_entry = |number: &u64| &stored[*number as usize - 1].entry;
                for entry in batch.numbers().iter().map(stored_entry) {
                    if let (Some(since), Entry::Transactions { new_since, .. }) =
                        (batch.new_since(), entry)
                    {
                        prop_assert!(covers(since, *new_since), "{} {}", since, new_since);
                    }
                }
            }
        }

        #[test]
        fn new_entries_are_not_sent_with_old_ones((_, stored) in lane_and_entries()) {
            for batch in batches_of(Lane::Transactions, stored, now()) {
                let Some(Iso8601::Timestamp(since)) = batch.new_since() else { continue };
                let fresh = since.utc() > now() - MAX_FRESH_AGE;
                for part in &batch.parts {
                    if let Entry::Transactions { new_since: Iso8601::Timestamp(at), .. } = &part.entry {
                        prop_assert_eq!(at.utc() > now() - MAX_FRESH_AGE, fresh);
                    }
                }
            }
        }

        #[test]
        fn halves_are_the_whole(count in 1_u64..50) {
            let account = |n: u64| AccountId::new(format!("a{n}")).unwrap();
            let part = |n| BatchEntry {
                entry: Entry::account(ItemAccessToken::new("t"), account(n), AccountEvent::Opened),
                numbers: vec![n],
            };
            let batch = Batch { lane: Lane::Accounts, parts: (0..count).map(part).collect() };
            let (first, second) = batch.clone().halves();
            prop_assert!(first.parts.len() - second.parts.len() <= 1);
            prop_assert_eq!([first.numbers(), second.numbers()].concat(), batch.numbers());
        }
    }

    #[test]
    fn five_thousand_accounts_are_three_calls() {
        let since: Iso8601 = "2024-05-06T11:59:30Z".parse().unwrap();
        let account = |n: u64| AccountId::new(format!("a{n}")).unwrap();
        let token = || ItemAccessToken::new("t");
        let stored =
            (0..5000).map(|n| StoredEntry::new(n, Entry::transactions(token(), account(n), since)));
        let sizes: Vec<_> = batches_of(Lane::Transactions, stored.collect(), now())
            .iter()
            .map(|batch| batch.parts.len())
            .collect();
        assert_eq!(sizes, [2000, 2000, 1000]);
    }

    #[test]
    fn a_date_and_a_moment_have_the_earlier_date() {
        for (one, other, both) in [
            ("2024-05-06", "2024-05-05", "2024-05-05"),
            ("2024-05-06T10:00:00Z", "2024-05-06T09:00:00Z", "2024-05-06T09:00:00Z"),
            ("2024-05-06T10:00:00Z", "2024-05-06", "2024-05-06"),
            // The first is earlier, but its date is later: a reader of dates would miss a day.
            ("2024-05-06T01:00:00+14:00", "2024-05-05T23:00:00-11:00", "2024-05-05"),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(earliest(one, other).to_string(), both);
            assert_eq!(earliest(other, one).to_string(), both);
        }
    }
}
