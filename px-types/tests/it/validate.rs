//! The rules of whole responses, each with a valid and an invalid case.

use px_types::{
    decode,
    partner::*,
    scope::{Scope, ScopeSet},
    testing::{PAGE, USER},
    validate::{KnownIds, PageContext, Report, Rule, Severity, UserContext, check, rule},
};
use serde_json::{Value, json};

fn user_with(change: impl FnOnce(&mut Value)) -> UserAccountInfoResponse {
    let mut user: Value = serde_json::from_str(USER).unwrap();
    change(&mut user);
    decode(user.to_string().as_bytes()).unwrap()
}

fn page_with(change: impl FnOnce(&mut Value)) -> TransactionsResponse {
    let mut page: Value = serde_json::from_str(PAGE).unwrap();
    change(&mut page);
    decode(page.to_string().as_bytes()).unwrap()
}

fn query() -> TransactionsQuery {
    let mut query =
        TransactionsQuery::new("2024-01-01".parse().unwrap(), "2024-01-31".parse().unwrap());
    query.limit = 4;
    query
}

fn known() -> KnownIds {
    KnownIds::of(&user_with(|_| {}))
}

fn of_page(page: &TransactionsResponse) -> Report {
    let (query, known) = (query(), known());
    page.validate(&PageContext::new().query(&query).known(&known))
}

fn errors(report: &Report) -> Vec<(Rule, &str)> {
    report.errors().map(|b| (b.rule, b.path.as_str())).collect()
}

fn hints(report: &Report) -> Vec<(Rule, &str)> {
    report
        .violations()
        .iter()
        .filter(|b| b.severity == Severity::Hint)
        .map(|b| (b.rule, b.path.as_str()))
        .collect()
}

#[test]
fn good_answers_have_no_breach() {
    let report = user_with(|_| {}).validate(&UserContext::full());
    assert!(report.is_empty(), "{report}");
    let report = of_page(&page_with(|_| {}));
    assert!(report.is_empty(), "{report}");
}

#[test]
fn rules_of_a_users_answer() {
    type Case = (&'static str, Value, Rule, &'static str);
    let cases: Vec<Case> = vec![
        ("/user_identity_id", json!("nobody"), rule::REFERENCE, "user_identity_id"),
        ("/identities", json!([]), rule::IDENTITIES_PRESENT, "identities"),
        ("/identities/1/id", json!("identity-1"), rule::UNIQUE_ID, "identities[1].id"),
        ("/securities/1/id", json!("security-1"), rule::UNIQUE_ID, "securities[1].id"),
        ("/accounts/1/id", json!("account-checking"), rule::UNIQUE_ID, "accounts[1].id"),
        (
            "/accounts/2/owner_identity_ids/0",
            json!("nobody"),
            rule::REFERENCE,
            "accounts[2].owner_identity_ids[0]",
        ),
        (
            "/accounts/2/owner_identity_ids",
            json!([]),
            rule::OWNERS_PRESENT,
            "accounts[2].owner_identity_ids",
        ),
        (
            "/accounts/2/non_owner_identity_ids/0",
            json!("nobody"),
            rule::REFERENCE,
            "accounts[2].non_owner_identity_ids[0]",
        ),
        (
            "/accounts/4/holdings/0/security_id",
            json!("nothing"),
            rule::REFERENCE,
            "accounts[4].holdings[0].security_id",
        ),
        (
            "/accounts/4/holdings/0/currency",
            json!("ZZZ"),
            rule::KNOWN_CURRENCY,
            "accounts[4].holdings[0].currency",
        ),
        ("/accounts/0/currency", json!("ZZZ"), rule::KNOWN_CURRENCY, "accounts[0].currency"),
        ("/securities/0/currency", json!("ZZZ"), rule::KNOWN_CURRENCY, "securities[0].currency"),
        (
            "/securities/1/non_iso_currency",
            json!("USD"),
            rule::ISO_MONEY,
            "securities[1].non_iso_currency",
        ),
        ("/securities/0/isin", json!("US0378331006"), rule::ISIN, "securities[0].isin"),
        ("/accounts/0/subtype", json!("credit card"), rule::SUBTYPE, "accounts[0].subtype"),
        (
            "/accounts/0/display_mask",
            json!("12345"),
            rule::DISPLAY_MASK,
            "accounts[0].display_mask",
        ),
        ("/accounts/0/display_mask", json!("1"), rule::DISPLAY_MASK, "accounts[0].display_mask"),
        (
            "/accounts/0/transfer_codes",
            json!(null),
            rule::TRANSFER_CODES_PRESENT,
            "accounts[0].transfer_codes",
        ),
        (
            "/accounts/0/transfer_codes",
            json!([]),
            rule::TRANSFER_CODES_PRESENT,
            "accounts[0].transfer_codes",
        ),
        (
            "/accounts/0/transfer_codes/0/routing_number",
            json!("021000022"),
            rule::ROUTING_NUMBER,
            "accounts[0].transfer_codes[0].routing_number",
        ),
        (
            "/accounts/0/transfer_codes/0/wire_routing_number",
            json!("1"),
            rule::ROUTING_NUMBER,
            "accounts[0].transfer_codes[0].wire_routing_number",
        ),
        (
            "/accounts/0/transfer_codes/1/institution_number",
            json!("21"),
            rule::EFT_DIGITS,
            "accounts[0].transfer_codes[1].institution_number",
        ),
        (
            "/accounts/0/transfer_codes/1/branch_number",
            json!("0114x"),
            rule::EFT_DIGITS,
            "accounts[0].transfer_codes[1].branch_number",
        ),
        (
            "/accounts/0/transfer_codes/2/account_number",
            json!("3192681"),
            rule::BACS_DIGITS,
            "accounts[0].transfer_codes[2].account_number",
        ),
        (
            "/accounts/0/transfer_codes/2/sort_code",
            json!("60-16-13"),
            rule::BACS_DIGITS,
            "accounts[0].transfer_codes[2].sort_code",
        ),
        (
            "/accounts/0/transfer_codes/3/iban",
            json!("GB34BUKB20201555555555"),
            rule::IBAN,
            "accounts[0].transfer_codes[3].iban",
        ),
        (
            "/accounts/0/transfer_codes/3/bic",
            json!("BUKBGB2"),
            rule::BIC,
            "accounts[0].transfer_codes[3].bic",
        ),
        ("/accounts/2/subtype", json!("auto"), rule::MISPLACED_FIELD, "accounts[2].mortgage"),
        ("/accounts/3/subtype", json!("auto"), rule::MISPLACED_FIELD, "accounts[3].student"),
    ];
    for (pointer, value, rule, path) in cases {
        let user = user_with(|user| *user.pointer_mut(pointer).unwrap() = value);
        let report = user.validate(&UserContext::full());
        assert!(report.has(rule, path), "{rule} at {path}:\n{report}");
        assert!(report.has_errors());
    }
}

