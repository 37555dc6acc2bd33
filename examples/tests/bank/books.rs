//! Tests of the ledger: initial customers, advancing the clock, importing.

use crate::support::LedgerFile;
use demo_bank::{
    ledger::{
        Database, Ledger, LedgerError,
        fill::FillOptions,
        read::{Page, PageStart, Window},
    },
    scenario::SCENARIOS,
};
use px_types::{
    Date,
    model::transaction::Transaction,
    partner::{TransactionsQuery, TransactionsResponse, UserAccountInfoResponse},
    validate::{KnownIds, PageContext, UserContext},
};
use std::path::Path;

fn start() -> Date {
    "2026-03-11".parse().unwrap()
}

/// Returns a filled ledger and the guard of its files.
async fn filled() -> (Ledger, LedgerFile) {
    let books = LedgerFile::copy().await;
    (Ledger::open(&books.database, start()).await.unwrap(), books)
}

fn two_years(today: Date) -> Window {
    Window { start: today.minus_days(730), end: today }
}

async fn page(
    ledger: &Ledger,
    name: &str,
    window: Window,
    start_at: PageStart,
    limit: u64,
) -> Page {
    let user = ledger.user_by_name(name).await.unwrap().unwrap();
    ledger.page(&user, |_| true, window, start_at, limit).await.unwrap().unwrap()
}

/// Returns every transaction of a window, page after page.
async fn all(ledger: &Ledger, name: &str, window: Window) -> Vec<Transaction> {
    let mut found = Vec::new();
    let mut start_at = PageStart::Offset(0);
    loop {
        let page = page(ledger, name, window, start_at, 500).await;
        found.extend(page.transactions);
        match page.next {
            Some(place) => start_at = PageStart::After { position: place, change: page.change },
            None => return found,
        }
    }
}

async fn accounts_response(ledger: &Ledger, name: &str) -> UserAccountInfoResponse {
    let user = ledger.user_by_name(name).await.unwrap().unwrap();
    let data = ledger.holdings(&user, |_| true).await.unwrap();
    UserAccountInfoResponse::new(user.identity_id, data.identities, data.securities, data.accounts)
}

async fn check_all_users(ledger: &Ledger) {
    let today = ledger.today().await.unwrap();
    for name in ledger.usernames().await.unwrap() {
        let user = accounts_response(ledger, &name).await;
        let report = user.validate(&UserContext::full());
        assert!(report.is_empty(), "{name}: {report:?}");
        let mut query = TransactionsQuery::new(today.minus_days(730), today);
        query.limit = 500;
        let first = page(ledger, &name, two_years(today), PageStart::Offset(0), 500).await;
        let mut response = TransactionsResponse::new(first.total.unwrap(), first.transactions);
        response.securities = first.securities;
        let known = KnownIds::of(&user);
        let report = response.validate(&PageContext::new().query(&query).known(&known));
        assert!(report.is_empty(), "{name}: {report:?}");
    }
}

#[tokio::test]
async fn every_answer_keeps_the_rules_before_and_after_the_clock_moves() {
    let (ledger, _ledger_file) = filled().await;
    check_all_users(&ledger).await;
    ledger.advance(45).await.unwrap();
    check_all_users(&ledger).await;
}

#[tokio::test]
async fn the_same_seed_gives_the_same_bytes() {
    let (one, _ledger_file) = filled().await;
    let two = Ledger::open(&Database::Memory, start()).await.unwrap();
    two.fill(FillOptions::default()).await.unwrap();
    for name in one.usernames().await.unwrap() {
        let (a, b) = (accounts_response(&one, &name).await, accounts_response(&two, &name).await);
        assert_eq!(serde_json::to_string(&a).unwrap(), serde_json::to_string(&b).unwrap());
        let window = Window { start: start().minus_days(40), end: start() };
        let (a, b) = (all(&one, &name, window).await, all(&two, &name, window).await);
        assert_eq!(serde_json::to_string(&a).unwrap(), serde_json::to_string(&b).unwrap());
    }
    let other = Ledger::open(&Database::Memory, start()).await.unwrap();
    other.fill(FillOptions { seed: 2, users: 0, busy: true }).await.unwrap();
    assert_ne!(
        accounts_response(&one, "user_good").await,
        accounts_response(&other, "user_good").await
    );
}

