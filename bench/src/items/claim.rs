//! Many Items: claiming the next due batch, and a full batch of notifications.

use super::database::{self, FilledStore, INSTITUTIONS};
use crate::{
    Failure,
    report::{Report, median},
};
use chrono::{DateTime, TimeDelta, Utc};
use px_items::store::{NotificationRequest, NotifyBatch, NotifyOutcome};
use px_types::InstitutionId;
use std::time::Instant;

/// The number of Items per claim, and of entries per notification.
const BATCH: usize = 64;
const ENTRIES: usize = 2000;

/// The number of measured rounds, and of rounds before them.
const ROUNDS: usize = 200;
const WARM_UP: usize = 10;

/// The aims, in milliseconds.
const CLAIM_AIM_MS: f64 = 5.0;
const NOTIFY_AIM_MS: f64 = 50.0;

pub(crate) async fn measure(report: &mut Report, items: usize) {
    let claim = format!("items-claim: {BATCH} due of {items}, PostgreSQL");
    let notify = format!("items-claim: notification of {ENTRIES} among {items}, PostgreSQL");
    let (wants_claim, wants_notify) = (report.wants(&claim), report.wants(&notify));
    if !wants_claim && !wants_notify {
        return;
    }
    let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
    let filled = match database::postgres(items, now).await {
        Ok(filled) => filled,
        Err(error) => return report.not_run(&claim, &error.to_string()),
    };
    let wait = match filled.disk_wait(ROUNDS).await {
        Ok(times) => median(times),
        Err(error) => return report.not_run(&claim, &error.to_string()),
    };
    if wants_claim {
        line(report, &claim, claims(&filled, now).await, wait, CLAIM_AIM_MS);
    }
    if wants_notify {
        line(report, &notify, notifications(&filled, items, now).await, wait, NOTIFY_AIM_MS);
    }
}

/// Adds a line. `wait` is the time of an empty commit.
fn line(report: &mut Report, name: &str, times: Result<Vec<f64>, Failure>, wait: f64, aim: f64) {
    match times {
        Ok(times) => {
            let (middle, worst) = (median(times.clone()), percentile_99(times));
            let measured =
                format!("{middle:.2} ms, 99 %: {worst:.2} ms; an empty commit {wait:.2} ms");
            report.value(name, measured, &format!("≤ {aim} ms (99 %)"), worst <= aim);
        }
        Err(error) => report.not_run(name, &error.to_string()),
    }
}

/// Returns the milliseconds of each claim. Claimed Items are handed back for tomorrow, like
/// finished ones, so that the index gets as many dead entries as in use.
async fn claims(filled: &FilledStore, now: DateTime<Utc>) -> Result<Vec<f64>, Failure> {
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..WARM_UP + ROUNDS {
        let begun = Instant::now();
        let claimed = filled.store.claim(now, now + TimeDelta::minutes(10), BATCH).await?;
        let time = begun.elapsed();
        if claimed.len() != BATCH {
            return Err(format!("round {round}: {} Items were due", claimed.len()).into());
        }
        if round >= WARM_UP {
            times.push(time.as_secs_f64() * 1000.0);
        }
        let tomorrow = now + TimeDelta::hours(36);
        let back: Vec<_> =
            claimed.into_iter().map(|record| (record.id, record.fence, tomorrow)).collect();
        filled.store.hand_back(&back).await?;
    }
    Ok(times)
}

/// Returns the milliseconds of each batch of notifications, for distant Items of one institution.
async fn notifications(
    filled: &FilledStore,
    items: usize,
    now: DateTime<Utc>,
) -> Result<Vec<f64>, Failure> {
    let mut times = Vec::with_capacity(ROUNDS);
    let of_one = items / INSTITUTIONS;
    for round in 0..WARM_UP + ROUNDS {
        let bank = round % INSTITUTIONS;
        let institution: InstitutionId = format!("bank-{bank}").parse()?;
        let ask = NotificationRequest::Update { since: None };
        // Every seventh Item, with a different start each time, so that all Items are used.
        let entries = (0..ENTRIES).map(|index| {
            let place = (index * 7 + round * 13) % of_one;
            let number =
                if bank == 0 { (place + 1) * INSTITUTIONS } else { place * INSTITUTIONS + bank };
            (database::digest(number), ask)
        });
        let batch = NotifyBatch::new(institution, entries.collect(), now);
        let begun = Instant::now();
        let outcome = filled.store.notify(&batch).await?;
        let time = begun.elapsed();
        if outcome != NotifyOutcome::Applied {
            return Err(format!("round {round}: {outcome:?}").into());
        }
        if round >= WARM_UP {
            times.push(time.as_secs_f64() * 1000.0);
        }
    }
    Ok(times)
}

fn percentile_99(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let place = (times.len() * 99).div_ceil(100).saturating_sub(1);
    times.get(place).copied().unwrap_or(f64::NAN)
}
