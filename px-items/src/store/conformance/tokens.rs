//! The partner's tokens.

use super::world::*;
use crate::{
    item::State,
    merge::AccountStanding,
    store::{
        Commit, LeaseOutcome, LostTokens, NewHolder, NewLink, NotificationRequest, Revocation,
        RevocationDecision, RevocationStart, Store, StoreErrorKind,
    },
};
use px_types::{AccessToken, UserId};
use std::sync::Arc;

/// Returns a commit that reports that the partner refused the tokens of that version.
fn refusal(record: &crate::store::ItemRecord, version: u64) -> Commit {
    let then = LeaseOutcome::Release { due_at: None, not_before: None, seen: record.notified };
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
    // Of two concurrent refreshes, the second is refused and changes nothing.
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
    assert!(revoked().await.is_empty(), "equal tokens");
    // If one token is equal, revoking the old pair would end the new one.
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
    // Returns the tokens and the revocations after an application joined with tokens for some
    // accounts.
    let join = async |user: &str, name: &str, covers: Option<&[&str]>| {
        let holder = NewHolder::Application(connection(name));
        let user = (bank(), UserId::new(user).unwrap());
        let mut new = NewLink::new(user, item("unused"), tokens(name), holder, digest(name), at(1));
        new.covers = covers.map(|ids| ids.iter().map(|id| account_id(id)).collect());
        let item = world.0.link(new).await.unwrap().item_id;
        let stored = world.0.tokens(&item).await.unwrap().unwrap().0.access_token;
        let mut revoked = Vec::new();
        for revocation in world.0.claim_revocations(at(1), at(2), 9).await.unwrap() {
            revoked.push(revocation.tokens.access_token.expose().to_owned());
            world.0.settle_revocation(&revocation, None).await.unwrap();
        }
        (stored.expose().to_owned(), revoked)
    };
    let is = |stored: &str, revoked: &[&str]| {
        let token = |name: &&str| format!("access-{name}");
        (token(&stored), revoked.iter().map(token).collect::<Vec<_>>())
    };
    world.link("anna", connection("app"), 0).await;
    // It is not known yet which accounts exist.
    assert_eq!(join("anna", "b", Some(&["giro"])).await, is("anna", &["b"]));
    let record = world.claim_by_name("anna").await;
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
    assert_eq!(join("anna", "f", None).await, is("f", &["e"]), "all accounts");
    let partner = world.link_with("anna", NewHolder::Partner, tokens("g"), "g", 1).await;
    assert!(!partner.created);
    let stored = world.0.tokens(&item("anna")).await.unwrap().unwrap().0;
    assert_eq!(stored, tokens("f"), "the tokens that the partner links are its own");
    assert!(world.0.claim_revocations(at(1), at(2), 9).await.unwrap().is_empty());
    // An Item that lost its authorization takes any tokens.
    world.notify("anna", NotificationRequest::Revoked, 1).await;
    assert_eq!(join("anna", "h", Some(&["giro-2"])).await, is("h", &[]));

    // Before the first response, for an Item that others see only in part.
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
    let record = world.claim_by_name("anna").await;
    let (_, version) = world.0.tokens(&item("anna")).await.unwrap().unwrap();
    // Meanwhile the user authorizes again, or another process refreshes the tokens.
    assert!(world.0.save_tokens(&item("anna"), version, &tokens("2")).await.unwrap());
    let before = world.item("anna").await;
    assert_eq!(world.refused(refusal(&record, version)).await, StoreErrorKind::TokensChanged);
    assert_eq!(world.item("anna").await, before, "nothing changed");
    assert_eq!(world.0.tokens(&item("anna")).await.unwrap(), Some((tokens("2"), version + 1)));
    // The claim is still valid.
    world.0.commit(finish(&record, 100)).await.unwrap();
}

