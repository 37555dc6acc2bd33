//! What `px run` shows: a live table on a terminal, lines elsewhere, or JSON.

mod live;

use crate::{
    context::Context,
    events::{Event, Line, outcome},
    failure::Result,
    output::{print, print_json},
};
use live::Live;
use px_items::engine::{Observed, Outcome};
use std::{io::IsTerminal as _, time::Duration};
use tokio::sync::mpsc::UnboundedReceiver;

/// The time between two pictures on a terminal.
const PICTURE: Duration = Duration::from_millis(250);

/// Shows events until there are no more. Ends early only when nobody reads what it prints.
pub(crate) async fn show(context: Context, mut events: UnboundedReceiver<Event>) -> Result<()> {
    if context.json {
        while let Some(event) = events.recv().await {
            if let Some(line) = Line::of(&event) {
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

/// One line for each update that ended.
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
    let mut picture = Live::new(&*context.store, context.now()).await;
    loop {
        let next = clock.elapsed() + PICTURE;
        // Everything that happens until the next picture goes into it.
        loop {
            let left = next.saturating_sub(clock.elapsed());
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => picture.take(&event),
                    None => {
                        return picture.finish(&*context.store, context.now()).await;
                    }
                },
                () = clock.sleep(left) => break,
            }
        }
        picture.draw(&*context.store, context.now()).await;
    }
}
