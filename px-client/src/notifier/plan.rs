//! The batches of entries. Pure.
//!
//! Contract: `px.md` section 6: a batch has 1 to 2000 entries and one `new_since`.

use super::{
    entry::{Entry, Lane},
    store::Kept,
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
pub const MOST_IN_A_BATCH: usize = 2000;

/// Maximum age of the `new_since` of a batch of fresh entries (P: under two minutes).
const FRESH: TimeDelta = TimeDelta::seconds(110);

/// An entry that stands for one or more equal stored ones.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) entry: Entry,
    /// The numbers of the stored entries.
    pub(super) numbers: Vec<u64>,
}

/// The entries of one call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Batch {
    pub(super) lane: Lane,
    pub(super) parts: Vec<Part>,
}

/// The body of a call.
#[derive(Debug)]
pub(super) enum Body {
    Transactions(NewTransactionsNotification),
    Accounts(AccountsNotification),
    Tokens(TokensNotification),
}

/// Puts the entries of one lane, oldest first, into batches.
///
/// - Equal entries are sent once. For an account's transactions the earliest `new_since` counts. Events
///   of an account and actions on a token keep their order; one that repeats the one before is left out.
/// - Plaid expects a `new_since` under two minutes old and reads back to it. So fresh entries share
///   batches, and older ones (after an outage) are grouped by day: one old entry makes Plaid read far
///   back for no other.
pub(super) fn plan(lane: Lane, kept: Vec<Kept>, now: DateTime<Utc>) -> Vec<Batch> {
    let parts = merge(kept);
    let groups = match lane {
        Lane::Transactions => by_age(parts, now),
        Lane::Accounts | Lane::Tokens => vec![parts],
    };
    let mut batches = Vec::new();
    for mut parts in groups {
        while !parts.is_empty() {
            let rest = parts.split_off(parts.len().min(MOST_IN_A_BATCH));
            batches.push(Batch { lane, parts });
            parts = rest;
        }
    }
    batches
}

/// The subject of an entry: a token and an account. The token's digest stands for it, so that no copy
/// of the token stays in memory.
type Subject = ([u8; 32], Option<AccountId>);

fn merge(kept: Vec<Kept>) -> Vec<Part> {
    let mut last_of: HashMap<Subject, usize> = HashMap::with_capacity(kept.len());
    let mut parts: Vec<Part> = Vec::with_capacity(kept.len());
    for Kept { number, entry } in kept {
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
        parts.push(Part { entry, numbers: vec![number] });
    }
    parts
}