pub(super) async fn a_refusal_ends_the_tokens_and_a_link_repairs(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 0).await;
    world.link("anna", connection("second"), 0).await;
    world.deliver(0).await;
    let record = world.claim_by_name("anna").await;
    let (_, version) = world.0.tokens(&item("anna")).await.unwrap().unwrap();
    world.0.commit(refusal(&record, version)).await.unwrap();
    let lost = world.item("anna").await;
    assert_eq!(lost.state, State::IdleLoginRequired);
    assert_eq!((lost.due_at, lost.leased_until), (None, None));
    assert!(world.0.tokens(&item("anna")).await.unwrap().is_none());
    assert!(!world.0.save_tokens(&item("anna"), version + 1, &tokens("late")).await.unwrap());
    assert!(
        world.0.claim_revocations(at(9), at(10), 9).await.unwrap().is_empty(),
        "refused tokens are not revoked"
    );

    let holder = NewHolder::Application(connection("app"));
    let linked = world.link_with("anna", holder, tokens("new"), "anna/app", 30).await;
    assert!(linked.repaired && !linked.created);
    let repaired = world.item("anna").await;
    assert_eq!((repaired.state, repaired.due_at), (State::Idle, Some(at(30))));
    let (stored, next) = world.0.tokens(&item("anna")).await.unwrap().unwrap();
    assert_eq!(stored, tokens("new"));
    assert!(next > version);
    assert_eq!(world.deliver(30).await, ["app LOGIN_REPAIRED", "second LOGIN_REPAIRED"]);

    // An Item that lost its authorization during the initial fetch continues with it.
    world.link("bert", connection("app"), 0).await;
    let record = world.claim_by_name("bert").await;
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
    // The leases of the first two have expired.
    let again = claim(11, 1).await;
    assert_eq!((&again[0].item_id, again[0].attempt), (&item("anna"), 2));
    world.0.settle_revocation(&again[0], Some(at(50))).await.unwrap();
    world.0.settle_revocation(&third[0], None).await.unwrap();
    let late = claim(40, 9).await;
    assert_eq!((late.len(), &late[0].item_id), (1, &item("bert")));
    world.0.settle_revocation(&late[0], None).await.unwrap();
    let last = claim(50, 9).await;
    assert_eq!((last.len(), last[0].attempt), (1, 3));
    // The first attempt ends late and is ignored.
    world.0.settle_revocation(&again[0], None).await.unwrap();
    assert_eq!(claim(60, 9).await.len(), 1);
}

pub(super) async fn cycling_is_asked_for_until_the_tokens_are_replaced(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.settled("anna", 100).await;
    world.notify("anna", NotificationRequest::Cycle, 10).await;
    let record = world.item("anna").await;
    assert!(record.cycle_tokens);
    assert_eq!(record.due_at, Some(at(10)), "the next update is now");
    let record = world.claim_by_name("anna").await;
    assert!(record.cycle_tokens);
    let (_, version) = world.0.tokens(&item("anna")).await.unwrap().unwrap();
    world.0.commit(finish(&record, 100)).await.unwrap();
    assert!(world.item("anna").await.cycle_tokens, "still requested, because the update failed");
    assert!(world.0.save_tokens(&item("anna"), version, &tokens("2")).await.unwrap());
    assert!(!world.item("anna").await.cycle_tokens);

    world.notify("anna", NotificationRequest::Cycle, 20).await;
    world.link("anna", connection("app"), 21).await;
    assert!(!world.item("anna").await.cycle_tokens);
}

/// Links a user's Item with these tokens. Returns the error kind if the link is refused.
async fn bring(
    world: &World,
    user: &str,
    tokens: px_client::oauth::TokenSet,
    minute: i64,
) -> Result<(), StoreErrorKind> {
    let holder = NewHolder::Application(connection("app"));
    let user_id = (bank(), UserId::new(user).unwrap());
    let access = digest(&format!("{user}/{minute}"));
    let new = NewLink::new(user_id, item(user), tokens, holder, access, at(minute));
    world.0.link(new).await.map(drop).map_err(|error| error.kind())
}

/// Unlinks a user's Item and claims the revocation of its tokens.
async fn leave_and_claim(world: &World, user: &str, minute: i64) -> Revocation {
    world.0.unlink(&item(user), Some(&app("app")), at(minute)).await.unwrap();
    let mut claimed = world.0.claim_revocations(at(minute), at(minute + 1), 9).await.unwrap();
    assert_eq!(claimed.len(), 1);
    claimed.remove(0)
}

/// Returns whether tokens may be revoked, at that minute and for one minute.
async fn may_revoke(
    world: &World,
    revocation: &Revocation,
    minute: i64,
    whole: bool,
) -> RevocationDecision {
    let mut start = RevocationStart::new(revocation, at(minute), at(minute + 1));
    start.ends_grant = whole;
    world.0.begin_revocation(start).await.unwrap()
}

