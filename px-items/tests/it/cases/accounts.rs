//! Cases 9 and 44: accounts that come under other ids, or are missing.

use crate::row_store::{Row as _, RowStore, account, days, id as other_id, posted};
use chrono::TimeDelta;
use px_items::merge::{
    Absences, AccountIds, AccountStanding, KnownAccount, MergedAccounts, RemapError, accept,
    merge_accounts, remap, updated,
};
use px_types::{model::account::AccountStatus, partner::UserAccountInfoResponse};
use serde_json::{Value, json};

fn listed(id: &str, mask: &str) -> Value {
    json!({
        "id": id, "type": "depository", "subtype": "checking", "name": "Checking",
        "display_mask": mask, "status": "active", "owner_identity_ids": ["i"],
        "current_balance": "1.00", "currency": "USD", "transfer_codes": [],
    })
}

fn response(accounts: &[Value]) -> UserAccountInfoResponse {
    serde_json::from_value(json!({
        "user_identity_id": "i", "identities": [{"id": "i", "name": "Ada"}],
        "securities": [], "accounts": accounts,
    }))
    .unwrap()
}

/// Applies a response. Checks that the same response again changes nothing, except that what it
/// lacks is judged again.
fn take(known: &mut Vec<KnownAccount>, accounts: &[Value]) -> MergedAccounts {
    let absences = absences(known);
    let merged = merge_accounts(known, response(accounts), &absences);
    *known = updated(std::mem::take(known), &merged.writes);
    let again = merge_accounts(known, response(accounts), &self::absences(known));
    let judged = |known: &KnownAccount| known.standing == AccountStanding::Closed;
    assert!(again.writes.iter().all(|write| judged(&write.known) && !write.new));
    merged
}

/// Returns absences in which every missing account has been missing for six hours.
fn absences(known: &[KnownAccount]) -> Absences {
    let now = crate::row_store::hour(6);
    let first = Absences::new([].into(), now - TimeDelta::hours(6), TimeDelta::hours(6));
    Absences::new(first.of(known), now, TimeDelta::hours(6))
}

/// Returns each account of the Item: own id, the partner's id, standing.
fn standings(known: &[KnownAccount]) -> Vec<String> {
    let text = |known: &KnownAccount| {
        format!("{} {} {}", known.account.id, known.partner_id, known.standing.as_str())
    };
    known.iter().map(text).collect()
}

fn first() -> Vec<KnownAccount> {
    let mut known = Vec::new();
    let merged = take(&mut known, &[listed("a", "1111"), listed("b", "2222")]);
    assert!(merged.writes.iter().all(|write| write.new));
    known
}

#[test]
fn case_44_an_account_is_closed_by_a_second_complete_answer_only_and_kept() {
    let mut known = first();
    let merged = take(&mut known, &[listed("b", "2222")]);
    assert_eq!(merged.writes.len(), 1);
    assert_eq!(standings(&known), ["a a missing", "b b listed"]);
    assert_eq!(known[0].account.status, AccountStatus::Active);
    assert!(AccountIds::of(&known).unlisted().contains(&account("a")));
    // A response that lists it restores it.
    take(&mut known, &[listed("a", "1111"), listed("b", "2222")]);
    assert_eq!(standings(&known), ["a a listed", "b b listed"]);
    assert!(AccountIds::of(&known).unlisted().is_empty());
    // Two responses without it close it; a third one changes nothing.
    for writes in [1, 1, 0] {
        assert_eq!(take(&mut known, &[listed("b", "2222")]).writes.len(), writes);
    }
    assert_eq!(standings(&known), ["a a closed", "b b listed"]);
    assert_eq!(known[0].account.status, AccountStatus::Closed);
    assert!(AccountIds::of(&known).unlisted().contains(&account("a")));
    // It comes back as the same account.
    let merged = take(&mut known, &[listed("a", "1111"), listed("b", "2222")]);
    assert_eq!((merged.writes.len(), merged.writes[0].new), (1, false));
    assert_eq!(known[0].account.status, AccountStatus::Active);
}

