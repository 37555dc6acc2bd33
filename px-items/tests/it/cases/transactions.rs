//! Cases 1–8, 10–13 and 21: transactions with changing ids, amounts or states.

use crate::row_store::{Row as _, RowStore, account, days, hour, id, pending, posted};
use proptest::prelude::*;
use px_items::merge::{Change, ReadWindow, Withholding, merge_transactions};
use px_types::{MAX_ID_BYTES, model::transaction::Transaction};
use std::collections::BTreeSet;

/// Two rows for one purchase: only the contents show that they belong together.
#[test]
fn case_01_a_posted_row_without_a_link_is_joined_with_its_pending_one() {
    let mut store = RowStore::with([pending("p", "12.50", "coffee")]);
    let merged = store.read(days(0, 30), [posted("q", "12.50", "coffee")], 10);
    assert_eq!((merged.joined, merged.ambiguous, merged.removed.len()), (1, 0, 0));
    assert_eq!(store.seen(), ["p 12.50 coffee posted"]);
}

/// A response about the user lacks the account, and the transactions of the account are complete.
#[test]
fn case_01_a_row_is_joined_while_its_account_is_not_listed() {
    let mut store = RowStore::with([pending("p", "12.50", "coffee"), pending("r", "7.00", "taxi")]);
    store.unlisted = [account("a")].into();
    let merged = store.read(days(0, 30), [posted("q", "12.50", "coffee")], 10);
    assert_eq!((merged.joined, merged.ambiguous, merged.removed.len()), (1, 0, 0));
    assert_eq!(store.seen(), ["p 12.50 coffee posted", "r 7.00 taxi pending"]);
}

/// One record with two ids: applications know the first, the partner uses the second.
#[test]
fn case_02_pending_and_posted_under_two_ids_are_one_record() {
    let mut store = RowStore::with([pending("p", "12.50", "coffee")]);
    store.read(days(0, 30), [posted("q", "12.50", "coffee")], 10);
    let known: Vec<_> = store.live().map(|known| (&known.id, &known.partner_id)).collect();
    assert_eq!(known, [(&id("p"), &id("q"))]);
    // Later changes come under the partner's id and reach the same record.
    store.read(days(0, 30), [posted("q", "12.50", "coffee bar")], 20);
    assert_eq!(store.seen(), ["p 12.50 coffee bar posted"]);
    // If the old id comes back beside it, it was another purchase, and there are two.
    let both = [posted("q", "12.50", "coffee bar"), pending("p", "12.50", "coffee")];
    let merged = store.read(days(0, 30), both, 30);
    assert_eq!((merged.writes.len(), merged.removed.len()), (1, 0));
    assert_eq!(store.seen().len(), 2);
}

#[test]
fn case_03_a_row_posts_under_its_own_id() {
    let mut store = RowStore::with([pending("p", "12.50", "coffee")]);
    store.read(days(0, 30), [posted("p", "12.50", "coffee")], 10);
    assert_eq!(store.seen(), ["p 12.50 coffee posted"]);
    // An older response does not make it pending again, a newer one does.
    let old = store.merge(days(0, 30), [pending("p", "12.50", "coffee")], 1);
    assert_eq!((old.writes, old.removed), (vec![], vec![]));
    store.read(days(0, 30), [pending("p", "12.50", "coffee")], 20);
    assert_eq!(store.seen(), ["p 12.50 coffee pending"]);
}

#[test]
fn case_04_an_amount_may_change_when_a_row_posts() {
    let mut store =
        RowStore::with([pending("p", "40.00", "dinner"), pending("q", "30.00", "taxi")]);
    let response = [posted("p", "54.00", "dinner"), posted("r", "36.00", "taxi")];
    let merged = store.read(days(0, 30), response, 10);
    assert_eq!((merged.joined, merged.collisions), (1, 0));
    assert_eq!(store.seen(), ["p 54.00 dinner posted", "q 36.00 taxi posted"]);
}

