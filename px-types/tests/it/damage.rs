//! A response with one damaged value is read completely except for that value.

use px_types::{
    Fault, decode,
    model::{account::AccountKind, depository::TransferCode},
    partner::{TransactionsResponse, UserAccountInfoResponse},
    testing::{PAGE, Seed, USER, vary},
    tolerant::{self, Limits},
};
use serde_json::{Value, json};

/// A value that no text of a fault may contain. Every damage that inserts a value inserts this one.
const MARK: &str = "918273645";

/// Returns the JSON that replaces a value, or `None` if the member is removed.
fn damage(seed: &mut Seed, member: &str, value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let plain: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let quoted = |text: &str| json!(text).to_string();
    let inside = quoted(&text)[1..quoted(&text).len() - 1].to_owned();
    Some(match seed.below(40) {
        0 => return None,
        1 => "null".into(),
        2 => "\"\"".into(),
        3 => MARK.into(),
        4 => format!("-{MARK}"),
        5 => format!("{MARK}.50"),
        6 => format!("{MARK}.0"),
        7 => format!("{MARK}e2"),
        8 => format!("{MARK}e999"),
        9 => format!("00{MARK}"),
        10 => format!("+{MARK}"),
        11 => "NaN".into(),
        12 => "-Infinity".into(),
        13 => format!("undefined{MARK}"),
        14 => "true".into(),
        15 => "\"true\"".into(),
        16 => "{}".into(),
        17 => "[]".into(),
        18 => "[null]".into(),
        19 => format!("{{\"a\": \"{MARK}\"}}"),
        20 => format!("[[\"{MARK}\", {MARK}]]"),
        21 => format!("\"{inside}\\ud83d\""),
        22 => format!("\"\\udc00{inside}\""),
        23 => format!("\"{inside}\u{1}\""),
        24 => format!("\"{inside}\n\""),
        25 => format!("\"{inside}\\x\""),
        26 => format!("{value},\"{member}\":{value}"),
        27 => format!("{value},\"{member}\":\"{MARK}\""),
        28 => quoted(&text.to_lowercase()),
        29 => quoted(&format!("+{text}")),
        30 => quoted(&format!("00{text}")),
        31 => quoted(&format!("{text}E+1")),
        32 => quoted(&format!("{text}.{MARK}{MARK}{MARK}")),
        33 => quoted(&format!(" {text} ")),
        34 => quoted(&format!("{MARK}{}", "x".repeat(1100))),
        35 => "\"2024-03-05 10:11:12+0000\"".into(),
        36 => "\"2024-03-05T10:11:12\"".into(),
        37 => "\"2024-02-30\"".into(),
        38 if !plain.is_empty() => plain,
        _ => quoted(&text),
    })
}

/// Collects the JSON pointers of all members and entries below a value.
fn pointers(value: &Value, at: &str, out: &mut Vec<String>) {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Value::Array(entries) => {
            entries.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect()
        }
        _ => return,
    };
    for (name, value) in below {
        let at = format!("{at}/{name}");
        pointers(value, &at, out);
        out.push(at);
    }
}

/// Converts a JSON pointer to a path in the format of faults.
fn path(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        if step.bytes().all(|b| b.is_ascii_digit()) {
            path += &format!("[{step}]");
        } else {
            path += if path.is_empty() { "" } else { "." };
            path += step;
        }
    }
    path
}

