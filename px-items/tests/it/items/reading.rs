//! Reads: filtered by product and account, and paged.

use super::world::{
    ALL, World, account_id, account_like, accounts, added, date, ids, listed, row, user,
    with_standing,
};
use px_client::Window;
use px_items::{
    items::{ItemsErrorKind, TransactionsRequest},
    merge::AccountStanding,
};
use px_types::{
    Amount,
    model::{
        account::{AccountKind, AccountStatus},
        product::Product,
        transaction::{InvestmentDetails, InvestmentTransactionType},
    },
};

fn request(limit: usize) -> TransactionsRequest {
    let mut request = TransactionsRequest::new(window("2026-01-01", "2026-12-31"));
    request.limit = limit;
    request
}

fn window(start: &str, end: &str) -> Window {
    Window::new(date(start), date(end)).unwrap()
}

#[tokio::test]
async fn every_field_is_there_for_who_uses_everything() {
    let (world, linked) = World::complete().await;
    let mut expected = user().accounts;
    expected.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(world.items.accounts(&linked.access_token).await.unwrap().data, expected);
}

#[tokio::test]
async fn what_belongs_to_a_product_is_left_out_without_it() {
    let (world, _) = World::complete().await;
    // Data that each product adds: transfer codes, holdings, liabilities.
    for (without, expected) in [
        (Product::Auth, [false, true, true]),
        (Product::Investments, [true, false, true]),
        (Product::Liabilities, [true, true, false]),
    ] {
        let products = ALL.into_iter().filter(|product| *product != without);
        let linked = world.link("second", products).await;
        let (mut codes, mut holdings, mut liabilities) = (None, None, Vec::new());
        for account in world.items.accounts(&linked.access_token).await.unwrap().data {
            match account.kind {
                AccountKind::Depository(kind) => codes = Some(kind.transfer_codes.is_some()),
                AccountKind::Investment(kind) => holdings = Some(!kind.holdings.is_empty()),
                AccountKind::Credit(kind) => {
                    assert!(kind.credit_limit.is_some(), "the limit belongs to the balances");
                    liabilities.push(!kind.aprs.is_empty() || kind.is_overdue.is_some());
                }
                AccountKind::Loan(kind) => liabilities
                    .push(kind.interest_rate.is_some() || kind.origination_date.is_some()),
                _ => {}
            }
        }
        assert_eq!(liabilities, [expected[2]; 3], "without {without}");
        assert_eq!([codes.unwrap(), holdings.unwrap()], expected[..2], "without {without}");
    }
}

#[tokio::test]
async fn an_account_of_an_unknown_type_shows_nothing_that_could_be_a_products() {
    let world = World::new();
    let linked = world.link("first", ALL).await;
    let mut value = serde_json::to_value(account_like("account-other", "account-new")).unwrap();
    value["type"] = "crypto".into();
    value["subtype"] = "wallet".into();
    value["secret_number"] = "4711".into();
    let mut response = user();
    response.accounts = vec![serde_json::from_value(value).unwrap()];
    world.fill(&linked.item_id, response).await;
    let shown = async |token| {
        let account = world.items.accounts(token).await.unwrap().data.remove(0);
        serde_json::to_string(&account).unwrap()
    };
    assert!(shown(&linked.access_token).await.contains("4711"));
    let other = world.link("second", [Product::Auth, Product::Investments]).await;
    assert!(!shown(&other.access_token).await.contains("4711"));
}

#[tokio::test]
async fn a_product_that_is_not_used_is_asked_for() {
    let (world, _) = World::complete().await;
    let linked = world.link("second", []).await;
    let (items, token) = (&world.items, &linked.access_token);
    for error in [
        items.identities(token).await.unwrap_err(),
        items.holdings(token).await.unwrap_err(),
        items.transactions(token, &request(10)).await.unwrap_err(),
        items.transactions_sync(token, None, None).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ItemsErrorKind::ConsentRequired);
        assert_eq!(error.to_plaid_error("r").error_code, "ADDITIONAL_CONSENT_REQUIRED");
    }
    // Accounts and their balances come with any connection.
    assert_eq!(items.accounts(token).await.unwrap().data.len(), 6);
    let balances = items.balances(token).await.unwrap().data;
    assert_eq!(balances.len(), 6);
    let limits: Vec<_> = balances.iter().filter_map(|balance| balance.limit).collect();
    assert_eq!(limits, ["5000.00".parse::<Amount>().unwrap()]);
}

