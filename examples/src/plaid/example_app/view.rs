//! The HTML of the example application. maud escapes all external text.

use super::{super::config::Application, BankView};
use crate::{
    PLAID_NAME,
    pages::{readable, subtype},
    text::isolated,
};
use maud::{DOCTYPE, Markup, html};
use px_types::{
    Amount, Date,
    model::{account::Account, plaid_error::PlaidError, transaction::Transaction},
    webhook::WebhookEvent,
};

fn layout(app: &Application, path: &str, link: &str, reload: bool, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if reload { meta http-equiv="refresh" content="2"; }
                title { (isolated(&app.name)) }
                link rel="stylesheet" href={ (path) "/style.css" };
            }
            body class={ "app-" (app.id) } {
                header {
                    span class="brand" { (isolated(&app.name)) }
                    span class="tag" { (app.use_case.as_deref().unwrap_or_default()) }
                }
                main { (content) }
                footer { p { (isolated(&app.name)) " is an example of an application that connects through " a href=(link) { (PLAID_NAME) } "." } }
            }
        }
    }
}

/// Renders the sign-in page.
pub(super) fn sign_in(app: &Application, path: &str, wrong: bool, link: &str) -> Markup {
    layout(
        app,
        path,
        link,
        false,
        &html! {
            section class="hero" {
                h1 { "All your money on one page" }
                p { (promise(app)) }
                @if wrong { p class="ended" id="message" role="alert" { "That is not the password." } }
                form method="post" action={ (path) "/enter" } class="enter" {
                    label for="password" { "Your household’s password" }
                    input id="password" name="password" type="password" autocomplete="current-password" required
                        maxlength="64" autofocus aria-invalid[wrong]
                        aria-describedby=(if wrong { "message hint" } else { "hint" });
                    small id="hint" { "The program that serves this demonstration prints it when it starts." }
                    button type="submit" class="primary" { "Sign in" }
                }
            }
        },
    )
}

/// Renders the only page.
pub(super) fn home(
    app: &Application,
    path: &str,
    csrf: &str,
    shown: &[BankView],
    webhooks: &[String],
    link: &str,
) -> Markup {
    let is_waiting = |one: &BankView| {
        one.accounts.as_ref().is_err_and(|error| error.error_code == "PRODUCT_NOT_READY")
    };
    let reload = shown.iter().any(is_waiting);
    layout(
        app,
        path,
        link,
        reload,
        &html! {
            section class="hero" {
                h1 { @if shown.is_empty() { "All your money on one page" } @else { "Your accounts" } }
                p { (promise(app)) }
                form method="post" action={ (path) "/connect" } {
                    input type="hidden" name="csrf" value=(csrf);
                    button type="submit" class="primary" {
                        @if shown.is_empty() { "Connect your bank" } @else { "Connect another bank" }
                    }
                }
            }
            @for one in shown { (bank(path, csrf, one)) }
            @if !webhooks.is_empty() {
                section class="card" aria-labelledby="news" {
                    h2 id="news" { "What " (PLAID_NAME) " told this app" }
                    ol class="news" { @for line in webhooks { li { (line) } } }
                }
            }
        },
    )
}

fn bank(path: &str, csrf: &str, one: &BankView) -> Markup {
    html! {
        section class="card" {
            div class="head" {
                div {
                    h2 { (one.bank.as_deref().unwrap_or("Your bank")) }
                    small { @if one.from_bank { "Connected from your bank’s site" } @else { "Connected here" } }
                }
                form method="post" action={ (path) "/disconnect" } {
                    input type="hidden" name="csrf" value=(csrf);
                    input type="hidden" name="item_id" value=(one.item_id);
                    button type="submit" class="quiet" { "Disconnect" }
                }
            }
            @match &one.accounts {
                Ok(accounts) => {
                    ul class="accounts" { @for account in accounts { (line(account)) } }
                    @if !one.transactions.is_empty() {
                        h3 { "Latest transactions" }
                        ul class="accounts" { @for row in &one.transactions { (transaction(row)) } }
                    }
                }
                Err(error) if error.error_code == "PRODUCT_NOT_READY" => {
                    p role="status" { "Your accounts are on their way…" }
                }
                Err(error) => p class="ended" { (error_text(error)) }
            }
        }
    }
}

/// Returns the application's reason for access, as a statement.
fn promise(app: &Application) -> String {
    let reason = app.reason.as_deref().unwrap_or_default();
    let text = reason.strip_prefix("To ").unwrap_or(reason);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Returns the error text for the owner of the accounts, not for a developer.
fn error_text(error: &PlaidError) -> &str {
    match error.error_code.as_str() {
        "ITEM_LOGIN_REQUIRED" => "Your bank wants you to sign in again. Connect it once more.",
        "INVALID_ACCESS_TOKEN" | "ITEM_NOT_FOUND" => {
            "This connection has ended, and we see nothing of your accounts any more. To go on, connect your bank again."
        }
        _ => error.display_message.as_deref().unwrap_or("Your bank does not answer just now."),
    }
}

/// Describes a webhook.
pub(super) fn describe(event: &WebhookEvent) -> String {
    let text = match event {
        WebhookEvent::InitialUpdate(_) => "Your first transactions are here",
        WebhookEvent::HistoricalUpdate(_) => "All transactions of two years are here",
        WebhookEvent::DefaultUpdate(_) => "There are new transactions",
        WebhookEvent::TransactionsRemoved(_) => "Transactions were taken back",
        WebhookEvent::SyncUpdatesAvailable(_) => "There is something new to read",
        WebhookEvent::Error(_) => "A bank wants you to sign in again",
        WebhookEvent::LoginRepaired => "A bank answers again",
        WebhookEvent::NewAccountsAvailable => "You have a new account",
        WebhookEvent::UserPermissionRevoked(_) => "You disconnected us at your bank",
        WebhookEvent::UserAccountRevoked(_) => "You took an account back at your bank",
        WebhookEvent::ItemAddResult(_) => "You connected us from your bank’s site",
        // Other events are shown by their codes.
        other => {
            return format!("{}: {}", other.webhook_type().as_str(), other.webhook_code().as_str());
        }
    };
    text.to_owned()
}

fn line(account: &Account) -> Markup {
    html! {
        li {
            span { strong { (account.name) } small {
                (subtype(account))
                @if let Some(mask) = &account.display_mask { " ···· " (mask) }
            } }
            span class="amount" { (readable(account.current_balance, &account.unit)) }
        }
    }
}

fn day(date: Date) -> Markup {
    html! { time datetime=(date) { (date.naive().format("%B %-d, %Y")) } }
}

fn transaction(row: &Transaction) -> Markup {
    let merchant = row.merchant.as_ref().and_then(|merchant| merchant.name.as_deref());
    // Incoming money is negative on the wire and shown with a plus sign.
    let is_incoming = row.amount < Amount::ZERO;
    html! {
        li {
            span { strong { (merchant.or(row.description.as_deref()).unwrap_or("Transaction")) } small {
                (day(row.date())) @if row.is_pending() { " · Pending" }
            } }
            span class={ "amount" @if is_incoming { " in" } } {
                @if is_incoming { "+" (readable(-row.amount, &row.unit)) }
                @else { "−" (readable(row.amount, &row.unit)) }
            }
        }
    }
}

/// Renders an error page.
pub(super) fn error_page(app: &Application, path: &str, what: &str) -> Markup {
    layout(
        app,
        path,
        "#",
        false,
        &html! {
            section class="hero" { h1 { "Something went wrong" } p { (what) } p { a href={ (path) "/" } { "Back" } } }
        },
    )
}