/// Damages one value of a message. Returns the bytes, and the JSON pointer of the damaged value.
fn damaged(message: &Value, seed: &mut Seed) -> (Vec<u8>, String) {
    let mut all = Vec::new();
    pointers(message, "", &mut all);
    let pointer = seed.pick(&all).clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let text = damage(seed, name, message.pointer(&pointer).unwrap());
    let mut message = message.clone();
    let text = match (message.pointer_mut(parent).unwrap(), text) {
        (Value::Object(members), None) => {
            members.remove(name);
            String::new()
        }
        (Value::Object(members), Some(text)) => {
            members.insert(name.into(), json!("@here@"));
            text
        }
        (Value::Array(entries), text) => {
            entries[name.parse::<usize>().unwrap()] = json!("@here@");
            // An entry of a list has no name that could be repeated.
            text.filter(|text| !text.contains(&format!("\"{name}\":"))).unwrap_or("null".into())
        }
        _ => unreachable!(),
    };
    let mut text = text.into_bytes();
    if seed.below(40) == 0 && text.first() == Some(&b'"') {
        // A byte of Latin-1, which is not UTF-8.
        text.insert(1, 0xe9);
    }
    let whole = message.to_string();
    let (before, after) = whole.split_once("\"@here@\"").unwrap_or((&whole, ""));
    let bytes = [before.as_bytes(), &text, after.as_bytes()].concat();
    (bytes, pointer)
}