/// If two rows fit, none is joined, and the case is counted.
#[test]
fn case_05_a_row_is_joined_only_when_nothing_else_fits_on_either_side() {
    // Two pending, one posted.
    let two = [pending("p1", "5.00", "coffee"), pending("p2", "5.00", "coffee")];
    let mut store = RowStore::with(two.clone());
    let merged = store.read(days(0, 30), [posted("q", "5.00", "coffee")], 10);
    assert_eq!((merged.joined, merged.ambiguous), (0, 1));
    assert_eq!(store.seen(), ["q 5.00 coffee posted"]);
    // One pending, two posted.
    let mut store = RowStore::with([pending("p", "5.00", "coffee")]);
    let response = [posted("q1", "5.00", "coffee"), posted("q2", "5.00", "coffee")];
    let merged = store.read(days(0, 30), response, 10);
    assert_eq!((merged.joined, merged.ambiguous), (0, 2));
    assert_eq!(store.seen(), ["q1 5.00 coffee posted", "q2 5.00 coffee posted"]);
    // A chain: the row that seems to be alone has a rival on the other side.
    let mut store = RowStore::with([pending("p1", "5.00", "coffee"), pending("p2", "6.00", "tea")]);
    let response = [posted("q1", "5.00", "tea"), posted("q2", "6.00", "cake")];
    let merged = store.read(days(0, 30), response, 10);
    assert_eq!((merged.joined, merged.ambiguous), (0, 2));
    // A row that is still pending in the response is no candidate.
    let mut store = RowStore::with(two.clone());
    let [first, _] = two;
    let merged = store.read(days(0, 30), [first, posted("q", "5.00", "coffee")], 10);
    assert_eq!((merged.joined, merged.ambiguous), (1, 0));
    assert_eq!(store.seen(), ["p1 5.00 coffee pending", "p2 5.00 coffee posted"]);
}

/// Differences that prevent a join: account, unit, sign, date, or both amount and text.
#[test]
fn case_05_what_does_not_fit_is_not_joined() {
    let mut euro = posted("q", "5.00", "coffee");
    euro.unit = px_types::Unit::iso("EUR").unwrap();
    for other in [
        posted("q", "5.00", "coffee").of("b"),
        euro,
        posted("q", "-5.00", "coffee"),
        posted("q", "5.00", "coffee").made(14).posts(14),
        posted("q", "6.00", "tea"),
        // No purchase posts before it was made.
        posted("q", "5.00", "coffee").made(7).posts(8),
        posted("q", "5.00", "CB 1234").made(8).posts(9),
    ] {
        let mut store = RowStore::with([pending("p", "5.00", "coffee")]);
        let merged = store.read(days(0, 30), [other], 10);
        assert_eq!((merged.joined, merged.ambiguous, merged.removed.len()), (0, 0, 1));
        assert_eq!(store.seen().len(), 1);
    }
    // Three days are close enough, and the amount alone is sufficient.
    let mut store = RowStore::with([pending("p", "5.00", "coffee")]);
    let merged = store.read(days(0, 30), [posted("q", "5.00", "CB 1234").made(13).posts(13)], 10);
    assert_eq!(merged.joined, 1);
    // A row outside the window may still exist: it is not joined.
    let mut store = RowStore::with([pending("p", "5.00", "coffee")]);
    let merged = store.read(days(11, 30), [posted("q", "5.00", "coffee").made(11)], 10);
    assert_eq!((merged.joined, store.seen().len()), (0, 2));
}

/// One row posts with a tip, and another one equal to its earlier form is new: they are not
/// confused.
#[test]
fn case_04_a_pending_row_keeps_its_id_though_another_looks_as_it_did() {
    let mut store = RowStore::with([pending("p", "5.00", "coffee")]);
    let response = [posted("p", "6.00", "coffee"), pending("q", "5.00", "coffee")];
    let merged = store.read(days(0, 30), response, 10);
    assert_eq!(merged.collisions, 0);
    assert_eq!(store.seen(), ["p 6.00 coffee posted", "q 5.00 coffee pending"]);
}

