//! The partner's tokens.

use super::world::*;
use crate::{
    item::State,
    merge::AccountStanding,
    store::{Commit, NewHolder, NewLink, NotifyAsk, Store, StoreErrorKind, Then},
};
use px_types::{AccessToken, UserId};
use std::sync::Arc;

/// A commit that says that the partner refused the tokens of that version.
fn refusal(record: &crate::store::ItemRecord, version: u64) -> Commit {
    let then = Then::Release { due_at: None, not_before: None, seen: record.notified };
    let state = match record.state {
        State::Created => State::CreatedLoginRequired,
        _ => State::IdleLoginRequired,
    };
    let mut commit = Commit::new(record, state, at(0), then);
    commit.refused_tokens = Some(version);
    commit
}

pub(super) async fn tokens_are_replaced_by_version(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let (_, version) = world.0.tokens(&item("anna")).await.unwrap().unwrap();
    assert!(world.0.save_tokens(&item("anna"), version, &tokens("next")).await.unwrap());
    let (stored, next) = world.0.tokens(&item("anna")).await.unwrap().unwrap();
    assert_eq!(stored, tokens("next"));
    assert_eq!(next, version + 1);
    // Two refreshed at once: the loser sees it, and changes nothing.
    assert!(!world.0.save_tokens(&item("anna"), version, &tokens("loser")).await.unwrap());
    assert_eq!(world.0.tokens(&item("anna")).await.unwrap().unwrap().0, tokens("next"));
    assert!(world.0.claim_revocations(at(9), at(10), 9).await.unwrap().is_empty());
    assert!(!world.0.save_tokens(&item("bert"), 1, &tokens("next")).await.unwrap());
    assert!(world.0.tokens(&item("bert")).await.unwrap().is_none());
}

pub(super) async fn old_tokens_are_revoked_unless_they_are_the_new_ones(store: Arc<dyn Store>) {
    let world = World::new(store);
    let link = async |tokens| {
        let holder = NewHolder::Application(connection("app"));
        world.link_with("anna", holder, tokens, "a", 1).await;
    };
    let revoked = async || world.0.claim_revocations(at(1), at(99), 9).await.unwrap();
    link(tokens("1")).await;
    let (_, version) = world.0.tokens(&item("anna")).await.unwrap().unwrap();
    link(tokens("1")).await;
    assert!(revoked().await.is_empty(), "the same");
    // One in common: to revoke the old pair would end the new one.
    let mut same_refresh = tokens("1");
    same_refresh.access_token = AccessToken::new("access-1b");
    link(same_refresh).await;
    assert!(revoked().await.is_empty(), "the refresh token is in use");
    link(tokens("2")).await;
    let revocations = revoked().await;
    assert_eq!(revocations.len(), 1);
    assert_eq!(revocations[0].tokens.access_token, AccessToken::new("access-1b"));
    assert_eq!(revocations[0].tokens.refresh_token, tokens("1").refresh_token);
    let (stored, now) = world.0.tokens(&item("anna")).await.unwrap().unwrap();
    assert_eq!(stored, tokens("2"));
    assert!(now > version, "a version never comes back");
}

