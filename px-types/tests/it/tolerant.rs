//! Tolerant reading of responses with one fault each.

use px_types::{
    DecodeError, ElementKind, FaultSeverity, Rule, decode,
    model::{account::AccountKind, depository::TransferCode},
    partner::*,
    rule,
    testing::{PAGE, USER},
    tolerant::{self, Limits, Tolerant},
};
use serde_json::{Value, json};
use std::cell::Cell;

fn read<T: Tolerant>(bytes: impl AsRef<[u8]>) -> Result<T, DecodeError> {
    tolerant::decode(bytes.as_ref(), &Limits::default()).map(|read| read.message)
}

/// Replaces a value by any text, JSON or not.
fn written(sample: &str, pointer: &str, text: &str) -> String {
    let mut value: Value = serde_json::from_str(sample).unwrap();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match value.pointer_mut(parent).unwrap() {
        Value::Object(members) => drop(members.insert(name.into(), json!("@here@"))),
        Value::Array(entries) => entries[name.parse::<usize>().unwrap()] = json!("@here@"),
        _ => panic!("no such place"),
    }
    value.to_string().replace("\"@here@\"", text)
}

fn page(pointer: &str, text: &str) -> TransactionsResponse {
    let text = written(PAGE, pointer, text);
    assert!(decode::<TransactionsResponse>(text.as_bytes()).is_err(), "a strict reader refuses it");
    read(&text).unwrap()
}

fn user(pointer: &str, text: &str) -> UserAccountInfoResponse {
    let text = written(USER, pointer, text);
    assert!(
        decode::<UserAccountInfoResponse>(text.as_bytes()).is_err(),
        "a strict reader refuses it"
    );
    read(&text).unwrap()
}

fn only(faults: &[px_types::Fault]) -> (&str, Rule, FaultSeverity) {
    assert_eq!(faults.len(), 1, "{faults:#?}");
    (faults[0].path(), faults[0].rule(), faults[0].severity())
}

#[test]
fn a_good_message_has_no_fault() {
    let page: TransactionsResponse = read(PAGE).unwrap();
    assert_eq!(page, decode(PAGE.as_bytes()).unwrap());
    let user: UserAccountInfoResponse = read(USER).unwrap();
    assert_eq!(user, decode(USER.as_bytes()).unwrap());
    assert!(page.faults().is_empty() && user.faults().is_empty());
}

#[test]
fn what_stands_around_the_json_is_taken_away() {
    let bom = format!("\u{feff}{PAGE}");
    let faults = read::<TransactionsResponse>(&bom).unwrap().faults;
    assert_eq!(only(&faults), (".", rule::BYTE_ORDER_MARK, FaultSeverity::Repaired));
    let tail = format!("{PAGE}\n\0\0 ");
    let faults = read::<TransactionsResponse>(&tail).unwrap().faults;
    assert_eq!(only(&faults), (".", rule::TRAILING_BYTES, FaultSeverity::Repaired));
    assert_eq!(
        faults[0].to_string(),
        "the message ends with NUL bytes; expected JSON alone; it was read without loss"
    );
    for bad in [&b""[..], b"[]", b"null", b"<html>", b"{", b"{} {}", b"\xef\xbb\xbf", b"\0"] {
        assert!(read::<TransactionsResponse>(bad).is_err());
    }
}