#[test]
fn case_06_equal_purchases_stay_as_many_as_they_are() {
    let many: Vec<_> = (0..5).map(|n| posted(&format!("t{n}"), "3.00", "bus")).collect();
    let mut store = RowStore::with(many.clone());
    assert_eq!(store.seen().len(), 5);
    let merged = store.read(days(0, 30), many[1..].to_vec(), 10);
    assert_eq!(merged.removed, [(crate::row_store::account("a"), id("t0"))]);
    let merged = store.read(days(0, 30), many, 20);
    assert_eq!((merged.writes.len(), store.seen().len()), (1, 5));
}

#[test]
fn case_07_the_same_rows_under_new_ids_are_on_hold() {
    let rows = |prefix: &str| {
        let texts = ["rent", "bus", "bus", "salary"];
        let row = |(n, text)| posted(&format!("{prefix}{n}"), "3.00", text);
        texts.into_iter().enumerate().map(row).collect::<Vec<_>>()
    };
    let store = RowStore::with(rows("old"));
    let response = rows("new");
    let merged = store.merge(days(0, 30), response.clone(), 10);
    let suspect = merged.suspect.unwrap();
    assert_eq!((suspect.rows, suspect.another_customer), (4, false));
    assert_eq!(suspect.accounts, [account("a")].into());
    assert_eq!((merged.writes, merged.removed), (vec![], vec![]));
    // One known id does not hide it, since it may belong to those that were too few to judge.
    let with_known = |count: usize| {
        let more = rows("old").into_iter().take(count);
        response[count..].iter().cloned().chain(more).collect::<Vec<_>>()
    };
    assert!(store.merge(days(0, 30), with_known(1), 10).suspect.is_some());
    assert!(store.merge(days(0, 30), with_known(2), 10).suspect.is_none());
    // Three of four are too few.
    assert!(store.merge(days(0, 30), response[1..].to_vec(), 10).suspect.is_none());
    // Equal rows count as often as they are stored.
    let mut fewer = response;
    fewer.remove(1);
    assert!(store.merge(days(0, 30), fewer, 10).suspect.is_none());
}

/// Returns `count` rows of day 12. The first `edited` ones have another text.
fn many(prefix: &str, count: usize, edited: usize) -> Vec<Transaction> {
    let row = |n: usize| {
        let text = if n < edited { format!("edited {n}") } else { format!("row {n}") };
        posted(&format!("{prefix}{n}"), &format!("{n}.10"), &text)
    };
    (0..count).map(row).collect()
}

#[test]
fn case_07_forty_rows_under_new_ids_with_an_edited_text_are_on_hold() {
    let store = RowStore::with(many("old", 40, 0));
    for edited in [0, 1, 8] {
        let merged = store.merge(days(0, 30), many("new", 40, edited), 10);
        assert_eq!(merged.suspect.unwrap().rows, 40, "{edited}");
        assert_eq!((merged.writes, merged.removed), (vec![], vec![]), "{edited}");
    }
    // If more than a fifth were edited, it is not a renumbering. The unchanged rows stay.
    let merged = store.merge(days(0, 30), many("new", 40, 9), 10);
    assert_eq!((merged.suspect, merged.writes.len(), merged.removed.len()), (None, 40, 9));
    let renumbered = merged.writes.iter().filter(|write| write.change == Change::Renumbered);
    assert_eq!(renumbered.count(), 31);
}

