//! The portal: customers see and end their own connections, and ended connections stay ended, whatever the
//! network does.

use crate::plaid_world::{Fate, World, now, sleep};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use px_client::portal::{
    AccountsSeen, AppProducts, AppScopes, AppState, Disconnected, Disconnection, MemoryPortalStore,
    MintReason, MintToken, NoticeKind, Portal, PortalErrorKind, PortalStore, RemainingGrants,
    RetrySummary,
};
use px_types::{
    AccessToken, AccountId, ApplicationId, ItemAccessToken, NotificationId, TargetApplicationToken,
    Timestamp, UserId,
    model::{
        application::ConnectedApplication,
        last_data_access_times::LastDataAccessTimes,
        scopes::{AccountAccess, ProductAccess, Scopes},
    },
    partner::{ApplicationLinkEvent, NewApplicationLinkNotification},
};
use std::{
    error::Error as StdError,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const UNLINK: &str = "/item/application/unlink";

/// The bank's OAuth server. Every user except `nobody` shares, until the flag is set.
#[derive(Clone, Debug, Default)]
struct Tokens(Arc<AtomicBool>);

#[async_trait]
impl MintToken for Tokens {
    async fn mint(
        &self,
        user: &UserId,
        _: MintReason,
    ) -> Result<Option<AccessToken>, Box<dyn StdError + Send + Sync>> {
        let shares = user.as_str() != "nobody" && !self.0.load(Ordering::SeqCst);
        Ok(shares.then(|| AccessToken::new(format!("oauth-{user}"))))
    }

    async fn connected(&self, _: &UserId) -> Result<(), Box<dyn StdError + Send + Sync>> {
        Ok(())
    }

    async fn end(
        &self,
        _: &UserId,
        _: DateTime<Utc>,
    ) -> Result<RemainingGrants, Box<dyn StdError + Send + Sync>> {
        Ok(RemainingGrants::None)
    }
}

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

fn app(name: &str) -> ApplicationId {
    name.parse().unwrap()
}

/// Returns a portal of a bank that has just started, with its stored records.
fn portal(world: &World, store: &MemoryPortalStore) -> Portal {
    portal_with(world, store, &Tokens::default())
}

fn portal_with(world: &World, store: &MemoryPortalStore, tokens: &Tokens) -> Portal {
    Portal::builder(world.client(), Arc::new(store.clone()), "Bank")
        .tokens(Arc::new(tokens.clone()))
        .build()
}

/// Ann has connected a budget and a tax application.
fn ann() -> (World, MemoryPortalStore, Portal, UserId) {
    let (world, store, ann) = (World::new(), MemoryPortalStore::default(), user("ann"));
    world.links(&ann, &app("budget"), 1);
    world.links(&ann, &app("tax"), 2);
    let portal = portal(&world, &store);
    (world, store, portal, ann)
}

/// Makes Plaid unreachable for a path.
fn unreachable(world: &World, path: &'static str) {
    world.network(move |_, requested| match requested == path {
        true => Fate::NotConnected,
        false => Fate::Arrives,
    });
}

async fn names(portal: &Portal, user: &UserId) -> Vec<String> {
    let page = portal.applications(user).await.unwrap();
    page.list.into_iter().map(|one| one.application_id.to_string()).collect()
}

fn done(count: usize) -> RetrySummary {
    let mut worked = RetrySummary::default();
    worked.done = count;
    worked
}

fn at_plaid(world: &World, user: &UserId) -> Vec<String> {
    let all = world.with(|state| state.items.get(user).cloned()).unwrap_or_default();
    all.applications.iter().map(|one| one.application_id.to_string()).collect()
}

// ---- the page ---------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn a_page_shows_the_newest_first_and_one_import_is_enough() {
    let (world, _, portal, ann) = ann();
    let mut read = LastDataAccessTimes::new(app("tax"));
    read.transactions = Some("2024-05-06T11:30:00Z".parse().unwrap());
    world.with(|state| state.items.get_mut(&ann).unwrap().last_access.push(read));
    let page = portal.applications(&ann).await.unwrap();
    let ids: Vec<_> = page.list.iter().map(|one| one.application_id.as_str()).collect();
    assert!(page.current);
    assert_eq!(ids, ["tax", "budget"]);
    assert_eq!(page.list[0].last_access_at(), Some("2024-05-06T11:30:00Z".parse().unwrap()));
    assert_eq!(page.list[1].last_access, Some(vec![]));
    assert_eq!(page.list[1].state, AppState::Connected);
    let (one, other) = tokio::join!(names(&portal, &ann), names(&portal, &ann));
    assert_eq!(one, other);
    assert_eq!(world.with(|state| state.imports), 1);
}

