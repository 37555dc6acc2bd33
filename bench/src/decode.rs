//! Decoding: the public types against plain structs of strings.

use crate::{
    Plan, data, plain,
    report::{self, Report},
};
use px_types::{
    partner::TransactionsResponse,
    tolerant::{self, Limits},
};
use std::{hint::black_box, time::Instant};

pub(crate) fn measure(report: &mut Report, plan: Plan) {
    const NAME: &str = "decode a page of 500";
    if !report.wants(NAME) {
        return;
    }
    let page = TransactionsResponse::new(500_u64, data::transactions(500));
    let bytes = px_types::wire::encode(&page);
    let (mut px, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds * 2 {
        px.push(time(plan, || {
            let page: TransactionsResponse = px_types::decode(&bytes).expect("a valid page");
            black_box(page);
        }));
        plain.push(time(plan, || {
            let page: plain::Page = serde_json::from_slice(&bytes).expect("a valid page");
            black_box(page);
        }));
    }
    let (px, plain) = (report::median(px), report::median(plain));
    report.at_most(
        NAME,
        format!("public types {px:.0} µs, structs of Strings {plain:.0} µs"),
        px / plain,
        1.3,
    );
}

/// Compares a page with one row of 500 that cannot be read strictly with a valid page.
pub(crate) fn measure_tolerant(report: &mut Report, plan: Plan) {
    const NAME: &str = "decode a page of 500 with one bad row";
    if !report.wants(NAME) {
        return;
    }
    let page = TransactionsResponse::new(500_u64, data::transactions(500));
    let good = px_types::wire::encode(&page);
    // The last row, so that the strict reader has read all others first.
    let mut bad = String::from_utf8_lossy(&good).into_owned();
    if let Some(at) = bad.rfind("\"amount\":\"") {
        bad.insert(at + 10, '+');
    }
    let read = |bytes: &[u8]| {
        tolerant::decode::<TransactionsResponse>(bytes, &Limits::default()).expect("a page")
    };
    assert_eq!(read(bad.as_bytes()).faults.len(), 1);
    let (mut good_times, mut bad_times) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds * 2 {
        good_times.push(time(plan, || drop(black_box(read(&good)))));
        bad_times.push(time(plan, || drop(black_box(read(bad.as_bytes())))));
    }
    let (good, bad) = (report::median(good_times), report::median(bad_times));
    report.at_most(NAME, format!("good {good:.0} µs, one bad row {bad:.0} µs"), bad / good, 4.0);
}

/// Returns the duration of one call, in microseconds.
fn time(plan: Plan, mut work: impl FnMut()) -> f64 {
    let begun = Instant::now();
    let mut calls = 0_u32;
    while begun.elapsed() < plan.turn / 4 {
        work();
        calls += 1;
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
}