#[test]
fn case_07_new_rows_are_imported_while_others_are_on_hold() {
    let store = RowStore::with(many("old", 10, 0));
    let mut response = many("new", 10, 1);
    response.push(posted("made-since", "99.00", "what was made since").made(20).posts(21));
    response.push(posted("backdated", "98.00", "found late").made(13).posts(14));
    let read = |last_good| {
        let mut read = ReadWindow::new(days(0, 30), response.clone(), crate::row_store::hour(10));
        read.last_good = last_good;
        let ids = response.iter().map(|row| row.id.clone()).collect();
        merge_transactions(&store.known(days(0, 30), &ids), read, &store.unlisted)
    };
    let merged = read(Some(crate::row_store::day(20)));
    assert_eq!(merged.suspect.unwrap().rows, 10);
    let written: Vec<_> = merged.writes.iter().map(|write| write.row.id.as_str()).collect();
    assert_eq!((written, merged.removed), (vec!["made-since"], vec![]));
    // Without a last good read no row is later than it.
    assert!(read(None).writes.is_empty());
}

/// A bank renumbers one of two accounts: rows of the other account do not hide it, and are read.
#[test]
fn case_07_one_of_two_accounts_under_new_ids_is_on_hold() {
    let of = |rows: Vec<Transaction>, account: &str| -> Vec<Transaction> {
        rows.into_iter().map(|row| row.of(account)).collect()
    };
    let mut rows = of(many("a", 6, 0), "a");
    rows.extend(of(many("b", 20, 0), "b"));
    let store = RowStore::with(rows);
    let mut response = of(many("other", 6, 0), "a");
    response.extend(of(many("b", 19, 0), "b"));
    let merged = store.merge(days(0, 30), response, 10);
    assert_eq!(merged.suspect.unwrap().accounts, [account("a")].into());
    assert_eq!(merged.removed, [(account("b"), id("b19"))], "the other account goes on");
}

#[test]
fn case_07_of_ten_rows_that_must_be_there_none_came() {
    for (stored, expected) in [(9, false), (10, true), (300, true)] {
        let store = RowStore::with(many("mine", stored, 0));
        let mut others = many("theirs", 12, 12);
        let merged = store.merge(days(0, 30), others.clone(), 10);
        let is_on_hold = merged.suspect.is_some_and(|suspect| suspect.another_customer);
        assert_eq!(is_on_hold, expected, "{stored}");
        assert_eq!(merged.writes.is_empty() && merged.removed.is_empty(), expected);
        // One known row identifies the customer.
        others.extend(many("mine", 1, 0));
        assert_eq!(store.merge(days(0, 30), others, 10).suspect, None);
        // So does one twin.
        let mut twin = many("theirs", 12, 12);
        twin.push(posted("twin", "0.10", "row 0"));
        assert_eq!(store.merge(days(0, 30), twin, 10).suspect, None);
    }
    // An empty window may be another customer's too, unless newer rows were recognized.
    let store = RowStore::with(many("mine", 12, 0));
    assert!(store.merge(days(0, 30), [], 10).suspect.is_some());
    let mut read = ReadWindow::new(days(0, 30), vec![], crate::row_store::hour(10));
    read.recognized = true;
    let known = store.known(days(0, 30), &BTreeSet::new());
    let merged = merge_transactions(&known, read, &store.unlisted);
    assert_eq!((merged.suspect, merged.removed.len()), (None, 12));
}

/// For one or two rows, changed ids are not put on hold: the rows continue and are never
/// duplicated.
#[test]
fn case_07_a_few_rows_under_new_ids_go_on_and_are_never_doubled() {
    let rows = |prefix: &str| {
        // One was made before the window that is read, one inside it; both posted inside it.
        let (rent, bus) = (
            posted(&format!("{prefix}0"), "3.00", "rent"),
            posted(&format!("{prefix}1"), "1.00", "bus"),
        );
        [rent.made(4), bus]
    };
    let mut store = RowStore::with(rows("first"));
    for (hour, prefix) in [(10, "second"), (20, "third"), (30, "fourth")] {
        let merged = store.read(days(8, 15), rows(prefix), hour);
        assert_eq!((merged.removed.len(), merged.absent.len()), (0, 0));
        assert_eq!(store.seen(), ["first0 3.00 rent posted", "first1 1.00 bus posted"]);
    }
    // If the partner files rows by the date on which they were made, the response says nothing
    // about rows that were made before.
    let merged = store.read(days(8, 15), [posted("fourth1", "1.00", "bus")], 40);
    assert_eq!((merged.removed.len(), merged.absent.len()), (0, 1));
}

