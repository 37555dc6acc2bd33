//! Tickets.

use super::world::*;
use crate::store::{
    ApplicationUser, Destination, NewHolder, NewLink, NewPublicToken, PublicGrant, Store, Ticket,
    TicketDigest, TicketKind,
};
use px_types::{PublicToken, UserId};
use std::sync::Arc;
use zeroize::Zeroizing;

fn name(token: &str) -> TicketDigest {
    TicketDigest(digest(token).0)
}

fn ticket(token: &str, kind: TicketKind, payload: &str, end: i64) -> Ticket {
    Ticket::new(name(token), kind, Zeroizing::new(payload.as_bytes().to_vec()), at(end))
}

fn says(ticket: Option<Ticket>) -> Option<String> {
    ticket.map(|ticket| String::from_utf8(ticket.payload.to_vec()).unwrap())
}

pub(super) async fn a_ticket_works_once_and_for_a_time(store: Arc<dyn Store>) {
    use TicketKind::{Link, Session};
    store.put_ticket(&ticket("t", Link, "for anna", 30)).await.unwrap();
    let peek = async |kind, minute| says(store.ticket(&name("t"), kind, at(minute)).await.unwrap());
    let take =
        async |kind, minute| says(store.take_ticket(&name("t"), kind, at(minute)).await.unwrap());
    assert_eq!(peek(Link, 0).await.as_deref(), Some("for anna"));
    assert_eq!(peek(Link, 29).await.as_deref(), Some("for anna"), "reading does not take it");
    assert_eq!(peek(Link, 30).await, None, "it has expired");
    assert_eq!(take(Link, 30).await, None);
    assert_eq!(peek(Session, 0).await, None, "another kind");
    assert_eq!(take(Session, 0).await, None);
    let stored = store.ticket(&name("t"), Link, at(0)).await.unwrap().unwrap();
    assert_eq!((stored.kind, stored.expires_at), (Link, at(30)));
    assert_eq!(take(Link, 1).await.as_deref(), Some("for anna"));
    assert_eq!(take(Link, 1).await, None);
    assert_eq!(peek(Link, 1).await, None);

    // It replaces one of the same token.
    store.put_ticket(&ticket("t", Session, "one", 30)).await.unwrap();
    store.put_ticket(&ticket("t", Session, "two", 40)).await.unwrap();
    assert_eq!(peek(Session, 35).await.as_deref(), Some("two"));
}

pub(super) async fn of_two_who_take_a_ticket_one_gets_it(store: Arc<dyn Store>) {
    for round in 0..20 {
        let token = format!("t-{round}");
        store.put_ticket(&ticket(&token, TicketKind::Link, "x", 30)).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (store, token) = (Arc::clone(&store), token.clone());
            tasks.spawn(async move {
                store.take_ticket(&name(&token), TicketKind::Link, at(0)).await.unwrap().is_some()
            });
        }
        let got = tasks.join_all().await.into_iter().filter(|got| *got).count();
        assert_eq!(got, 1, "round {round}");
    }
}

pub(super) async fn old_tickets_are_cleared_away(store: Arc<dyn Store>) {
    for number in 0..5 {
        let token = format!("t-{number}");
        store.put_ticket(&ticket(&token, TicketKind::Link, "x", number)).await.unwrap();
    }
    assert_eq!(store.purge_tickets(at(2), 2).await.unwrap(), 2);
    assert_eq!(store.purge_tickets(at(2), 2).await.unwrap(), 1);
    assert_eq!(store.purge_tickets(at(2), 2).await.unwrap(), 0);
    for number in 0..5 {
        let found = store.ticket(&name(&format!("t-{number}")), TicketKind::Link, at(-1)).await;
        assert_eq!(found.unwrap().is_some(), number > 2, "{number}");
    }
}

fn public(token: &str, end: i64) -> NewPublicToken {
    NewPublicToken::new(PublicToken::new(token), name(token), at(end))
}

pub(super) async fn a_public_token_is_exchanged_by_its_application_once(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let user = (bank(), UserId::new("anna").unwrap());
    let holder = NewHolder::Application(connection("second"));
    let mut new = NewLink::new(user, item("anna"), None, holder, None, at(0));
    new.public_token = Some(public("public-1", 30));
    world.connect(new).await;
    let stored =
        world.0.ticket(&name("public-1"), TicketKind::Public, at(0)).await.unwrap().unwrap();
    let grant: PublicGrant = serde_json::from_slice(&stored.payload).unwrap();
    assert_eq!(grant, PublicGrant::new(item("anna"), app("second")));

    let exchange = async |token: &str, by: &str, access: &str, minute| {
        world.0.exchange(&name(token), &app(by), &digest(access), at(minute)).await.unwrap()
    };
    assert_eq!(exchange("public-1", "app", "x", 1).await, None, "the token of another application");
    assert_eq!(exchange("public-1", "second", "x", 30).await, None, "too late");
    assert_eq!(exchange("another", "second", "x", 1).await, None);
    assert_eq!(world.0.access(&digest("x")).await.unwrap(), None);
    assert_eq!(exchange("public-1", "second", "y", 1).await, Some(item("anna")));
    let access = world.0.access(&digest("y")).await.unwrap().unwrap();
    assert_eq!(access.application_id, Some(app("second")));
    assert_eq!(exchange("public-1", "second", "z", 1).await, None, "it was redeemed");
    assert!(world.0.access(&digest("y")).await.unwrap().is_some());

    // An application that was disconnected gets no access.
    let user = (bank(), UserId::new("anna").unwrap());
    let holder = NewHolder::Application(connection("second"));
    let mut new = NewLink::new(user, item("anna"), None, holder, None, at(0));
    new.public_token = Some(public("public-2", 30));
    world.connect(new).await;
    assert!(world.0.access(&digest("y")).await.unwrap().is_some(), "a join does not end tokens");
    world.0.unlink(&item("anna"), Some(&app("second")), at(1)).await.unwrap();
    assert_eq!(exchange("public-2", "second", "z", 1).await, None);
    assert_eq!(world.0.access(&digest("z")).await.unwrap(), None);
}

pub(super) async fn a_public_token_is_sent_to_its_application(store: Arc<dyn Store>) {
    let world = World::new(store);
    world.link("anna", connection("app"), 0).await;
    let user = (bank(), UserId::new("anna").unwrap());
    let reference = ApplicationUser::by_partner(Some("anna-at-the-application".to_owned()));
    for (name, sends_webhook) in [("notified", true), ("silent", false)] {
        let holder = NewHolder::Application(connection(name));
        let mut new = NewLink::new(user.clone(), item("anna"), None, holder, None, at(0));
        let mut token = public(&format!("public-{name}"), 30);
        token.tell = sends_webhook.then(|| reference.clone());
        new.public_token = Some(token);
        world.connect(new).await;
    }
    let webhooks = world.webhooks(0).await;
    assert_eq!(receivers(&webhooks), ["notified ITEM_ADD_RESULT"]);
    assert_eq!(webhooks[0].to, Destination::Url("https://notified.example/hook".to_owned()));
    let body: serde_json::Value = serde_json::from_str(&webhooks[0].body).unwrap();
    assert_eq!(body["public_token"], "public-notified");
    assert_eq!(body["item_id"], "anna");
    assert_eq!(body["foreign_id"], "anna-at-the-application");
    assert_eq!(body.get("client_user_id"), None);
    // It is the same when it is claimed again.
    assert_eq!(world.webhooks(1).await[0].body, webhooks[0].body);
}
