//! The store on PostgreSQL keeps the promises of the trait, and some of its own.

use px_items::{
    store::{PostgresStore, StoreOptions, conformance::Fixture},
    testing::postgres::database,
    vault::{Envelope, Sealed, VaultError},
};
use px_types::webhook::Environment;
use std::sync::Arc;
use url::Url;
use zeroize::Zeroizing;

/// Seals nothing, but tells rows apart.
#[derive(Debug)]
struct Glass;

impl Envelope for Glass {
    fn seal(&self, plain: &[u8], row: &str) -> Result<Sealed, VaultError> {
        let bytes = [row.as_bytes(), b"\n", plain].concat();
        Ok(Sealed::new("glass".to_owned(), bytes))
    }

    fn open(&self, sealed: &Sealed, row: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let head = [row.as_bytes(), b"\n"].concat();
        let plain = sealed.bytes.strip_prefix(&head[..]).ok_or(VaultError::Damaged)?;
        Ok(Zeroizing::new(plain.to_vec()))
    }
}

/// A store with so many connections, as one machine has it.
pub(super) async fn store(url: &Url, connections: u32) -> PostgresStore {
    let options = StoreOptions::new(Environment::Sandbox, Arc::new(Glass));
    PostgresStore::connect(url, connections, options).await.unwrap()
}

px_items::conformance!(conformance, async {
    let url = database().await?;
    Some(Fixture::new(Arc::new(store(&url, 8).await)))
});

#[tokio::test]
async fn nothing_of_the_password_is_in_debug() {
    let Some(url) = database().await else { return };
    let text = format!("{:?}", store(&url, 1).await);
    assert!(!text.contains(url.password().unwrap()), "{text}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_said_to_be_out_of_reach() {
    let Some(mut url) = database().await else { return };
    url.set_path("no_such_database");
    let options = StoreOptions::new(Environment::Sandbox, Arc::new(Glass));
    let error = PostgresStore::connect(&url, 1, options).await.unwrap_err();
    assert_eq!(error.to_string(), "the database refused a statement: SQLSTATE 3D000");
}
