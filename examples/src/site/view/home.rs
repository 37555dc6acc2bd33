//! The first page: accounts, balances, latest transactions.

use super::{
    Frame,
    words::{account_cells, on, on_short},
};
use crate::pages::readable;
use maud::{Markup, html};
use px_types::{
    Amount, Date,
    model::{
        account::{Account, AccountType},
        identity::Identity,
        transaction::Transaction,
    },
};

/// The groups of accounts in display order.
const GROUPS: [(&str, &[AccountType]); 4] = [
    ("Cash", &[AccountType::Depository]),
    ("Cards", &[AccountType::Credit]),
    ("Investments", &[AccountType::Investment]),
    ("Loans", &[AccountType::Loan]),
];

/// Renders the first page.
pub(in super::super) fn home(
    frame: &Frame<'_>,
    identity: Option<&Identity>,
    accounts: &[Account],
    latest: &[Transaction],
    today: Date,
) -> Markup {
    let name = identity.and_then(|one| one.name.split_whitespace().next());
    let of = |kinds: &[AccountType]| -> Vec<&Account> {
        accounts.iter().filter(|account| kinds.contains(&account.account_type())).collect()
    };
    let grouped = |account: &&Account| {
        GROUPS.iter().any(|(_, kinds)| kinds.contains(&account.account_type()))
    };
    let others: Vec<_> = accounts.iter().filter(|account| !grouped(account)).collect();
    frame.page(
        "Accounts",
        false,
        &html! {
            div class="heading" {
                h1 { "Hello, " (name.unwrap_or(&frame.session.username)) }
                p class="lead" { "Your accounts on " (on(today)) }
            }
            div class="columns" {
                div class="stack" {
                    @for (title, kinds) in GROUPS {
                        @let group = of(kinds);
                        @if !group.is_empty() { (section(title, &group)) }
                    }
                    @if !others.is_empty() { (section("Other", &others)) }
                    @if accounts.is_empty() { section class="panel" { p class="empty" { "You have no accounts yet." } } }
                }
                div class="stack" {
                    section class="panel" aria-labelledby="latest" {
                        h2 id="latest" { "Latest transactions" }
                        @if latest.is_empty() { p class="empty" { "Nothing happened lately." } }
                        ul class="rows" { @for transaction in latest { (row(transaction, accounts)) } }
                    }
                    @if frame.apps {
                        section class="panel promo" aria-labelledby="promo" {
                            h2 id="promo" { "You decide who sees your accounts" }
                            p { "See which apps are connected, change what they see, or end it." }
                            a class="button secondary" href="/apps" { "Connected apps" }
                        }
                    }
                }
            }
        },
    )
}

fn section(title: &str, accounts: &[&Account]) -> Markup {
    let id = title.to_lowercase();
    html! {
        section class="panel" aria-labelledby=(id) {
            h2 id=(id) { (title) }
            ul class="rows" { @for account in accounts { li class="line" { (account_cells(account)) } } }
        }
    }
}

fn row(transaction: &Transaction, accounts: &[Account]) -> Markup {
    let merchant = transaction.merchant.as_ref().and_then(|merchant| merchant.name.as_deref());
    let what = merchant.or(transaction.description.as_deref()).unwrap_or("Transaction");
    let account = accounts.iter().find(|account| account.id == transaction.account_id);
    // Customers expect incoming money with a plus sign.
    let is_incoming = transaction.amount < Amount::ZERO;
    html! {
        li class="line" {
            span class="name" {
                strong { (what) }
                small {
                    (on_short(transaction.date()))
                    @if let Some(account) = account { " · " (account.name) }
                    @if transaction.is_pending() { " · Pending" }
                }
            }
            span class={ "balance" @if is_incoming { " in" } } {
                strong {
                    @if is_incoming { "+" (readable(-transaction.amount, &transaction.unit)) }
                    @else { "−" (readable(transaction.amount, &transaction.unit)) }
                }
            }
        }
    }
}
