//! Many Items: taking the next batch that is due, and a full batch of notifications.

use super::database::{self, Filled, INSTITUTIONS};
use crate::{
    Failure,
    report::{Report, median},
};
use chrono::{DateTime, TimeDelta, Utc};
use px_items::store::{NotifyAsk, NotifyBatch, NotifyOutcome};
use px_types::InstitutionId;
use std::time::Instant;

/// How many Items are claimed at once, and how many entries a notification has.
const BATCH: usize = 64;
const ENTRIES: usize = 2000;

/// How often each is done, and how often before it counts.
const ROUNDS: usize = 200;
const WARM_UP: usize = 10;

/// What is aimed at, in milliseconds.
const CLAIM_AIM: f64 = 5.0;
const NOTIFY_AIM: f64 = 50.0;

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
        line(report, &claim, claims(&filled, now).await, wait, CLAIM_AIM);
    }
    if wants_notify {
        line(report, &notify, notifications(&filled, items, now).await, wait, NOTIFY_AIM);
    }
}

/// `wait` is what the disk takes of it, whatever is stored.
fn line(report: &mut Report, name: &str, times: Result<Vec<f64>, Failure>, wait: f64, aim: f64) {
    match times {
        Ok(times) => {
            let (middle, worst) = (median(times.clone()), percentile_99(times));
            let measured =
                format!("{middle:.2} ms, 99 %: {worst:.2} ms; an empty commit {wait:.2} ms");
            report.figure(name, measured, &format!("≤ {aim} ms (99 %)"), worst <= aim);
        }
        Err(error) => report.not_run(name, &error.to_string()),
    }
}

/// Milliseconds of each claim. What was claimed is given back for tomorrow, as a worker does
/// that is done, so that the index gets the dead entries that it gets in use.
async fn claims(filled: &Filled, now: DateTime<Utc>) -> Result<Vec<f64>, Failure> {
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

/// Milliseconds of each batch of notifications, over Items of one institution that lie apart.
async fn notifications(
    filled: &Filled,
    items: usize,
    now: DateTime<Utc>,
) -> Result<Vec<f64>, Failure> {
    let mut times = Vec::with_capacity(ROUNDS);
    let of_one = items / INSTITUTIONS;
    for round in 0..WARM_UP + ROUNDS {
        let bank = round % INSTITUTIONS;
        let institution: InstitutionId = format!("bank-{bank}").parse()?;
        let ask = NotifyAsk::Update { since: None };
        // Every seventh and on from another one each time, so that all get their turn.
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
