//! Random histories of one grant against the contract's words, kept naively: every pair that
//! was ever given, with its parent and its fate.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use px_core::Digest;
use px_server::{
    PermittedAccounts,
    oauth::{
        GrantRecord,
        grant::{Fresh, Given, Refusal, Step},
    },
};
use px_types::{ClientId, ScopeSet, UserId};

#[derive(Clone, Debug)]
enum Event {
    Refresh(usize),
    Present(usize),
    RevokeAccess(usize),
    Wait(i64),
    Code,
    OtherClient(usize),
}

fn event() -> impl Strategy<Value = Event> {
    // Late pairs are the ones whose fate is open.
    let pair = prop_oneof![Just(0_usize), 0..3_usize, 0..40_usize];
    prop_oneof![
        8 => pair.clone().prop_map(Event::Refresh),
        5 => pair.clone().prop_map(Event::Present),
        1 => pair.clone().prop_map(Event::RevokeAccess),
        3 => prop_oneof![Just(1), Just(15), Just(30), Just(31), Just(900)].prop_map(Event::Wait),
        1 => pair.prop_map(Event::OtherClient),
    ]
}

/// Histories that seldom end at once: a reuse of the code is rare.
fn history() -> impl Strategy<Value = Vec<Event>> {
    let common = prop::collection::vec(event(), 0..60);
    (common, prop::bool::weighted(0.1)).prop_map(|(mut events, reuse)| {
        if reuse {
            events.insert(events.len() / 2, Event::Code);
        }
        events
    })
}

/// A pair as the contract speaks of it.
struct Pair {
    parent: Option<usize>,
    ended: bool,
    access_revoked: bool,
    access_ends: DateTime<Utc>,
    first_used: Option<DateTime<Utc>>,
    given: usize,
    one_was_used: bool,
}

#[derive(Default)]
struct Model {
    pairs: Vec<Pair>,
    revoked: bool,
}

impl Model {
    fn give(&mut self, parent: Option<usize>, access_ends: DateTime<Utc>) {
        self.pairs.push(Pair {
            parent,
            ended: false,
            access_revoked: false,
            access_ends,
            first_used: None,
            given: 0,
            one_was_used: false,
        });
    }

    /// The first pair of a token that is used stays, its siblings end.
    fn used(&mut self, index: usize) {
        let Some(parent) = self.pairs[index].parent else {
            return;
        };
        if self.pairs[parent].one_was_used {
            return;
        }
        self.pairs[parent].one_was_used = true;
        for (other, pair) in self.pairs.iter_mut().enumerate() {
            pair.ended |= pair.parent == Some(parent) && other != index;
        }
    }

    fn refresh(&mut self, index: usize, now: DateTime<Utc>) -> Result<(), Refusal> {
        if self.revoked || self.pairs[index].ended {
            return Err(Refusal::InvalidGrant);
        }
        let pair = &self.pairs[index];
        let again = pair.given < 3
            && !pair.one_was_used
            && pair.first_used.is_none_or(|first| now - first <= TimeDelta::seconds(30));
        if !again {
            self.revoked = true;
            return Err(Refusal::Reused);
        }
        self.used(index);
        self.pairs[index].first_used.get_or_insert(now);
        self.pairs[index].given += 1;
        self.give(Some(index), now + TimeDelta::seconds(900));
        Ok(())
    }

    fn present(&mut self, index: usize, now: DateTime<Utc>) -> bool {
        let pair = &self.pairs[index];
        let lives = !self.revoked && !pair.ended && !pair.access_revoked && now < pair.access_ends;
        if lives {
            self.used(index);
        }
        lives
    }
}

const REDIRECT: &str = "https://client.example/back";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fn fresh(index: usize) -> Fresh {
    let (access, refresh) = (access(index), refresh(index));
    Fresh::new(access, Digest::of("family"), refresh, TimeDelta::seconds(900))
}

fn access(index: usize) -> Digest {
    Digest::of(&format!("access {index}"))
}

fn refresh(index: usize) -> Digest {
    Digest::of(&format!("refresh {index}"))
}

fn client(name: &str) -> ClientId {
    ClientId::new(name).unwrap()
}