pub(super) async fn an_item_keeps_the_authorization_that_shows_more(store: Arc<dyn Store>) {
    let world = World::new(store);
    // Which tokens there are after an application joined with tokens over some accounts, and
    // which are to be revoked.
    let join = async |user: &str, name: &str, covers: Option<&[&str]>| {
        let holder = NewHolder::Application(connection(name));
        let user = (bank(), UserId::new(user).unwrap());
        let mut new = NewLink::new(user, item("unused"), tokens(name), holder, digest(name), at(1));
        new.covers = covers.map(|ids| ids.iter().map(|id| account_id(id)).collect());
        let item = world.0.link(new).await.unwrap().item_id;
        let kept = world.0.tokens(&item).await.unwrap().unwrap().0.access_token;
        let mut revoked = Vec::new();
        for revocation in world.0.claim_revocations(at(1), at(2), 9).await.unwrap() {
            revoked.push(revocation.tokens.access_token.expose().to_owned());
            world.0.settle_revocation(&revocation, None).await.unwrap();
        }
        (kept.expose().to_owned(), revoked)
    };
    let is = |kept: &str, revoked: &[&str]| {
        let token = |name: &&str| format!("access-{name}");
        (token(&kept), revoked.iter().map(token).collect::<Vec<_>>())
    };
    world.link("anna", connection("app"), 0).await;
    // Nobody knows yet what "all" is.
    assert_eq!(join("anna", "b", Some(&["giro"])).await, is("anna", &["b"]));
    let record = world.hold("anna").await;
    let mut commit = finish(&record, 0);
    let mut accounts = opening(&["giro", "spar", "held", "closed"]);
    accounts.accounts[0].known.partner_id = account_id("giro-2");
    accounts.accounts[2].known.standing = AccountStanding::Held;
    accounts.accounts[3].known.standing = AccountStanding::Closed;
    commit.accounts = Some(accounts);
    world.0.commit(commit).await.unwrap();

    assert_eq!(join("anna", "c", Some(&["giro-2"])).await, is("anna", &["c"]));
    assert_eq!(join("anna", "d", Some(&["giro", "spar"])).await, is("anna", &["d"]), "partner's");
    assert_eq!(join("anna", "e", Some(&["giro-2", "spar"])).await, is("e", &["anna"]));
    assert_eq!(join("anna", "f", None).await, is("f", &["e"]), "all of them");
    let partner = world.link_with("anna", NewHolder::Partner, tokens("g"), "g", 1).await;
    assert!(!partner.created);
    let kept = world.0.tokens(&item("anna")).await.unwrap().unwrap().0;
    assert_eq!(kept, tokens("f"), "what the partner hands in is its own");
    assert!(world.0.claim_revocations(at(1), at(2), 9).await.unwrap().is_empty());
    // One that lost its authorization takes what it gets.
    world.notify("anna", NotifyAsk::Revoked, 1).await;
    assert_eq!(join("anna", "h", Some(&["giro-2"])).await, is("h", &[]));

    // Before the first answer, of one that others see only in part.
    let mut part = connection("app");
    part.accounts = Some([account_id("giro")].into());
    world.link("bert", part, 0).await;
    assert_eq!(join("bert", "i", Some(&["spar"])).await, is("bert", &["i"]));
    world.0.unlink(&item("bert"), Some(&app("i")), at(1)).await.unwrap();
    assert_eq!(join("bert", "k", Some(&["giro", "spar"])).await, is("k", &["bert"]));
}

pub(super) async fn case_33_a_new_authorization_beats_a_refusal(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let record = world.hold("anna").await;
    let (_, version) = world.0.tokens(&item("anna")).await.unwrap().unwrap();
    // Meanwhile the user authorizes again, or another process refreshed.
    assert!(world.0.save_tokens(&item("anna"), version, &tokens("2")).await.unwrap());
    let before = world.item("anna").await;
    assert_eq!(world.refused(refusal(&record, version)).await, StoreErrorKind::TokensChanged);
    assert_eq!(world.item("anna").await, before, "nothing changed");
    assert_eq!(world.0.tokens(&item("anna")).await.unwrap(), Some((tokens("2"), version + 1)));
    // The claim is still good.
    world.0.commit(finish(&record, 100)).await.unwrap();
}

