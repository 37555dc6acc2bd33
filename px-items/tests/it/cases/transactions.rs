//! Cases 1–8, 10–13 and 21: transactions that change their ids, their amounts, or their minds.

use crate::kept::{Kept, Row as _, account, days, hour, id, pending, posted};
use proptest::prelude::*;
use px_items::merge::{Change, ReadWindow, Withholding, merge_transactions};
use px_types::{MAX_ID_BYTES, model::transaction::Transaction};
use std::collections::BTreeSet;

/// Two rows for one purchase: nothing but the contents says that they belong together.
#[test]
fn case_01_a_posted_row_without_a_link_is_joined_with_its_pending_one() {
    let mut kept = Kept::with([pending("p", "12.50", "coffee")]);
    let merged = kept.read(days(0, 30), [posted("q", "12.50", "coffee")], 10);
    assert_eq!((merged.joined, merged.ambiguous, merged.removed.len()), (1, 0, 0));
    assert_eq!(kept.seen(), ["p 12.50 coffee posted"]);
}

/// One record, two ids: applications know it by the first, the partner by the second.
#[test]
fn case_02_pending_and_posted_under_two_ids_are_one_record() {
    let mut kept = Kept::with([pending("p", "12.50", "coffee")]);
    kept.read(days(0, 30), [posted("q", "12.50", "coffee")], 10);
    let known: Vec<_> = kept.live().map(|known| (&known.id, &known.partner_id)).collect();
    assert_eq!(known, [(&id("p"), &id("q"))]);
    // Later changes come under the partner's id and reach the same record.
    kept.read(days(0, 30), [posted("q", "12.50", "coffee bar")], 20);
    assert_eq!(kept.seen(), ["p 12.50 coffee bar posted"]);
    // The old id comes back beside it: then it was another purchase, and there are two.
    let both = [posted("q", "12.50", "coffee bar"), pending("p", "12.50", "coffee")];
    let merged = kept.read(days(0, 30), both, 30);
    assert_eq!((merged.writes.len(), merged.removed.len()), (1, 0));
    assert_eq!(kept.seen().len(), 2);
}

#[test]
fn case_03_a_row_posts_under_its_own_id() {
    let mut kept = Kept::with([pending("p", "12.50", "coffee")]);
    kept.read(days(0, 30), [posted("p", "12.50", "coffee")], 10);
    assert_eq!(kept.seen(), ["p 12.50 coffee posted"]);
    // An older answer does not make it pending again, a younger one does.
    let old = kept.merge(days(0, 30), [pending("p", "12.50", "coffee")], 1);
    assert_eq!((old.writes, old.removed), (vec![], vec![]));
    kept.read(days(0, 30), [pending("p", "12.50", "coffee")], 20);
    assert_eq!(kept.seen(), ["p 12.50 coffee pending"]);
}

#[test]
fn case_04_an_amount_may_change_when_a_row_posts() {
    let mut kept = Kept::with([pending("p", "40.00", "dinner"), pending("q", "30.00", "taxi")]);
    let answer = [posted("p", "54.00", "dinner"), posted("r", "36.00", "taxi")];
    let merged = kept.read(days(0, 30), answer, 10);
    assert_eq!((merged.joined, merged.collisions), (1, 0));
    assert_eq!(kept.seen(), ["p 54.00 dinner posted", "q 36.00 taxi posted"]);
}