/// A row near the window's edge came under another id, and a pending one like it did too: the posted
/// row is not the pending one.
#[test]
fn case_07_a_row_of_the_edge_under_a_new_id_is_not_joined_with_a_pending_one() {
    let at_the_edge = |id: &str| posted(id, "5.00", "shop").made(9).posts(9);
    let edited = posted("a2", "5.00", "shop!").made(9).posts(9);
    for posted in [at_the_edge("a2"), edited] {
        let mut store = RowStore::with([at_the_edge("a1"), pending("b1", "5.00", "cake")]);
        let rows = vec![posted, pending("b2", "5.00", "cake")];
        // Day 10 is judged in this window, and day 9 is not.
        let window = days(8, 30);
        let ids = rows.iter().map(|row| row.id.clone()).collect();
        let read = ReadWindow::new(window, rows.clone(), hour(10));
        let read = read.withholding(Some(Withholding::OneWindow(31)));
        let known = store.known(ReadWindow::reach(window), &ids);
        let merged = merge_transactions(&known, read, &BTreeSet::new());
        assert_eq!((merged.joined, merged.withheld_rows.len(), merged.removed.len()), (0, 1, 0));
        store.store(&merged, 11);
        assert_eq!(store.seen(), ["a1 5.00 shop posted", "b1 5.00 cake pending"]);
        // The window that decides has both of them in its middle.
        store.read(days(0, 30), rows, 20);
        assert_eq!(store.seen().len(), 2);
        assert!(store.seen().contains(&"b1 5.00 cake pending".to_owned()));
    }
}

/// The id of a pending row changed, and an equal row posted: the pending row may be either, and the
/// posted one keeps the id.
#[test]
fn case_09_a_pending_row_is_not_matched_with_another_while_an_equal_row_posts() {
    let mut rows = RowStore::with([pending("p1", "5.00", "coffee")]);
    let response = [posted("q", "5.00", "coffee"), pending("p2", "5.00", "coffee")];
    let merged = rows.read(days(0, 30), response, 10);
    assert_eq!((merged.joined, merged.removed.len()), (1, 0));
    assert_eq!(rows.seen(), ["p1 5.00 coffee posted", "p2 5.00 coffee pending"]);
}

/// Two pending rows differ only in a detail that changed in both responses: which is which is unknown.
#[test]
fn case_09_pending_rows_with_changed_ids_and_details_are_not_matched_by_chance() {
    let detailed = |id: &str, number: &str| {
        let mut row = pending(id, "5.00", "coffee");
        row.check_number = Some(number.to_owned());
        row
    };
    let mut rows = RowStore::with([detailed("p1", "1"), detailed("p2", "2")]);
    let merged = rows.read(days(0, 30), [detailed("q1", "3"), detailed("q2", "4")], 10);
    assert_eq!(merged.removed.len(), 2);
    assert_eq!(rows.seen(), ["q1 5.00 coffee pending", "q2 5.00 coffee pending"]);
}

