//! A conformance suite for implementations of [`GrantStore`].
//!
//! ```
//! # async fn run() {
//! use px_server::oauth::store::{MemoryGrantStore, conformance};
//! conformance::check(&MemoryGrantStore::new()).await.unwrap();
//! # }
//! ```

use super::{GrantStore, StoreError, Swap};
use crate::{
    PermittedAccounts,
    oauth::{GrantRecord, grant::NewTokenDigests},
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use px_core::Digest;
use px_types::{ClientId, ScopeSet, UserId};
use std::collections::BTreeSet;

/// Runs the whole suite. The store must be empty.
///
/// # Errors
/// If the store violates the contract; the error names the violation.
pub async fn check(store: &dyn GrantStore) -> Result<(), StoreError> {
    finds_what_was_created(store).await?;
    swaps_only_the_version_that_was_read(store).await?;
    lets_one_of_many_swaps_win(store).await?;
    replaces_what_a_record_is_found_by(store).await?;
    lists_by_principal(store).await?;
    purges_what_is_over(store).await
}

const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters";
const REDIRECT: &str = "https://client.example/callback";

fn ensure(condition: bool, text: &str) -> Result<(), StoreError> {
    if condition { Ok(()) } else { Err(text.into()) }
}

fn start() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
}

fn client() -> Result<ClientId, StoreError> {
    Ok(ClientId::new("conformance-client")?)
}

fn record(id: &str, principal: &str) -> Result<GrantRecord, StoreError> {
    let accounts = PermittedAccounts::Only(BTreeSet::new());
    let ends = start() + TimeDelta::days(396);
    let principal = UserId::new(principal)?;
    let scopes = ScopeSet::defaults();
    let record = GrantRecord::new(id, principal, client()?, scopes, accounts, start(), ends);
    let challenge = Digest::of(VERIFIER).to_string();
    let code = Digest::of(format!("code of {id}"));
    Ok(record.with_code(code, REDIRECT, Some(challenge), start() + TimeDelta::minutes(1)))
}

/// Returns the record after its code was redeemed.
fn redeemed(record: &GrantRecord) -> Result<GrantRecord, StoreError> {
    let digest = |what: &str| Digest::of(format!("{what} of {}", record.id));
    let (access, family, refresh) = (digest("access"), digest("family"), digest("refresh"));
    let digests = NewTokenDigests::new(access, family, refresh, TimeDelta::minutes(15));
    let (code, client) = (digest("code"), client()?);
    let step = record.redeem(&code, &client, Some(REDIRECT), Some(VERIFIER), &digests, start());
    step.record.ok_or_else(|| "the suite's own record could not be redeemed".into())
}

async fn finds_what_was_created(store: &dyn GrantStore) -> Result<(), StoreError> {
    let created = record("found", "finder")?;
    store.create(created.clone()).await?;
    let by_digest = store.find(&Digest::of("code of found")).await?;
    let by_digest = by_digest.ok_or("a created record is not found by its code")?;
    ensure(*by_digest.record == created, "a record does not come back as it was stored")?;
    let by_id = store.find_by_id("found").await?;
    let by_id = by_id.ok_or("a created record is not found by its id")?;
    ensure(by_id.version == by_digest.version, "two reads of one record differ in version")?;
    let unknown = store.find(&Digest::of("code of nobody")).await?;
    ensure(unknown.is_none(), "an unknown digest finds a record")?;
    ensure(store.find_by_id("nobody").await?.is_none(), "an unknown id finds a record")?;
    ensure(store.create(created).await.is_err(), "a record can be created twice")?;
    let mut other = record("other", "finder")?;
    other.code = record("found", "finder")?.code;
    ensure(store.create(other).await.is_err(), "two records can have one code")
}

