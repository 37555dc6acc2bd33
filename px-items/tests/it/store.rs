//! Every store keeps the promises of the trait: one suite, run over each. PostgreSQL's run of it
//! is in `postgres`.

mod sqlite;

use px_items::store::{MemoryStore, conformance::Fixture};
use px_types::webhook::Environment;
use std::sync::Arc;

px_items::conformance!(memory, async {
    Some(Fixture::new(Arc::new(MemoryStore::new(Environment::Sandbox))))
});
