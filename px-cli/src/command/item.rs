//! `px item`: one Item, with its accounts and transactions on request.

use crate::{
    cli::Show,
    context::Context,
    failure::{Failure, Result},
    output::{age, count, print, print_json, print_table, printable, say, table},
    view::{self, ItemView},
};
use chrono::{DateTime, Utc};
use comfy_table::{CellAlignment, Table};
use px_client::Window;
use px_items::{
    connection::Connection,
    health,
    merge::{AccountStanding, KnownAccount},
    plan,
    store::{ItemRecord, TransactionQuery},
    sync_state::History,
};
use px_types::{
    AccountId, Amount, Unit,
    model::{account::Account, transaction::Transaction},
};
use serde::Serialize;
use std::collections::BTreeSet;
use url::Url;

/// Number of transactions per page.
const PAGE_ROWS: usize = 500;
/// Number of days to show if no date is given.
const DEFAULT_DAYS: u64 = 30;

/// A line of `--json`: an object with one key.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum ItemOutputLine<'a> {
    Item(Box<ItemLine<'a>>),
    Account(&'a Account),
    Transaction(&'a Transaction),
}

#[derive(Serialize)]
struct ItemLine<'a> {
    #[serde(flatten)]
    item: ItemView<'a>,
    connections: Vec<ConnectionLine<'a>>,
    accounts: Vec<AccountName<'a>>,
}

#[derive(Serialize)]
struct ConnectionLine<'a> {
    application_id: &'a str,
    products: &'a BTreeSet<String>,
    /// `null` means all.
    accounts: Option<&'a BTreeSet<AccountId>>,
    new_accounts: bool,
    webhook: Option<String>,
    created_at: DateTime<Utc>,
}

#[derive(Serialize)]
struct AccountName<'a> {
    id: &'a str,
    name: &'a str,
    r#type: String,
    standing: &'static str,
}

pub(crate) async fn run(context: &Context, show: &Show) -> Result<()> {
    let record = context.item(&show.item).await?;
    let connections = context.store.connections(&record.id).await?;
    let accounts = context.store.accounts(&record.id).await?;
    if context.json {
        let item = ItemView::new(&record, context.now());
        let names = accounts.iter().map(AccountName::of).collect();
        let connections = connections.iter().map(ConnectionLine::of).collect();
        let line = ItemLine { item, connections, accounts: names };
        print_json(&ItemOutputLine::Item(Box::new(line)))?;
    } else {
        print_item(&record, &connections, &accounts, context.now())?;
    }
    if show.accounts {
        print_balances(context, &accounts)?;
    }
    if show.transactions {
        print_transactions(context, show, &accounts).await?;
    }
    Ok(())
}

fn print_item(
    record: &ItemRecord,
    connections: &[Connection],
    accounts: &[KnownAccount],
    now: DateTime<Utc>,
) -> Result<()> {
    let line = |name: &str, text: String| print(format_args!("{name:<13} {text}"));
    let since = |moment: Option<DateTime<Utc>>| match moment {
        Some(moment) => format!("{} ago", age(moment, now)),
        None => "never".to_owned(),
    };
    let fresh = &record.sync_state.fresh;
    line("Item", record.id.to_string())?;
    line("Institution", record.institution_id.to_string())?;
    line("Created", since(Some(record.created_at)))?;
    line("Phase", view::phase(record).to_owned())?;
    line("Due", view::due(record, now))?;
    let health = health::of(record);
    let state = match health.since {
        Some(since) => format!("{}, since {} ago", health.state, age(since.utc(), now)),
        None => health.state.to_string(),
    };
    line("Health", state)?;
    for issue in view::issues(record) {
        line("", printable(&issue, 300))?;
    }
    for fault in view::faults(record) {
        line("", printable(&fault, 400))?;
    }
    line("History", history(record))?;
    line("Accounts", format!("read {}", since(fresh.accounts)))?;
    line("Identities", format!("read {}", since(fresh.identities)))?;
    line("Holdings", format!("read {}", since(fresh.holdings)))?;
    line("Transactions", format!("read {}", since(fresh.transactions)))?;
    if record.sync_state.id_collisions + record.sync_state.ambiguous > 0 {
        let (collisions, ambiguous) =
            (record.sync_state.id_collisions, record.sync_state.ambiguous);
        line(
            "In doubt",
            format!("{collisions} ids used again, {ambiguous} posted of unclear origin"),
        )?;
    }
    let mut applications = table(&["Application", "Uses", "Sees", "Webhooks to"]);
    for connection in connections {
        applications.add_row([
            connection.application_id.to_string(),
            connection.products.iter().cloned().collect::<Vec<_>>().join(", "),
            visible_accounts(connection),
            webhook(connection).unwrap_or_default(),
        ]);
    }
    if !connections.is_empty() {
        print_table(&applications)?;
    }
    let mut names = table(&["Account", "Name", "Kind", ""]);
    for known in accounts {
        let Account { id, name, .. } = &known.account;
        names.add_row([id.as_str(), &printable(name, 60), &kind(&known.account), standing(known)]);
    }
    if !accounts.is_empty() {
        print_table(&names)?;
    }
    Ok(())
}

