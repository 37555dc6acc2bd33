//! A partner's view of an Item: connected applications, their scopes, disconnections, the activity
//! log, and the owners of tokens.

use super::world::{ALL, World, account_id, bank, date, foreign, row};
use chrono::TimeDelta;
use px_client::Window;
use px_core::Clock as _;
use px_items::{
    applications::FixedApplications,
    items::{
        Items, ItemsError, ItemsErrorKind, LinkedApplication, TokenOwner, TransactionsRequest,
    },
    store::{ApplicationUser, Destination, Unlinked},
};
use px_types::{
    ApplicationId, Bounded, InstitutionId, ItemAccessToken, ItemId, UserId,
    model::{application_details::Application, product::Product, scopes::Scopes},
    partner::NewApplicationLinkNotification,
    plaid::{AccountEvent, AccountsNotification, AccountsNotificationEntry},
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

fn app(name: &str) -> ApplicationId {
    ApplicationId::new(name).unwrap()
}

fn scopes(json: serde_json::Value) -> Scopes {
    px_types::decode(json.to_string().as_bytes()).unwrap()
}

async fn import(world: &World) -> ItemAccessToken {
    let user = UserId::new("user-1").unwrap();
    world.items.import(&bank(), &user, world.tokens("import")).await.unwrap().access_token
}

/// Creates a service that notifies partners.
fn with_notices(world: &World) -> Items {
    let mut registered = Application::new(app("second"), "Second, Inc.");
    registered.logo_url = Some("https://second.example/logo.png".to_owned());
    Items::builder(Arc::clone(&world.store))
        .clock(Arc::clone(&world.clock) as _)
        .applications(Arc::new(FixedApplications::new().with(registered)))
        .build()
}

/// Returns the queued notifications of partners, and settles them.
async fn notices(world: &World) -> Vec<NewApplicationLinkNotification> {
    let now = world.clock.now();
    let mut all = Vec::new();
    for webhook in world.store.claim_webhooks(now, now, 100).await.unwrap() {
        world.store.settle_webhook(&webhook, None).await.unwrap();
        if webhook.to == Destination::Partner(bank()) {
            all.push(px_types::decode(webhook.body.as_bytes()).unwrap());
        }
    }
    all
}

/// Makes every call that takes an access token. Returns the errors by name.
async fn every_call(items: &Items, token: &ItemAccessToken) -> Vec<(&'static str, ItemsError)> {
    let window = Window::new(date("2020-01-01"), date("2030-01-01")).unwrap();
    let request = TransactionsRequest::new(window);
    let mut refused = Vec::new();
    macro_rules! call {
        ($($name:ident($($argument:expr),*))+) => {$(
            let error = items.$name(token, $($argument),*).await.err();
            refused.push((stringify!($name), error.expect(stringify!($name))));
        )+};
    }
    call! {
        accounts() balances() identities() holdings() transactions(&request)
        transactions_sync(None, None) status() update_webhook(Some("https://new.example/"))
        item_of() item_for_partner() applications() unlink_application(&app("first"))
        update_scopes(&app("first"), &Scopes::new()) list_activity(None, None) rotate_access()
        unlink()
    }
    refused
}

fn notification(token: &ItemAccessToken) -> AccountsNotification {
    let entry = AccountsNotificationEntry::new(
        token.clone(),
        account_id("account-checking"),
        AccountEvent::Changed,
    );
    AccountsNotification::new(Bounded::try_from(vec![entry]).unwrap())
}

#[tokio::test]
async fn a_token_of_another_holder_is_answered_as_one_that_never_was() {
    let (world, linked) = World::complete().await;
    world.add(&linked.item_id, [row("t1", "account-checking", "2026-02-01", "1.00")]).await;
    let second = world.link("second", ALL).await;
    let partner = import(&world).await;
    let holder = |name: &str| TokenOwner::Application(app(name));
    let callers = [
        ("another application", holder("second"), &linked.access_token),
        ("the application, with its partner's token", holder("first"), &partner),
        (
            "the partner, with an application's token",
            TokenOwner::Partner(bank()),
            &linked.access_token,
        ),
        ("another partner", TokenOwner::Partner(InstitutionId::new("b-2").unwrap()), &partner),
        ("an application named as the bank", holder("bank"), &partner),
        (
            "a partner named as the application",
            TokenOwner::Partner("first".parse().unwrap()),
            &partner,
        ),
    ];
    let unknown = every_call(&world.items.by(holder("first")), &foreign()).await;
    for (who, caller, token) in callers {
        let items = world.items.by(caller);
        let refused = every_call(&items, token).await;
        for ((call, error), (_, unknown)) in refused.iter().zip(&unknown) {
            assert_eq!(error.to_plaid_error("r"), unknown.to_plaid_error("r"), "{who}: {call}");
            assert_eq!(error.kind(), ItemsErrorKind::InvalidAccessToken, "{who}: {call}");
        }
        if !matches!(who, "another partner") {
            continue;
        }
        let result = items.handle_accounts_notification(&bank(), &notification(token)).await;
        assert_eq!(result.unwrap_err().index(), Some(0), "{who}");
    }
    // The calls had no effect; each owner's own token still works.
    world.items.by(holder("first")).accounts(&linked.access_token).await.unwrap();
    world.items.by(holder("second")).accounts(&second.access_token).await.unwrap();
    let bank_items = world.items.by(TokenOwner::Partner(bank()));
    assert_eq!(bank_items.applications(&partner).await.unwrap().len(), 2);
    bank_items.handle_accounts_notification(&bank(), &notification(&partner)).await.unwrap();
    bank_items.item_for_partner(&partner).await.unwrap();
}

#[tokio::test]
async fn a_caller_links_for_nobody_else() {
    let world = World::new();
    let items = world.items.by(TokenOwner::Application(app("first")));
    let user = UserId::new("user-1").unwrap();
    let other = world.connection("second", ALL);
    let linked = items.link(&bank(), &user, world.tokens("a"), other).await;
    assert_eq!(linked.unwrap_err().kind(), ItemsErrorKind::InvalidField);
    let imported = items.import(&bank(), &user, world.tokens("a")).await;
    assert_eq!(imported.unwrap_err().kind(), ItemsErrorKind::InvalidAccessToken);
    assert_eq!(world.store.find(&bank(), &user).await.unwrap(), None);
}

#[tokio::test]
async fn a_partner_sees_who_is_connected_and_what_each_sees() {
    let (world, _) = World::complete().await;
    world.connect(world.connection_to("second", &["account-checking"])).await;
    let partner = import(&world).await;
    let all = with_notices(&world).applications(&partner).await.unwrap();
    let names: Vec<_> = all.iter().map(|one| one.application.name.as_str()).collect();
    assert_eq!(names, ["first", "Second, Inc."], "one that is not registered is shown by its id");
    assert_eq!(all[1].application.logo_url.as_deref(), Some("https://second.example/logo.png"));
    assert_eq!((all[0].accounts.len(), all[0].new_accounts), (6, true));
    assert_eq!(
        (all[1].accounts.as_slice(), all[1].new_accounts),
        (&[account_id("account-checking")][..], false)
    );
    assert!(all[1].products.contains(&Product::Investments));
    let scopes = all[1].application.scopes.as_ref().unwrap();
    let seen: Vec<_> = scopes.accounts.iter().filter(|one| one.authorized == Some(true)).collect();
    assert_eq!((scopes.accounts.len(), seen.len()), (6, 1));
    let (item, status) = world.items.item_for_partner(&partner).await.unwrap();
    assert_eq!(item.institution_id, Some(bank()));
    assert!(item.webhook.is_none() && item.products.is_empty() && status.transactions.is_some());
}

#[tokio::test]
async fn what_is_switched_off_is_gone_at_once() {
    let (world, linked) = World::complete().await;
    world.add(&linked.item_id, [row("t1", "account-checking", "2026-02-01", "1.00")]).await;
    let partner = import(&world).await;
    let (items, token) = (&world.items, &linked.access_token);
    let page = items.transactions_sync(token, None, None).await.unwrap().data;

    let off = scopes(serde_json::json!({"product_access": {"transactions": false, "auth": false}}));
    items.update_scopes(&partner, &app("first"), &off).await.unwrap();
    let error = items.transactions_sync(token, Some(&page.next_cursor), None).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::ConsentRequired);
    let shown = format!("{:?}", items.accounts(token).await.unwrap().data);
    assert!(!shown.contains("transfer_codes: Some"), "{shown}");

    let on = scopes(serde_json::json!({
        "product_access": {"transactions": true},
        "accounts": [
            {"unique_id": "account-checking", "authorized": true},
            {"unique_id": "account-investment", "authorized": true},
        ],
        "new_accounts": false,
    }));
    items.update_scopes(&partner, &app("first"), &on).await.unwrap();
    let error = items.transactions_sync(token, Some(&page.next_cursor), None).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::InvalidCursor, "other scopes: start over");
    let restarted = items.transactions_sync(token, None, None).await.unwrap().data;
    assert_eq!(restarted.added.len(), 1);
    let seen = items.accounts(token).await.unwrap().data;
    let seen: Vec<_> = seen.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(seen, ["account-checking", "account-investment"], "a list is complete");

    for (wrong, kind) in [
        (
            serde_json::json!({"accounts": [{"unique_id": "x", "authorized": true}]}),
            ItemsErrorKind::InvalidField,
        ),
        (serde_json::json!({"product_access": {"statements": true}}), ItemsErrorKind::InvalidField),
    ] {
        let error = items.update_scopes(&partner, &app("first"), &scopes(wrong)).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().starts_with("scopes."), "{error}");
    }
    let error = items.update_scopes(&partner, &app("other"), &off).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::NotConnected);
    assert_eq!(
        items.accounts(token).await.unwrap().data.len(),
        2,
        "what was refused changed nothing"
    );
}

