//! Every store keeps the promises of the trait: one suite, run over each. PostgreSQL's run of it
//! is in `postgres`.

mod sqlite;

use px_items::store::{
    MemoryStore,
    conformance::{Fixture, SharedCalendar, StepClock},
};
use px_types::webhook::Environment;
use std::sync::Arc;

px_items::conformance!(memory, async {
    let (clock, calendar) = (StepClock::default(), SharedCalendar::default());
    let store = MemoryStore::new(Environment::Sandbox)
        .shared_clock(Arc::new(calendar.clone()), Arc::new(clock.clone()));
    Some(Fixture::new(Arc::new(store)).clock(clock).calendar(calendar))
});
