//! Any response, damaged in one place in one of many ways, is read but for that place.

use px_types::{
    Fault, decode,
    model::{account::AccountKind, depository::TransferCode},
    partner::{TransactionsResponse, UserAccountInfoResponse},
    testing::{PAGE, Seed, USER, vary},
    tolerant::{self, Limits},
};
use serde_json::{Value, json};

/// What no text may repeat: every damage that brings a value of its own brings this one.
const MARK: &str = "918273645";

/// What is written in the place of a value. `None` takes the member away.
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

/// A place in a message: every member and every entry below a value.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Value::Array(entries) => {
            entries.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect()
        }
        _ => return,
    };
    for (name, value) in below {
        let at = format!("{at}/{name}");
        places(value, &at, out);
        out.push(at);
    }
}

/// The path of a place as faults write it.
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

/// A message with one damage: its bytes, and where the damage is.
fn damaged(message: &Value, seed: &mut Seed) -> (Vec<u8>, String) {
    let mut all = Vec::new();
    places(message, "", &mut all);
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
            // A list has no name to repeat.
            text.filter(|text| !text.contains(&format!("\"{name}\":"))).unwrap_or("null".into())
        }
        _ => unreachable!(),
    };
    let mut text = text.into_bytes();
    if seed.below(40) == 0 && text.first() == Some(&b'"') {
        // Text in Latin-1.
        text.insert(1, 0xe9);
    }
    let whole = message.to_string();
    let (before, after) = whole.split_once("\"@here@\"").unwrap_or((&whole, ""));
    let bytes = [before.as_bytes(), &text, after.as_bytes()].concat();
    (bytes, pointer)
}

/// Each fault names the damage, and no text repeats a value.
fn named(faults: &[Fault], pointer: &str, bytes: &[u8]) {
    // Exactly one of the two is set, so the one stands for the other.
    let one_currency = |path: &str| path.replace("non_iso_currency", "currency");
    let damage = one_currency(&path(pointer));
    let context = || String::from_utf8_lossy(bytes).into_owned();
    assert!(!faults.is_empty(), "nothing is told of {damage}: {}", context());
    for fault in faults {
        let lies_in = |path: &str, place: &str| {
            path.strip_prefix(place)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        // An element that is no JSON is one fault.
        let told = one_currency(fault.path());
        let right = lies_in(&told, &damage) || lies_in(&damage, &told);
        assert!(right, "{fault} does not name {damage}: {}", context());
        let json = serde_json::to_value(fault).unwrap();
        assert_eq!(json["rule"], fault.rule().id());
        for text in [fault.to_string(), json["path"].to_string(), json["text"].to_string()] {
            assert!(!text.contains(MARK), "{text}");
        }
    }
}

/// Every element but the damaged one is unchanged and in its place.
fn unchanged<T: PartialEq + std::fmt::Debug>(good: &[T], read: &[T], damaged: Option<usize>) {
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

/// Everything by which money finds an account.
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
        // What a strict reader takes, a tolerant one takes alike.
        let read = read.unwrap();
        assert!(read.faults.is_empty() && read.message == strict);
        return false;
    }
    let Ok(read) = read else {
        let of_message = ["/total", "/transactions"].contains(&&*pointer);
        assert!(of_message, "{pointer}: {}", String::from_utf8_lossy(&bytes));
        return true;
    };
    named(&read.faults, &pointer, &bytes);
    if pointer != "/transactions" {
        unchanged(&good.transactions, &read.message.transactions, index(&pointer, "transactions"));
    }
    if pointer != "/securities" {
        unchanged(&good.securities, &read.message.securities, index(&pointer, "securities"));
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
    named(&read.faults, &pointer, &bytes);
    let read = read.message;
    if pointer != "/identities" {
        unchanged(&good.identities, &read.identities, index(&pointer, "identities"));
    }
    if pointer != "/securities" {
        unchanged(&good.securities, &read.securities, index(&pointer, "securities"));
    }
    let account = index(&pointer, "accounts");
    if pointer != "/accounts" {
        unchanged(&good.accounts, &read.accounts, account);
    }
    let known = identifiers(&good);
    for identifier in identifiers(&read) {
        assert!(known.contains(&identifier), "{pointer}: {}", String::from_utf8_lossy(&bytes));
    }
    // The other transfer codes, and the other holdings, of the account are unchanged.
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
                unchanged(codes(&good, at), codes(&read, at), Some(within));
            } else if let (AccountKind::Investment(good), AccountKind::Investment(read)) =
                (&good.accounts[at].kind, &read.accounts[at].kind)
            {
                unchanged(&good.holdings, &read.holdings, Some(within));
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
    // Most damages are such that a strict reader refuses them.
    assert!(refused > seeds, "{refused} of {}", 2 * seeds);
}