#[tokio::test]
async fn unlink_that_leaves_a_cached_token_usable_for_a_single_call() {
    let (world, linked) = World::complete().await;
    world.link("second", ALL).await;
    let partner = import(&world).await;
    let ended = Arc::new(AtomicBool::new(false));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (items, token, ended) =
            (world.items.clone(), linked.access_token.clone(), Arc::clone(&ended));
        readers.spawn(async move {
            let mut read = 0_u32;
            loop {
                // Checked before the call: a call that begins after the end must be refused.
                let over = ended.load(Ordering::SeqCst);
                match items.accounts(&token).await {
                    Ok(_) if over => panic!("read after the application was unlinked"),
                    Ok(_) => read += 1,
                    Err(error) => {
                        assert_eq!(error.kind(), ItemsErrorKind::InvalidAccessToken);
                        return read;
                    }
                }
                tokio::task::yield_now().await;
            }
        });
    }
    while readers.len() < 8 || world.items.accounts(&linked.access_token).await.is_err() {
        tokio::task::yield_now().await;
    }
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let unlinked = world.items.unlink_application(&partner, &app("first")).await.unwrap();
    ended.store(true, Ordering::SeqCst);
    assert_eq!(unlinked, Unlinked::OthersStay);
    let reads = readers.join_all().await;
    assert!(reads.iter().sum::<u32>() > 0, "there was something to end");
}