#[tokio::test]
async fn who_is_referred_to_by_hidden_accounts_does_not_exist() {
    let (world, all) = World::complete().await;
    let everybody = world.items.identities(&all.access_token).await.unwrap().data;
    assert_eq!(everybody.identities.len(), 2);
    assert!(everybody.user_identity_id.is_some());
    let holdings = world.items.holdings(&all.access_token).await.unwrap().data;
    assert_eq!((holdings.accounts.len(), holdings.securities.len()), (1, 1));

    let one = world.connect(world.connection_to("one", &["account-checking"])).await;
    let seen = world.items.identities(&one.access_token).await.unwrap().data;
    assert_eq!(
        seen.identities.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(),
        ["identity-1"]
    );
    let holdings = world.items.holdings(&one.access_token).await.unwrap().data;
    assert_eq!((holdings.accounts.len(), holdings.securities.len()), (0, 0));

    let none = world.connect(world.connection_to("none", &[])).await;
    assert_eq!(world.items.accounts(&none.access_token).await.unwrap().data, []);
    let seen = world.items.identities(&none.access_token).await.unwrap().data;
    assert_eq!((seen.user_identity_id, seen.identities.len()), (None, 0));
}

#[tokio::test]
async fn a_held_account_is_nobodys_and_a_closed_one_stays() {
    let (world, linked) = World::complete().await;
    world
        .work(&linked.item_id, |commit| {
            let on_hold = account_like("account-checking", "account-held");
            let gone = account_like("account-other", "account-other");
            let mut write = px_items::store::AccountsWrite::default();
            write.accounts = vec![
                with_standing(on_hold, AccountStanding::Held, false),
                with_standing(gone, AccountStanding::Closed, false),
            ];
            commit.accounts = Some(write);
            // No row of an account on hold is stored; if there were one, it would not be shown.
            commit.transactions.writes =
                vec![added(row("h1", "account-held", "2026-02-01", "1.00"))];
        })
        .await;
    let (items, token) = (&world.items, &linked.access_token);
    let seen = items.accounts(token).await.unwrap().data;
    assert_eq!(seen.len(), 6);
    assert!(seen.iter().all(|account| account.id != account_id("account-held")));
    let closed = seen.iter().find(|account| account.id == account_id("account-other")).unwrap();
    assert_eq!(closed.status, AccountStatus::Closed);
    assert_eq!(items.transactions(token, &request(10)).await.unwrap().data.total, 0);
    assert_eq!(items.transactions_sync(token, None, None).await.unwrap().data.added, []);
    let mut query = request(10);
    query.account_ids = Some(vec![account_id("account-held")]);
    let error = items.transactions(token, &query).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::InvalidAccount);
}

#[tokio::test]
async fn pages_go_on_where_they_ended_whatever_happens() {
    let (world, linked) = World::complete().await;
    let day = |day: u32| format!("2026-02-{day:02}");
    let rows = (1..=9).map(|n| row(&format!("t{n}"), "account-checking", &day(n), "1.00"));
    world.add(&linked.item_id, rows).await;
    let mut query = request(4);
    let first = world.items.transactions(&linked.access_token, &query).await.unwrap().data;
    assert_eq!((ids(&first.transactions), first.total), (vec!["t9", "t8", "t7", "t6"], 9));

    // One row is added before the rows that were read and one after; one that was read is removed.
    world
        .work(&linked.item_id, |commit| {
            commit.transactions.writes = vec![
                added(row("new-late", "account-checking", &day(20), "1.00")),
                added(row("new-early", "account-checking", &day(1), "1.00")),
            ];
            let gone = super::world::transaction_id("t8");
            commit.transactions.removed = vec![(account_id("account-checking"), gone)];
        })
        .await;
    query.cursor = first.next_cursor;
    let second = world.items.transactions(&linked.access_token, &query).await.unwrap().data;
    assert_eq!(
        (ids(&second.transactions), second.total),
        (vec!["t5", "t4", "t3", "t2"], 9),
        "as counted with the first page"
    );
    query.cursor = second.next_cursor;
    let third = world.items.transactions(&linked.access_token, &query).await.unwrap().data;
    assert_eq!(ids(&third.transactions), ["new-early", "t1"]);
    assert_eq!(third.next_cursor, None);

    // A page that is exactly full is the last one if there is nothing after it.
    let exact = world.items.transactions(&linked.access_token, &request(10)).await.unwrap().data;
    assert_eq!((exact.transactions.len(), exact.next_cursor), (10, None));
}

#[tokio::test]
async fn the_dates_and_accounts_asked_for_are_those_read() {
    let (world, linked) = World::complete().await;
    let rows = [
        row("before", "account-checking", "2026-01-31", "1.00"),
        row("start", "account-checking", "2026-02-01", "1.00"),
        row("end", "account-credit", "2026-02-28", "1.00"),
        row("after", "account-credit", "2026-03-01", "1.00"),
    ];
    world.add(&linked.item_id, rows).await;
    let mut query = TransactionsRequest::new(window("2026-02-01", "2026-02-28"));
    let page = world.items.transactions(&linked.access_token, &query).await.unwrap().data;
    assert_eq!((ids(&page.transactions), page.total), (vec!["end", "start"], 2));
    query.account_ids = Some(vec![account_id("account-credit")]);
    let page = world.items.transactions(&linked.access_token, &query).await.unwrap().data;
    assert_eq!((ids(&page.transactions), page.total), (vec!["end"], 1));
    query.account_ids = Some(Vec::new());
    let page = world.items.transactions(&linked.access_token, &query).await.unwrap().data;
    assert_eq!((page.transactions.len(), page.total), (0, 0));
}

