//! The lifecycle of an Item, step by step.

use crate::{
    Failure,
    application::{Application, Changes},
    plaid::{Authorized, Plaid},
    report::{self, say, step},
};
use demo_bank::{Bank, password::PASSWORD};
use px_items::{item::State, items::LinkedApplication};
use px_types::{
    AccountId, ItemAccessToken, ItemId,
    plaid::{Batch, NewTransactionsNotification, TransactionsNotificationEntry},
    webhook::WebhookCode,
};

/// The number of days that pass at the bank.
const TWO_WEEKS: i64 = 14;
/// Maximum number of transactions in a table.
const MAX_ROWS: usize = 8;

/// The bank, and the user of the demonstration.
pub(crate) struct Scene<'s> {
    pub(crate) bank: &'s Bank,
    pub(crate) issuer: &'s str,
    pub(crate) username: &'s str,
    pub(crate) names: &'s [String],
}

/// Runs all steps, from the first consent to the removal.
pub(crate) async fn run(scene: &Scene<'_>, plaid: &Plaid) -> Result<(), Failure> {
    let application = |name| {
        Application::start(
            name,
            plaid.items.clone(),
            plaid.verification_keys(),
            plaid.clock.clone(),
        )
    };
    let mut budget = application("Budget App").await?;
    let mut tax = application("Tax App").await?;

    step(2, "A user connects an application: the Item is created");
    let authorized = authorize(scene, plaid, &budget, usize::MAX).await?;
    let linked = plaid.link(&mut budget, authorized.clone()).await?;
    print_state(plaid, &linked.item_id).await?;
    say!("   Budget App reads too early: {}", budget.refusal().await?.error_code);

    step(3, "Plaid fetches two years; the Item becomes idle");
    let workers = plaid.start();
    budget.expect(&WebhookCode::InitialUpdate).await?;
    budget.expect(&WebhookCode::HistoricalUpdate).await?;
    print_state(plaid, &linked.item_id).await?;
    let accounts = budget.accounts().await?;
    report::accounts(&accounts);
    budget.sync().await?;
    say!("   Budget App has {} transactions; the latest:", budget.transactions.len());
    budget.print_latest(&accounts, MAX_ROWS);

    step(4, "A token gives access to its own user only");
    read_another_user(scene, plaid, &authorized).await?;

    step(5, "A second application joins, with fewer accounts and without a fetch");
    join(scene, plaid, &mut tax, &linked).await?;

    step(6, "Two weeks pass at the bank, which notifies Plaid: the Item is updated");
    let bank_token = plaid.import(&authorized).await?;
    notify(scene, plaid, bank_token, &authorized.accounts).await?;
    budget.expect(&WebhookCode::DefaultUpdate).await?;
    print_changes(&budget.sync().await?, &accounts);
    let seen = tax.sync().await?;
    say!("   Tax App, of its accounts: {} new, {} changed", seen.added.len(), seen.modified.len());

    step(7, "The user disconnects Tax App; Budget App goes on");
    plaid.items.unlink(tax.token.as_ref().ok_or("Tax App is not connected")?).await?;
    say!("   Tax App reads:    {}", tax.refusal().await?.error_code);
    say!("   Budget App reads: {} accounts", budget.accounts().await?.len());

    step(8, "The bank revokes the authorization, and the user gives a new one");
    let again = lose_and_repair(scene, plaid, &mut budget, &linked.item_id).await?;

    step(9, "The last application leaves: tokens are revoked, data deleted");
    plaid.items.unlink(budget.token.as_ref().ok_or("Budget App is not connected")?).await?;
    print_state(plaid, &linked.item_id).await?;
    say!("   Budget App reads: {}", budget.refusal().await?.error_code);
    until_refused(plaid, &again).await?;
    workers.stop().await
}

async fn authorize(
    scene: &Scene<'_>,
    plaid: &Plaid,
    application: &Application,
    most: usize,
) -> Result<Authorized, Failure> {
    say!("   {} sends {} to the bank…", application.name, scene.username);
    plaid.authorize(scene.issuer, application, (scene.username, PASSWORD), most).await
}

async fn print_state(plaid: &Plaid, item: &ItemId) -> Result<(), Failure> {
    match plaid.state(item).await? {
        Some(state) => say!("   The Item is: {state}"),
        None => say!("   The Item is gone"),
    }
    Ok(())
}