#[tokio::test]
async fn two_unlinks_at_once() {
    let (world, _) = World::complete().await;
    let second = world.link("second", ALL).await;
    let partner = import(&world).await;
    let first = app("first");
    let (one, other) = tokio::join!(
        world.items.unlink_application(&partner, &first),
        world.items.unlink_application(&partner, &first),
    );
    let (done, refused) = if one.is_ok() { (one, other) } else { (other, one) };
    assert_eq!(done.unwrap(), Unlinked::OthersStay);
    assert_eq!(refused.unwrap_err().kind(), ItemsErrorKind::NotConnected);

    // The last one: the Item is removed, and the partner's token with it.
    let last = app("second");
    let (one, other) = tokio::join!(
        world.items.unlink_application(&partner, &last),
        world.items.unlink(&second.access_token),
    );
    assert!(one.is_ok() != other.is_ok());
    for (call, error) in every_call(&world.items, &partner).await {
        assert_eq!(error.kind(), ItemsErrorKind::InvalidAccessToken, "{call}");
    }
    for (call, error) in every_call(&world.items, &second.access_token).await {
        assert_eq!(error.kind(), ItemsErrorKind::InvalidAccessToken, "{call}");
    }
}

#[tokio::test]
async fn the_partner_is_notified_of_changes_that_it_did_not_request() {
    let world = World::new();
    let items = with_notices(&world);
    let user = UserId::new("user-1").unwrap();
    let link = async |name: &str| {
        let connection = world.connection(name, ALL);
        items.link(&bank(), &user, world.tokens("a"), connection).await.unwrap()
    };
    let first = link("first").await;
    let second = link("second").await;
    link("third").await;
    let notifications = notices(&world).await;
    let names: Vec<_> = notifications.iter().map(|one| one.application.name.as_str()).collect();
    assert_eq!(names, ["first", "Second, Inc.", "third"]);
    assert!(notifications.iter().all(|one| one.user_id == user && !one.is_unlink()));
    link("third").await;
    assert!(notices(&world).await.is_empty(), "it was connected");

    let partner = items.import(&bank(), &user, world.tokens("b")).await.unwrap().access_token;
    items.unlink_application(&partner, &app("third")).await.unwrap();
    assert!(notices(&world).await.is_empty(), "the partner requested it");
    items.unlink(&second.access_token).await.unwrap();
    items.remove_application(&first.item_id, &app("first")).await.unwrap();
    let notifications = notices(&world).await;
    let names: Vec<_> = notifications.iter().map(|one| one.application.name.as_str()).collect();
    assert_eq!(names, ["Second, Inc.", "first"]);
    assert!(notifications.iter().all(NewApplicationLinkNotification::is_unlink));
    assert_eq!(world.store.item(&first.item_id).await.unwrap(), None);
}