/// An operator decided that they are the same: known rows keep their ids, other rows are handled as
/// usual.
#[test]
fn case_07_rows_under_new_ids_go_on_once_a_person_says_that_they_are_the_same() {
    let rows = |prefix: &str| {
        let texts = ["rent", "bus", "bus", "salary"];
        let row = |(n, text)| posted(&format!("{prefix}{n}"), "3.00", text);
        texts.into_iter().enumerate().map(row).collect::<Vec<_>>()
    };
    let mut store =
        RowStore::with(rows("old").into_iter().chain([pending("wait", "8.00", "fuel")]));
    let before = store.seen();
    let mut response = rows("new");
    response.push(pending("wait2", "8.00", "fuel"));
    response.push(posted("newer", "9.99", "what was made since"));
    let merged = store.read_renumbered(days(0, 30), response.clone(), 10);
    assert_eq!(merged.suspect, None);
    assert_eq!((merged.removed.len(), merged.collisions), (0, 0));
    let mut after = before.clone();
    after.push("newer 9.99 what was made since posted".to_owned());
    after.sort();
    assert_eq!(store.seen(), after, "each under the id that applications know");
    // The partner's new ids are stored from then on.
    let merged = store.read(days(0, 30), response.clone(), 20);
    assert_eq!((merged.writes, merged.removed), (vec![], vec![]));
    // One of two equal rows is removed and one row changes: as many rows stay as the partner has.
    response.remove(1);
    response[0].amount = "4.00".parse().unwrap();
    let third: Vec<_> = response
        .into_iter()
        .map(|mut row| {
            row.id = id(&format!("third-{}", row.id));
            row
        })
        .collect();
    let merged = store.read_renumbered(days(0, 30), third.clone(), 30);
    assert_eq!(merged.removed.len(), 2);
    assert_eq!(store.seen().len(), third.len());
}

/// The bank inserts a row before others, and each takes its neighbour's id.
#[test]
fn case_08_positions_that_shift_write_over_nothing() {
    let mut store = RowStore::with([posted("1", "1.00", "a"), posted("2", "2.00", "b")]);
    let response = [posted("1", "9.00", "x"), posted("2", "1.00", "a"), posted("3", "2.00", "b")];
    let merged = store.read(days(0, 30), response, 10);
    assert_eq!((merged.collisions, merged.removed.len()), (2, 0));
    let seen = store.seen();
    assert_eq!([&seen[0], &seen[2]], ["1 1.00 a posted", "2 2.00 b posted"]);
    assert!(seen[1].starts_with("1#") && seen[1].ends_with(" 9.00 x posted"), "{}", seen[1]);
}

/// An id comes back with another transaction: another account, or amount and date at once.
#[test]
fn case_08_an_id_that_came_back_as_another_transaction_is_kept_apart() {
    for other in [posted("1", "1.00", "a").of("b"), posted("1", "2.00", "a").made(20).posts(21)] {
        // The old row lies outside the window that is read: it may still exist.
        let mut store = RowStore::with([posted("1", "1.00", "a").made(2).posts(2)]);
        let merged = store.read(days(5, 30), [other.clone()], 10);
        assert_eq!((merged.collisions, merged.removed.len(), store.seen().len()), (1, 0, 2));
        // A window that covers both removes it.
        let merged = store.read(days(0, 30), [other], 20);
        assert_eq!((merged.removed.len(), store.seen().len()), (1, 1));
    }
    // Amount or date alone is a change.
    for same in [posted("1", "2.00", "a"), posted("1", "1.00", "a").posts(14)] {
        let mut store = RowStore::with([posted("1", "1.00", "a")]);
        let merged = store.read(days(0, 30), [same], 10);
        assert_eq!((merged.collisions, store.live().next().unwrap().id == id("1")), (0, true));
    }
}

#[test]
fn case_08_a_long_id_that_collides_still_gives_an_id() {
    let long = "é".repeat(MAX_ID_BYTES / 2);
    let mut store = RowStore::with([posted(&long, "1.00", "a")]);
    store.read(days(0, 30), [posted(&long, "1.00", "a").of("b")], 10);
    let ids: Vec<_> = store.live().map(|known| known.id.as_str().len()).collect();
    assert!(ids.iter().all(|length| *length <= MAX_ID_BYTES), "{ids:?}");
    assert_ne!(store.live().next().unwrap().id, id(&long));
}