#[test]
fn repairs_lose_nothing() {
    use FaultSeverity::Repaired;
    let row = |member: &str, text: &str| {
        let page = page(&format!("/transactions/2/{member}"), text);
        assert_eq!(page.transactions.len(), 4);
        let (path, rule, severity) = only(page.faults());
        assert_eq!(path, format!("transactions[2].{}", member.replace('/', ".")));
        assert_eq!(severity, Repaired);
        (serde_json::to_value(&page.transactions[2]).unwrap()[member].clone(), rule)
    };
    for (member, text, read, broken) in [
        ("description", r#""Tea \ud83c""#, "Tea \u{fffd}", rule::DAMAGED_TEXT),
        ("description", "\"two\nlines\"", "two\nlines", rule::DAMAGED_TEXT),
        ("description", "12345", "12345", rule::NUMBER_FOR_TEXT),
        ("description", "1.50", "1.50", rule::NUMBER_FOR_TEXT),
        ("id", "90071992547409930001", "90071992547409930001", rule::NUMBER_FOR_TEXT),
        ("amount", "12.50", "12.50", rule::AMOUNT_FORM),
        ("amount", "0.1", "0.1", rule::AMOUNT_FORM),
        ("amount", "123456789012345678.01", "123456789012345678.01", rule::AMOUNT_FORM),
        ("amount", "\"1E+3\"", "1000", rule::AMOUNT_FORM),
        ("amount", "\"+12.50\"", "12.50", rule::AMOUNT_FORM),
        ("amount", "007.5", "7.5", rule::AMOUNT_FORM),
        ("amount", "+7", "7", rule::AMOUNT_FORM),
        ("amount", "1.5e-7", "0.00000015", rule::AMOUNT_FORM),
        (
            "settled_at",
            "\"2024-03-05 10:11:12+0000\"",
            "2024-03-05T10:11:12+00:00",
            rule::DATE_FORM,
        ),
        ("settled_at", "\"2024-03-05T10:11Z\"", "2024-03-05T10:11:00Z", rule::DATE_FORM),
        ("settled_at", "\"2024-03-05T23:11:12\"", "2024-03-05", rule::TIMESTAMP_OFFSET),
        ("currency", "\"usd\"", "USD", rule::CURRENCY_CASE),
        ("description", "\"a\",\"description\":\"a\"", "a", rule::REPEATED_MEMBER),
    ] {
        assert_eq!(row(member, text), (json!(read), broken), "{member} {text}");
    }
    let twice = page("/transactions/2/description", "5,\"description\":5");
    assert_eq!(twice.transactions[2].description.as_deref(), Some("5"));
    assert_eq!(twice.faults().len(), 2);
    let mcc = page("/transactions/0/merchant/mcc", "742");
    assert_eq!(mcc.transactions[0].merchant.as_ref().unwrap().mcc.as_deref(), Some("0742"));
    for total in ["4.0", "\"4\"", "4e0", "\"4.00\""] {
        let page = page("/total", total);
        assert_eq!(page.total, 4);
        assert_eq!(only(page.faults()), ("total", rule::WHOLE_NUMBER_FORM, Repaired));
    }
    let codes = user("/accounts/0/transfer_codes/0/debit", "\"true\"");
    assert_eq!(
        only(codes.faults()),
        ("accounts[0].transfer_codes[0].debit", rule::BOOLEAN_FORM, Repaired)
    );
    let unread = page("/transactions/1/news", "{\"a\": [NaN, 1]}");
    assert_eq!(only(unread.faults()), ("transactions[1].news.a[0]", rule::NOT_JSON, Repaired));
    let comma = PAGE.trim_end().strip_suffix('}').unwrap().to_owned() + ",}";
    assert_eq!(
        only(read::<TransactionsResponse>(comma).unwrap().faults()),
        (".", rule::NOT_JSON, Repaired)
    );
}

#[test]
fn an_optional_member_that_cannot_be_read_is_absent() {
    let read = user("/accounts/3/student/loan_status/type", "null");
    assert_eq!(read.accounts.len(), 6);
    assert_eq!(
        read.faults()[0].to_string(),
        "accounts[3].student.loan_status.type is null; expected a string; the object was ignored"
    );
    let AccountKind::Loan(loan) = &read.accounts[3].kind else { panic!() };
    assert!(loan.student.as_ref().unwrap().loan_status.is_none());
    assert!(loan.student.as_ref().unwrap().repayment_plan.is_some());

    let read = user("/accounts/2/interest_rate/percentage", "\"\"");
    let (path, rule, severity) = only(read.faults());
    assert_eq!((path, rule), ("accounts[2].interest_rate.percentage", rule::UNEXPECTED_NULL));
    assert_eq!(severity, FaultSeverity::Ignored);
    assert_eq!(read.accounts.len(), 6);

    let read =
        page("/transactions/0/merchant/location/coordinates", "{\"lat\": null, \"lon\": null}");
    assert!(
        read.transactions[0]
            .merchant
            .as_ref()
            .unwrap()
            .location
            .as_ref()
            .unwrap()
            .coordinates
            .is_none()
    );
    let read = page("/transactions/0/merchant", "[]");
    assert!(read.transactions[0].merchant.is_none());
    let read = user("/accounts/1/aprs/0/percentage", "\"19.99999\"");
    assert_eq!(read.faults()[0].rule(), rule::DECIMAL_PLACES);
    let read = user("/identities/0/emails/0", "7");
    assert_eq!(read.identities[0].emails.len(), 0);
    assert_eq!(
        read.faults()[0].to_string(),
        "identities[0].emails[0] is a number; expected an object; the entry was ignored"
    );
}

#[test]
fn nullable_is_not_optional() {
    for (member, text) in [
        ("settled_at", "\"2024-02-30\""),
        ("settled_at", "{}"),
        ("settled_at", "20240105"),
        ("settled_at", "\"2024-01-01\",\"settled_at\":\"2024-01-02\""),
        ("currency", "\"dollars\""),
        ("currency", "null"),
        ("non_iso_currency", "\"BTC\""),
        ("non_iso_currency", "{}"),
        ("amount", "\"12,50\""),
        ("amount", "NaN"),
        ("id", "\"x\\ud83d\""),
        ("id", "null"),
        ("account_id", "[]"),
    ] {
        let page = page(&format!("/transactions/2/{member}"), text);
        assert_eq!(page.transactions.len(), 3, "{member} {text}");
        let (_, _, severity) = only(page.faults());
        assert_eq!(severity, FaultSeverity::SetAside, "{member} {text}");
        assert_eq!(page.faults.set_aside(ElementKind::Transaction), 1);
        let element = page.faults()[0].element().unwrap();
        assert_eq!((element.kind, element.index), (ElementKind::Transaction, Some(2)));
        assert_eq!(page.faults()[0].element_id().is_some(), member != "id");
        assert_eq!(element.account_id.is_some(), member != "account_id");
    }
    // `null` only means that there is no text.
    let mut value: Value = serde_json::from_str(PAGE).unwrap();
    value["transactions"][2].as_object_mut().unwrap().remove("description");
    let page: TransactionsResponse = read(value.to_string()).unwrap();
    assert_eq!(page.transactions.len(), 4);
    assert_eq!(only(page.faults()).1, rule::MISSING_FIELD);
}

#[test]
fn no_damaged_identifier_reaches_a_transfer_code() {
    for (index, member) in [
        (0, "account_number"),
        (0, "routing_number"),
        (0, "wire_routing_number"),
        (0, "tokenized"),
        (1, "institution_number"),
        (1, "branch_number"),
        (2, "sort_code"),
        (2, "account_number"),
        (3, "iban"),
    ] {
        for text in
            ["74201", "\"0742\\ud83d\"", "\"74201\",\"MEMBER\":\"74202\"", "NaN", "{}", "007"]
        {
            let text = text.replace("MEMBER", member);
            let read = user(&format!("/accounts/0/transfer_codes/{index}/{member}"), &text);
            let AccountKind::Depository(kind) = &read.accounts[0].kind else { panic!() };
            let codes = kind.transfer_codes.as_ref().unwrap();
            assert_eq!(codes.len(), 3, "{member} {text}");
            let (path, _, severity) = only(read.faults());
            assert_eq!(path, format!("accounts[0].transfer_codes[{index}].{member}"));
            assert_eq!(severity, FaultSeverity::SetAside);
            let element = read.faults()[0].element().unwrap();
            assert_eq!(element.account_id.as_ref(), Some(&read.accounts[0].id));
            assert!(!format!("{:?}", read.faults()).contains("742"));
        }
    }
    // An IBAN without a BIC is valid; a damaged BIC is dropped.
    let mut value: Value = serde_json::from_str(USER).unwrap();
    value["accounts"][0]["transfer_codes"][3].as_object_mut().unwrap().remove("bic");
    let good: UserAccountInfoResponse = decode(value.to_string().as_bytes()).unwrap();
    let read = user("/accounts/0/transfer_codes/3/bic", "74201");
    assert_eq!(read.accounts[0], good.accounts[0]);
    // Masks and check numbers are dropped, because a number has lost its leading zeros.
    let read = user("/accounts/0/display_mask", "742");
    assert_eq!(read.accounts[0].display_mask, None);
    assert_eq!(
        only(read.faults()),
        ("accounts[0].display_mask", rule::IDENTIFIER_AS_NUMBER, FaultSeverity::Ignored)
    );
    let read = page("/transactions/0/check_number", "742");
    assert_eq!(read.transactions[0].check_number, None);
}

#[test]
fn lists_that_are_no_lists() {
    use FaultSeverity::SetAside;
    let investment = |read: &UserAccountInfoResponse| match &read.accounts[4].kind {
        AccountKind::Investment(kind) => kind.holdings.len(),
        _ => panic!(),
    };
    for text in ["null", "\"\"", "{}", "7"] {
        let read = user("/accounts/4/holdings", text);
        assert_eq!((read.accounts.len(), investment(&read)), (6, 0), "{text}");
        assert_eq!(only(read.faults()), ("accounts[4].holdings", rule::NULL_LIST, SetAside));
        let element = read.faults()[0].element().unwrap();
        assert_eq!((element.kind, element.index), (ElementKind::Holding, None));
        assert_eq!(element.account_id.as_ref(), Some(&read.accounts[4].id));
    }
    let read = user("/securities", "null");
    assert_eq!(only(read.faults()), ("securities", rule::NULL_LIST, SetAside));
    let page = page("/transactions", "null");
    assert_eq!(only(page.faults()), ("transactions", rule::NULL_LIST, SetAside));
    // A message in which a list is missing or is not a list is an error.
    for text in ["7", "\"x\"", "{\"a\":1}"] {
        let error = read_user(&written(USER, "/accounts", text)).unwrap_err();
        assert_eq!(error.path(), "accounts");
    }
    let mut value: Value = serde_json::from_str(USER).unwrap();
    value.as_object_mut().unwrap().remove("securities");
    let error = read_user(&value.to_string()).unwrap_err();
    assert_eq!(error.to_string(), "at `securities`: missing, and required");
}

fn read_user(text: &str) -> Result<UserAccountInfoResponse, DecodeError> {
    read(text)
}

#[test]
fn elements_are_set_aside_one_by_one() {
    let read = user("/accounts/4/holdings/0", "null");
    let (path, rule, severity) = only(read.faults());
    assert_eq!(
        (path, rule, severity),
        ("accounts[4].holdings[0]", rule::ELEMENT_FORM, FaultSeverity::SetAside)
    );
    for (pointer, kind) in [
        ("/accounts/1", ElementKind::Account),
        ("/identities/1", ElementKind::Identity),
        ("/securities/0", ElementKind::Security),
    ] {
        for text in ["null", "[]", "5", "\"x\"", "{}", "{\"id\": \"x\" 5}", "NaN"] {
            let read = user(pointer, text);
            assert_eq!(read.faults.set_aside(kind), 1, "{pointer} {text}");
            assert_eq!(read.accounts.len() + read.identities.len() + read.securities.len(), 9);
        }
    }
    // The only identity must be that of the signed-in user.
    let mut value: Value = serde_json::from_str(USER).unwrap();
    value["identities"].as_array_mut().unwrap().truncate(1);
    value.as_object_mut().unwrap().remove("user_identity_id");
    let user = read_user(&value.to_string()).unwrap();
    assert_eq!(user.user_identity_id, user.identities[0].id);
    assert_eq!(
        only(user.faults()),
        ("user_identity_id", rule::MISSING_FIELD, FaultSeverity::Repaired)
    );
}

#[test]
fn wide_types() {
    let read = |text: &str| decode::<TransactionsResponse>(text.as_bytes());
    let long = "x".repeat(482);
    let page = read(&written(PAGE, "/transactions/2/id", &format!("\"{long}\""))).unwrap();
    assert_eq!(page.transactions[2].id.as_str(), long);
    let report = page.validate(&px_types::validate::PageContext::new());
    assert!(report.has(rule::WIDE_ID, "transactions[2].id"), "{report}");
    let page = read(&written(PAGE, "/transactions/2/amount", "\"0.000000000000000001\"")).unwrap();
    let report = page.validate(&px_types::validate::PageContext::new());
    assert!(report.has(rule::DECIMAL_PLACES, "transactions[2].amount"), "{report}");
    let text = written(USER, "/accounts/4/holdings/0/quantity", "\"12345678901234567890123\"");
    let user: UserAccountInfoResponse = decode(text.as_bytes()).unwrap();
    let report = user.validate(&px_types::validate::UserContext::full());
    assert!(report.has(rule::WIDE_AMOUNT, "accounts[4].holdings[0].quantity"), "{report}");
}

#[test]
fn work_is_bounded() {
    // Sixteen faults are repaired; seventeen are too many.
    let names = |count: usize| format!("[{}]", vec!["7"; count].join(","));
    let read = user("/identities/0/names", &names(16));
    assert_eq!((read.identities.len(), read.faults().len()), (2, 16));
    let read = user("/identities/0/names", &names(17));
    assert_eq!(read.identities.len(), 1);
    assert_eq!(read.faults().last().unwrap().rule(), rule::READER_LIMITS);
    // 500 rows with the same three faults are all read.
    let row = r#"{"id": 5, "account_id": 7, "amount": 1.5, "currency": "USD", "description": null,
        "transacted_at": "2024-03-05", "settled_at": null, "type": "depository"}"#;
    let bad = format!("{{\"total\": 500, \"transactions\": [{}]}}", vec![row; 500].join(","));
    let page: TransactionsResponse = self::read(&bad).unwrap();
    assert_eq!((page.transactions.len(), page.faults().len()), (500, 1500));
    // After the time limit nothing more is repaired, but valid elements are still read.
    let calls = Cell::new(0);
    let out_of_time = || {
        calls.set(calls.get() + 1);
        calls.get() > 100
    };
    let good = bad.replacen("500", "501", 1).replace(
        "]}",
        &format!(
            ",{}]}}",
            row.replace("5,", "\"5\",").replacen("7", "\"7\"", 1).replace("1.5", "\"1.5\"")
        ),
    );
    let limits = Limits { out_of_time: &out_of_time, ..Limits::default() };
    let page: TransactionsResponse = tolerant::decode(good.as_bytes(), &limits).unwrap().message;
    assert!((20..60).contains(&page.transactions.len()), "{}", page.transactions.len());
    assert_eq!(
        page.transactions.len() as u64 + page.faults.set_aside(ElementKind::Transaction),
        501
    );
    assert_eq!(page.transactions.last().unwrap().id.as_str(), "5");
    assert!(calls.get() < 700);
}