#[test]
fn hints_of_a_users_answer() {
    for (pointer, value, rule, path) in [
        ("/accounts/5/type", json!("crypto"), rule::UNKNOWN_TYPE, "accounts[5].type"),
        (
            "/accounts/0/transfer_codes/0/network",
            json!("pix"),
            rule::UNKNOWN_NETWORK,
            "accounts[0].transfer_codes[0].network",
        ),
        ("/accounts/0/subtype", json!("vault"), rule::UNKNOWN_VALUE, "accounts[0].subtype"),
        ("/accounts/0/status", json!("asleep"), rule::UNKNOWN_VALUE, "accounts[0].status"),
        (
            "/accounts/2/current_balance",
            json!("-5.00"),
            rule::BALANCE_SIGN,
            "accounts[2].current_balance",
        ),
    ] {
        let user = user_with(|user| *user.pointer_mut(pointer).unwrap() = value);
        let report = user.validate(&UserContext::full());
        assert_eq!(hints(&report), [(rule, path)]);
        assert!(!report.has_errors(), "{report}");
    }
}

#[test]
fn without_the_scope_auth_there_are_no_transfer_codes() {
    let user = user_with(|user| user["accounts"][0]["transfer_codes"] = json!(null));
    let scopes: ScopeSet = [Scope::ACCOUNTS].into_iter().collect();
    assert!(user.validate(&UserContext::for_scopes(&scopes)).is_empty());
    // A closed account may have no transfer codes, an active one must have some.
    let closed = user_with(|user| {
        user["accounts"][0]["transfer_codes"] = json!([]);
        user["accounts"][0]["status"] = json!("closed");
    });
    assert!(closed.validate(&UserContext::full()).is_empty());
}