/// Similar ids are distinguished.
#[test]
fn case_10_transaction_ids_are_compared_by_every_byte() {
    let ids = ["t1", "T1", "t1 ", " t1", "t10", "t", "t\u{301}1", "t-1", "é", "e\u{301}"];
    let rows = ids.map(|id| posted(id, "1.00", "a"));
    let store = RowStore::with(rows.clone());
    assert_eq!(store.seen().len(), ids.len());
    let mut store = store;
    let merged = store.read(days(0, 30), rows[1..].to_vec(), 10);
    assert_eq!(merged.removed.len(), 1);
}

/// Applications attach their own data to the id of a transaction: it stays over every change.
#[test]
fn case_11_what_applications_attach_to_an_id_stays_attached() {
    let mut store = RowStore::with([pending("p", "12.50", "coffee")]);
    for (hour, row) in [
        (10, posted("q", "15.00", "coffee")),
        (20, posted("q", "15.00", "COFFEE BAR")),
        (30, posted("q", "15.50", "COFFEE BAR")),
        (40, posted("q", "15.50", "COFFEE BAR").posts(13)),
    ] {
        let merged = store.read(days(0, 30), [row], hour);
        assert_eq!(merged.removed, []);
        assert_eq!(store.live().map(|known| &known.id).collect::<Vec<_>>(), [&id("p")]);
    }
    // Even after a temporary removal.
    store.read(days(0, 30), [], 50);
    assert_eq!(store.live().count(), 0);
    store.read(days(0, 30), [posted("q", "15.50", "COFFEE BAR").posts(13)], 60);
    assert_eq!(store.live().map(|known| &known.id).collect::<Vec<_>>(), [&id("p")]);
}

/// The removed row and its replacement are in one result, which a store commits as a whole.
#[test]
fn case_12_a_removal_and_what_replaces_it_come_together() {
    let mut store = RowStore::with([posted("old", "5.00", "coffee")]);
    let merged = store.merge(days(0, 30), [posted("new", "7.00", "coffee")], 10);
    assert_eq!((merged.writes.len(), merged.removed.len()), (1, 1));
    store.read(days(0, 30), [posted("new", "7.00", "coffee")], 10);
    assert_eq!(store.seen(), ["new 7.00 coffee posted"]);
}

#[test]
fn case_13_a_tombstone_wins_over_a_replay() {
    let row = || posted("t", "5.00", "coffee");
    let mut store = RowStore::with([row()]);
    store.read(days(0, 30), [], 10);
    // Its removal was stored in hour 11: a scan that began earlier has no effect on it.
    for began in [1, 10] {
        assert_eq!(store.merge(days(0, 30), [row()], began).writes, []);
    }
    let merged = store.read(days(0, 30), [row()], 12);
    assert_eq!(merged.writes[0].change, px_items::merge::Change::Added);
    assert_eq!(store.seen(), ["t 5.00 coffee posted"]);
}

/// A row that the bank dates back to before all read windows is found by the deep resync, and so is
/// a row that vanished there.
#[test]
fn case_21_a_late_row_below_the_watermark_is_found_by_a_wide_window() {
    let mut store = RowStore::with([posted("gone", "1.00", "a").made(2).posts(3)]);
    let late = || posted("late", "5.00", "b").made(3).posts(3);
    let recent = || posted("recent", "2.00", "c").made(25).posts(26);
    let merged = store.read(days(20, 30), [recent()], 10);
    assert_eq!((merged.removed.len(), merged.absent), (0, vec![]));
    let merged = store.read(days(0, 30), [recent(), late()], 20);
    assert_eq!((merged.writes.len(), merged.removed.len()), (1, 1));
    assert_eq!(store.seen(), ["late 5.00 b posted", "recent 2.00 c posted"]);
}

