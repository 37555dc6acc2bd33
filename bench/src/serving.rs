//! Serving: the service against a handler without checks, and its adapters and caches against each
//! other.

use crate::{Failure, Plan, bank, data, load, process::Server, report::Report, serve::Kind};

/// Returns the path of the page of 500 that all servers are requested for.
pub(crate) fn page_path() -> String {
    let (start, end, user) = (data::start(), data::end(), bank::USER);
    format!("/users/{user}/transactions?start_date={start}&end_date={end}&limit=500")
}

fn accounts_path() -> String {
    format!("/users/{}", bank::USER)
}

pub(crate) async fn measure(report: &mut Report, plan: Plan) {
    let (page, accounts) = (page_path(), accounts_path());
    let lines = [
        (
            "page of 500, service on axum / handler without checks",
            &page,
            [Kind::Axum, Kind::Handwritten],
            0.85,
        ),
        (
            "accounts, service on axum / handler without checks",
            &accounts,
            [Kind::Axum, Kind::Handwritten],
            0.8,
        ),
        ("page of 500, hyper adapter / axum", &page, [Kind::Hyper, Kind::Axum], 1.0),
        ("accounts, hyper adapter / axum", &accounts, [Kind::Hyper, Kind::Axum], 1.0),
        (
            "accounts, JWT from the cache / verified each time",
            &accounts,
            [Kind::Hyper, Kind::HyperCold],
            2.0,
        ),
    ];
    for (name, path, kinds, aim) in lines {
        if !report.wants(name) {
            continue;
        }
        match compare(plan, path, kinds).await {
            Ok((left, right)) => {
                let measured = format!("{left:.0}/s, {right:.0}/s");
                report.at_least(name, measured, left / right, aim);
            }
            Err(error) => report.not_run(name, &error.to_string()),
        }
    }
}

async fn compare(plan: Plan, path: &str, [left, right]: [Kind; 2]) -> Result<(f64, f64), Failure> {
    let (left, right) = (Server::start(left, 500).await?, Server::start(right, 500).await?);
    load::compare(plan, path, &left, &right).await
}