#[tokio::test]
async fn the_log_is_read_page_by_page() {
    let (world, linked) = World::complete().await;
    let partner = import(&world).await;
    for round in 0..7 {
        let new_accounts = scopes(serde_json::json!({"new_accounts": round % 2 == 0}));
        world.items.update_scopes(&partner, &app("first"), &new_accounts).await.unwrap();
    }
    let mut all = Vec::new();
    let mut cursor: Option<String> = None;
    let mut pages = 0;
    loop {
        let page = world.items.list_activity(&partner, cursor.as_deref(), Some(2)).await.unwrap();
        pages += 1;
        all.extend(page.activities);
        // Later entries come first and do not shift pages.
        world.items.update_scopes(&partner, &app("first"), &Scopes::new()).await.unwrap();
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    let kinds: Vec<_> = all.iter().map(|one| one.activity.to_string()).collect();
    let mut expected = vec!["SCOPES_UPDATE"; 7];
    expected.extend(["ITEM_IMPORT", "ITEM_CREATE"]);
    assert_eq!((kinds, pages), (expected.iter().map(|kind| (*kind).to_owned()).collect(), 5));
    assert_eq!((all[0].initiator.as_str(), all[8].initiator.as_str()), ("bank", "first"));
    assert_eq!(all[8].target_application_id, Some(app("first")));
    assert_eq!(all[0].scopes.as_ref().unwrap().new_accounts, Some(true));

    let whole = world.items.list_activity(&partner, Some(""), None).await.unwrap();
    assert_eq!((whole.activities.len(), whole.cursor), (14, None));
    for wrong in [Some(0), Some(51)] {
        let error = world.items.list_activity(&partner, None, wrong).await.unwrap_err();
        assert_eq!(error.kind(), ItemsErrorKind::InvalidField);
    }
    for wrong in ["never", "\u{0}", &"x".repeat(300)] {
        let error = world.items.list_activity(&partner, Some(wrong), None).await.unwrap_err();
        assert_eq!(error.kind(), ItemsErrorKind::InvalidCursor, "{wrong}");
    }
    let error = world.items.list_activity(&linked.access_token, None, None).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::InvalidAccessToken);
}