/// Two that fit are worse than none: nothing is joined, and each case is counted.
#[test]
fn case_05_a_row_is_joined_only_when_nothing_else_fits_on_either_side() {
    // Two pending, one posted.
    let two = [pending("p1", "5.00", "coffee"), pending("p2", "5.00", "coffee")];
    let mut kept = Kept::with(two.clone());
    let merged = kept.read(days(0, 30), [posted("q", "5.00", "coffee")], 10);
    assert_eq!((merged.joined, merged.ambiguous), (0, 1));
    assert_eq!(kept.seen(), ["q 5.00 coffee posted"]);
    // One pending, two posted.
    let mut kept = Kept::with([pending("p", "5.00", "coffee")]);
    let answer = [posted("q1", "5.00", "coffee"), posted("q2", "5.00", "coffee")];
    let merged = kept.read(days(0, 30), answer, 10);
    assert_eq!((merged.joined, merged.ambiguous), (0, 2));
    assert_eq!(kept.seen(), ["q1 5.00 coffee posted", "q2 5.00 coffee posted"]);
    // A chain: the one that seems to be alone has a rival on the other side.
    let mut kept = Kept::with([pending("p1", "5.00", "coffee"), pending("p2", "6.00", "tea")]);
    let answer = [posted("q1", "5.00", "tea"), posted("q2", "6.00", "cake")];
    let merged = kept.read(days(0, 30), answer, 10);
    assert_eq!((merged.joined, merged.ambiguous), (0, 2));
    // One that is still pending in the answer is no candidate.
    let mut kept = Kept::with(two.clone());
    let [first, _] = two;
    let merged = kept.read(days(0, 30), [first, posted("q", "5.00", "coffee")], 10);
    assert_eq!((merged.joined, merged.ambiguous), (1, 0));
    assert_eq!(kept.seen(), ["p1 5.00 coffee pending", "p2 5.00 coffee posted"]);
}

/// What does not fit: account, unit, sign, date, or both amount and text.
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
        let mut kept = Kept::with([pending("p", "5.00", "coffee")]);
        let merged = kept.read(days(0, 30), [other], 10);
        assert_eq!((merged.joined, merged.ambiguous, merged.removed.len()), (0, 0, 1));
        assert_eq!(kept.seen().len(), 1);
    }
    // Three days are near enough, and the amount alone is.
    let mut kept = Kept::with([pending("p", "5.00", "coffee")]);
    let merged = kept.read(days(0, 30), [posted("q", "5.00", "CB 1234").made(13).posts(13)], 10);
    assert_eq!(merged.joined, 1);
    // One outside the window may still be there: it is not joined.
    let mut kept = Kept::with([pending("p", "5.00", "coffee")]);
    let merged = kept.read(days(11, 30), [posted("q", "5.00", "coffee").made(11)], 10);
    assert_eq!((merged.joined, kept.seen().len()), (0, 2));
}

/// One posts with a tip, and another one like it as it was is new: they are not mixed up.
#[test]
fn case_04_a_pending_row_keeps_its_id_though_another_looks_as_it_did() {
    let mut kept = Kept::with([pending("p", "5.00", "coffee")]);
    let answer = [posted("p", "6.00", "coffee"), pending("q", "5.00", "coffee")];
    let merged = kept.read(days(0, 30), answer, 10);
    assert_eq!(merged.collisions, 0);
    assert_eq!(kept.seen(), ["p 6.00 coffee posted", "q 5.00 coffee pending"]);
}

#[test]
fn case_06_equal_purchases_stay_as_many_as_they_are() {
    let many: Vec<_> = (0..5).map(|n| posted(&format!("t{n}"), "3.00", "bus")).collect();
    let mut kept = Kept::with(many.clone());
    assert_eq!(kept.seen().len(), 5);
    let merged = kept.read(days(0, 30), many[1..].to_vec(), 10);
    assert_eq!(merged.removed, [(crate::kept::account("a"), id("t0"))]);
    let merged = kept.read(days(0, 30), many, 20);
    assert_eq!((merged.writes.len(), kept.seen().len()), (1, 5));
}

