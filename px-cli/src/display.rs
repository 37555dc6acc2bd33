//! The output of `px run`: a live table on a terminal, otherwise lines of text or JSON.

mod live;

use crate::{
    context::Context,
    events::{Event, EventLine, outcome},
    failure::Result,
    output::{print, print_json},
};
use live::LiveTable;
use px_items::engine::{Observed, Outcome};
use std::{io::IsTerminal as _, time::Duration};
use tokio::sync::mpsc::UnboundedReceiver;

/// Interval between two updates of the terminal.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);

/// Shows events until the engine ends. Returns early only if standard output is closed.
pub(crate) async fn show(context: Context, mut events: UnboundedReceiver<Event>) -> Result<()> {
    if context.json {
        while let Some(event) = events.recv().await {
            if let Some(line) = EventLine::of(&event) {
                print_json(&line)?;
            }
        }
        return Ok(());
    }
    if !std::io::stderr().is_terminal() || !std::io::stdout().is_terminal() {
        while let Some(event) = events.recv().await {
            line(&event)?;
        }
        return Ok(());
    }
    live(&context, events).await;
    Ok(())
}

/// Prints a line for an update that ended.
fn line(event: &Event) -> Result<()> {
    match &event.what {
        Observed::Ended(report) if report.outcome != Outcome::Lost => {
            print(format_args!("{} {}", report.item_id, outcome(report)))
        }
        _ => Ok(()),
    }
}

async fn live(context: &Context, mut events: UnboundedReceiver<Event>) {
    let clock = &context.clock;
    let mut table = LiveTable::new(&*context.store, context.now()).await;
    loop {
        let next = clock.elapsed() + DRAW_INTERVAL;
        // All events until the next drawing are collected.
        loop {
            let left = next.saturating_sub(clock.elapsed());
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => table.update(&event),
                    None => {
                        return table.finish(&*context.store, context.now()).await;
                    }
                },
                () = clock.sleep(left) => break,
            }
        }
        table.draw(&*context.store, context.now()).await;
    }
}