/// A valid row is neither buffered nor read twice because another row is invalid.
#[test]
fn only_bad_rows_are_repaired() {
    let row = |id: &str, amount: &str| {
        format!(
            r#"{{"id": "{id}", "account_id": "a", "amount": {amount}, "currency": "USD",
            "description": null, "transacted_at": "2024-03-05", "settled_at": null,
            "type": "depository"}}"#
        )
    };
    let rows: Vec<_> =
        (0..500).map(|i| row(&i.to_string(), if i == 499 { "1.5" } else { "\"1.5\"" })).collect();
    let text = format!("{{\"total\": 500, \"transactions\": [{}]}}", rows.join(","));
    let calls = Cell::new(0);
    let out_of_time = || {
        calls.set(calls.get() + 1);
        false
    };
    let limits = Limits { out_of_time: &out_of_time, ..Limits::default() };
    let page: TransactionsResponse = tolerant::decode(text.as_bytes(), &limits).unwrap().message;
    assert_eq!((page.transactions.len(), page.faults().len()), (500, 1));
    assert_eq!(calls.get(), 1, "one tree, and it was decoded twice");
}

#[test]
fn memory_is_bounded() {
    // A million elements of two bytes each: the memory for faults is bounded, and all are counted.
    let zeros = format!("{{\"total\": 1, \"transactions\": [{}0]}}", "0,".repeat(1_000_000));
    let page: TransactionsResponse = read(&zeros).unwrap();
    assert_eq!(page.faults.set_aside(ElementKind::Transaction), 1_000_001);
    assert!(page.faults().len() * 200 < 4 * zeros.len(), "{}", page.faults().len());
    // An element that is too large for the memory limit.
    let large = format!(
        "{{\"total\": 1, \"transactions\": [{{\"id\": 5, \"news\": [{}0]}}]}}",
        "0,".repeat(1_000_000)
    );
    let page: TransactionsResponse = read(&large).unwrap();
    assert_eq!(only(page.faults()).1, rule::READER_LIMITS);
}