#[test]
fn case_07_the_same_rows_under_new_ids_are_on_hold() {
    let rows = |prefix: &str| {
        let texts = ["rent", "bus", "bus", "salary"];
        let row = |(n, text)| posted(&format!("{prefix}{n}"), "3.00", text);
        texts.into_iter().enumerate().map(row).collect::<Vec<_>>()
    };
    let kept = Kept::with(rows("old"));
    let answer = rows("new");
    let merged = kept.merge(days(0, 30), answer.clone(), 10);
    let question = merged.question.unwrap();
    assert_eq!((question.rows, question.another_customer), (4, false));
    assert_eq!(question.accounts, [account("a")].into());
    assert_eq!((merged.writes, merged.removed), (vec![], vec![]));
    // One id that is known does not hide it: it may be of those that were too few to tell.
    let with_known = |count: usize| {
        let more = rows("old").into_iter().take(count);
        answer[count..].iter().cloned().chain(more).collect::<Vec<_>>()
    };
    assert!(kept.merge(days(0, 30), with_known(1), 10).question.is_some());
    assert!(kept.merge(days(0, 30), with_known(2), 10).question.is_none());
    // Three of four are too few.
    assert!(kept.merge(days(0, 30), answer[1..].to_vec(), 10).question.is_none());
    // Equal rows count as often as they are stored.
    let mut fewer = answer;
    fewer.remove(1);
    assert!(kept.merge(days(0, 30), fewer, 10).question.is_none());
}

/// So many rows of day 12, the first of which have another text if it is so wanted.
fn many(prefix: &str, count: usize, edited: usize) -> Vec<Transaction> {
    let row = |n: usize| {
        let text = if n < edited { format!("edited {n}") } else { format!("row {n}") };
        posted(&format!("{prefix}{n}"), &format!("{n}.10"), &text)
    };
    (0..count).map(row).collect()
}

#[test]
fn case_07_forty_rows_under_new_ids_with_an_edited_text_are_on_hold() {
    let kept = Kept::with(many("old", 40, 0));
    for edited in [0, 1, 8] {
        let merged = kept.merge(days(0, 30), many("new", 40, edited), 10);
        assert_eq!(merged.question.unwrap().rows, 40, "{edited}");
        assert_eq!((merged.writes, merged.removed), (vec![], vec![]), "{edited}");
    }
    // Of more than a fifth it is no renumbering any more. Those that did not change stay.
    let merged = kept.merge(days(0, 30), many("new", 40, 9), 10);
    assert_eq!((merged.question, merged.writes.len(), merged.removed.len()), (None, 40, 9));
    let renumbered = merged.writes.iter().filter(|write| write.change == Change::Renumbered);
    assert_eq!(renumbered.count(), 31);
}

#[test]
fn case_07_new_rows_are_imported_while_others_are_on_hold() {
    let kept = Kept::with(many("old", 10, 0));
    let mut answer = many("new", 10, 1);
    answer.push(posted("made-since", "99.00", "what was made since").made(20).posts(21));
    answer.push(posted("backdated", "98.00", "found late").made(13).posts(14));
    let read = |last_good| {
        let mut read = ReadWindow::new(days(0, 30), answer.clone(), crate::kept::hour(10));
        read.last_good = last_good;
        let ids = answer.iter().map(|row| row.id.clone()).collect();
        merge_transactions(&kept.known(days(0, 30), &ids), read, &kept.silent)
    };
    let merged = read(Some(crate::kept::day(20)));
    assert_eq!(merged.question.unwrap().rows, 10);
    let written: Vec<_> = merged.writes.iter().map(|write| write.row.id.as_str()).collect();
    assert_eq!((written, merged.removed), (vec!["made-since"], vec![]));
    // Without a last good read nothing is later than it.
    assert!(read(None).writes.is_empty());
}

/// A bank renumbers one of two accounts: the other one's rows do not hide it, and go on.
#[test]
fn case_07_one_of_two_accounts_under_new_ids_is_on_hold() {
    let of = |rows: Vec<Transaction>, account: &str| -> Vec<Transaction> {
        rows.into_iter().map(|row| row.of(account)).collect()
    };
    let mut rows = of(many("a", 6, 0), "a");
    rows.extend(of(many("b", 20, 0), "b"));
    let kept = Kept::with(rows);
    let mut answer = of(many("other", 6, 0), "a");
    answer.extend(of(many("b", 19, 0), "b"));
    let merged = kept.merge(days(0, 30), answer, 10);
    assert_eq!(merged.question.unwrap().accounts, [account("a")].into());
    assert_eq!(merged.removed, [(account("b"), id("b19"))], "the other account goes on");
}