/// A browser that leaves a page drops the call of the page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_calls_lose_nothing() {
    let ledger = Ledger::open(&Database::Memory, start()).await.unwrap();
    for polls in 0..200 {
        let mut call = std::pin::pin!(ledger.today());
        for _ in 0..polls % 8 {
            if futures_util::poll!(call.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(ledger.today().await.unwrap(), start());
}

#[tokio::test]
async fn the_scenario_users_have_what_they_promise() {
    let (ledger, _ledger_file) = filled().await;
    let names = ledger.usernames().await.unwrap();
    assert!(SCENARIOS.iter().all(|scenario| names.iter().any(|name| name == scenario.username)));
    let busy = all(&ledger, "user_busy", two_years(start())).await;
    assert_eq!(busy.len(), 100_000);
    assert!(busy.is_sorted_by(|a, b| (b.date(), &a.id) < (a.date(), &b.id)));
    assert!(all(&ledger, "user_empty", two_years(start())).await.is_empty());
    let good = accounts_response(&ledger, "user_good").await;
    let subtypes: Vec<&str> = good.accounts.iter().map(|account| account.kind.subtype()).collect();
    for subtype in [
        "checking",
        "savings",
        "credit card",
        "mortgage",
        "student",
        "consumer",
        "brokerage",
        "401k",
    ] {
        assert!(subtypes.contains(&subtype), "{subtype}");
    }
    assert!(good.accounts.iter().any(|account| account.owner_identity_ids.len() == 2));
    let interest = |account: &px_types::model::account::Account| {
        account.non_owner_identity_ids.contains(&good.user_identity_id)
    };
    assert!(good.accounts.iter().any(interest));
    let good = all(&ledger, "user_good", two_years(start())).await;
    assert!(good.len() > 1_500, "{}", good.len());
    assert!(good.iter().filter(|transaction| transaction.is_pending()).count() > 1);
}

#[tokio::test]
async fn the_checking_balance_is_the_sum_of_what_happened() {
    let (ledger, _ledger_file) = filled().await;
    for _ in 0..2 {
        let user = accounts_response(&ledger, "user_otp").await;
        let before = user.accounts[0].clone();
        ledger.advance(9).await.unwrap();
        let user = accounts_response(&ledger, "user_otp").await;
        let today = ledger.today().await.unwrap();
        let window = Window { start: today.minus_days(8), end: today };
        let moved = all(&ledger, "user_otp", window).await;
        let posted = moved
            .iter()
            .filter(|transaction| transaction.account_id == before.id && !transaction.is_pending());
        let balance = posted.fold(before.current_balance, |balance, transaction| {
            balance.checked_sub(transaction.amount).unwrap()
        });
        assert_eq!(balance, user.accounts[0].current_balance);
    }
}

#[tokio::test]
async fn seven_days_twice_are_fourteen_days() {
    let ((steps, _a), (leap, _b)) = (filled().await, filled().await);
    let before = all(&steps, "user_good", two_years(start())).await;
    steps.advance(7).await.unwrap();
    steps.advance(7).await.unwrap();
    let done = leap.advance(14).await.unwrap();
    assert!(done.new > 0 && done.changed > 0);
    assert_eq!(done.to, start().plus_days(14));
    for name in ["user_good", "user_busy", "user_otp", "user_001"] {
        assert_eq!(
            accounts_response(&steps, name).await,
            accounts_response(&leap, name).await,
            "{name}"
        );
        let window = two_years(done.to);
        assert_eq!(all(&steps, name, window).await, all(&leap, name, window).await, "{name}");
    }
    // Pending transactions posted under the same id, some with another amount, or vanished.
    let after = all(&leap, "user_good", two_years(done.to)).await;
    let later = |id| after.iter().find(|transaction| transaction.id == id);
    let pending = before.into_iter().filter(Transaction::is_pending);
    for transaction in pending {
        assert!(later(transaction.id).is_none_or(|later| !later.is_pending()));
    }
}

#[tokio::test]
async fn on_any_day_something_pending_will_change_and_something_will_vanish() {
    let (ledger, _ledger_file) = filled().await;
    for _ in 0..20 {
        let (mut changed, mut gone) = (0, 0);
        let today = ledger.today().await.unwrap();
        let window = Window { start: today.minus_days(6), end: today.plus_days(6) };
        let before = all(&ledger, "user_good", window).await;
        ledger.advance(4).await.unwrap();
        let after = all(&ledger, "user_good", window).await;
        for pending in before.iter().filter(|transaction| transaction.is_pending()) {
            match after.iter().find(|transaction| transaction.id == pending.id) {
                None => gone += 1,
                Some(later) if later.amount != pending.amount => changed += 1,
                Some(_) => {}
            }
        }
        assert!(changed > 0 && gone > 0, "on {today} {changed} will change and {gone} will vanish");
    }
}

#[tokio::test]
async fn a_page_is_refused_once_its_window_changed_and_not_before() {
    let (ledger, _ledger_file) = filled().await;
    let user = ledger.user_by_name("user_good").await.unwrap().unwrap();
    let old = Window { start: start().minus_days(300), end: start().minus_days(100) };
    let new = Window { start: start().minus_days(30), end: start() };
    let firsts = [
        page(&ledger, "user_good", old, PageStart::Offset(0), 10).await,
        page(&ledger, "user_good", new, PageStart::Offset(0), 10).await,
    ];
    ledger.advance(1).await.unwrap();
    for (window, first, stays) in [(old, &firsts[0], true), (new, &firsts[1], false)] {
        let start_at =
            PageStart::After { position: first.next.clone().unwrap(), change: first.change };
        let page = ledger.page(&user, |_| true, window, start_at, 10).await.unwrap();
        assert_eq!(page.is_some(), stays);
    }
}

async fn import(
    ledger: &Ledger,
    text: &[u8],
) -> Result<demo_bank::ledger::import::ImportCounts, LedgerError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ledger.ndjson");
    std::fs::write(&file, text).unwrap();
    ledger.import(&file, |_| {}).await
}

const GOOD: &str = r#"{"identity": {"id": "i1", "name": "Ann"}}

{"user": {"user_id": "u1", "username": "ann", "identity_id": "i1", "account_ids": ["a1"]}}
{"transaction": {"id": "t1", "account_id": "a1", "type": "depository", "amount": "1.5000", "currency": "CZK", "description": null, "settled_at": null, "transacted_at": "2026-03-10"}}
{"account": {"id": "a1", "type": "depository", "subtype": "checking", "name": "A", "status": "active", "owner_identity_ids": ["i1"], "current_balance": "900.10", "currency": "CZK", "transfer_codes": [{"network": "international", "iban": "DE89370400440532013000", "bic": "COBADEFF", "debit": true, "credit": true}]}}
"#;

#[tokio::test]
async fn a_ledger_is_imported_in_any_order_and_goes_on() {
    let (ledger, _ledger_file) = filled().await;
    let imported = import(&ledger, GOOD.as_bytes()).await.unwrap();
    assert_eq!((imported.users, imported.transactions), (1, 1));
    let rows = all(&ledger, "ann", two_years(start())).await;
    assert_eq!(rows[0].amount.to_string(), "1.5000");
    assert!(rows[0].is_pending());
    ledger.advance(60).await.unwrap();
    let rows = all(&ledger, "ann", two_years(start().plus_days(60))).await;
    assert!(rows.len() > 3, "{}", rows.len());
    assert!(!rows.last().unwrap().is_pending());
    check_all_users(&ledger).await;
    // A second import of the same ledger reports every id as known.
    let Err(LedgerError::Import(report)) = import(&ledger, GOOD.as_bytes()).await else { panic!() };
    assert_eq!(report.count(), 5);
}

#[tokio::test]
async fn gzip_is_recognized_by_its_first_bytes() {
    use std::io::Write as _;
    let ledger = Ledger::open(&Database::Memory, start()).await.unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(GOOD.as_bytes()).unwrap();
    assert_eq!(import(&ledger, &gzip.finish().unwrap()).await.unwrap().accounts, 1);
}

#[tokio::test]
async fn bad_lines_are_all_named_and_nothing_is_imported() {
    let (ledger, _ledger_file) = filled().await;
    let before = ledger.usernames().await.unwrap();
    let bad = [
        "{",
        "[]",
        r#"{"identity": {"id": "i2", "name": "B"}, "user": {}}"#,
        r#"{"person": {}}"#,
        r#"{"transaction": {"id": "t2", "account_id": "a1", "type": "depository", "amount": "1.23456789", "currency": "CZK", "description": null, "settled_at": null, "transacted_at": "2026-03-10"}}"#,
        r#"{"transaction": {"id": "t3", "account_id": "secret-account", "type": "depository", "amount": "1", "currency": "CZK", "description": null, "settled_at": null, "transacted_at": "2026-03-10"}}"#,
        r#"{"transaction": {"id": "t1", "account_id": "a1", "type": "loan", "amount": "1", "currency": "CZK", "description": null, "settled_at": null, "transacted_at": "2026-03-10"}}"#,
        r#"{"user": {"user_id": "u2", "username": "user_good", "identity_id": "i9", "account_ids": ["a9"]}}"#,
        r#"{"account": {"id": "a3", "type": "depository", "subtype": "checking", "name": "A", "status": "active", "owner_identity_ids": ["i1"], "current_balance": "900.10", "currency": "CZK", "transfer_codes": [{"network": "international", "iban": "DE88370400440532013000", "bic": "COBADEFF", "debit": true, "credit": true}]}}"#,
    ];
    let text = format!("{GOOD}{}\n", bad.join("\n"));
    let Err(LedgerError::Import(report)) = import(&ledger, text.as_bytes()).await else { panic!() };
    let shown = report.to_string();
    insta::assert_snapshot!(shown, @r"
    12 faults; nothing was imported
      line 6: .: EOF while parsing an object at line 1 column 1
      line 7: .: not a JSON object
      line 8: .: 2 keys; a line has exactly one of `user`, `identity`, `account`, `security`, `transaction`
      line 9: .: an unknown key; a line has exactly one of `user`, `identity`, `account`, `security`, `transaction`
      line 10: transaction.amount: too many decimal places: at most 6
      line 11: transaction.account_id: no such account
      line 12: transaction.id: the same id as in line 4
      line 12: transaction.type: not the type of its account
      line 13: user.username: the bank has this id already
      line 13: user.identity_id: no such identity
      line 13: user.account_ids[0]: no such account
      line 14: account.transfer_codes[0].iban: not an IBAN: capital letters and digits with two check digits (ISO 13616)
    ");
    assert!(!shown.contains("secret-account") && !shown.contains("1.2345"));
    assert_eq!(ledger.usernames().await.unwrap(), before);
}

#[tokio::test]
async fn a_long_list_of_faults_is_cut() {
    let ledger = Ledger::open(&Database::Memory, start()).await.unwrap();
    let Err(LedgerError::Import(report)) = import(&ledger, "{}\n".repeat(90).as_bytes()).await
    else {
        panic!()
    };
    assert_eq!((report.faults().len(), report.count()), (20, 90));
    assert!(report.to_string().contains("… and 70 more"));
}

/// Returns the ledger of a real bank, if it is beside the checkout.
pub(crate) fn real_ledger() -> Option<std::path::PathBuf> {
    let beside =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/czech-bank.ndjson.gz");
    beside.exists().then_some(beside)
}

#[tokio::test]
async fn the_real_ledger_is_imported() {
    let Some(file) = real_ledger() else {
        eprintln!("skipped: the real ledger is not beside the checkout");
        return;
    };
    let ledger = Ledger::open(&Database::Memory, start()).await.unwrap();
    let imported = ledger.import(&file, |_| {}).await.unwrap();
    assert_eq!((imported.users, imported.transactions), (1_489, 49_102));
    ledger.advance(14).await.unwrap();
    check_all_users(&ledger).await;
}
