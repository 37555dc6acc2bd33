//! The health of an Item, as each side sees it.

use super::world::{ALL, World, account_id};
use chrono::TimeDelta;
use px_core::Clock as _;
use px_items::{
    health::{self, HealthIssueKind, HealthState, Issue},
    items::LinkedApplication,
};
use px_types::model::{item_health::ItemHealth, product::Product};

async fn seen(world: &World, linked: &LinkedApplication) -> ItemHealth {
    world.items.status(&linked.access_token).await.unwrap().status.health.unwrap()
}

fn kinds(health: &ItemHealth) -> Vec<HealthIssueKind> {
    health.issues.iter().map(|issue| issue.kind.clone()).collect()
}

#[tokio::test]
async fn everything_that_is_wrong_is_in_one_object_and_applications_see_what_concerns_them() {
    use HealthIssueKind as Kind;
    let (world, linked) = World::complete().await;
    let item = &linked.item_id;
    assert_eq!(seen(&world, &linked).await, ItemHealth::new(HealthState::Healthy));

    let one = world.connect(world.connection_to("one", &["account-credit"])).await;
    let auth = world.link("auth", [Product::Auth]).await;
    let since = world.clock.now();
    world
        .work(item, |commit| {
            let issues = &mut commit.sync_state.issues;
            issues.report(Kind::RowsLacking, Issue::new(since).count(3));
            let on_hold = Issue::new(since).count(1).accounts([account_id("account-checking")]);
            issues.report(Kind::AccountIdsChanged, on_hold);
            let faults = Issue::new(since).count(7).path("accounts[].opening_date", 7);
            issues.report(Kind::FaultyElements, faults);
            issues.report(Kind::CannotFinish, Issue::new(since));
        })
        .await;

    let record = world.store.item(item).await.unwrap().unwrap();
    let all = health::of(&record);
    assert_eq!((all.state.clone(), all.since), (HealthState::Stalled, Some(since.into())));
    let expected =
        [Kind::CannotFinish, Kind::AccountIdsChanged, Kind::RowsLacking, Kind::FaultyElements];
    assert_eq!(kinds(&all), expected);
    assert_eq!(all.issue(&Kind::FaultyElements).unwrap().paths[0].path, "accounts[].opening_date");

    // An application that sees everything sees every count, but no path.
    let whole = seen(&world, &linked).await;
    assert_eq!(whole.state, HealthState::DecisionPending);
    assert_eq!(kinds(&whole), expected[1..]);
    assert_eq!(whole.issue(&Kind::RowsLacking).unwrap().count, Some(3));
    assert!(whole.issues.iter().all(|issue| issue.paths.is_empty()));
    // An application that sees another account sees neither the account on hold nor the number of
    // lacking rows.
    let part = seen(&world, &one).await;
    assert_eq!(kinds(&part), [Kind::RowsLacking, Kind::FaultyElements]);
    assert!(part.issues.iter().all(|issue| issue.count.is_none()));
    // An application without transactions is not affected by them.
    let kinds_of_auth = kinds(&seen(&world, &auth).await);
    assert_eq!(kinds_of_auth, [Kind::AccountIdsChanged, Kind::FaultyElements]);

    world.clock.advance(TimeDelta::hours(71));
    assert_eq!(seen(&world, &linked).await.state, HealthState::DecisionPending);
    world.clock.advance(TimeDelta::hours(1));
    assert_eq!(seen(&world, &linked).await.state, HealthState::Stalled, "it cannot finish: 72 h");
}

#[tokio::test]
async fn a_lost_authorization_is_the_gravest_issue_however_it_was_lost() {
    let (world, linked) = World::complete().await;
    world.refuse(&linked.item_id).await;
    let lost = seen(&world, &linked).await;
    assert_eq!(lost.state, HealthState::LoginRequired);
    assert_eq!(kinds(&lost), [HealthIssueKind::LoginRequired]);
    let again = world.link("first", ALL).await;
    assert_eq!(seen(&world, &again).await.state, HealthState::Healthy);
}