#[test]
fn case_07_of_ten_rows_that_must_be_there_none_came() {
    for (stored, expected) in [(9, false), (10, true), (300, true)] {
        let kept = Kept::with(many("mine", stored, 0));
        let mut others = many("theirs", 12, 12);
        let merged = kept.merge(days(0, 30), others.clone(), 10);
        let is_held = merged.question.is_some_and(|question| question.another_customer);
        assert_eq!(is_held, expected, "{stored}");
        assert_eq!(merged.writes.is_empty() && merged.removed.is_empty(), expected);
        // One row that is known says whose they are.
        others.extend(many("mine", 1, 0));
        assert_eq!(kept.merge(days(0, 30), others, 10).question, None);
        // So does one twin.
        let mut twin = many("theirs", 12, 12);
        twin.push(posted("twin", "0.10", "row 0"));
        assert_eq!(kept.merge(days(0, 30), twin, 10).question, None);
    }
    // An empty window is another customer's too, unless newer rows were recognized.
    let kept = Kept::with(many("mine", 12, 0));
    assert!(kept.merge(days(0, 30), [], 10).question.is_some());
    let mut read = ReadWindow::new(days(0, 30), vec![], crate::kept::hour(10));
    read.recognized = true;
    let known = kept.known(days(0, 30), &BTreeSet::new());
    let merged = merge_transactions(&known, read, &kept.silent);
    assert_eq!((merged.question, merged.removed.len()), (None, 12));
}

/// Of one or two rows it is not asked whether all ids changed: they go on, and are never doubled.
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
    let mut kept = Kept::with(rows("first"));
    for (hour, prefix) in [(10, "second"), (20, "third"), (30, "fourth")] {
        let merged = kept.read(days(8, 15), rows(prefix), hour);
        assert_eq!((merged.removed.len(), merged.absent.len()), (0, 0));
        assert_eq!(kept.seen(), ["first0 3.00 rent posted", "first1 1.00 bus posted"]);
    }
    // Of a partner that files by the day on which a row was made, the answer says nothing of what
    // was made before.
    let merged = kept.read(days(8, 15), [posted("fourth1", "1.00", "bus")], 40);
    assert_eq!((merged.removed.len(), merged.absent.len()), (0, 1));
}

/// A row near the window's edge came under another id, and a pending one like it did too: the posted
/// row is not the pending one.
#[test]
fn case_07_a_row_of_the_edge_under_a_new_id_is_not_joined_with_a_pending_one() {
    let at_the_edge = |id: &str| posted(id, "5.00", "shop").made(9).posts(9);
    let edited = posted("a2", "5.00", "shop!").made(9).posts(9);
    for posted in [at_the_edge("a2"), edited] {
        let mut kept = Kept::with([at_the_edge("a1"), pending("b1", "5.00", "cake")]);
        let rows = vec![posted, pending("b2", "5.00", "cake")];
        // Day 10 is judged in this window, and day 9 is not.
        let window = days(8, 30);
        let ids = rows.iter().map(|row| row.id.clone()).collect();
        let read = ReadWindow::new(window, rows.clone(), hour(10));
        let read = read.withholding(Some(Withholding::OneWindow(31)));
        let known = kept.known(ReadWindow::reach(window), &ids);
        let merged = merge_transactions(&known, read, &BTreeSet::new());
        assert_eq!((merged.joined, merged.withheld_rows.len(), merged.removed.len()), (0, 1, 0));
        kept.store(&merged, 11);
        assert_eq!(kept.seen(), ["a1 5.00 shop posted", "b1 5.00 cake pending"]);
        // The window that decides has both of them in its middle.
        kept.read(days(0, 30), rows, 20);
        assert_eq!(kept.seen().len(), 2);
        assert!(kept.seen().contains(&"b1 5.00 cake pending".to_owned()));
    }
}

