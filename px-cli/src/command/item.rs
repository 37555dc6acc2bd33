//! `px item`: one Item, and on demand its accounts and transactions.

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
    life::History,
    merge::{AccountStanding, KnownAccount},
    plan,
    store::{ItemRecord, TransactionQuery},
};
use px_types::{
    AccountId, Amount, Unit,
    model::{account::Account, transaction::Transaction},
};
use serde::Serialize;
use std::collections::BTreeSet;
use url::Url;

/// How many transactions are read at a time.
const PAGE: usize = 500;
/// The days that are shown when no date is given.
const DAYS: u64 = 30;

/// One line of `--json`: an object with one key.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
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
    /// `null` is all.
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
        print_json(&Line::Item(Box::new(line)))?;
    } else {
        about(&record, &connections, &accounts, context.now())?;
    }
    if show.accounts {
        balances(context, &accounts)?;
    }
    if show.transactions {
        transactions(context, show, &accounts).await?;
    }
    Ok(())
}

fn about(
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
    let fresh = &record.life.fresh;
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
    if record.life.id_collisions + record.life.ambiguous > 0 {
        let (collisions, ambiguous) = (record.life.id_collisions, record.life.ambiguous);
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
            sees(connection),
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
    match (&record.life.history, view::fetched_percent(&record.life)) {
        (History::Complete, _) => "complete".to_owned(),
        (History::Fetching { .. }, Some(percent)) => format!("{percent} % of its days are in"),
        _ if record.needs_transactions => "waits to be fetched".to_owned(),
        _ => "no application needs it".to_owned(),
    }
}

fn sees(connection: &Connection) -> String {
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
        AccountStanding::Held => "held: wants a re-map",
    }
}

/// Where its webhooks go. A query or a name in it may be a secret.
fn webhook(connection: &Connection) -> Option<String> {
    let mut url = Url::parse(connection.webhook.as_deref()?).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    // It can have neither where there is no host, and then there is nothing to take off.
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

fn balances(context: &Context, accounts: &[KnownAccount]) -> Result<()> {
    let mut rows = table(&["Account", "Name", "Number", "Balance", "Available"]);
    for known in accounts {
        let account = &known.account;
        if context.json {
            print_json(&Line::Account(account))?;
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
    right(&mut rows, &[3, 4]);
    print_table(&rows)
}

async fn transactions(context: &Context, show: &Show, accounts: &[KnownAccount]) -> Result<()> {
    let (west, east) = plan::today(context.now());
    let end = show.to.unwrap_or(east);
    let start = show.from.unwrap_or_else(|| west.min(end).minus_days(DAYS));
    let window = Window::new(start, end)
        .ok_or_else(|| Failure::usage("--from is later than --to; swap them"))?;
    let mut query = TransactionQuery::new(window, PAGE);
    let (mut total, mut rows) = (0, table(&["Date", "Account", "Description", "Amount", ""]));
    loop {
        let page = context.store.transactions(&show.item, &query).await?;
        for row in &page.rows {
            match context.json {
                true => print_json(&Line::Transaction(row))?,
                false => drop(rows.add_row(cells(row, accounts))),
            }
        }
        total = page.total.unwrap_or(total);
        query.counted = false;
        match page.rows.last() {
            Some(last) if page.rows.len() == PAGE => {
                query.after = Some((last.date(), last.id.clone()));
            }
            _ => break,
        }
    }
    if context.json {
        return Ok(());
    }
    right(&mut rows, &[3]);
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

fn right(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
