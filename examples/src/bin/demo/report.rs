//! The output of the demo: headings, tables, lines.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use px_types::{
    AccountId,
    model::{account::Account, transaction::Transaction},
};

/// Prints lines; a closed standard output ends the program quietly.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        if writeln!(std::io::stdout(), $($text)*).is_err() {
            std::process::exit(0);
        }
    }};
}
pub(crate) use say;

/// Prints the heading of a step.
pub(crate) fn step(number: u8, title: &str) {
    say!("\n{number}. {title}");
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
}

/// Prints accounts with their balances.
pub(crate) fn accounts(accounts: &[Account]) {
    let mut table = table(&["Account", "Kind", "Number", "Balance", "Available"]);
    for account in accounts {
        table.add_row([
            account.name.clone(),
            format!("{} · {}", account.account_type(), account.kind.subtype()),
            account.display_mask.as_ref().map(|mask| format!("…{mask}")).unwrap_or_default(),
            format!("{} {}", account.current_balance, account.unit.as_str()),
            account.available_balance.map(|amount| amount.to_string()).unwrap_or_default(),
        ]);
    }
    right(&mut table, &[3, 4]);
    say!("{table}");
}

/// Prints transactions, one per row.
pub(crate) fn transactions<'t>(
    rows: impl IntoIterator<Item = &'t Transaction>,
    accounts: &[Account],
) {
    let account = |id: &AccountId| {
        let found = accounts.iter().find(|account| account.id == *id);
        found.map_or_else(|| id.to_string(), |account| account.name.clone())
    };
    let mut table = table(&["Date", "Account", "Description", "Amount", ""]);
    for row in rows {
        let state = if row.is_pending() { "pending" } else { "" };
        table.add_row([
            row.date().to_string(),
            account(&row.account_id),
            shortened(row.description.as_deref().unwrap_or("–")),
            format!("{} {}", row.amount, row.unit.as_str()),
            state.to_owned(),
        ]);
    }
    right(&mut table, &[3]);
    say!("{table}");
}

/// Describes the change of a transaction in one line.
pub(crate) fn change(before: &Transaction, after: &Transaction) -> String {
    let mut what = Vec::new();
    if before.is_pending() && !after.is_pending() {
        what.push("posted".to_owned());
    }
    if before.amount != after.amount {
        what.push(format!("{} became {}", before.amount, after.amount));
    }
    if what.is_empty() {
        what.push("details changed".to_owned());
    }
    let text = shortened(after.description.as_deref().unwrap_or("–"));
    format!("{}  {text}: {}", after.date(), what.join(", "))
}

fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 40;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn right(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