fn history(record: &ItemRecord) -> String {
    match (&record.sync_state.history, view::fetched_percent(&record.sync_state)) {
        (History::Complete, _) => "complete".to_owned(),
        (History::Fetching { .. }, Some(percent)) => format!("{percent} % of its days are in"),
        _ if record.needs_transactions => "waits to be fetched".to_owned(),
        _ => "no application needs it".to_owned(),
    }
}

fn visible_accounts(connection: &Connection) -> String {
    let later = if connection.new_accounts { ", later ones too" } else { "" };
    match &connection.accounts {
        None => format!("all accounts{later}"),
        Some(accounts) => {
            let number = u64::try_from(accounts.len()).unwrap_or_default();
            format!("{}{later}", count(number, "account"))
        }
    }
}

fn kind(account: &Account) -> String {
    let text = format!("{} · {}", account.account_type(), account.kind.subtype());
    printable(&text, 60)
}

fn standing(known: &KnownAccount) -> &'static str {
    match known.standing {
        AccountStanding::Listed => "",
        AccountStanding::Missing => "missing",
        AccountStanding::Closed => "closed",
        AccountStanding::Held => "on hold: needs a decision",
    }
}

/// Returns the address of a connection's webhooks, without parts that may be secret.
fn webhook(connection: &Connection) -> Option<String> {
    let mut url = Url::parse(connection.webhook.as_deref()?).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    // If the URL has no host, it has no user name or password to remove.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    Some(printable(url.as_str(), 80))
}

impl<'a> ConnectionLine<'a> {
    fn of(connection: &'a Connection) -> Self {
        Self {
            application_id: connection.application_id.as_str(),
            products: &connection.products,
            accounts: connection.accounts.as_ref(),
            new_accounts: connection.new_accounts,
            webhook: webhook(connection),
            created_at: connection.created_at,
        }
    }
}

impl<'a> AccountName<'a> {
    fn of(known: &'a KnownAccount) -> Self {
        Self {
            id: known.account.id.as_str(),
            name: &known.account.name,
            r#type: known.account.account_type().to_string(),
            standing: match known.standing {
                AccountStanding::Listed => "listed",
                AccountStanding::Missing => "missing",
                AccountStanding::Closed => "closed",
                AccountStanding::Held => "held",
            },
        }
    }
}

fn print_balances(context: &Context, accounts: &[KnownAccount]) -> Result<()> {
    let mut rows = table(&["Account", "Name", "Number", "Balance", "Available"]);
    for known in accounts {
        let account = &known.account;
        if context.json {
            print_json(&ItemOutputLine::Account(account))?;
            continue;
        }
        rows.add_row([
            account.id.to_string(),
            printable(&account.name, 60),
            account
                .display_mask
                .as_ref()
                .map(|mask| format!("…{}", printable(mask, 20)))
                .unwrap_or_default(),
            money(account.current_balance, &account.unit),
            account.available_balance.map(|amount| amount.to_string()).unwrap_or_default(),
        ]);
    }
    if context.json {
        return Ok(());
    }
    align_right(&mut rows, &[3, 4]);
    print_table(&rows)
}

async fn print_transactions(
    context: &Context,
    show: &Show,
    accounts: &[KnownAccount],
) -> Result<()> {
    let (west, east) = plan::today(context.now());
    let end = show.to.unwrap_or(east);
    let start = show.from.unwrap_or_else(|| west.min(end).minus_days(DEFAULT_DAYS));
    let window = Window::new(start, end)
        .ok_or_else(|| Failure::usage("--from is later than --to; swap them"))?;
    let mut query = TransactionQuery::new(window, PAGE_ROWS);
    let (mut total, mut rows) = (0, table(&["Date", "Account", "Description", "Amount", ""]));
    loop {
        let page = context.store.transactions(&show.item, &query).await?;
        for row in &page.rows {
            match context.json {
                true => print_json(&ItemOutputLine::Transaction(row))?,
                false => drop(rows.add_row(cells(row, accounts))),
            }
        }
        total = page.total.unwrap_or(total);
        query.counted = false;
        match page.rows.last() {
            Some(last) if page.rows.len() == PAGE_ROWS => {
                query.after = Some((last.date(), last.id.clone()));
            }
            _ => break,
        }
    }
    if context.json {
        return Ok(());
    }
    align_right(&mut rows, &[3]);
    if total > 0 {
        print_table(&rows)?;
    }
    say(format_args!("{} from {start} to {end}", count(total, "transaction")));
    Ok(())
}

fn cells(row: &Transaction, accounts: &[KnownAccount]) -> [String; 5] {
    let account = accounts.iter().find(|known| known.account.id == row.account_id);
    let account = account.map_or(row.account_id.as_str(), |known| &known.account.name);
    [
        row.date().to_string(),
        printable(account, 40),
        printable(row.description.as_deref().unwrap_or("–"), 50),
        money(row.amount, &row.unit),
        if row.is_pending() { "pending".to_owned() } else { String::new() },
    ]
}

fn money(amount: Amount, unit: &Unit) -> String {
    format!("{amount} {}", printable(unit.as_str(), 20))
}

fn align_right(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