/// The user unlinks and links again, and the partner returns the same bearer token. The queued
/// revocation would end the new Item.
pub(super) async fn a_link_takes_out_a_revocation_of_its_tokens(store: Arc<dyn Store>) {
    let world = World::new(store);
    let mut same_refresh = tokens("2");
    same_refresh.access_token = AccessToken::new("another");
    let mut same_access = tokens("3");
    same_access.refresh_token = None;
    for (user, first, brought) in [
        ("anna", tokens("1"), tokens("1")),
        ("bert", tokens("2"), same_refresh),
        ("carl", tokens("3"), same_access),
    ] {
        bring(&world, user, first, 1).await.unwrap();
        let revocation = leave_and_claim(&world, user, 2).await;
        bring(&world, user, brought, 3).await.unwrap();
        assert_eq!(
            may_revoke(&world, &revocation, 3, false).await,
            RevocationDecision::Gone,
            "{user}"
        );
        world.0.settle_revocation(&revocation, Some(at(3))).await.unwrap();
        let waiting = world.0.claim_revocations(at(90), at(91), 9).await.unwrap();
        assert!(waiting.is_empty(), "{user}");
    }
    // Another user of the institution may have the same token.
    bring(&world, "dora", tokens("4"), 1).await.unwrap();
    let revocation = leave_and_claim(&world, "dora", 2).await;
    bring(&world, "emil", tokens("4"), 3).await.unwrap();
    assert_eq!(may_revoke(&world, &revocation, 3, false).await, RevocationDecision::Gone);
    // A revocation of other tokens stays.
    bring(&world, "fritz", tokens("5"), 1).await.unwrap();
    let revocation = leave_and_claim(&world, "fritz", 2).await;
    bring(&world, "fritz", tokens("6"), 3).await.unwrap();
    assert_eq!(may_revoke(&world, &revocation, 3, false).await, RevocationDecision::Yes);
}

/// While the request is being sent, a link with these tokens is refused.
pub(super) async fn a_link_waits_for_a_revocation_on_the_wire(store: Arc<dyn Store>) {
    let world = World::new(store);
    let under_way = Err(StoreErrorKind::RevocationUnderWay);
    bring(&world, "anna", tokens("1"), 1).await.unwrap();
    let revocation = leave_and_claim(&world, "anna", 2).await;
    assert_eq!(may_revoke(&world, &revocation, 2, false).await, RevocationDecision::Yes);
    assert_eq!(bring(&world, "anna", tokens("1"), 2).await, under_way);
    assert!(world.0.find(&bank(), &UserId::new("anna").unwrap()).await.unwrap().is_none());
    assert_eq!(bring(&world, "anna", tokens("2"), 2).await, Ok(()), "other tokens do not");
    // The request failed and is queued again. Then the link deletes it.
    world.0.settle_revocation(&revocation, Some(at(50))).await.unwrap();
    assert_eq!(bring(&world, "bert", tokens("1"), 2).await, Ok(()));
    assert!(world.0.claim_revocations(at(90), at(91), 9).await.unwrap().is_empty());
    // If the worker stopped, a link is refused until the request has timed out, and no longer.
    bring(&world, "carl", tokens("3"), 1).await.unwrap();
    let revocation = leave_and_claim(&world, "carl", 2).await;
    assert_eq!(may_revoke(&world, &revocation, 2, false).await, RevocationDecision::Yes);
    assert_eq!(bring(&world, "carl", tokens("3"), 3).await, Ok(()));
}