/// Merges a later entry into an earlier one of the same subject. Returns `false` if that would lose
/// something.
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
fn by_age(parts: Vec<Part>, now: DateTime<Utc>) -> Vec<Vec<Part>> {
    let mut fresh = Vec::new();
    let mut days: BTreeMap<Reverse<Date>, Vec<Part>> = BTreeMap::new();
    for part in parts {
        match &part.entry {
            Entry::Transactions { new_since: Iso8601::Timestamp(at), .. }
                if at.utc() > now - FRESH =>
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
/// A date has no zone, and Plaid may use the written date of a timestamp. So a timestamp is the earlier
/// one only if its written date is not later; otherwise the result is the earliest date that either can
/// mean.
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

    /// Replaces a dead token by the present one. The store keeps the dead one, so after a crash the bank
    /// is asked for the present token again.
    pub(super) fn renew(&mut self, dead: &ItemAccessToken, present: &ItemAccessToken) {
        let renewed = self.parts.iter_mut().map(|part| &mut part.entry);
        for entry in renewed.filter(|entry| entry.access_token() == dead) {
            entry.renew(present.clone());
        }
    }

    /// Returns a `new_since` that is right for all entries.
    fn new_since(&self) -> Option<Iso8601> {
        let all = self.parts.iter().filter_map(|part| match part.entry {
            Entry::Transactions { new_since, .. } => Some(new_since),
            _ => None,
        });
        all.reduce(earliest)
    }

    /// Returns the body to send, or `None` if Plaid would not accept the size of the batch.
    pub(super) fn body(&self) -> Option<Body> {
        fn listed<T>(
            parts: &[Part],
            pick: impl Fn(&Entry) -> Option<T>,
        ) -> Option<px_types::plaid::Batch<T>> {
            let list: Vec<T> = parts.iter().filter_map(|part| pick(&part.entry)).collect();
            list.try_into().ok()
        }
        let parts = &self.parts;
        Some(match self.lane {
            Lane::Transactions => Body::Transactions(NewTransactionsNotification::new(
                listed(parts, transactions)?,
                self.new_since()?,
            )),
            Lane::Accounts => Body::Accounts(AccountsNotification::new(listed(parts, account)?)),
            Lane::Tokens => Body::Tokens(TokensNotification::new(listed(parts, token)?)),
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
        // Around the limit of what is fresh, and some days back, in several zones.
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

    fn lane_and_entries() -> impl Strategy<Value = (Lane, Vec<Kept>)> {
        prop_oneof![Just(Lane::Transactions), Just(Lane::Accounts), Just(Lane::Tokens)]
            .prop_flat_map(|lane| (Just(lane), proptest::collection::vec(entry(lane), 0..80)))
            .prop_map(|(lane, entries)| {
                let kept = entries.into_iter().enumerate();
                (lane, kept.map(|(n, entry)| Kept::new(n as u64 + 1, entry)).collect())
            })
    }

    /// Whether all that is new since `other` is new since `since`, whatever Plaid reads of it.
    fn covers(since: Iso8601, other: Iso8601) -> bool {
        let by_moment = match (since, other) {
            (Iso8601::Timestamp(a), Iso8601::Timestamp(b)) => a <= b,
            _ => first_date(since) <= first_date(other),
        };
        since.date() <= other.date() && by_moment
    }

    /// What is told about each subject, in order, with repetitions taken out.
    fn told(entries: impl Iterator<Item = Entry>) -> BTreeMap<String, Vec<String>> {
        let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for entry in entries {
            let (account, what) = match &entry {
                Entry::Transactions { account_id, .. } => (account_id.to_string(), String::new()),
                Entry::Account { account_id, event, .. } => {
                    (account_id.to_string(), event.as_str().to_owned())
                }
                Entry::Token { action, .. } => (String::new(), action.as_str().to_owned()),
            };
            let subject = format!("{}/{account}", entry.access_token().expose());
            let list = told.entry(subject).or_default();
            if list.last() != Some(&what) {
                list.push(what);
            }
        }
        told
    }

    proptest! {
        #[test]
        fn every_entry_is_told_in_order_and_none_too_late((lane, kept) in lane_and_entries()) {
            let batches = plan(lane, kept.clone(), now());
            let mut numbers: Vec<_> = batches.iter().flat_map(Batch::numbers).collect();
            numbers.sort_unstable();
            prop_assert_eq!(numbers, kept.iter().map(|kept| kept.number).collect::<Vec<_>>());
            let planned = batches.iter().flat_map(|batch| &batch.parts);
            prop_assert_eq!(
                told(planned.map(|part| part.entry.clone())),
                told(kept.iter().map(|kept| kept.entry.clone()))
            );
            for batch in &batches {
                prop_assert!(batch.body().is_some());
                let of_kept = |number: &u64| &kept[*number as usize - 1].entry;
                for entry in batch.numbers().iter().map(of_kept) {
                    if let (Some(since), Entry::Transactions { new_since, .. }) =
                        (batch.new_since(), entry)
                    {
                        prop_assert!(covers(since, *new_since), "{} {}", since, new_since);
                    }
                }
            }
        }

        #[test]
        fn what_is_fresh_is_not_told_with_what_is_old((_, kept) in lane_and_entries()) {
            for batch in plan(Lane::Transactions, kept, now()) {
                let Some(Iso8601::Timestamp(since)) = batch.new_since() else { continue };
                let fresh = since.utc() > now() - FRESH;
                for part in &batch.parts {
                    if let Entry::Transactions { new_since: Iso8601::Timestamp(at), .. } = &part.entry {
                        prop_assert_eq!(at.utc() > now() - FRESH, fresh);
                    }
                }
            }
        }

        #[test]
        fn halves_are_the_whole(count in 1_u64..50) {
            let account = |n: u64| AccountId::new(format!("a{n}")).unwrap();
            let part = |n| Part {
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
        let kept = (0..5000).map(|n| Kept::new(n, Entry::transactions(token(), account(n), since)));
        let sizes: Vec<_> = plan(Lane::Transactions, kept.collect(), now())
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
