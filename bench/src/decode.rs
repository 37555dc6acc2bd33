//! Decoding: the public types against plain structs of strings.

use crate::{
    Plan, data, plain,
    report::{self, Report},
};
use px_types::partner::TransactionsResponse;
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

/// Microseconds that one call takes.
fn time(plan: Plan, mut work: impl FnMut()) -> f64 {
    let begun = Instant::now();
    let mut calls = 0_u32;
    while begun.elapsed() < plan.turn / 4 {
        work();
        calls += 1;
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
}