fn redeem(record: &GrantRecord, index: usize, now: DateTime<Utc>) -> Step<Given> {
    let (code, client) = (Digest::of("code"), client("client"));
    record.redeem(&code, &client, Some(REDIRECT), Some(VERIFIER), &fresh(index), now)
}

fn begin(now: DateTime<Utc>) -> GrantRecord {
    let (user, accounts) = (UserId::new("u").unwrap(), PermittedAccounts::All);
    let ends = now + TimeDelta::days(400);
    let scopes = ScopeSet::defaults();
    let record = GrantRecord::new("g", user, client("client"), scopes, accounts, now, ends);
    let challenge = Digest::of(VERIFIER).to_string();
    let expires = now + TimeDelta::seconds(60);
    let record = record.with_code(Digest::of("code"), REDIRECT, Some(challenge), expires);
    let step = redeem(&record, 0, now);
    step.outcome.unwrap();
    step.record.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_record_does_what_the_contract_says(events in history()) {
        let mut now: DateTime<Utc> = "2024-01-01T00:00:00Z".parse().unwrap();
        let mut record = begin(now);
        let mut model = Model::default();
        model.give(None, now + TimeDelta::seconds(900));
        for event in events {
            // Indices count from the latest pair back.
            let pick = |index: usize| model.pairs.len() - 1 - index % model.pairs.len();
            match event {
                Event::Wait(seconds) => now += TimeDelta::seconds(seconds),
                Event::Refresh(index) => {
                    let (index, next) = (pick(index), model.pairs.len());
                    let step = record.refresh(&Digest::of("family"), &refresh(index), &client("client"), None, &fresh(next), now);
                    let expected = model.refresh(index, now);
                    prop_assert_eq!(step.outcome.map(|_| ()), expected);
                    record = step.record.unwrap_or(record);
                }
                Event::Present(index) => {
                    let index = pick(index);
                    let step = record.present(&access(index), now);
                    prop_assert_eq!(step.outcome.is_ok(), model.present(index, now));
                    record = step.record.unwrap_or(record.clone());
                }
                Event::RevokeAccess(index) => {
                    let index = pick(index);
                    let step = record.revoke_access(&access(index), &client("client"));
                    model.pairs[index].access_revoked = true;
                    record = step.record.unwrap_or(record);
                }
                Event::Code => {
                    let step = redeem(&record, 1000, now);
                    prop_assert!(step.outcome.is_err());
                    model.revoked = true;
                    record = step.record.unwrap_or(record);
                }
                Event::OtherClient(index) => {
                    let (index, other) = (pick(index), client("other"));
                    let step = record.refresh(&Digest::of("family"), &refresh(index), &other, None, &fresh(1000), now);
                    prop_assert_eq!(step.outcome.map(|_| ()), Err(Refusal::InvalidGrant));
                    prop_assert!(step.record.is_none());
                    prop_assert!(record.revoke_access(&access(index), &other).record.is_none());
                }
            }
            // However it came about: few things live, and nothing of a revoked grant.
            let open = record.refresh.as_ref().unwrap();
            prop_assert!(open.pairs.len() <= 3);
            prop_assert_eq!(record.revoked_at.is_some(), model.revoked);
            if model.revoked {
                for index in 0..model.pairs.len() {
                    prop_assert!(record.present(&access(index), now).outcome.is_err());
                    let step = record.refresh(&Digest::of("family"), &refresh(index), &client("client"), None, &fresh(1000), now);
                    prop_assert!(step.outcome.is_err() && step.record.is_none());
                }
            }
        }
    }
}

#[test]
fn a_record_stays_small_over_its_life() {
    let mut now: DateTime<Utc> = "2024-01-01T00:00:00Z".parse().unwrap();
    let mut record = begin(now);
    for index in 0..10_000 {
        now += TimeDelta::seconds(60);
        let step = record.refresh(
            &Digest::of("family"),
            &refresh(index),
            &client("client"),
            None,
            &fresh(index + 1),
            now,
        );
        step.outcome.unwrap();
        record = step.record.unwrap();
    }
    assert!(record.digests().len() < 20);
    assert!(serde_json::to_string(&record).unwrap().len() < 8192);
    let reused = record.refresh(
        &Digest::of("family"),
        &refresh(17),
        &client("client"),
        None,
        &fresh(1),
        now,
    );
    assert_eq!(reused.outcome, Err(Refusal::Reused));
}