async fn swaps_only_the_version_that_was_read(store: &dyn GrantStore) -> Result<(), StoreError> {
    store.create(record("swapped", "swapper")?).await?;
    let read = store.find_by_id("swapped").await?.ok_or("a created record is not found")?;
    let next = redeemed(&read.record)?;
    let first = store.swap(read.version, next.clone()).await?;
    ensure(first == Swap::Done, "a swap of the version that was read is lost")?;
    let stale = store.swap(read.version, record("swapped", "swapper")?).await?;
    ensure(stale == Swap::Lost, "a swap of an older version is done")?;
    let now = store.find_by_id("swapped").await?.ok_or("a swapped record is gone")?;
    ensure(*now.record == next, "a lost swap changed the record, or a done one did not")?;
    ensure(now.version != read.version, "a swap did not change the version")?;
    let missing = store.swap(read.version, record("missing", "swapper")?).await?;
    ensure(missing == Swap::Lost, "a swap of a record that does not exist is done")?;
    ensure(store.find_by_id("missing").await?.is_none(), "a lost swap created a record")
}

async fn lets_one_of_many_swaps_win(store: &dyn GrantStore) -> Result<(), StoreError> {
    store.create(record("raced", "racer")?).await?;
    let read = store.find_by_id("raced").await?.ok_or("a created record is not found")?;
    let next = redeemed(&read.record)?;
    let swaps = join_all((0..16).map(|_| store.swap(read.version, next.clone()))).await;
    let mut done = 0;
    for swap in swaps {
        done += usize::from(swap? == Swap::Done);
    }
    ensure(done == 1, "of many concurrent swaps of one version, not exactly one is done")
}

async fn replaces_what_a_record_is_found_by(store: &dyn GrantStore) -> Result<(), StoreError> {
    store.create(record("indexed", "indexer")?).await?;
    let read = store.find_by_id("indexed").await?.ok_or("a created record is not found")?;
    let next = redeemed(&read.record)?;
    store.swap(read.version, next.clone()).await?;
    for what in ["code", "access", "family"] {
        let found = store.find(&Digest::of(format!("{what} of indexed"))).await?;
        ensure(
            found.is_some_and(|found| found.record.id == "indexed"),
            "a swapped record is not found by each of its digests",
        )?;
    }
    let read = store.find_by_id("indexed").await?.ok_or("a swapped record is gone")?;
    let mut without = next;
    without.access.clear();
    store.swap(read.version, without).await?;
    let gone = store.find(&Digest::of("access of indexed")).await?;
    ensure(gone.is_none(), "a record is found by a digest that it no longer has")
}

async fn lists_by_principal(store: &dyn GrantStore) -> Result<(), StoreError> {
    for id in ["listed-1", "listed-2"] {
        store.create(record(id, "lister")?).await?;
    }
    let listed = store.find_by_principal(&UserId::new("lister")?).await?;
    let ids: BTreeSet<_> = listed.iter().map(|found| found.record.id.as_str()).collect();
    ensure(
        ids == BTreeSet::from(["listed-1", "listed-2"]) && listed.len() == 2,
        "the listed grants are not exactly those of the principal",
    )?;
    let nobody = store.find_by_principal(&UserId::new("Lister")?).await?;
    ensure(nobody.is_empty(), "principals are not compared byte by byte")
}

async fn purges_what_is_over(store: &dyn GrantStore) -> Result<(), StoreError> {
    store.create(record("brief", "purger")?).await?;
    store.create(record("lasting", "purger")?).await?;
    let read = store.find_by_id("lasting").await?.ok_or("a created record is not found")?;
    store.swap(read.version, redeemed(&read.record)?).await?;
    ensure(store.purge(start()).await? == 0, "a record is purged before it expires")?;
    store.purge(start() + TimeDelta::minutes(1)).await?;
    ensure(store.find_by_id("brief").await?.is_none(), "an expired record is not purged")?;
    let digest = store.find(&Digest::of("code of brief")).await?;
    ensure(digest.is_none(), "a purged record is found by its code")?;
    ensure(store.find_by_id("lasting").await?.is_some(), "a record with live tokens is purged")?;
    store.purge(start() + TimeDelta::days(397)).await?;
    let left = store.find_by_principal(&UserId::new("purger")?).await?;
    ensure(left.is_empty(), "a purged record is still listed")
}