/// A row with two dates that no single window of a scan covers, however far apart they are: it is
/// removed if it is filed under neither date.
#[test]
fn case_21_a_row_that_vanished_between_two_windows_is_found_by_both_dates() {
    let row = || posted("t", "1.00", "a").made(2).posts(25);
    let mut store = RowStore::with([row()]);
    let merged = store.read(days(20, 30), [], 10);
    assert_eq!((merged.removed.len(), merged.absent.len()), (0, 1));
    let mut notes = px_items::sync_state::ScanNotes::default();
    notes.absent.extend(merged.absent);
    let ids: std::collections::BTreeSet<_> = notes.absent.keys().cloned().collect();
    let read_window = |store: &RowStore, window: px_client::Window, rows: Vec<_>| {
        let known = store.known(window, &ids);
        let mut scan = px_items::sync_state::HistoryScan::new(
            crate::row_store::day(30),
            crate::row_store::day(0),
            crate::row_store::hour(20),
        );
        scan.next_end = window.end();
        let read = px_items::merge::ReadWindow::new(window, rows, crate::row_store::hour(20));
        let read = read.of_scan(scan, notes.clone());
        px_items::merge::merge_transactions(&known, read, &[].into())
    };
    // The window between the two decides nothing, and a bank that files the row by the other date
    // has it.
    assert_eq!(read_window(&store, days(10, 19), vec![]).removed, []);
    assert_eq!(read_window(&store, days(0, 9), vec![row()]).removed, []);
    assert_eq!(read_window(&store, days(0, 9), vec![]).removed.len(), 1);
}

/// The bank dates a row back beyond the point where a scan lacked it: it exists, under another
/// date.
#[test]
fn case_21_a_row_that_was_dated_back_is_not_gone_in_the_window_of_its_other_date() {
    let mut store = RowStore::with([posted("t", "1.00", "a").made(2).posts(25)]);
    let now = posted("t", "1.00", "a").made(2).posts(15);
    let response = |window: px_client::Window| {
        let date = now.date();
        let inside = window.start() <= date && date <= window.end();
        if inside { vec![now.clone()] } else { vec![] }
    };
    store.scan(days(0, 29), 10, response, 10);
    assert_eq!(store.as_read(), std::slice::from_ref(&now));
}

proptest! {
    /// No response, however odd, makes the merge panic or store an id twice.
    #[test]
    fn case_49_no_answer_breaks_the_merge(
        first in prop::collection::vec((0_u8..6, 0_i64..3, 0_u8..2, 8_u64..13, any::<bool>()), 0..9),
        second in prop::collection::vec((0_u8..6, 0_i64..3, 0_u8..2, 8_u64..13, any::<bool>()), 0..9),
        cut in 0_u64..14,
    ) {
        let rows = |all: &[(u8, i64, u8, u64, bool)]| {
            let row = |(number, amount, account, date, posts): &(u8, i64, u8, u64, bool)| {
                let row = pending(&format!("t{number}"), &amount.to_string(), "same")
                    .of(&account.to_string()).made(*date);
                if *posts { row.posts(*date) } else { row }
            };
            all.iter().map(row).collect::<Vec<_>>()
        };
        let mut store = RowStore::default();
        for (hour, (window, rows)) in [
            (days(0, 30), rows(&first)),
            (days(cut, 30), rows(&second)),
            (days(0, 30), rows(&second)),
        ].into_iter().enumerate() {
            let merged = store.merge(window, rows.clone(), 10 * hour as i64 + 1);
            let mut ids: Vec<_> = merged.writes.iter().map(|write| &write.known.id).collect();
            ids.sort();
            ids.dedup();
            prop_assert_eq!(ids.len(), merged.writes.len());
            let gone = |id| merged.removed.iter().any(|(_, removed)| removed == id);
            prop_assert!(!ids.into_iter().any(gone));
            store.read(window, rows, 10 * hour as i64 + 1);
        }
    }
}