/// Rows of accounts that the partner does not list have not vanished; those of listed accounts are
/// read.
#[test]
fn case_44_rows_of_an_account_that_is_missing_stay() {
    let rows = [posted("t1", "1.00", "x").of("a"), posted("t2", "2.00", "y").of("b")];
    let mut store = RowStore::with(rows);
    let mut known = first();
    take(&mut known, &[listed("b", "2222")]);
    store.unlisted = AccountIds::of(&known).unlisted().clone();
    let merged = store.read(days(0, 30), [posted("t3", "3.00", "z").of("a")], 10);
    assert_eq!(merged.removed, [(account("b"), other_id("t2"))]);
    assert_eq!(store.seen(), ["t1 1.00 x posted", "t3 3.00 z posted"]);
}

#[test]
fn case_44_an_answer_without_any_account_closes_none() {
    let mut known = first();
    for _ in 0..3 {
        take(&mut known, &[]);
        assert_eq!(standings(&known), ["a a missing", "b b missing"]);
    }
    take(&mut known, &[listed("b", "2222")]);
    assert_eq!(standings(&known), ["a a closed", "b b listed"]);
}

#[test]
fn only_accounts_that_changed_are_written() {
    let mut known = first();
    let mut changed = listed("b", "2222");
    changed["current_balance"] = "1.50".into();
    let merged = take(&mut known, &[listed("a", "1111"), changed]);
    assert_eq!(merged.writes.len(), 1);
    assert_eq!(merged.writes[0].known.account.id, account("b"));
    assert!(!merged.writes[0].new && !merged.ids_changed);
}

#[test]
fn case_09_an_account_under_a_new_id_is_held_until_someone_decides() {
    let mut known = first();
    let both = [listed("a2", "1111"), listed("b", "2222")];
    for _ in 0..3 {
        let merged = take(&mut known, &both);
        assert!(merged.ids_changed && merged.writes.iter().all(|write| !write.new));
        // The account that it resembles is not closed meanwhile.
        assert_eq!(standings(&known), ["a a missing", "b b listed", "a2 a2 held"]);
    }
    // Its transactions may be stored already: they are not imported.
    let ids = AccountIds::of(&known);
    assert_eq!(ids.translate(vec![posted("t", "1.00", "x").of("a2")]), []);
    // A remap merges the two, under the id that applications know.
    let remapped = remap(&known, &account("a"), &account("a2")).unwrap();
    assert_eq!(remapped.forgotten, [account("a2")]);
    known.retain(|known| !remapped.forgotten.contains(&known.account.id));
    known = updated(known, &remapped.writes);
    assert_eq!(standings(&known), ["a a2 listed", "b b listed"]);
    let merged = take(&mut known, &both);
    assert!(!merged.ids_changed && merged.writes.is_empty());
    let rows = AccountIds::of(&known).translate(vec![posted("t", "1.00", "x").of("a2")]);
    assert_eq!(rows[0].account_id, account("a"));
    // The id that the partner gave first belongs to another account now, which gets an id of its
    // own.
    take(&mut known, &[listed("a2", "1111"), listed("b", "2222"), listed("a", "3333")]);
    let new = &known[2];
    assert_eq!(new.partner_id, account("a"));
    assert!(new.account.id.as_str().starts_with("a#"), "{:?}", new.account.id);
    let rows = AccountIds::of(&known).translate(vec![posted("t", "1.00", "x").of("a")]);
    assert_eq!(rows[0].account_id, new.account.id);
}

#[test]
fn case_09_a_held_account_is_accepted_as_its_own() {
    let mut known = first();
    let both = [listed("a2", "1111"), listed("b", "2222")];
    take(&mut known, &both);
    let accepted = accept(&known, &account("a2")).unwrap();
    assert!(accepted.writes[0].new && accepted.forgotten.is_empty());
    known = updated(known, &accepted.writes);
    assert!(!take(&mut known, &both).ids_changed);
    assert_eq!(standings(&known), ["a a closed", "b b listed", "a2 a2 listed"]);
}

