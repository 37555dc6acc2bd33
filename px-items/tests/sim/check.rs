//! Final checks, after a period without faults in which everything was read once more: the Items
//! have the data of the banks, and the readers have what they may see.

use crate::{
    application::User,
    bank::{Bank, Habit},
    witness::{rows::stable, tokens::grant_of},
    world::World,
};
use chrono::TimeDelta;
use px_client::Window;
use px_core::Clock as _;
use px_items::{
    item::State,
    merge::{AccountStanding, KnownAccount, KnownTransaction},
    store::{ItemRecord, TransactionQuery},
};
use px_types::{AccountId, Date, ItemId, TransactionId, UserId, model::transaction::Transaction};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Returns the window of all dates.
fn always() -> Window {
    Window::new(Date::from_ymd(2000, 1, 1).unwrap(), Date::from_ymd(2100, 1, 1).unwrap()).unwrap()
}

/// Checks all Items, and the data of their readers.
pub(crate) async fn everything(world: &World, users: &mut [User]) {
    for (item, institution, user) in world.witness.items() {
        let Some(bank) = world.witness.bank(&institution) else { continue };
        match world.store.item(&item).await.unwrap() {
            None => world.trace.wrong(format!("{item} of {user} is gone, and nobody left it")),
            Some(record) => one(world, &bank, &user, &record, users).await,
        }
    }
    authorizations(world).await;
    for what in world.witness.undelivered() {
        world.trace.wrong(what);
    }
}

async fn one(
    world: &World,
    bank: &Arc<Bank>,
    user: &UserId,
    record: &ItemRecord,
    users: &mut [User],
) {
    let item = &record.id;
    if !bank.has_transactions() {
        let accounts = world.store.accounts(item).await.unwrap();
        return same_accounts(world, bank, user, &accounts);
    }
    if record.state != State::Idle {
        world.trace.wrong(format!("{item} of {user} is {} in the end", record.state));
        return;
    }
    if let Some(suspicion) = record.sync_state.suspicion {
        world.trace.wrong(format!("{item} of {user} is under suspicion: {suspicion:?}"));
    }
    let accounts = world.store.accounts(item).await.unwrap();
    same_accounts(world, bank, user, &accounts);
    same_identities(world, bank, user, item).await;
    same_securities(world, bank, user, item).await;
    let rows = stored_rows(world, item).await;
    if record.needs_transactions {
        let known = world.store.known(item, always(), &[]).await.unwrap();
        same_rows(world, bank, user, (&accounts, &known, &rows));
    }
    for reader in users.iter_mut().filter(|reader| reader.item() == Some(item)) {
        same_replica(world, item, &rows, reader).await;
    }
}

async fn stored_rows(world: &World, item: &ItemId) -> BTreeMap<TransactionId, Transaction> {
    let query = TransactionQuery::new(always(), 100_000);
    let page = world.store.transactions(item, &query).await.unwrap();
    page.rows.into_iter().map(|row| (row.id.clone(), row)).collect()
}

/// Checks that every account of the bank is stored once and unchanged, and that accounts which the
/// bank no longer lists are closed.
fn same_accounts(world: &World, bank: &Bank, user: &UserId, known: &[KnownAccount]) {
    let ledgers = bank.ledgers();
    let Some(ledger) = ledgers.get(user) else { return };
    let mut ids = BTreeSet::new();
    for stored in known {
        let id = &stored.partner_id;
        if !ids.insert(id) {
            world.trace.wrong(format!("{user}: account {id} is there twice"));
        }
        let Some(listing) = ledger.accounts.get(id) else {
            world.trace.wrong(format!("{user}: account {id} is there, and not at the bank"));
            continue;
        };
        let expected =
            if listing.listed { AccountStanding::Listed } else { AccountStanding::Closed };
        if stored.standing != expected {
            let standing = stored.standing;
            world.trace.wrong(format!("{user}: account {id} is {standing:?}, not {expected:?}"));
        }
        let mut account = listing.account.clone();
        account.id = stored.account.id.clone();
        if listing.listed && account != stored.account {
            world.trace.wrong(format!("{user}: account {id} is not as the bank's"));
        }
    }
    for (id, _) in ledger.accounts.iter().filter(|(_, listing)| listing.listed) {
        if !ids.contains(id) {
            world.trace.wrong(format!("{user}: account {id} is missing"));
        }
    }
}

async fn same_identities(world: &World, bank: &Bank, user: &UserId, item: &ItemId) {
    let stored = world.store.identities(item).await.unwrap();
    let expected = bank.ledgers().get(user).map(|ledger| ledger.identity());
    let same = match (&stored, &expected) {
        (Some((id, all)), Some(expected)) => {
            *id == expected.id && all.as_slice() == std::slice::from_ref(expected)
        }
        _ => false,
    };
    if !same {
        world.trace.wrong(format!("{user}: the holder is not as the bank's"));
    }
}

/// Checks that every held security is stored unchanged.
async fn same_securities(world: &World, bank: &Bank, user: &UserId, item: &ItemId) {
    let stored = world.store.securities(item).await.unwrap();
    let ledgers = bank.ledgers();
    let Some(ledger) = ledgers.get(user) else { return };
    for security in ledger.held_securities() {
        let id = &security.id;
        match stored.iter().find(|stored| stored.id == *id) {
            None => world.trace.wrong(format!("{user}: security {id} is missing")),
            Some(stored) if stored != security => {
                world.trace.wrong(format!("{user}: security {id} is not as the bank's"));
            }
            Some(_) => {}
        }
    }
}

