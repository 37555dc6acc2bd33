//! Every store keeps the promises of the trait: one suite, run over each.

use px_items::{
    random::SystemRandom,
    store::{MemoryStore, SqliteStore, StoreOptions, conformance::Fixture},
    vault::FileKeys,
};
use px_types::webhook::Environment;
use std::sync::Arc;

px_items::conformance!(memory, async {
    Some(Fixture::new(Arc::new(MemoryStore::new(Environment::Sandbox))))
});

fn options() -> StoreOptions {
    let keys = FileKeys::generate("tests", Arc::new(SystemRandom)).unwrap();
    StoreOptions::new(Environment::Sandbox, Arc::new(keys))
}

px_items::conformance!(sqlite, async {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("items.sqlite"), options()).await.unwrap();
    Some(Fixture::new(Arc::new(store)).keeping(folder))
});

px_items::conformance!(sqlite_in_memory, async {
    Some(Fixture::new(Arc::new(SqliteStore::in_memory(options()).await.unwrap())))
});