#[tokio::test]
async fn the_partner_sees_when_data_was_last_read_to_the_minute() {
    let (world, linked) = World::complete().await;
    world.add(&linked.item_id, [row("t1", "account-checking", "2026-02-01", "1.00")]).await;
    let second = world.link("second", [Product::Transactions]).await;
    let partner = import(&world).await;
    let (items, token) = (&world.items, &linked.access_token);
    let times =
        async || items.list_activity(&partner, None, None).await.unwrap().last_data_access_times;
    assert!(times().await.is_empty(), "nobody has read anything");
    items.status(token).await.unwrap();
    assert!(times().await.is_empty(), "how an Item is is no data of the user's");

    let began = world.clock.now();
    items.balances(token).await.unwrap();
    items.transactions_sync(&second.access_token, None, None).await.unwrap();
    let seen = times().await;
    assert_eq!((&seen[0].application_id, &seen[1].application_id), (&app("first"), &app("second")));
    assert_eq!(seen[0].account_balance_info, Some(began.into()));
    assert_eq!((seen[0].transactions, seen[0].account_routing_number), (None, None));
    assert_eq!((seen[1].transactions, seen[1].account_balance_info), (Some(began.into()), None));

    // Within the minute nothing is written; after it, it is.
    world.clock.advance(TimeDelta::seconds(59));
    items.balances(token).await.unwrap();
    items.accounts(token).await.unwrap();
    let seen = times().await;
    assert_eq!(seen[0].account_balance_info, Some(began.into()));
    let now = Some(world.clock.now().into());
    assert_eq!((seen[0].account_routing_number, seen[0].credit_and_loans), (now, now));
    world.clock.advance(TimeDelta::seconds(1));
    items.balances(token).await.unwrap();
    assert_eq!(times().await[0].account_balance_info, Some(world.clock.now().into()));

    // Refused reads are not recorded.
    let error = items.identities(&second.access_token).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::ConsentRequired);
    assert_eq!(times().await[1].contact_details, None);
}

#[tokio::test]
async fn an_address_for_webhooks_is_changed_and_notified() {
    let (world, linked) = World::complete().await;
    let (items, token) = (&world.items, &linked.access_token);
    for bad in ["http://127.0.0.1/", "https://169.254.169.254/latest", "nowhere"] {
        let error = items.update_webhook(token, Some(bad)).await.unwrap_err();
        assert_eq!(error.kind(), ItemsErrorKind::InvalidField, "{bad}");
    }
    let status = items.update_webhook(token, Some("https://new.example/hook")).await.unwrap();
    assert_eq!(status.item.webhook.as_deref(), Some("https://new.example/hook"));
    let now = world.clock.now();
    let webhooks = world.store.claim_webhooks(now, now, 9).await.unwrap();
    assert_eq!(webhooks.len(), 1);
    assert_eq!(webhooks[0].to.url(), Some("https://new.example/hook"));
    assert!(webhooks[0].body.contains("WEBHOOK_UPDATE_ACKNOWLEDGED"));
    for none in [None, Some("")] {
        assert_eq!(items.update_webhook(token, none).await.unwrap().item.webhook, None);
    }
}

