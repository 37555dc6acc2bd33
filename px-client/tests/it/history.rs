//! Long histories: complete, in order, fast, and with an error if they change.

use crate::scripted::{Bank, day, row, user_id};
use futures_util::{StreamExt as _, TryStreamExt as _};
use px_client::{Error, HistoryOptions, PageEvent, PagingFault, Window};
use px_core::{Clock as _, SystemClock};
use px_types::model::transaction::Transaction;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

const DAYS: u64 = 730;

async fn read(bank: &Bank) -> Result<Vec<Transaction>, Error> {
    let client = bank.client();
    client.transactions(&user_id(), day(0), day(DAYS - 1)).try_collect().await
}

fn expected(bank: &Bank) -> Vec<Transaction> {
    let mut rows = bank.rows.lock().unwrap().clone();
    rows.sort_by(|a, b| b.date().cmp(&a.date()).then(a.id.cmp(&b.id)));
    rows
}

#[tokio::test(start_paused = true)]
async fn every_size_is_read_whole_and_in_order() {
    for count in [0, 1, 499, 500, 501, 4_000, 4_001, 24_000] {
        for cursors in [true, false] {
            let mut bank = Bank::new(count, DAYS);
            bank.cursors = cursors;
            let rows = read(&bank).await.unwrap();
            assert!(rows == expected(&bank), "{count} rows, cursors {cursors}");
            if count <= 4_000 {
                // Pages by offset begin with the last row of the previous page.
                let more = if cursors { 500 } else { 499 };
                let pages = 1 + count.saturating_sub(500).div_ceil(more);
                assert_eq!(bank.requests(), pages, "a short history is read page after page");
                assert_eq!(bank.most_at_once.load(Ordering::SeqCst), 1);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_in_a_few_days() {
    for days in [1, 2, 30] {
        let bank = Bank::new(9_000, days);
        assert!(read(&bank).await.unwrap() == expected(&bank), "{days} days");
    }
}

#[tokio::test(start_paused = true)]
async fn five_times_faster_than_page_after_page() {
    let time = async |bank: &Bank, windows| {
        let clock = SystemClock::new();
        let mut options = HistoryOptions::default();
        options.concurrent_windows = windows;
        if windows == 1 {
            options.max_rows_uncut = u64::MAX;
        }
        let rows = bank.client().transactions_with(&user_id(), day(0), day(DAYS - 1), options);
        assert_eq!(rows.count().await, 24_000);
        clock.elapsed()
    };
    let mut bank = Bank::new(24_000, DAYS);
    bank.delay = Duration::from_millis(40);
    let slow = time(&bank, 1).await;
    let fast = time(&bank, HistoryOptions::default().concurrent_windows).await;
    assert!(slow >= fast * 5, "{slow:?} page after page, {fast:?} side by side");
    assert!(bank.most_at_once.load(Ordering::SeqCst) <= 16);
}

#[tokio::test(start_paused = true)]
async fn windows_that_are_too_long_are_split() {
    for longest in [1, 7, 30, 90, 365] {
        let mut bank = Bank::new(6_000, DAYS);
        bank.longest = Some(longest);
        assert!(read(&bank).await.unwrap() == expected(&bank), "{longest} days");
        let refused_and_read = DAYS.div_ceil(longest.div_ceil(2)) * 3 + 60;
        assert!(bank.requests() as u64 <= refused_and_read, "{} requests", bank.requests());
    }
    let mut bank = Bank::new(10, DAYS);
    bank.longest = Some(0);
    let error = read(&bank).await.unwrap_err();
    assert_eq!(error.error_id(), Some("window_too_long"));
}

#[tokio::test(start_paused = true)]
async fn a_partner_that_ignores_dates_is_read_all_the_same() {
    let mut bank = Bank::new(5_000, DAYS);
    bank.ignore_dates = true;
    assert!(read(&bank).await.unwrap() == expected(&bank));
}

#[tokio::test(start_paused = true)]
async fn a_partner_that_cannot_bear_it_is_asked_one_by_one() {
    let mut bank = Bank::new(12_000, DAYS);
    bank.delay = Duration::from_millis(40);
    bank.bears = 2;
    assert!(read(&bank).await.unwrap() == expected(&bank));
}

#[tokio::test(start_paused = true)]
async fn changes_across_windows_are_reported() {
    let mut bank = Bank::new(12_000, DAYS);
    // A row of today is added after the newest window was read.
    bank.hook = Arc::new(|number, rows| {
        if number == 24 {
            rows.lock().unwrap().push(row(99_999, day(DAYS - 1)));
        }
    });
    let error = read(&bank).await.unwrap_err();
    assert_eq!(error.paging_fault(), Some(PagingFault::ChangedWhileRead));
    assert!(error.to_string().contains("changed while it was read"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_two_windows_have_comes_once() {
    let mut bank = Bank::new(12_000, DAYS);
    // While the history is read, a row moves from the newest day to an old one.
    bank.hook = Arc::new(|number, rows| {
        if number == 20 {
            rows.lock().unwrap()[11_999].settled_at = Some(day(3).into());
        }
    });
    let rows = read(&bank).await.unwrap();
    assert_eq!(rows.len(), 12_000);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_fetched_before_it_is_asked_for() {
    let bank = Bank::new(24_000, DAYS);
    let client = bank.client();
    let mut rows = client.transactions(&user_id(), day(0), day(DAYS - 1));
    assert_eq!((bank.requests(), rows.total()), (0, None));
    rows.next().await.unwrap().unwrap();
    assert_eq!(rows.total(), Some(24_000));
    let after_one = bank.requests();
    assert!(after_one <= 1 + 16 * 2, "{after_one}");
    drop(rows);
    tokio::task::yield_now().await;
    assert_eq!(bank.requests(), after_one);
}

#[tokio::test(start_paused = true)]
async fn rows_outside_the_window_survive() {
    let mut bank = Bank::new(3, 3);
    bank.ignore_dates = true;
    let rows: Vec<_> =
        bank.client().transactions(&user_id(), day(1), day(1)).try_collect().await.unwrap();
    assert_eq!(rows.len(), 3);
    let none: Vec<_> =
        bank.client().transactions(&user_id(), day(1), day(0)).try_collect().await.unwrap();
    assert!(none.is_empty() && bank.requests() == 1);
}

#[tokio::test(start_paused = true)]
async fn pages_tell_of_a_restart() {
    let mut bank = Bank::new(1_200, 10);
    bank.cursors = false;
    bank.hook = Arc::new(|number, rows| {
        if number == 1 {
            rows.lock().unwrap().pop();
        }
    });
    let window = Window::new(day(0), day(30)).unwrap();
    let events: Vec<_> = bank.client().pages(&user_id(), window).try_collect().await.unwrap();
    let at = events.iter().position(|event| matches!(event, PageEvent::Restart)).unwrap();
    assert_eq!((at, events.len()), (1, 5));
}