#[test]
fn rules_of_a_page() {
    type Case = (&'static str, Value, Rule, &'static str);
    let cases: Vec<Case> = vec![
        ("/transactions/1/id", json!("t1"), rule::UNIQUE_ID, "transactions[1].id"),
        (
            "/transactions/1/account_id",
            json!("nothing"),
            rule::REFERENCE,
            "transactions[1].account_id",
        ),
        (
            "/transactions/1/investment/security_id",
            json!("nothing"),
            rule::REFERENCE,
            "transactions[1].investment.security_id",
        ),
        ("/transactions/0/type", json!("credit"), rule::ACCOUNT_TYPE, "transactions[0].type"),
        (
            "/transactions/1/type",
            json!("loan"),
            rule::MISPLACED_FIELD,
            "transactions[1].investment",
        ),
        (
            "/transactions/3/settled_at",
            json!("2024-01-01"),
            rule::SETTLED_AFTER_MADE,
            "transactions[3].settled_at",
        ),
        ("/transactions/3/settled_at", json!("2024-01-06"), rule::ORDER, "transactions[3]"),
        ("/transactions/1/id", json!("t0"), rule::ORDER, "transactions[1]"),
        (
            "/transactions/0/transacted_at",
            json!("2024-02-01"),
            rule::WINDOW,
            "transactions[0].transacted_at",
        ),
        (
            "/transactions/3/settled_at",
            json!("2023-12-31"),
            rule::WINDOW,
            "transactions[3].settled_at",
        ),
        (
            "/transactions/3/currency",
            json!("ZZZ"),
            rule::KNOWN_CURRENCY,
            "transactions[3].currency",
        ),
        ("/transactions/0/merchant/mcc", json!("531"), rule::MCC, "transactions[0].merchant.mcc"),
        (
            "/transactions/0/merchant/location/country",
            json!("USA"),
            rule::COUNTRY,
            "transactions[0].merchant.location.country",
        ),
        (
            "/transactions/0/merchant/location/coordinates/lat",
            json!(90.5),
            rule::COORDINATES,
            "transactions[0].merchant.location.coordinates.lat",
        ),
        ("/total", json!(3), rule::TOTAL, "total"),
        ("/securities/0/isin", json!("x"), rule::ISIN, "securities[0].isin"),
    ];
    for (pointer, value, rule, path) in cases {
        let page = page_with(|page| *page.pointer_mut(pointer).unwrap() = value);
        let report = of_page(&page);
        assert!(report.has(rule, path), "{rule} at {path}:\n{report}");
    }
    let (mut query, page) = (query(), page_with(|_| {}));
    query.limit = 3;
    let report = page.validate(&PageContext::new().query(&query));
    assert_eq!(errors(&report), [(rule::LIMIT, "transactions")]);
    query.limit = 4;
    query.position = Position::Offset(1);
    let report = page.validate(&PageContext::new().query(&query));
    assert_eq!(errors(&report), [(rule::TOTAL, "total")]);
}

#[test]
fn a_time_stamp_counts_by_the_date_written_in_it() {
    // 23:30 in New York is the next day in UTC, but the date as written is in the window.
    let page = page_with(|_| {});
    assert_eq!(page.transactions[0].date().to_string(), "2024-01-31");
    assert!(of_page(&page).is_empty());
}

#[test]
fn everything_is_collected() {
    let user = user_with(|user| {
        user["user_identity_id"] = json!("nobody");
        user["accounts"][0]["currency"] = json!("ZZZ");
        user["accounts"][0]["owner_identity_ids"] = json!(["nobody", "no one"]);
    });
    assert_eq!(errors(&user.validate(&UserContext::full())).len(), 4);
}

fn check_user(user: &Value) -> Report {
    check(user.to_string().as_bytes(), |user: &UserAccountInfoResponse| {
        user.validate(&UserContext::full())
    })
}

fn check_page(page: &Value) -> Report {
    let (query, known) = (query(), known());
    check(page.to_string().as_bytes(), |page: &TransactionsResponse| {
        page.validate(&PageContext::new().query(&query).known(&known))
    })
}

#[test]
fn good_bytes_have_no_breach() {
    let report = check_user(&serde_json::from_str(USER).unwrap());
    assert!(report.is_empty(), "{report}");
    let report = check_page(&serde_json::from_str(PAGE).unwrap());
    assert!(report.is_empty(), "{report}");
}