pub(super) async fn a_refusal_ends_the_tokens_and_a_link_repairs(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 0).await;
    world.link("anna", connection("second"), 0).await;
    world.told(0).await;
    let record = world.hold("anna").await;
    let (_, version) = world.0.tokens(&item("anna")).await.unwrap().unwrap();
    world.0.commit(refusal(&record, version)).await.unwrap();
    let lost = world.item("anna").await;
    assert_eq!(lost.state, State::IdleLoginRequired);
    assert_eq!((lost.due_at, lost.leased_until), (None, None));
    assert!(world.0.tokens(&item("anna")).await.unwrap().is_none());
    assert!(!world.0.save_tokens(&item("anna"), version + 1, &tokens("late")).await.unwrap());
    assert!(world.0.claim_revocations(at(9), at(10), 9).await.unwrap().is_empty(), "dead already");

    let holder = NewHolder::Application(connection("app"));
    let linked = world.link_with("anna", holder, tokens("new"), "anna/app", 30).await;
    assert!(linked.repaired && !linked.created);
    let repaired = world.item("anna").await;
    assert_eq!((repaired.state, repaired.due_at), (State::Idle, Some(at(30))));
    let (stored, next) = world.0.tokens(&item("anna")).await.unwrap().unwrap();
    assert_eq!(stored, tokens("new"));
    assert!(next > version);
    assert_eq!(world.told(30).await, ["app LOGIN_REPAIRED", "second LOGIN_REPAIRED"]);

    // One that was lost before it was complete is fetched on.
    world.link("bert", connection("app"), 0).await;
    let record = world.hold("bert").await;
    let (_, version) = world.0.tokens(&item("bert")).await.unwrap().unwrap();
    world.0.commit(refusal(&record, version)).await.unwrap();
    assert!(world.link("bert", connection("app"), 31).await.repaired);
    assert_eq!(world.item("bert").await.state, State::Created);
}

pub(super) async fn revocations_are_taken_and_settled(store: Arc<dyn Store>) {
    let world = World::new(store);
    for (minute, name) in ["anna", "bert", "carl"].into_iter().enumerate() {
        world.link(name, connection("app"), 0).await;
        let minute = i64::try_from(minute).unwrap();
        world.0.unlink(&item(name), Some(&app("app")), at(minute)).await.unwrap();
    }
    let claim = async |minute, limit| {
        world.0.claim_revocations(at(minute), at(minute + 10), limit).await.unwrap()
    };
    assert_eq!(claim(1, 9).await.len(), 2, "the third is not due yet");
    let third = claim(2, 9).await;
    assert_eq!((third.len(), &third[0].item_id, third[0].attempt), (1, &item("carl"), 1));
    assert_eq!(third[0].created_at, at(2));
    // The first two ran out of their lease.
    let again = claim(11, 1).await;
    assert_eq!((&again[0].item_id, again[0].attempt), (&item("anna"), 2));
    world.0.settle_revocation(&again[0], Some(at(50))).await.unwrap();
    world.0.settle_revocation(&third[0], None).await.unwrap();
    let late = claim(40, 9).await;
    assert_eq!((late.len(), &late[0].item_id), (1, &item("bert")));
    world.0.settle_revocation(&late[0], None).await.unwrap();
    let last = claim(50, 9).await;
    assert_eq!((last.len(), last[0].attempt), (1, 3));
    // The first try ends late: it is passed over.
    world.0.settle_revocation(&again[0], None).await.unwrap();
    assert_eq!(claim(60, 9).await.len(), 1);
}

pub(super) async fn cycling_is_asked_for_until_the_tokens_are_replaced(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 100).await;
    world.notify("anna", NotifyAsk::Cycle, 10).await;
    let record = world.item("anna").await;
    assert!(record.cycle_tokens);
    assert_eq!(record.due_at, Some(at(10)), "the next update is now");
    let record = world.hold("anna").await;
    assert!(record.cycle_tokens);
    let (_, version) = world.0.tokens(&item("anna")).await.unwrap().unwrap();
    world.0.commit(finish(&record, 100)).await.unwrap();
    assert!(world.item("anna").await.cycle_tokens, "an update that failed to: asked for still");
    assert!(world.0.save_tokens(&item("anna"), version, &tokens("2")).await.unwrap());
    assert!(!world.item("anna").await.cycle_tokens);

    world.notify("anna", NotifyAsk::Cycle, 20).await;
    world.link("anna", connection("app"), 21).await;
    assert!(!world.item("anna").await.cycle_tokens);
}