async fn read_another_user(
    scene: &Scene<'_>,
    plaid: &Plaid,
    authorized: &Authorized,
) -> Result<(), Failure> {
    let Some(other) = scene.names.iter().find(|name| *name != scene.username) else {
        say!("   This bank has no other user.");
        return Ok(());
    };
    let other = scene.bank.ledger().user_by_name(other).await?.ok_or("a user without an entry")?;
    say!("   Plaid requests {} with the token of {}:", other.user_id, authorized.user_id);
    say!("   {}", plaid.try_reading(&authorized.tokens, &other.user_id).await?);
    Ok(())
}

async fn join(
    scene: &Scene<'_>,
    plaid: &Plaid,
    tax: &mut Application,
    first: &LinkedApplication,
) -> Result<(), Failure> {
    let authorized = authorize(scene, plaid, tax, 1).await?;
    let before = plaid.calls.pages();
    let linked = plaid.link(tax, authorized).await?;
    if linked.created || linked.item_id != first.item_id {
        return Err("a second Item was created for one user".into());
    }
    tax.expect(&WebhookCode::HistoricalUpdate).await?;
    let accounts = tax.accounts().await?;
    tax.sync().await?;
    say!(
        "   Tax App sees {} of the accounts, with {} transactions; pages fetched for it: {}",
        accounts.len(),
        tax.transactions.len(),
        plaid.calls.pages() - before
    );
    Ok(())
}

async fn notify(
    scene: &Scene<'_>,
    plaid: &Plaid,
    token: ItemAccessToken,
    accounts: &[AccountId],
) -> Result<(), Failure> {
    let since = scene.bank.today().await?;
    scene.bank.advance(TWO_WEEKS).await?;
    plaid.clock.advance(TWO_WEEKS);
    let entries: Vec<_> = accounts
        .iter()
        .map(|account| TransactionsNotificationEntry::new(token.clone(), account.clone()))
        .collect();
    say!("   The bank names {} accounts with new transactions since {since}", entries.len());
    let notification = NewTransactionsNotification::new(Batch::new(entries)?, since);
    Ok(plaid.items.handle_transactions_notification(plaid.institution(), &notification).await?)
}

fn print_changes(changes: &Changes, accounts: &[px_types::model::account::Account]) {
    say!(
        "   Budget App: {} new, {} changed, {} gone",
        changes.added.len(),
        changes.modified.len(),
        changes.removed.len()
    );
    let mut added: Vec<_> = changes.added.iter().collect();
    added.sort_by_key(|row| std::cmp::Reverse(row.date()));
    added.truncate(MAX_ROWS);
    report::transactions(added, accounts);
    for (before, after) in changes.modified.iter().take(MAX_ROWS) {
        if let Some(before) = before {
            say!("   changed  {}", report::change(before, after));
        }
    }
    for row in changes.removed.iter().take(MAX_ROWS) {
        say!("   gone     {}  {}", row.date(), row.description.as_deref().unwrap_or("–"));
    }
}

/// Revokes the authorization and repairs the Item. Returns the new authorization.
async fn lose_and_repair(
    scene: &Scene<'_>,
    plaid: &Plaid,
    budget: &mut Application,
    item: &ItemId,
) -> Result<Authorized, Failure> {
    let user = scene.bank.ledger().user_by_name(scene.username).await?.ok_or("no such user")?;
    scene.bank.oauth().revoke_principal(&user.user_id).await?;
    plaid.clock.advance(2);
    plaid.wake();
    budget.expect(&WebhookCode::Error).await?;
    print_state(plaid, item).await?;
    say!("   Budget App still reads {} accounts, as they were", budget.accounts().await?.len());
    let authorized = authorize(scene, plaid, budget, usize::MAX).await?;
    let linked = plaid.link(budget, authorized.clone()).await?;
    if !linked.repaired {
        return Err("the new authorization did not repair the Item".into());
    }
    budget.expect(&WebhookCode::LoginRepaired).await?;
    while plaid.state(item).await? != Some(State::Idle) {
        plaid.pause().await;
    }
    print_state(plaid, item).await?;
    Ok(authorized)
}

/// Waits until the bank refuses a token.
async fn until_refused(plaid: &Plaid, authorized: &Authorized) -> Result<(), Failure> {
    const MAX_ATTEMPTS: u32 = 200;
    for _ in 0..MAX_ATTEMPTS {
        if let Ok(error) = plaid.try_reading(&authorized.tokens, &authorized.user_id).await {
            say!("   The bank's response to the Item's last token: {error}");
            return Ok(());
        }
        plaid.pause().await;
    }
    Err("the bank still accepts the tokens of a removed Item".into())
}
