//! What the application's page looks like. Everything that came from outside is escaped by maud.

use super::{super::config::Application, Shown};
use crate::pages::readable;
use maud::{DOCTYPE, Markup, html};
use px_types::model::{account::Account, transaction::Transaction};

fn layout(app: &Application, path: &str, link: &str, again: bool, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if again { meta http-equiv="refresh" content="2"; }
                title { (app.name) }
                link rel="stylesheet" href={ (path) "/style.css" };
            }
            body class={ "app-" (app.id) } {
                header {
                    span class="brand" { (app.name) }
                    span class="tag" { (app.use_case.as_deref().unwrap_or_default()) }
                }
                main { (content) }
                footer { p { (app.name) " is an example of an application that connects through " a href=(link) { "Causeway" } "." } }
            }
        }
    }
}

/// The one page.
pub(super) fn home(
    app: &Application,
    path: &str,
    csrf: &str,
    shown: &[Shown],
    webhooks: &[String],
    link: &str,
) -> Markup {
    let waits = |one: &Shown| {
        one.accounts.as_ref().is_err_and(|error| error.error_code == "PRODUCT_NOT_READY")
    };
    let again = shown.iter().any(waits);
    layout(
        app,
        path,
        link,
        again,
        &html! {
            section class="hero" {
                h1 { @if shown.is_empty() { "All your money on one page" } @else { "Your accounts" } }
                p { (app.reason.as_deref().unwrap_or_default()) }
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
                    h2 id="news" { "What Plaid told this app" }
                    ol class="news" { @for line in webhooks { li { code { (line) } } } }
                }
            }
        },
    )
}

fn bank(path: &str, csrf: &str, one: &Shown) -> Markup {
    html! {
        section class="card" {
            div class="head" {
                h2 { @if one.from_bank { "Connected at your bank" } @else { "Connected here" } }
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
                Err(error) => {
                    p { (error.display_message.as_deref().unwrap_or("This connection has ended.")) " " code { (error.error_code) } }
                }
            }
        }
    }
}

fn line(account: &Account) -> Markup {
    html! {
        li {
            span { strong { (account.name) } small {
                (account.kind.subtype())
                @if let Some(mask) = &account.display_mask { " ···· " (mask) }
            } }
            span class="amount" { (readable(account.current_balance, &account.unit)) }
        }
    }
}

fn transaction(row: &Transaction) -> Markup {
    html! {
        li {
            span { strong { (row.description.as_deref().unwrap_or("–")) } small {
                (row.date()) @if row.is_pending() { " · pending" }
            } }
            span class="amount" { (readable(row.amount, &row.unit)) }
        }
    }
}

/// Something failed.
pub(super) fn fault(app: &Application, path: &str, what: &str) -> Markup {
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