/// Checks that every transaction of the bank's listed accounts is stored once and unchanged, and no
/// other.
fn same_rows(
    world: &World,
    bank: &Bank,
    user: &UserId,
    (accounts, known, rows): (
        &[KnownAccount],
        &[KnownTransaction],
        &BTreeMap<TransactionId, Transaction>,
    ),
) {
    let ledgers = bank.ledgers();
    let Some(ledger) = ledgers.get(user) else { return };
    let own: BTreeMap<&AccountId, &AccountId> =
        accounts.iter().map(|known| (&known.partner_id, &known.account.id)).collect();
    let listed: BTreeSet<&AccountId> = accounts
        .iter()
        .filter(|known| known.standing == AccountStanding::Listed)
        .map(|known| &known.account.id)
        .collect();
    let mut stored = BTreeMap::new();
    for known in known.iter().filter(|known| known.removed_at.is_none()) {
        let Some(row) = rows.get(&known.id) else {
            world.trace.wrong(format!("{user}: {} is known, and not there", known.id));
            continue;
        };
        if !listed.contains(&known.account_id) {
            continue;
        }
        let id = stable(&known.partner_id);
        // The fate of a pending row may be uncertain, and windows with a wrong total remove
        // nothing.
        let is_left_over = ledger
            .rows
            .get(&id)
            .is_none_or(|now| now.is_pending() != row.is_pending() || now.amount != row.amount);
        if row.is_pending() && is_left_over && bank.style.has(Habit::WrongTotal) {
            continue;
        }
        if stored.insert(id, row).is_some() {
            world.trace.wrong(format!("{user}: {} is there twice", known.partner_id));
        }
    }
    for row in ledger.shown() {
        let Some(stored) = stored.remove(&row.id) else {
            let (id, date) = (&row.id, row.date());
            world.trace.wrong(format!("{user}: transaction {id} of {date} is missing"));
            continue;
        };
        let mut expected = row.clone();
        expected.id = stored.id.clone();
        if let Some(account) = own.get(&row.account_id) {
            expected.account_id = (*account).clone();
        }
        if expected != *stored {
            world.trace.wrong(format!(
                "{user}: transaction {} is not as the bank's: {stored:?}, not {expected:?}",
                row.id
            ));
        }
    }
    // Windows with a wrong total remove nothing.
    if bank.style.has(Habit::WrongTotal) {
        return;
    }
    for (id, row) in stored {
        let date = row.date();
        world.trace.wrong(format!("{user}: transaction {id} of {date} is there, not at the bank"));
    }
}

/// Checks that a reader has the stored transactions of the accounts that it may see.
async fn same_replica(
    world: &World,
    item: &ItemId,
    rows: &BTreeMap<TransactionId, Transaction>,
    reader: &mut User,
) {
    let Some(replica) = reader.finish().await else { return };
    let application = reader.application();
    let visible = world.witness.visible(item, application).unwrap_or_default();
    for (id, row) in rows.iter().filter(|(_, row)| visible.contains(&row.account_id)) {
        match replica.get(id) {
            None => world.trace.wrong(format!("{application} does not have {id}")),
            Some(own) if own != row => {
                world
                    .trace
                    .wrong(format!("{application} has {id} otherwise: {own:?}, not {row:?}"));
            }
            Some(_) => {}
        }
    }
    for (id, row) in &replica {
        if !rows.contains_key(id) {
            world.trace.wrong(format!("{application} has {id}, which is gone"));
        } else if !visible.contains(&row.account_id) {
            world.trace.wrong(format!("{application} has {id}, and may not see its account"));
        }
    }
}

/// Checks that an Item has one authorization, and that all others that it was given were revoked at
/// the bank.
async fn authorizations(world: &World) {
    let mut present = BTreeSet::new();
    for (item, institution, _) in world.witness.items() {
        let Some(bank) = world.witness.bank(&institution) else { continue };
        let Ok(Some((tokens, _))) = world.store.tokens(&item).await else {
            world.trace.wrong(format!("{item} has no tokens in the end"));
            continue;
        };
        present.extend(grant_of(&bank, &tokens).await);
    }
    let waiting = revocations_that_wait(world).await;
    // If a token is issued again, only that token is revoked, and not the grant.
    for bank in world.banks.iter().filter(|bank| !bank.style.has(Habit::ReusesTokens)) {
        let users: Vec<_> = bank.ledgers().keys().cloned().collect();
        for user in users {
            let given = world.witness.grants_of(&bank.id, &user);
            for grant in bank.live_grants(&user).await {
                // A bank that never has transactions is called so rarely that revocations wait for
                // days.
                let waits = !bank.has_transactions() && waiting.contains(&grant);
                if given.contains(&grant) && !present.contains(&grant) && !waits {
                    let what = format!("{user}: an authorization that was replaced still lives");
                    world.trace.wrong(what);
                }
            }
        }
    }
}

/// Returns the grants at the banks with a revocation that was not sent yet.
async fn revocations_that_wait(world: &World) -> BTreeSet<String> {
    let late = world.clock.now() + TimeDelta::days(31);
    let mut waiting = BTreeSet::new();
    let claimed = world.store.claim_revocations(late, late, 10_000).await.unwrap_or_default();
    for revocation in claimed {
        let Some(bank) = world.witness.bank(&revocation.institution_id) else { continue };
        waiting.extend(grant_of(&bank, &revocation.tokens).await);
    }
    waiting
}