/// A person said that they are the same: then they are, and what else there is counts as it does.
#[test]
fn case_07_rows_under_new_ids_go_on_once_a_person_says_that_they_are_the_same() {
    let rows = |prefix: &str| {
        let texts = ["rent", "bus", "bus", "salary"];
        let row = |(n, text)| posted(&format!("{prefix}{n}"), "3.00", text);
        texts.into_iter().enumerate().map(row).collect::<Vec<_>>()
    };
    let mut kept = Kept::with(rows("old").into_iter().chain([pending("wait", "8.00", "fuel")]));
    let before = kept.seen();
    let mut answer = rows("new");
    answer.push(pending("wait2", "8.00", "fuel"));
    answer.push(posted("newer", "9.99", "what was made since"));
    let merged = kept.read_renumbered(days(0, 30), answer.clone(), 10);
    assert_eq!(merged.question, None);
    assert_eq!((merged.removed.len(), merged.collisions), (0, 0));
    let mut after = before.clone();
    after.push("newer 9.99 what was made since posted".to_owned());
    after.sort();
    assert_eq!(kept.seen(), after, "each under the id that applications know");
    // The partner's new ids are theirs from then on.
    let merged = kept.read(days(0, 30), answer.clone(), 20);
    assert_eq!((merged.writes, merged.removed), (vec![], vec![]));
    // One of two equal ones goes, one row is another now: as many stay as the partner has.
    answer.remove(1);
    answer[0].amount = "4.00".parse().unwrap();
    let third: Vec<_> = answer
        .into_iter()
        .map(|mut row| {
            row.id = id(&format!("third-{}", row.id));
            row
        })
        .collect();
    let merged = kept.read_renumbered(days(0, 30), third.clone(), 30);
    assert_eq!(merged.removed.len(), 2);
    assert_eq!(kept.seen().len(), third.len());
}

/// The bank puts a row in before others, and each takes its neighbour's id.
#[test]
fn case_08_positions_that_shift_write_over_nothing() {
    let mut kept = Kept::with([posted("1", "1.00", "a"), posted("2", "2.00", "b")]);
    let answer = [posted("1", "9.00", "x"), posted("2", "1.00", "a"), posted("3", "2.00", "b")];
    let merged = kept.read(days(0, 30), answer, 10);
    assert_eq!((merged.collisions, merged.removed.len()), (2, 0));
    let seen = kept.seen();
    assert_eq!([&seen[0], &seen[2]], ["1 1.00 a posted", "2 2.00 b posted"]);
    assert!(seen[1].starts_with("1#") && seen[1].ends_with(" 9.00 x posted"), "{}", seen[1]);
}

/// An id that comes back as another transaction: another account, or amount and date at once.
#[test]
fn case_08_an_id_that_came_back_as_another_transaction_is_kept_apart() {
    for other in [posted("1", "1.00", "a").of("b"), posted("1", "2.00", "a").made(20).posts(21)] {
        // The old one lies outside the window that is read: it may still be there.
        let mut kept = Kept::with([posted("1", "1.00", "a").made(2).posts(2)]);
        let merged = kept.read(days(5, 30), [other.clone()], 10);
        assert_eq!((merged.collisions, merged.removed.len(), kept.seen().len()), (1, 0, 2));
        // A window that covers both finds that it is gone.
        let merged = kept.read(days(0, 30), [other], 20);
        assert_eq!((merged.removed.len(), kept.seen().len()), (1, 1));
    }
    // Amount or date alone is a change.
    for same in [posted("1", "2.00", "a"), posted("1", "1.00", "a").posts(14)] {
        let mut kept = Kept::with([posted("1", "1.00", "a")]);
        let merged = kept.read(days(0, 30), [same], 10);
        assert_eq!((merged.collisions, kept.live().next().unwrap().id == id("1")), (0, true));
    }
}

