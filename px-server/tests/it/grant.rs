//! Random histories of one grant, compared with a naive model of the contract: every pair that was
//! issued, with its parent and its state.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use px_core::Digest;
use px_server::{
    PermittedAccounts,
    oauth::{
        GrantRecord,
        grant::{GrantRefusal, IssuedTokens, NewTokenDigests, Step},
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
    // Recent pairs have the most interesting states.
    let pair = prop_oneof![Just(0_usize), 0..3_usize, 0..40_usize];
    prop_oneof![
        8 => pair.clone().prop_map(Event::Refresh),
        5 => pair.clone().prop_map(Event::Present),
        1 => pair.clone().prop_map(Event::RevokeAccess),
        3 => prop_oneof![Just(1), Just(15), Just(30), Just(31), Just(60), Just(61), Just(900)]
            .prop_map(Event::Wait),
        1 => pair.prop_map(Event::OtherClient),
    ]
}

/// Histories that rarely end early: a reuse of the code is rare.
fn history() -> impl Strategy<Value = Vec<Event>> {
    let common = prop::collection::vec(event(), 0..60);
    (common, prop::bool::weighted(0.1)).prop_map(|(mut events, reuse)| {
        if reuse {
            events.insert(events.len() / 2, Event::Code);
        }
        events
    })
}

/// A pair in the terms of the contract.
struct Pair {
    parent: Option<usize>,
    /// When a sibling was used first.
    lost_at: Option<DateTime<Utc>>,
    access_revoked: bool,
    access_ends: DateTime<Utc>,
    first_used: Option<DateTime<Utc>>,
    issued: usize,
    one_was_used: bool,
}

#[derive(Default)]
struct Model {
    pairs: Vec<Pair>,
    revoked: bool,
}

impl Model {
    fn issue(&mut self, parent: Option<usize>, access_ends: DateTime<Utc>) {
        self.pairs.push(Pair {
            parent,
            lost_at: None,
            access_revoked: false,
            access_ends,
            first_used: None,
            issued: 0,
            one_was_used: false,
        });
    }

    /// Marks a pair as used: the first pair of a token to be used remains, and its siblings lose.
    fn used(&mut self, index: usize, now: DateTime<Utc>) {
        let Some(parent) = self.pairs[index].parent else {
            return;
        };
        if self.pairs[parent].one_was_used {
            return;
        }
        self.pairs[parent].one_was_used = true;
        for (other, pair) in self.pairs.iter_mut().enumerate() {
            if pair.parent == Some(parent) && other != index {
                pair.lost_at = Some(now);
            }
        }
    }

    /// Returns the refusal of a pair that lost: after 60 s it counts as theft.
    fn lost(&mut self, lost_at: DateTime<Utc>, now: DateTime<Utc>) -> GrantRefusal {
        self.revoked = now - lost_at > TimeDelta::seconds(60);
        if self.revoked { GrantRefusal::Reused } else { GrantRefusal::Superseded }
    }

    fn refresh(&mut self, index: usize, now: DateTime<Utc>) -> Result<(), GrantRefusal> {
        if self.revoked {
            return Err(GrantRefusal::InvalidGrant);
        }
        let pair = &self.pairs[index];
        if let Some(lost_at) = pair.lost_at {
            return Err(self.lost(lost_at, now));
        }
        let inside = pair.first_used.is_none_or(|first| now - first <= TimeDelta::seconds(30));
        if !inside {
            self.revoked = true;
            return Err(GrantRefusal::Reused);
        }
        if pair.issued == 3 || pair.one_was_used {
            return Err(GrantRefusal::InvalidGrant);
        }
        self.used(index, now);
        self.pairs[index].first_used.get_or_insert(now);
        self.pairs[index].issued += 1;
        self.issue(Some(index), now + TimeDelta::seconds(900));
        Ok(())
    }

    fn present(&mut self, index: usize, now: DateTime<Utc>) -> Result<(), GrantRefusal> {
        let pair = &self.pairs[index];
        if self.revoked || now >= pair.access_ends {
            return Err(GrantRefusal::InvalidGrant);
        }
        if let Some(lost_at) = pair.lost_at {
            return Err(self.lost(lost_at, now));
        }
        if pair.access_revoked {
            return Err(GrantRefusal::InvalidGrant);
        }
        self.used(index, now);
        Ok(())
    }
}

const REDIRECT: &str = "https://client.example/back";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fn digests(index: usize) -> NewTokenDigests {
    let (access, refresh) = (access(index), refresh(index));
    NewTokenDigests::new(access, Digest::of("family"), refresh, TimeDelta::seconds(900))
}

fn access(index: usize) -> Digest {
    Digest::of(format!("access {index}"))
}

fn refresh(index: usize) -> Digest {
    Digest::of(format!("refresh {index}"))
}

fn client(name: &str) -> ClientId {
    ClientId::new(name).unwrap()
}

fn redeem(record: &GrantRecord, index: usize, now: DateTime<Utc>) -> Step<IssuedTokens> {
    let (code, client) = (Digest::of("code"), client("client"));
    record.redeem(&code, &client, Some(REDIRECT), Some(VERIFIER), &digests(index), now)
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
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn the_record_does_what_the_contract_says(events in history()) {
        let mut now: DateTime<Utc> = "2024-01-01T00:00:00Z".parse().unwrap();
        let mut record = begin(now);
        let mut model = Model::default();
        model.issue(None, now + TimeDelta::seconds(900));
        for event in events {
            // Indices count backward from the latest pair.
            let pick = |index: usize| model.pairs.len() - 1 - index % model.pairs.len();
            match event {
                Event::Wait(seconds) => now += TimeDelta::seconds(seconds),
                Event::Refresh(index) => {
                    let (index, next) = (pick(index), model.pairs.len());
                    let step = record.refresh(&Digest::of("family"), &refresh(index), &client("client"), None, &digests(next), now);
                    let expected = model.refresh(index, now);
                    prop_assert_eq!(step.outcome.map(|_| ()), expected);
                    record = step.record.unwrap_or(record);
                }
                Event::Present(index) => {
                    let index = pick(index);
                    let step = record.present(&access(index), now);
                    prop_assert_eq!(step.outcome.map(|_| ()), model.present(index, now));
                    record = step.record.unwrap_or_else(|| record.clone());
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
                    let step = record.refresh(&Digest::of("family"), &refresh(index), &other, None, &digests(1000), now);
                    prop_assert_eq!(step.outcome.map(|_| ()), Err(GrantRefusal::InvalidGrant));
                    prop_assert!(step.record.is_none());
                    prop_assert!(record.revoke_access(&access(index), &other).record.is_none());
                }
            }
            // In any case, few tokens are live, and none of a revoked grant.
            let open = record.refresh.as_ref().unwrap();
            prop_assert!(open.pairs.len() <= 3);
            prop_assert_eq!(record.revoked_at.is_some(), model.revoked);
            if model.revoked {
                for index in 0..model.pairs.len() {
                    prop_assert!(record.present(&access(index), now).outcome.is_err());
                    let step = record.refresh(&Digest::of("family"), &refresh(index), &client("client"), None, &digests(1000), now);
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
            &digests(index + 1),
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
        &digests(1),
        now,
    );
    assert_eq!(reused.outcome, Err(GrantRefusal::Reused));
}

/// A client that refreshes continuously: the stored spent tokens are bounded, and beyond the bound
/// the oldest spent token counts as stolen.
#[test]
fn the_memory_of_spent_tokens_is_bounded_and_fails_closed() {
    let now: DateTime<Utc> = "2024-01-01T00:00:00Z".parse().unwrap();
    let mut record = begin(now);
    let refreshed = |record: &GrantRecord, index, next| {
        let family = Digest::of("family");
        record.refresh(&family, &refresh(index), &client("client"), None, &digests(next), now)
    };
    for index in 0..200 {
        record = refreshed(&record, index, index + 1).record.unwrap();
    }
    assert!(serde_json::to_string(&record).unwrap().len() < 32_768);
    assert_eq!(refreshed(&record, 190, 999).outcome, Err(GrantRefusal::InvalidGrant));
    assert_eq!(refreshed(&record, 10, 999).outcome, Err(GrantRefusal::Reused));
}