/// Section 10: the partner's token, consent, a public token, an exchange.
#[tokio::test]
async fn an_application_joins_by_the_partners_token() {
    let (world, _) = World::complete().await;
    let user = UserId::new("user-1").unwrap();
    let items = with_notices(&world);
    let partner = items.import(&bank(), &user, world.tokens("b")).await.unwrap().access_token;
    notices(&world).await;
    let by_bank = items.by(TokenOwner::Partner(bank()));
    let item = by_bank.item_of(&partner).await.unwrap();
    assert_eq!(items.accounts_to_share(&item).await.unwrap().len(), 6);
    let mut connection = world.connection_to("second", &["account-checking"]);
    connection.webhook = Some("https://second.example/hook".to_owned());
    let joined = by_bank.join(&item, connection.clone(), ApplicationUser::default()).await.unwrap();
    assert_eq!(joined.item_id, item);
    let now = world.clock.now();
    let sent = world.store.claim_webhooks(now, now, 9).await.unwrap();
    let to: Vec<_> =
        sent.iter().map(|one| (one.to.clone(), one.body.contains("public-sandbox-"))).collect();
    // It is notified of the existing history like any other application that joins.
    assert!(to.contains(&(Destination::Partner(bank()), false)), "{to:?}");
    assert!(to.contains(&(Destination::Url("https://second.example/hook".to_owned()), true)));

    // Wrong application, then the right one, then once more.
    let exchange = async |name: &str| {
        let items = items.by(TokenOwner::Application(app(name)));
        items.exchange_public_token(&app(name), &joined.public_token).await
    };
    assert_eq!(exchange("first").await.unwrap_err().kind(), ItemsErrorKind::InvalidPublicToken);
    let as_first = items.by(TokenOwner::Application(app("first")));
    let stolen = as_first.exchange_public_token(&app("second"), &joined.public_token).await;
    assert_eq!(stolen.unwrap_err().kind(), ItemsErrorKind::InvalidPublicToken);
    let LinkedApplication { access_token, item_id, .. } = exchange("second").await.unwrap();
    assert_eq!(item_id, item);
    let seen =
        items.by(TokenOwner::Application(app("second"))).accounts(&access_token).await.unwrap();
    assert_eq!(seen.data.len(), 1);
    assert_eq!(exchange("second").await.unwrap_err().kind(), ItemsErrorKind::InvalidPublicToken);

    // Too late.
    let late = by_bank
        .join(&item, connection.clone(), ApplicationUser::default())
        .await
        .unwrap()
        .public_token;
    world.clock.advance(TimeDelta::minutes(30));
    let late = items.exchange_public_token(&app("second"), &late).await;
    assert_eq!(late.unwrap_err().kind(), ItemsErrorKind::InvalidPublicToken);
    items.accounts(&access_token).await.unwrap();

    // A session of another bank, and a removed Item.
    let other = items.by(TokenOwner::Partner("other".parse().unwrap()));
    let error =
        other.join(&item, connection.clone(), ApplicationUser::default()).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::ItemNotFound);
    let gone = ItemId::new("gone").unwrap();
    let error = items.join(&gone, connection, ApplicationUser::default()).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::ItemNotFound);
}

/// The link, its public token and the webhook that brings it are one change: all of them or none,
/// and none of them twice.
#[tokio::test]
async fn a_page_without_a_return_address_notifies_the_application_in_the_same_transaction() {
    let world = World::new();
    let user = UserId::new("user-1").unwrap();
    let items = with_notices(&world);
    let mut connection = world.connection("first", ALL);
    connection.webhook = Some("https://first.example/hook".to_owned());
    let owner = ApplicationUser::by_application("anna-at-first");
    let linked = items
        .link_for_exchange(&bank(), &user, world.tokens("a"), connection, Some(owner))
        .await
        .unwrap();
    let now = world.clock.now();
    let sent = world.store.claim_webhooks(now, now, 9).await.unwrap();
    let bodies: Vec<serde_json::Value> = sent
        .iter()
        .filter(|one| matches!(one.to, Destination::Url(_)))
        .map(|one| serde_json::from_str(&one.body).unwrap())
        .collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(bodies[0]["webhook_code"], "ITEM_ADD_RESULT");
    assert_eq!(bodies[0]["public_token"], linked.public_token.expose());
    assert_eq!(bodies[0]["client_user_id"], "anna-at-first");
    let log = items.list_activity(&import(&world).await, None, None).await.unwrap();
    let kinds: Vec<_> = log.activities.iter().map(|one| one.activity.as_str()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "ITEM_CREATE").count(), 1, "{kinds:?}");
    assert!(!kinds.contains(&"ITEM_UPDATE"), "{kinds:?}");
}