#[test]
fn case_08_a_long_id_that_collides_still_gives_an_id() {
    let long = "é".repeat(MAX_ID_BYTES / 2);
    let mut kept = Kept::with([posted(&long, "1.00", "a")]);
    kept.read(days(0, 30), [posted(&long, "1.00", "a").of("b")], 10);
    let ids: Vec<_> = kept.live().map(|known| known.id.as_str().len()).collect();
    assert!(ids.iter().all(|length| *length <= MAX_ID_BYTES), "{ids:?}");
    assert_ne!(kept.live().next().unwrap().id, id(&long));
}

/// Ids that one might take for the same are not.
#[test]
fn case_10_transactions_ids_are_told_apart_by_every_byte() {
    let ids = ["t1", "T1", "t1 ", " t1", "t10", "t", "t\u{301}1", "t-1", "é", "e\u{301}"];
    let rows = ids.map(|id| posted(id, "1.00", "a"));
    let kept = Kept::with(rows.clone());
    assert_eq!(kept.seen().len(), ids.len());
    let mut kept = kept;
    let merged = kept.read(days(0, 30), rows[1..].to_vec(), 10);
    assert_eq!(merged.removed.len(), 1);
}

/// What applications keep beside a transaction hangs on its id: that stays over everything that
/// can happen to it.
#[test]
fn case_11_what_applications_attach_to_an_id_stays_attached() {
    let mut kept = Kept::with([pending("p", "12.50", "coffee")]);
    for (hour, row) in [
        (10, posted("q", "15.00", "coffee")),
        (20, posted("q", "15.00", "COFFEE BAR")),
        (30, posted("q", "15.50", "COFFEE BAR")),
        (40, posted("q", "15.50", "COFFEE BAR").posts(13)),
    ] {
        let merged = kept.read(days(0, 30), [row], hour);
        assert_eq!(merged.removed, []);
        assert_eq!(kept.live().map(|known| &known.id).collect::<Vec<_>>(), [&id("p")]);
    }
    // Even when it was gone for a while.
    kept.read(days(0, 30), [], 50);
    assert_eq!(kept.live().count(), 0);
    kept.read(days(0, 30), [posted("q", "15.50", "COFFEE BAR").posts(13)], 60);
    assert_eq!(kept.live().map(|known| &known.id).collect::<Vec<_>>(), [&id("p")]);
}

/// What goes and what takes its place are in one result, which a store keeps whole.
#[test]
fn case_12_a_removal_and_what_replaces_it_come_together() {
    let mut kept = Kept::with([posted("old", "5.00", "coffee")]);
    let merged = kept.merge(days(0, 30), [posted("new", "7.00", "coffee")], 10);
    assert_eq!((merged.writes.len(), merged.removed.len()), (1, 1));
    kept.read(days(0, 30), [posted("new", "7.00", "coffee")], 10);
    assert_eq!(kept.seen(), ["new 7.00 coffee posted"]);
}

#[test]
fn case_13_a_tombstone_wins_over_a_replay() {
    let row = || posted("t", "5.00", "coffee");
    let mut kept = Kept::with([row()]);
    kept.read(days(0, 30), [], 10);
    // Its removal was stored in hour 11: what was read before says nothing of it.
    for began in [1, 10] {
        assert_eq!(kept.merge(days(0, 30), [row()], began).writes, []);
    }
    let merged = kept.read(days(0, 30), [row()], 12);
    assert_eq!(merged.writes[0].change, px_items::merge::Change::Added);
    assert_eq!(kept.seen(), ["t 5.00 coffee posted"]);
}