#[test]
fn all_faults_on_the_wire_are_collected_and_nothing_that_follows_from_them() {
    let mut page: Value = serde_json::from_str(PAGE).unwrap();
    page["total"] = json!("4");
    let rows = page["transactions"].as_array_mut().unwrap();
    rows[0]["amount"] = json!("1.1234567");
    rows[0]["non_iso_currency"] = json!("BTC");
    rows[0].as_object_mut().unwrap().remove("settled_at");
    rows[1].as_object_mut().unwrap().remove("id");
    rows[1]["investment"]["quantity"] = json!(5);
    rows[2]["settled_at"] = json!("yesterday");
    rows[2].as_object_mut().unwrap().remove("currency");
    rows[2]["news"] = json!(1);
    rows[3]["transacted_at"] = json!(20_240_102);
    rows[3]["currency"] = json!("ZZZ");
    let report = check_page(&page);
    let mut found = errors(&report);
    found.sort_unstable_by_key(|(_, path)| *path);
    assert_eq!(
        found,
        [
            (rule::MALFORMED, "total"),
            (rule::DECIMAL_PLACES, "transactions[0].amount"),
            (rule::ONE_CURRENCY, "transactions[0].non_iso_currency"),
            (rule::MISSING_FIELD, "transactions[0].settled_at"),
            (rule::MISSING_FIELD, "transactions[1].id"),
            (rule::MALFORMED, "transactions[1].investment.quantity"),
            (rule::ONE_CURRENCY, "transactions[2].currency"),
            (rule::MALFORMED, "transactions[2].settled_at"),
            (rule::KNOWN_CURRENCY, "transactions[3].currency"),
            (rule::MALFORMED, "transactions[3].transacted_at"),
        ],
        "\n{report}"
    );
    assert_eq!(hints(&report), [(rule::UNKNOWN_FIELD, "transactions[2].news")]);
}

#[test]
fn fields_of_another_type_are_misplaced() {
    let mut user: Value = serde_json::from_str(USER).unwrap();
    let codes = user["accounts"][0]["transfer_codes"].clone();
    user["accounts"][1]["transfer_codes"] = codes;
    user["accounts"][0]["credit_limit"] = json!("5");
    user["accounts"][0]["holdings"] = json!([]);
    user["accounts"][0]["transfer_codes"][0]["iban"] = json!("x");
    user["accounts"][1]["news"] = json!(1);
    let report = check_user(&user);
    let mut found = errors(&report);
    found.sort_unstable_by_key(|(_, path)| *path);
    assert_eq!(
        found,
        [
            (rule::MISPLACED_FIELD, "accounts[0].credit_limit"),
            (rule::MISPLACED_FIELD, "accounts[0].transfer_codes[0].iban"),
            (rule::MISPLACED_FIELD, "accounts[1].transfer_codes"),
        ]
    );
    assert_eq!(hints(&report), [(rule::UNKNOWN_FIELD, "accounts[1].news")]);
}

#[test]
fn the_published_example_with_its_lists_swapped() {
    let example: Value =
        serde_json::from_str(include_str!("../fixtures/published-example.json")).unwrap();
    let report = check_user(&example);
    let mut missing: Vec<&str> = errors(&report)
        .into_iter()
        .filter(|(rule, _)| *rule == rule::MISSING_FIELD)
        .map(|(_, path)| path)
        .collect();
    missing.sort_unstable();
    assert_eq!(
        missing,
        [
            "accounts[0].current_balance",
            "accounts[0].owner_identity_ids",
            "accounts[0].status",
            "accounts[0].subtype",
        ],
        "\n{report}"
    );
    // The account under `securities` is read as a security of unknown type with additional fields.
    assert!(report.has(rule::UNKNOWN_VALUE, "securities[0].type"), "{report}");
    assert!(report.has(rule::UNKNOWN_FIELD, "securities[0].current_balance"), "{report}");
    assert!(report.has(rule::UNKNOWN_TYPE, "accounts[0].type"), "{report}");
}

#[test]
fn what_is_not_json_is_one_breach() {
    for bytes in [&b"<html>"[..], b"", b"{\"total\":", b"\xff\xfe", b"{} {}"] {
        let report = check(bytes, |_: &TransactionsResponse| Report::default());
        assert_eq!(report.violations().len(), 1, "{report}");
        assert_eq!(report.violations()[0].path, ".");
    }
    // JSON of another structure is repaired as far as possible and never panics.
    for bytes in [&b"[]"[..], b"null", b"5", b"\"x\"", b"[[{}]]"] {
        let report = check(bytes, |page: &TransactionsResponse| page.validate(&PageContext::new()));
        assert!(report.has_errors(), "{report}");
    }
}

#[test]
fn a_key_given_twice_is_a_breach() {
    let report =
        check(br#"{"total":0,"total":1,"transactions":[]}"#, |_: &TransactionsResponse| {
            Report::default()
        });
    assert!(report.has_errors(), "{report}");
}