/// If both are listed at once, they are two accounts.
#[test]
fn case_09_a_held_account_is_new_once_the_other_is_listed_beside_it() {
    let mut known = first();
    take(&mut known, &[listed("a2", "1111"), listed("b", "2222")]);
    let all = [listed("a", "1111"), listed("a2", "1111"), listed("b", "2222")];
    let merged = take(&mut known, &all);
    assert!(!merged.ids_changed);
    assert_eq!(standings(&known), ["a a listed", "b b listed", "a2 a2 listed"]);
    let new: Vec<_> = merged.writes.iter().filter(|write| write.new).collect();
    assert_eq!(new.len(), 1);
}

/// The partner returns to the old ids: the Item continues, and the accounts on hold are dropped.
#[test]
fn case_09_ids_that_go_back_need_nobody() {
    let mut known = first();
    take(&mut known, &[listed("a2", "1111"), listed("b", "2222")]);
    assert!(!take(&mut known, &[listed("a", "1111"), listed("b", "2222")]).ids_changed);
    assert_eq!(standings(&known), ["a a listed", "b b listed", "a2 a2 held"]);
}

#[test]
fn case_09_an_account_that_looks_like_no_missing_one_is_new() {
    let mut known = first();
    let mut savings = listed("s", "1111");
    savings["subtype"] = "savings".into();
    let mut euros = listed("e", "1111");
    euros["currency"] = "EUR".into();
    // The account with that mask is listed; the others differ from the missing one.
    let merged = take(&mut known, &[listed("a", "1111"), listed("twin", "1111"), savings, euros]);
    assert!(!merged.ids_changed);
    assert_eq!(merged.writes.iter().filter(|write| write.new).count(), 3);
}

/// Without a mask an account is matched by name and owners; one that closed long ago is not
/// matched.
#[test]
fn case_09_without_a_mask_the_name_tells() {
    let bare = |id: &str, name: &str| {
        let mut account = listed(id, "");
        account["name"] = name.into();
        account
    };
    let mut known = Vec::new();
    take(&mut known, &[bare("a", "Savings"), bare("b", "Daily")]);
    assert!(take(&mut known, &[bare("a2", "Savings"), bare("b", "Daily")]).ids_changed);
    let mut known = Vec::new();
    take(&mut known, &[bare("a", "Savings"), bare("b", "Daily")]);
    for _ in 0..2 {
        take(&mut known, &[bare("b", "Daily")]);
    }
    assert!(!take(&mut known, &[bare("a2", "Savings"), bare("b", "Daily")]).ids_changed);
    assert_eq!(standings(&known)[2], "a2 a2 listed");
}

#[test]
fn case_09_what_cannot_be_one_account_is_refused() {
    let mut known = first();
    let on_hold = account("a2");
    assert_eq!(remap(&known, &account("a"), &on_hold), Err(RemapError::NotOnHold(on_hold.clone())));
    assert_eq!(accept(&known, &account("a")), Err(RemapError::NotOnHold(account("a"))));
    take(&mut known, &[listed("a2", "1111"), listed("b", "2222")]);
    assert_eq!(remap(&known, &account("z"), &on_hold), Err(RemapError::Unknown(account("z"))));
    assert_eq!(remap(&known, &account("b"), &on_hold), Err(RemapError::StillListed(account("b"))));
    known[0].account.unit = px_types::Unit::iso("EUR").unwrap();
    assert_eq!(remap(&known, &account("a"), &on_hold), Err(RemapError::Incompatible(account("a"))));
}

#[test]
fn case_10_account_ids_are_compared_by_every_byte() {
    let ids = ["a", "A", "a ", " a", "aa", "á"];
    let accounts: Vec<_> =
        ids.iter().enumerate().map(|(n, id)| listed(id, &n.to_string())).collect();
    let mut known = Vec::new();
    take(&mut known, &accounts);
    assert_eq!(known.len(), ids.len());
    let ids_of = AccountIds::of(&known);
    for id in ids {
        let rows = ids_of.translate(vec![posted("t", "1.00", "x").of(id)]);
        assert_eq!(rows[0].account_id, account(id));
    }
}