/// A row that the bank dates back to before everything that is read is found by the deep resync,
/// a row that vanished there too.
#[test]
fn case_21_a_late_row_below_the_watermark_is_found_by_a_wide_window() {
    let mut kept = Kept::with([posted("gone", "1.00", "a").made(2).posts(3)]);
    let late = || posted("late", "5.00", "b").made(3).posts(3);
    let recent = || posted("recent", "2.00", "c").made(25).posts(26);
    let merged = kept.read(days(20, 30), [recent()], 10);
    assert_eq!((merged.removed.len(), merged.absent), (0, vec![]));
    let merged = kept.read(days(0, 30), [recent(), late()], 20);
    assert_eq!((merged.writes.len(), merged.removed.len()), (1, 1));
    assert_eq!(kept.seen(), ["late 5.00 b posted", "recent 2.00 c posted"]);
}

/// A row of two dates that no window of a walk covers, however far apart they are: it is gone when
/// it is neither where the one date is nor where the other is.
#[test]
fn case_21_a_row_that_vanished_between_two_windows_is_found_by_both_dates() {
    let row = || posted("t", "1.00", "a").made(2).posts(25);
    let mut kept = Kept::with([row()]);
    let merged = kept.read(days(20, 30), [], 10);
    assert_eq!((merged.removed.len(), merged.absent.len()), (0, 1));
    let mut notes = px_items::life::WalkNotes::default();
    notes.absent.extend(merged.absent);
    let ids: std::collections::BTreeSet<_> = notes.absent.keys().cloned().collect();
    let look = |kept: &Kept, window: px_client::Window, rows: Vec<_>| {
        let known = kept.known(window, &ids);
        let mut walk = px_items::life::Walk::new(
            crate::kept::day(30),
            crate::kept::day(0),
            crate::kept::hour(20),
        );
        walk.next_end = window.end();
        let read = px_items::merge::ReadWindow::new(window, rows, crate::kept::hour(20));
        let read = read.of_walk(walk, notes.clone());
        px_items::merge::merge_transactions(&known, read, &[].into())
    };
    // The window between the two says nothing, and a bank that files it by the other date has it.
    assert_eq!(look(&kept, days(10, 19), vec![]).removed, []);
    assert_eq!(look(&kept, days(0, 9), vec![row()]).removed, []);
    assert_eq!(look(&kept, days(0, 9), vec![]).removed.len(), 1);
}

/// The bank dates a row back past where a walk lacked it: it is there, under another date.
#[test]
fn case_21_a_row_that_was_dated_back_is_not_gone_in_the_window_of_its_other_date() {
    let mut kept = Kept::with([posted("t", "1.00", "a").made(2).posts(25)]);
    let now = posted("t", "1.00", "a").made(2).posts(15);
    let answer = |window: px_client::Window| {
        let date = now.date();
        let inside = window.start() <= date && date <= window.end();
        if inside { vec![now.clone()] } else { vec![] }
    };
    kept.walk(days(0, 29), 10, answer, 10);
    assert_eq!(kept.as_read(), std::slice::from_ref(&now));
}

proptest! {
    /// Nothing of an answer, however odd, ends the merge in a panic or stores an id twice.
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
        let mut kept = Kept::default();
        for (hour, (window, rows)) in [
            (days(0, 30), rows(&first)),
            (days(cut, 30), rows(&second)),
            (days(0, 30), rows(&second)),
        ].into_iter().enumerate() {
            let merged = kept.merge(window, rows.clone(), 10 * hour as i64 + 1);
            let mut ids: Vec<_> = merged.writes.iter().map(|write| &write.known.id).collect();
            ids.sort();
            ids.dedup();
            prop_assert_eq!(ids.len(), merged.writes.len());
            let gone = |id| merged.removed.iter().any(|(_, removed)| removed == id);
            prop_assert!(!ids.into_iter().any(gone));
            kept.read(window, rows, 10 * hour as i64 + 1);
        }
    }
}