#[tokio::test]
async fn a_cursor_is_for_its_own_question() {
    let (world, linked) = World::complete().await;
    let rows = (1..=3).map(|n| row(&format!("t{n}"), "account-checking", "2026-02-01", "1.00"));
    world.add(&linked.item_id, rows).await;
    let first = world.items.transactions(&linked.access_token, &request(1)).await.unwrap().data;
    let sync = world.items.transactions_sync(&linked.access_token, None, Some(1)).await.unwrap();

    let mut query = request(2);
    query.cursor = first.next_cursor.clone();
    let another_limit = world.items.transactions(&linked.access_token, &query).await.unwrap().data;
    assert_eq!(ids(&another_limit.transactions), ["t2", "t3"]);

    let mut other_window = query.clone();
    other_window.window = window("2026-01-01", "2026-12-30");
    let mut other_accounts = query.clone();
    other_accounts.account_ids = Some(vec![account_id("account-checking")]);
    let mut of_the_sync = query.clone();
    of_the_sync.cursor = Some(sync.data.next_cursor);
    for wrong in [&other_window, &other_accounts, &of_the_sync] {
        let error = world.items.transactions(&linked.access_token, wrong).await.unwrap_err();
        assert_eq!(error.kind(), ItemsErrorKind::InvalidCursor);
    }
    let second = world.link("second", ALL).await;
    let error = world.items.transactions(&second.access_token, &query).await.unwrap_err();
    assert_eq!(error.kind(), ItemsErrorKind::InvalidCursor);
}

#[tokio::test]
async fn the_rows_of_a_page_have_bounds() {
    let (world, linked) = World::complete().await;
    for wrong in [0, 501, usize::MAX] {
        let error = world.items.transactions(&linked.access_token, &request(wrong)).await;
        assert_eq!(error.unwrap_err().kind(), ItemsErrorKind::InvalidField);
        let error = world.items.transactions_sync(&linked.access_token, None, Some(wrong)).await;
        assert_eq!(error.unwrap_err().kind(), ItemsErrorKind::InvalidField);
    }
    for right in [1, 500] {
        world.items.transactions(&linked.access_token, &request(right)).await.unwrap();
        world.items.transactions_sync(&linked.access_token, None, Some(right)).await.unwrap();
    }
}

#[tokio::test]
async fn securities_come_with_what_refers_to_them() {
    let (world, linked) = World::complete().await;
    let mut trade = row("trade", "account-investment", "2026-02-02", "1.00");
    let mut details =
        InvestmentDetails::new(InvestmentTransactionType::Buy, "1".parse::<Amount>().unwrap());
    details.security_id = Some("security-2".parse().unwrap());
    trade.investment = Some(details);
    let plain = row("plain", "account-checking", "2026-02-01", "1.00");
    world.add(&linked.item_id, [trade, plain]).await;
    let mut query = request(1);
    let page = world.items.transactions(&linked.access_token, &query).await.unwrap().data;
    assert_eq!(
        page.securities.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(),
        ["security-2"]
    );
    query.cursor = page.next_cursor;
    let page = world.items.transactions(&linked.access_token, &query).await.unwrap().data;
    assert_eq!((ids(&page.transactions), page.securities.len()), (vec!["plain"], 0));
    let page = world.items.transactions_sync(&linked.access_token, None, None).await.unwrap().data;
    assert_eq!(page.securities.len(), 1);
}

#[tokio::test]
async fn later_accounts_are_for_those_who_were_promised_them() {
    let world = World::new();
    let all = world.link("all", ALL).await;
    let mut those = world.connection("those", ALL);
    those.new_accounts = false;
    let those = world.connect(those).await;
    world
        .work(&all.item_id, |commit| {
            commit.accounts = Some(accounts(user()));
            commit.sync_state.history = px_items::sync_state::History::Complete;
        })
        .await;
    world
        .work(&all.item_id, |commit| {
            let mut write = px_items::store::AccountsWrite::default();
            write.accounts = vec![listed(account_like("account-checking", "account-opened"), true)];
            commit.accounts = Some(write);
        })
        .await;
    assert_eq!(world.items.accounts(&all.access_token).await.unwrap().data.len(), 7);
    assert_eq!(world.items.accounts(&those.access_token).await.unwrap().data.len(), 6);
}