#[tokio::test(start_paused = true)]
async fn a_user_who_shares_nothing_makes_no_item() {
    let (world, _, portal, _) = ann();
    let nobody = user("nobody");
    let page = portal.applications(&nobody).await.unwrap();
    assert!(page.list.is_empty() && page.current);
    let entries = portal.activity(&nobody, None, 10).await.unwrap().entries;
    assert!(entries.is_empty());
    let refused = portal.import(&nobody).await.unwrap_err();
    assert_eq!(refused.kind(), PortalErrorKind::NotShared);
    assert_eq!(world.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_plaid_the_page_shows_what_was_known_and_says_so() {
    let (world, store, portal, ann) = ann();
    assert_eq!(names(&portal, &ann).await, ["tax", "budget"]);
    world.network(|_, _| Fate::NotConnected);
    let restarted = self::portal(&world, &store);
    let page = restarted.applications(&ann).await.unwrap();
    assert!(!page.current);
    assert_eq!(page.list.len(), 2);
    assert_eq!(page.list[0].last_access, None, "not known just now");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_plaid_forgot_is_replaced() {
    let (world, store, portal, ann) = ann();
    names(&portal, &ann).await;
    world.with(|state| state.tokens.clear());
    assert_eq!(names(&portal, &ann).await, ["tax", "budget"]);
    assert_eq!(world.with(|state| state.imports), 2);
    let stored = store.token(&ann).await.unwrap().unwrap();
    assert_eq!(stored, ItemAccessToken::new("access-ann-2"));
}

#[tokio::test(start_paused = true)]
async fn the_log_is_read_page_by_page_and_names_applications_that_are_gone() {
    let (_, _, portal, ann) = ann();
    names(&portal, &ann).await;
    let first = portal.activity(&ann, None, 999).await.unwrap();
    let second = portal.activity(&ann, first.next.as_deref(), 999).await.unwrap();
    let all: Vec<_> = first.entries.iter().chain(&second.entries).collect();
    let ids: Vec<_> = all.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids, ["ann-0", "ann-1", "ann-2", "ann-3", "ann-4"]);
    assert_eq!(second.next, None);
    assert_eq!(all[0].application_name.as_deref(), Some("Registered app-0"));
    assert!(portal.activity(&ann, Some("forged"), 10).await.is_err());
}

// ---- what an application may see --------------------------------------------------------------

fn account(name: &str) -> AccountId {
    AccountId::new(name).unwrap()
}

/// Returns scopes for only this one of two accounts, and for transactions.
fn only(name: &str) -> AppScopes {
    AppScopes {
        accounts: ["a1", "a2"].into_iter().map(|one| (account(one), one == name)).collect(),
        products: AppProducts {
            statements: false,
            identity: false,
            auth: false,
            transactions: true,
        },
        new_accounts: false,
    }
}

/// Returns the same scopes as they are sent: every member is written.
fn only_as_sent(name: &str, all: &[&str]) -> Scopes {
    let mut scopes = Scopes::new();
    let access = |one: &&str| {
        let mut access = AccountAccess::new(account(one));
        access.authorized = Some(*one == name);
        access
    };
    scopes.accounts = all.iter().map(access).collect();
    let mut products = ProductAccess::new();
    (products.statements, products.identity) = (Some(false), Some(false));
    (products.auth, products.transactions) = (Some(false), Some(true));
    scopes.product_access = Some(products);
    scopes.new_accounts = Some(false);
    scopes
}

#[tokio::test(start_paused = true)]
async fn scopes_are_set_at_plaid_and_shown_from_then_on() {
    let (world, store, portal, ann) = ann();
    portal.set_scopes(&ann, &app("tax"), only("a1")).await.unwrap();
    let there = world.with(|state| state.items[&ann].applications[1].scopes.clone());
    assert_eq!(there, Some(only_as_sent("a1", &["a1", "a2"])));
    world.network(|_, _| Fate::NotConnected);
    let page = self::portal(&world, &store).applications(&ann).await.unwrap();
    assert_eq!(page.list[0].accounts, AccountsSeen::Only(vec![account("a1")]));
    assert_eq!(page.list[0].new_accounts, Some(false));
    assert_eq!(page.list[1].accounts, AccountsSeen::All);
}

/// An account that is not listed is withdrawn, also where Plaid would keep it.
#[tokio::test(start_paused = true)]
async fn a_statement_is_complete() {
    let (world, _, portal, ann) = ann();
    world.with(|state| {
        let before = only_as_sent("old", &["a2", "old"]);
        state.items.get_mut(&ann).unwrap().applications[1].scopes = Some(before);
    });
    names(&portal, &ann).await;
    portal.set_scopes(&ann, &app("tax"), only("a1")).await.unwrap();
    let there = world.with(|state| state.items[&ann].applications[1].scopes.clone()).unwrap();
    let mut accounts = there.accounts.clone();
    accounts.sort_by(|a, b| a.unique_id.cmp(&b.unique_id));
    assert_eq!(accounts, only_as_sent("a1", &["a1", "a2", "old"]).accounts);
    let page = portal.applications(&ann).await.unwrap();
    assert_eq!(page.list[0].accounts, AccountsSeen::Only(vec![account("a1")]));
    // A list without accounts cannot be distinguished from a missing one.
    let nothing = AppScopes { accounts: [].into(), ..only("a1") };
    let refused = portal.set_scopes(&ann, &app("tax"), nothing).await.unwrap_err();
    assert_eq!(refused.kind(), PortalErrorKind::NoAccount);
}

#[tokio::test(start_paused = true)]
async fn scopes_that_plaid_does_not_take_change_nothing() {
    let (world, _, portal, ann) = ann();
    names(&portal, &ann).await;
    unreachable(&world, "/item/application/scopes/update");
    portal.set_scopes(&ann, &app("tax"), only("a1")).await.unwrap_err();
    let page = portal.applications(&ann).await.unwrap();
    assert_eq!(page.list[0].accounts, AccountsSeen::All);
}

// ---- disconnecting ----------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn one_is_disconnected_and_the_other_stays() {
    let (world, _, portal, ann) = ann();
    assert_eq!(portal.disconnect(&ann, &app("tax")).await.unwrap(), Disconnected::Done);
    assert_eq!(at_plaid(&world, &ann), ["budget"]);
    assert_eq!(names(&portal, &ann).await, ["budget"]);
}

#[tokio::test(start_paused = true)]
async fn two_at_once_are_one() {
    let (world, _, portal, ann) = ann();
    let tax = app("tax");
    let (one, other) = tokio::join!(portal.disconnect(&ann, &tax), portal.disconnect(&ann, &tax));
    assert_eq!((one.unwrap(), other.unwrap()), (Disconnected::Done, Disconnected::Done));
    assert_eq!(world.with(|state| state.unlinks), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_ends_or_changes_what_is_another_users() {
    let (world, _, portal, ann) = ann();
    let bob = user("bob");
    world.links(&bob, &app("bobs"), 3);
    names(&portal, &ann).await;
    names(&portal, &bob).await;
    let (bobs, tax) = (app("bobs"), app("tax"));
    let unknown = PortalErrorKind::UnknownApplication;
    assert_eq!(portal.disconnect(&bob, &tax).await.unwrap_err().kind(), unknown);
    assert_eq!(portal.set_scopes(&ann, &bobs, only("a")).await.unwrap_err().kind(), unknown);
    assert_eq!(world.with(|state| state.unlinks), 0);
    assert_eq!(at_plaid(&world, &ann), ["budget", "tax"]);
    assert_eq!(names(&portal, &bob).await, ["bobs"]);
}

#[tokio::test(start_paused = true)]
async fn while_plaid_is_away_the_wish_waits_and_outlives_the_program() {
    let (world, store, portal, ann) = ann();
    names(&portal, &ann).await;
    unreachable(&world, UNLINK);
    assert_eq!(portal.disconnect(&ann, &app("tax")).await.unwrap(), Disconnected::Underway);
    let page = portal.applications(&ann).await.unwrap();
    assert!(matches!(page.list[0].state, AppState::Disconnecting { .. }));
    let changed = portal.set_scopes(&ann, &app("tax"), only("a1")).await.unwrap_err();
    assert_eq!(changed.kind(), PortalErrorKind::Disconnecting);
    drop(portal);

    world.network(|_, _| Fate::Arrives);
    let restarted = self::portal(&world, &store);
    assert_eq!(restarted.retry_due(now()).await.unwrap(), RetrySummary::default(), "not due yet");
    let runs = tokio::spawn({
        let portal = restarted.clone();
        async move { portal.run().await }
    });
    sleep(Duration::from_secs(60)).await;
    runs.abort();
    assert_eq!(at_plaid(&world, &ann), ["budget"]);
    assert_eq!(names(&restarted, &ann).await, ["budget"]);
    let left: Vec<Disconnection> = store.disconnections(&ann).await.unwrap();
    assert!(left.iter().all(|one| !one.is_pending()));
}

#[tokio::test(start_paused = true)]
async fn an_unlink_with_a_lost_response_is_done() {
    let (world, _, portal, ann) = ann();
    names(&portal, &ann).await;
    world.network(|_, path| match path == UNLINK {
        true => Fate::AnswerIsLost,
        false => Fate::Arrives,
    });
    let first = portal.disconnect(&ann, &app("tax")).await.unwrap();
    world.network(|_, _| Fate::Arrives);
    let later = now() + chrono::TimeDelta::hours(1);
    portal.retry_due(later).await.unwrap();
    let second = portal.disconnect(&ann, &app("tax")).await.unwrap();
    assert_eq!(second, Disconnected::Done, "after {first:?}");
    assert_eq!(at_plaid(&world, &ann), ["budget"]);
}

#[tokio::test(start_paused = true)]
async fn the_last_one_takes_the_item_with_it() {
    let (world, store, portal, ann) = ann();
    portal.disconnect(&ann, &app("tax")).await.unwrap();
    portal.disconnect(&ann, &app("budget")).await.unwrap();
    assert!(world.with(|state| state.items.is_empty()));
    // A second click, and a store with a token of an Item that no longer exists.
    store.save_token(&ann, &ItemAccessToken::new("of an item that is gone")).await.unwrap();
    assert_eq!(portal.disconnect(&ann, &app("budget")).await.unwrap(), Disconnected::Done);
}

/// The stored token has ended, because another process has imported again. The application can still read.
#[tokio::test(start_paused = true)]
async fn a_dead_token_is_no_proof_that_the_application_is_gone() {
    let (world, store, portal, ann) = ann();
    names(&portal, &ann).await;
    world.with(|state| state.tokens.clear());
    assert_eq!(portal.disconnect(&ann, &app("tax")).await.unwrap(), Disconnected::Done);
    assert_eq!(at_plaid(&world, &ann), ["budget"]);
    assert_eq!(store.token(&ann).await.unwrap(), Some(ItemAccessToken::new("access-ann-2")));

    // The same, while no new token is available.
    world.with(|state| state.tokens.clear());
    unreachable(&world, "/item/import");
    assert_eq!(portal.disconnect(&ann, &app("budget")).await.unwrap(), Disconnected::Underway);
    world.network(|_, _| Fate::Arrives);
    let later = now() + chrono::TimeDelta::hours(1);
    assert_eq!(portal.retry_due(later).await.unwrap().done, 1);
    assert_eq!(at_plaid(&world, &ann), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_item_that_is_gone_ends_a_disconnection_and_none_is_left_in_its_place() {
    let (world, store, portal, ann) = ann();
    names(&portal, &ann).await;
    world.with(|state| {
        state.items.clear();
        state.tokens.clear();
    });
    assert_eq!(portal.disconnect(&ann, &app("tax")).await.unwrap(), Disconnected::Done);
    assert!(world.with(|state| state.items.is_empty()));
    assert_eq!(store.token(&ann).await.unwrap(), None);
}

/// If the bank states that the user shares nothing, nothing can be read through it.
#[tokio::test(start_paused = true)]
async fn a_user_who_shares_nothing_any_more_waits_for_no_disconnection() {
    let (world, store, _, ann) = ann();
    let tokens = Tokens::default();
    let portal = portal_with(&world, &store, &tokens);
    names(&portal, &ann).await;
    tokens.0.store(true, Ordering::SeqCst);
    unreachable(&world, UNLINK);
    assert_eq!(portal.disconnect(&ann, &app("tax")).await.unwrap(), Disconnected::Underway);
    world.network(|_, _| Fate::Arrives);
    world.with(|state| state.tokens.clear());
    let later = now() + chrono::TimeDelta::hours(1);
    assert_eq!(portal.retry_due(later).await.unwrap(), done(1));
    // The next one has no token from the start.
    assert_eq!(portal.disconnect(&ann, &app("budget")).await.unwrap(), Disconnected::Done);
    assert_eq!(names(&portal, &ann).await, [""; 0]);
    assert_eq!(world.with(|state| state.imports), 1);
}

/// A bank that makes no tokens does not know who shares, so the disconnection stays pending.
#[tokio::test(start_paused = true)]
async fn without_a_way_to_ask_nothing_is_called_done() {
    let (world, store, portal, ann) = ann();
    names(&portal, &ann).await;
    let simple = Portal::builder(world.client(), Arc::new(store.clone()), "Bank").build();
    world.with(|state| state.tokens.clear());
    assert_eq!(simple.disconnect(&ann, &app("tax")).await.unwrap(), Disconnected::Underway);
    let fresh = ItemAccessToken::new("fresh");
    world.with(|state| state.tokens.insert("fresh".into(), ann.clone()));
    store.save_token(&ann, &fresh).await.unwrap();
    let later = now() + chrono::TimeDelta::hours(1);
    assert_eq!(simple.retry_due(later).await.unwrap(), done(1));
    assert_eq!(at_plaid(&world, &ann), ["budget"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_disconnected_can_be_linked_again_and_ended_again() {
    let (world, _, portal, ann) = ann();
    portal.disconnect(&ann, &app("tax")).await.unwrap();
    world.links(&ann, &app("tax"), 40);
    let page = portal.applications(&ann).await.unwrap();
    assert_eq!(page.list[0].application_id, app("tax"));
    assert_eq!(page.list[0].state, AppState::Connected);
    portal.disconnect(&ann, &app("tax")).await.unwrap();
    assert_eq!(at_plaid(&world, &ann), ["budget"]);
    assert_eq!(world.with(|state| state.unlinks), 2);
}

// ---- connecting -------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn connecting_asks_for_the_chosen_application_with_the_users_own_item() {
    let (world, _, portal, ann) = ann();
    let target = TargetApplicationToken::new("target-1");
    let link = portal.connect(&ann, &target, Some("ann-at-budget")).await.unwrap();
    assert_eq!(link.expires_at, "2024-05-06T12:30:00Z".parse().unwrap());
    let requested = world.with(|state| state.links[0].clone());
    let add = requested.cross_app_item_add.unwrap();
    assert_eq!(add.target_application_token, target);
    assert_eq!(add.foreign_id.as_deref(), Some("ann-at-budget"));
    assert_eq!(requested.access_token, Some(ItemAccessToken::new("access-ann-1")));
    assert_eq!(
        (requested.client_name.as_str(), requested.user.client_user_id.as_str()),
        ("Bank", "ann")
    );
    let refused = portal.connect(&user("nobody"), &target, None).await.unwrap_err();
    assert_eq!(refused.kind(), PortalErrorKind::NotShared);
}

#[tokio::test(start_paused = true)]
async fn giving_up_leaves_no_item_that_nobody_uses() {
    let (world, store, portal, ann) = ann();
    let cat = user("cat");
    let target = TargetApplicationToken::new("target-1");
    portal.connect(&cat, &target, None).await.unwrap();
    assert!(portal.cancel_connect(&cat).await.unwrap());
    assert!(world.with(|state| !state.items.contains_key(&cat)));
    assert_eq!(store.token(&cat).await.unwrap(), None);
    assert!(!portal.cancel_connect(&cat).await.unwrap(), "there is no Item left");
    portal.connect(&ann, &target, None).await.unwrap();
    assert!(!portal.cancel_connect(&ann).await.unwrap(), "others use it");
    assert_eq!(at_plaid(&world, &ann), ["budget", "tax"]);
}

#[tokio::test(start_paused = true)]
async fn the_token_is_kept_until_plaid_has_said_that_the_item_is_gone() {
    let (world, store, portal, _) = ann();
    let cat = user("cat");
    portal.connect(&cat, &TargetApplicationToken::new("target-1"), None).await.unwrap();
    let token = store.token(&cat).await.unwrap();
    for path in ["/item/application/list", "/item/remove"] {
        world.network(move |_, requested| match requested == path {
            true => Fate::NotConnected,
            false => Fate::Arrives,
        });
        portal.cancel_connect(&cat).await.unwrap_err();
        assert_eq!(store.token(&cat).await.unwrap(), token, "{path} got no response");
        assert!(world.with(|state| state.items.contains_key(&cat)));
    }
}

// ---- notices ----------------------------------------------------------------------------------

fn notification(id: &str, user: &UserId, application: &str) -> NewApplicationLinkNotification {
    let at: Timestamp = "2024-05-06T11:59:00Z".parse().unwrap();
    let application = ConnectedApplication::new(app(application), "A\nname", at);
    let id: NotificationId = id.parse().unwrap();
    NewApplicationLinkNotification::new(id, user.clone(), application, at)
}

#[tokio::test(start_paused = true)]
async fn a_notification_is_one_notice_however_often_it_comes() {
    let (world, _, portal, ann) = ann();
    world.network(|_, _| Fate::NotConnected);
    let mut changes = portal.changes(&ann);
    assert!(portal.application_linked(&notification("n1", &ann, "new")).await.unwrap().is_new);
    changes.next().await;
    assert!(!portal.application_linked(&notification("n1", &ann, "new")).await.unwrap().is_new);
    let silent = tokio::time::timeout(Duration::from_secs(5), changes.next()).await;
    assert!(silent.is_err(), "no second change");
    let notices = portal.notices(&ann, 10).await.unwrap();
    assert_eq!(notices.len(), 1);
    assert_eq!((notices[0].kind, notices[0].read), (NoticeKind::Linked, false));
    assert_eq!(notices[0].name(), "A name");
    // The bank's own records contain it from then on.
    assert_eq!(names(&portal, &ann).await, ["new"]);
    portal.mark_notices_read(&ann).await.unwrap();
    assert!(portal.notices(&ann, 10).await.unwrap()[0].read);
    assert!(portal.notices(&user("bob"), 10).await.unwrap().is_empty());
}

/// The notification arrives a minute late, and meanwhile the user has disconnected.
#[tokio::test(start_paused = true)]
async fn a_late_notification_brings_back_nothing_that_was_ended() {
    let (world, store, portal, ann) = ann();
    portal.disconnect(&ann, &app("tax")).await.unwrap();
    world.network(|_, _| Fate::NotConnected);
    let noted = portal.application_linked(&notification("n1", &ann, "tax")).await.unwrap();
    assert_eq!((noted.is_new, noted.is_latest), (true, false));
    assert_eq!(names(&portal, &ann).await, ["budget"]);
    // An unlink at Plaid that arrives before its link.
    let mut unlinked = notification("n3", &ann, "game");
    unlinked.event = Some(ApplicationLinkEvent::Unlinked);
    unlinked.occurred_at = now().into();
    assert!(portal.application_linked(&unlinked).await.unwrap().is_latest);
    assert!(!portal.application_linked(&notification("n2", &ann, "game")).await.unwrap().is_latest);
    assert_eq!(names(&portal, &ann).await, ["budget"]);
    assert_eq!(store.notices(&ann, 10).await.unwrap().len(), 3, "the user gets a notice anyway");
    // Once linked again, it is listed again.
    let mut again = notification("n4", &ann, "tax");
    again.occurred_at = (now() + chrono::TimeDelta::minutes(1)).into();
    assert!(portal.application_linked(&again).await.unwrap().is_latest);
    assert_eq!(names(&portal, &ann).await.len(), 2);
}