#[tokio::test]
async fn a_page_links_and_the_application_exchanges() {
    let world = World::new();
    let user = UserId::new("user-1").unwrap();
    let link = async || {
        let connection = world.connection("first", ALL);
        world
            .items
            .link_for_exchange(&bank(), &user, world.tokens("a"), connection, None)
            .await
            .unwrap()
    };
    let first = link().await;
    assert!(first.created);
    let token =
        world.items.exchange_public_token(&app("first"), &first.public_token).await.unwrap();
    world.items.status(&token.access_token).await.unwrap();
    // The user comes back: the old token is valid until the new one is exchanged.
    let again = link().await;
    world.items.status(&token.access_token).await.unwrap();
    let new = world.items.exchange_public_token(&app("first"), &again.public_token).await.unwrap();
    world.items.status(&new.access_token).await.unwrap();
    let error = world.items.status(&token.access_token).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::InvalidAccessToken);

    // The same without a page.
    let issued = world
        .items
        .issue_access(&new.item_id, &TokenOwner::Application(app("first")))
        .await
        .unwrap();
    world.items.status(&issued).await.unwrap();
    let error = world.items.status(&new.access_token).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::InvalidAccessToken);
    for stranger in
        [TokenOwner::Application(app("other")), TokenOwner::Partner("other".parse().unwrap())]
    {
        let error = world.items.issue_access(&new.item_id, &stranger).await.unwrap_err();
        assert_eq!(error.kind(), ItemsErrorKind::ItemNotFound);
    }
}

#[tokio::test]
async fn a_link_token_used_twice_in_parallel() {
    let world = World::new();
    let tickets = world.items.tickets();
    let sync_state = px_items::tickets::TIED_LINK_TOKEN_LIFETIME;
    let minted = tickets.mint_link(&("anna", 7), sync_state).await.unwrap();
    assert!(minted.token.expose().starts_with("link-sandbox-"));
    assert_eq!(minted.expires_at, world.clock.now() + TimeDelta::minutes(30));
    let seen: (String, u32) = tickets.peek_link(&minted.token).await.unwrap();
    assert_eq!(seen, ("anna".to_owned(), 7));
    let (one, other) = tokio::join!(
        tickets.take_link::<(String, u32)>(&minted.token),
        tickets.take_link::<(String, u32)>(&minted.token),
    );
    assert!(one.is_ok() != other.is_ok());
    let error = tickets.peek_link::<(String, u32)>(&minted.token).await.unwrap_err();
    assert_eq!(error.to_plaid_error("r").error_code, "INVALID_LINK_TOKEN");

    let late = tickets.mint_link(&1, px_items::tickets::LINK_TOKEN_LIFETIME).await.unwrap();
    world.clock.advance(TimeDelta::hours(4));
    assert!(tickets.take_link::<u32>(&late.token).await.is_err());
    let session = tickets.mint_session(&"step", TimeDelta::minutes(5)).await.unwrap();
    let token = &session.token;
    assert_eq!(format!("{token:?}"), "SessionToken(***)");
    assert_eq!(tickets.peek_session::<String>(token).await.unwrap().as_deref(), Some("step"));
    // A token of one kind is not valid as another kind.
    let link = px_types::LinkToken::new(token.expose());
    assert!(tickets.take_link::<String>(&link).await.is_err());
    assert_eq!(tickets.take_session::<String>(token).await.unwrap().as_deref(), Some("step"));
    assert_eq!(tickets.take_session::<String>(token).await.unwrap(), None);
}