/// A token that any Item of the institution uses is not revoked, regardless of its origin.
pub(super) async fn tokens_in_use_are_not_revoked(store: Arc<dyn Store>) {
    let world = World::new(store);
    bring(&world, "anna", tokens("1"), 1).await.unwrap();
    bring(&world, "bert", tokens("2"), 1).await.unwrap();
    let revocation = leave_and_claim(&world, "anna", 2).await;
    // A refresh returned the same access token for another Item.
    let mut next = tokens("3");
    next.access_token = tokens("1").access_token;
    let (_, version) = world.0.tokens(&item("bert")).await.unwrap().unwrap();
    assert!(world.0.save_tokens(&item("bert"), version, &next).await.unwrap());
    assert_eq!(may_revoke(&world, &revocation, 3, false).await, RevocationDecision::InUse);
    assert!(
        world.0.claim_revocations(at(90), at(91), 9).await.unwrap().is_empty(),
        "it no longer exists"
    );
    // If another worker claimed it meanwhile, that worker is responsible.
    let revocation = leave_and_claim(&world, "bert", 4).await;
    let again = world.0.claim_revocations(at(6), at(7), 9).await.unwrap().remove(0);
    assert_eq!(may_revoke(&world, &revocation, 6, false).await, RevocationDecision::Gone);
    assert_eq!(may_revoke(&world, &again, 6, false).await, RevocationDecision::Yes);
}

/// At a partner where a revocation ends the user's whole grant, nothing is revoked while the user
/// has an Item with tokens.
pub(super) async fn a_revocation_that_ends_the_grant_waits_for_no_item(store: Arc<dyn Store>) {
    let world = World::new(store);
    bring(&world, "anna", tokens("1"), 1).await.unwrap();
    bring(&world, "anna", tokens("2"), 2).await.unwrap();
    let old = world.0.claim_revocations(at(2), at(3), 9).await.unwrap().remove(0);
    assert_eq!(old.tokens, tokens("1"), "the pair that was replaced");
    assert_eq!(old.user_id.as_str(), "anna");
    assert_eq!(may_revoke(&world, &old, 2, true).await, RevocationDecision::InUse);
    // When the Item is removed, its present pair ends the grant; a new link waits for that.
    let last = leave_and_claim(&world, "anna", 4).await;
    assert_eq!(may_revoke(&world, &last, 4, true).await, RevocationDecision::Yes);
    let linked = bring(&world, "anna", tokens("3"), 4).await;
    assert_eq!(
        linked,
        Err(StoreErrorKind::RevocationUnderWay),
        "the revocation would end the new pair"
    );
    assert_eq!(bring(&world, "bert", tokens("4"), 4).await, Ok(()), "another user is not affected");
    world.0.settle_revocation(&last, Some(at(30))).await.unwrap();
    assert_eq!(bring(&world, "anna", tokens("3"), 5).await, Ok(()));
    let again = world.0.claim_revocations(at(30), at(31), 9).await.unwrap().remove(0);
    assert_eq!(may_revoke(&world, &again, 30, true).await, RevocationDecision::InUse);
}

/// A refreshed pair that lost against a new authorization, or against the removal of the Item, is
/// revoked. One that lost against another refresh belongs to the same family.
pub(super) async fn a_refreshed_pair_that_lost_is_revoked(store: Arc<dyn Store>) {
    let world = World::new(store);
    let lose = async |user: &str, version: u64, name: &str| {
        let place = (item(user), bank(), UserId::new(user).unwrap());
        let lost = LostTokens::new(place, version, tokens(name), at(3));
        world.0.revoke_lost(&lost).await.unwrap()
    };
    let revoked = async || {
        let claimed = world.0.claim_revocations(at(9), at(10), 9).await.unwrap();
        let mut names = Vec::new();
        for revocation in claimed {
            names.push(revocation.tokens.access_token.expose().to_owned());
            world.0.settle_revocation(&revocation, None).await.unwrap();
        }
        names.sort();
        names
    };
    bring(&world, "anna", tokens("1"), 1).await.unwrap();
    let (_, first) = world.0.tokens(&item("anna")).await.unwrap().unwrap();
    assert!(world.0.save_tokens(&item("anna"), first, &tokens("2")).await.unwrap());
    assert!(!lose("anna", first, "sibling").await, "another refresh came first");
    assert!(revoked().await.is_empty());
    bring(&world, "anna", tokens("3"), 2).await.unwrap();
    assert!(lose("anna", first, "late").await, "a new authorization came first");
    assert_eq!(revoked().await, ["access-2", "access-late"]);
    let (_, present) = world.0.tokens(&item("anna")).await.unwrap().unwrap();
    world.0.unlink(&item("anna"), Some(&app("app")), at(3)).await.unwrap();
    assert!(lose("anna", present, "later").await, "the Item was removed");
    assert_eq!(revoked().await, ["access-3", "access-later"]);
}