/// Asserts that each fault names the damaged value, and that no text contains a value.
fn assert_faults_name_damage(faults: &[Fault], pointer: &str, bytes: &[u8]) {
    // Exactly one of the two fields is set, so a fault may name either.
    let one_currency = |path: &str| path.replace("non_iso_currency", "currency");
    let damage = one_currency(&path(pointer));
    let context = || String::from_utf8_lossy(bytes).into_owned();
    assert!(!faults.is_empty(), "no fault for {damage}: {}", context());
    for fault in faults {
        let lies_in = |path: &str, place: &str| {
            path.strip_prefix(place)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        // An element that is not JSON is one fault, with the path of the element.
        let reported = one_currency(fault.path());
        let right = lies_in(&reported, &damage) || lies_in(&damage, &reported);
        assert!(right, "{fault} does not name {damage}: {}", context());
        let json = serde_json::to_value(fault).unwrap();
        assert_eq!(json["rule"], fault.rule().id());
        for text in [fault.to_string(), json["path"].to_string(), json["text"].to_string()] {
            assert!(!text.contains(MARK), "{text}");
        }
    }
}

/// Asserts that all elements except the damaged one are unchanged and in order.
fn assert_unchanged<T: PartialEq + std::fmt::Debug>(
    good: &[T],
    read: &[T],
    damaged: Option<usize>,
) {
    match damaged {
        None => assert_eq!(good, read),
        Some(index) => {
            assert_eq!(good[..index], read[..index]);
            let after = good.len() - index - 1;
            assert!(read.len() + 1 >= good.len() && read.len() <= good.len(), "{read:?}");
            assert_eq!(good[index + 1..], read[read.len() - after..]);
        }
    }
}

fn index(pointer: &str, list: &str) -> Option<usize> {
    pointer.strip_prefix(&format!("/{list}/"))?.split('/').next()?.parse().ok()
}

fn codes(user: &UserAccountInfoResponse, account: usize) -> &[TransferCode] {
    match user.accounts.get(account).map(|account| &account.kind) {
        Some(AccountKind::Depository(kind)) => kind.transfer_codes.as_deref().unwrap_or_default(),
        _ => &[],
    }
}

/// Returns all account and bank identifiers of a user.
fn identifiers(user: &UserAccountInfoResponse) -> Vec<String> {
    let mut found = Vec::new();
    for code in (0..user.accounts.len()).flat_map(|account| codes(user, account)) {
        match code {
            TransferCode::Ach(code) => {
                found.extend(
                    [code.account_number.expose(), &code.routing_number].map(str::to_owned),
                );
                found.extend(code.wire_routing_number.clone());
            }
            TransferCode::Eft(code) => found.extend(
                [code.account_number.expose(), &code.institution_number, &code.branch_number]
                    .map(str::to_owned),
            ),
            TransferCode::Bacs(code) => {
                found.extend([code.account_number.expose(), &code.sort_code].map(str::to_owned));
            }
            TransferCode::International(code) => {
                found.push(code.iban.expose().to_owned());
                found.extend(code.bic.clone());
            }
            _ => {}
        }
    }
    found
}

fn check_page(seed: &mut Seed) -> bool {
    let good: TransactionsResponse = vary(PAGE, seed);
    let (bytes, pointer) = damaged(&serde_json::to_value(&good).unwrap(), seed);
    let strict = decode::<TransactionsResponse>(&bytes);
    let read = tolerant::decode::<TransactionsResponse>(&bytes, &Limits::default());
    if let Ok(strict) = strict {
        // The tolerant reader reads a message that the strict reader accepts in the same way.
        let read = read.unwrap();
        assert!(read.faults.is_empty() && read.message == strict);
        return false;
    }
    let Ok(read) = read else {
        let of_message = ["/total", "/transactions"].contains(&&*pointer);
        assert!(of_message, "{pointer}: {}", String::from_utf8_lossy(&bytes));
        return true;
    };
    assert_faults_name_damage(&read.faults, &pointer, &bytes);
    if pointer != "/transactions" {
        assert_unchanged(
            &good.transactions,
            &read.message.transactions,
            index(&pointer, "transactions"),
        );
    }
    if pointer != "/securities" {
        assert_unchanged(&good.securities, &read.message.securities, index(&pointer, "securities"));
    }
    true
}

fn check_user(seed: &mut Seed) -> bool {
    let good: UserAccountInfoResponse = vary(USER, seed);
    let (bytes, pointer) = damaged(&serde_json::to_value(&good).unwrap(), seed);
    let strict = decode::<UserAccountInfoResponse>(&bytes);
    let read = tolerant::decode::<UserAccountInfoResponse>(&bytes, &Limits::default());
    if let Ok(strict) = strict {
        let read = read.unwrap();
        assert!(read.faults.is_empty() && read.message == strict);
        return false;
    }
    let Ok(read) = read else {
        let lists = ["/user_identity_id", "/identities", "/securities", "/accounts"];
        assert!(lists.contains(&&*pointer), "{pointer}: {}", String::from_utf8_lossy(&bytes));
        return true;
    };
    assert_faults_name_damage(&read.faults, &pointer, &bytes);
    let read = read.message;
    if pointer != "/identities" {
        assert_unchanged(&good.identities, &read.identities, index(&pointer, "identities"));
    }
    if pointer != "/securities" {
        assert_unchanged(&good.securities, &read.securities, index(&pointer, "securities"));
    }
    let account = index(&pointer, "accounts");
    if pointer != "/accounts" {
        assert_unchanged(&good.accounts, &read.accounts, account);
    }
    let known = identifiers(&good);
    for identifier in identifiers(&read) {
        assert!(known.contains(&identifier), "{pointer}: {}", String::from_utf8_lossy(&bytes));
    }
    // The other transfer codes and holdings of the account are unchanged.
    if let Some(at) = account
        && read.accounts.len() == good.accounts.len()
    {
        for (list, name) in [("transfer_codes", true), ("holdings", false)] {
            let Some(rest) = pointer.strip_prefix(&format!("/accounts/{at}/{list}")) else {
                continue;
            };
            let Some(within) = index(&format!("/x{rest}"), "x") else {
                continue;
            };
            if name {
                assert_unchanged(codes(&good, at), codes(&read, at), Some(within));
            } else if let (AccountKind::Investment(good), AccountKind::Investment(read)) =
                (&good.accounts[at].kind, &read.accounts[at].kind)
            {
                assert_unchanged(&good.holdings, &read.holdings, Some(within));
            }
            let mut account = read.accounts[at].clone();
            account.kind = good.accounts[at].kind.clone();
            assert_eq!(account, good.accounts[at]);
        }
    }
    true
}

#[test]
fn one_damage_costs_no_other_element() {
    let seeds = std::env::var("PX_DAMAGE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(800);
    let (mut refused, begin) = (0, 0xda_a9e);
    for number in begin..begin + seeds {
        let run = |check: fn(&mut Seed) -> bool| {
            let checked = std::panic::catch_unwind(|| check(&mut Seed::new(number)));
            checked.unwrap_or_else(|_| panic!("seed {number:#x}"))
        };
        refused += u64::from(run(check_page)) + u64::from(run(check_user));
    }
    // The strict reader refuses most damages.
    assert!(refused > seeds, "{refused} of {}", 2 * seeds);
}