#[test]
fn a_codes_network_that_is_unknown_is_kept_or_set_aside_whole() {
    let code = r#"{"network": "pix", "key": NaN, "debit": true, "credit": true}"#;
    let read = user("/accounts/0/transfer_codes/1", code);
    let AccountKind::Depository(kind) = &read.accounts[0].kind else { panic!() };
    let codes = kind.transfer_codes.as_ref().unwrap();
    assert!(!codes.iter().any(|code| matches!(code, TransferCode::Unknown(_))));
    assert_eq!(read.faults.set_aside(ElementKind::TransferCode), 1);
    assert_eq!(only(read.faults()).1, rule::NOT_JSON);
}

/// Reads the collection of defects beside the checkout, if it exists.
#[test]
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
fn collected_defects_are_read() {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/faulty-responses.ndjson");
    let file = std::env::var("PX_FAULTY_RESPONSES").unwrap_or_else(|_| beside.to_owned());
    let Ok(lines) = std::fs::read_to_string(&file) else {
        eprintln!("skipped: {file} is not there; PX_FAULTY_RESPONSES can name it");
        return;
    };
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let name = case["name"].as_str().unwrap();
        let body = base64(case["body_base64"].as_str().unwrap());
        let (count, faults) = match case["message"].as_str().unwrap() {
            "user" => {
                let user: UserAccountInfoResponse = read(&body).unwrap();
                (user.accounts.len(), user.faults)
            }
            _ => {
                let page: TransactionsResponse = read(&body).unwrap();
                (page.transactions.len(), page.faults)
            }
        };
        let least = case["accounts"].as_u64().or(case["transactions"].as_u64()).unwrap();
        assert!(count as u64 >= least, "{name}: {count} of {least}: {faults:?}");
    }
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|c| *c != b'=').map(digit).collect();
    let bits = |group: &[u8]| group.iter().fold(0_u32, |bits, d| bits << 6 | u32::from(*d));
    let mut bytes = Vec::new();
    for group in digits.chunks(4) {
        let whole = bits(group) << (6 * (4 - group.len()));
        bytes.extend(&whole.to_be_bytes()[1..group.len()]);
    }
    bytes
}
