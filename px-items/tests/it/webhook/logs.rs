//! Log output of the webhook sender.

use super::world::{Reply, World};
use std::{
    fmt::{Debug, Write as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Records every field of every span and event as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>, Arc<AtomicU64>);

struct Writer<'a>(&'a mut String);

impl Visit for Writer<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("px_")
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        span.record(&mut Writer(&mut self.0.lock().unwrap()));
        span::Id::from_u64(self.1.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut Writer(&mut self.0.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Writer(&mut self.0.lock().unwrap()));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn case_48_nothing_secret_is_logged_of_a_webhook() {
    let log = Log::default();
    // With a single subscriber, a callsite that another test reaches first would be cached as
    // disabled.
    let _second = tracing::Dispatch::new(log.clone());
    let guard = tracing::subscriber::set_default(log.clone());
    let world = World::new(|seen| match seen.second {
        0 => Reply::RetryAfter(429, "hunter2"),
        1..600 => Reply::NoConnection,
        _ if seen.body.contains("app-1\"") => Reply::Status(200),
        _ => Reply::Status(500),
    });
    world.queue("app", 3).await;
    let sender = world.sender();
    world.send_for(&sender, 26).await;
    drop(guard);
    assert_eq!(world.waiting().await, 0);
    let text = log.0.lock().unwrap().clone();
    for expected in ["https://app.example", "app-1", "delivered", "given up", "could not connect"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let headers = world.seen().into_iter().map(|seen| seen.header);
    let signatures = headers.map(|header| header[header.len() - 40..].to_owned());
    for secret in signatures.chain(["hunter2", "/hook", "NEW_ACCOUNTS"].map(str::to_owned)) {
        assert!(!text.contains(&secret), "{secret}");
    }
    let shown = format!("{sender:?}");
    assert!(!shown.contains("PRIVATE") && shown.contains("***"), "{shown}");
}
