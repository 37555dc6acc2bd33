//! `px sync`: updates one Item now.

use crate::{
    cli::Cli,
    context::{Context, no_item},
    events::{Event, EventFeed, ReportLine, changes, outcome, percent_fetched},
    failure::{Failure, Result},
    output::{count, print, print_above, print_json, seconds},
    partners::FilePartners,
};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use px_items::engine::{Engine, EngineError, EngineErrorKind, Observed, Outcome, Report};
use px_types::ItemId;
use std::{pin::pin, sync::Arc};

pub(crate) async fn run(cli: &Cli, context: &Context, item: &ItemId) -> Result<()> {
    let partners = FilePartners::read(&cli.common)?;
    let record = context.item(item).await?;
    partners.get(&record.institution_id)?;
    let (feed, mut events) = EventFeed::new(context.clock.clone());
    let engine = Engine::builder(context.store.clone(), Arc::new(partners))
        .clock(context.clock.clone())
        .observer(Arc::new(feed))
        .build();
    let mut progress = Progress::new();
    let mut work = pin!(engine.update(item));
    let report = loop {
        tokio::select! {
            report = &mut work => break report,
            Some(event) = events.recv() => progress.update(&event),
        }
    };
    progress.bar.finish_and_clear();
    print_report(context, &report.map_err(|error| refused(item, &error))?)
}

fn print_report(context: &Context, report: &Report) -> Result<()> {
    if context.json {
        print_json(&ReportLine::from(report))?;
    }
    let item = &report.item_id;
    if report.outcome != Outcome::Finished {
        return Err(Failure::items(format!("{item}: {}", outcome(report))));
    }
    if context.json {
        return Ok(());
    }
    let read = count(report.counts.rows_read, "transaction");
    print(format_args!("{}; {read} read in {}", changes(report), seconds(report.took)))
}

fn refused(item: &ItemId, error: &EngineError) -> Failure {
    match error.kind() {
        EngineErrorKind::NoSuchItem => no_item(item),
        EngineErrorKind::LoginRequired => {
            Failure::items(format!("{item}: the user must sign in again: `px link`"))
        }
        _ => Failure::because(format!("cannot sync {item}"), error),
    }
}

/// A progress bar, which is visible only on a terminal.
struct Progress {
    bar: ProgressBar,
    rows: u64,
}

impl Progress {
    fn new() -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(4));
        print_above(&bars);
        let bar = bars.add(ProgressBar::new(100));
        let form = "{spinner} {bar:30}  {percent:>3} %  {msg}";
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        Self { bar, rows: 0 }
    }

    fn update(&mut self, event: &Event) {
        match &event.what {
            Observed::UserRead { accounts, .. } => {
                self.bar
                    .set_message(count(u64::try_from(*accounts).unwrap_or_default(), "account"));
            }
            Observed::WindowRead { rows, left, .. } => {
                self.rows += rows;
                self.bar.set_message(count(self.rows, "transaction"));
                self.bar.set_position(left.map_or(100, percent_fetched));
            }
            _ => {}
        }
    }
}
