//! The forms about one application: its scopes, and its disconnection.

use super::{
    Frame, alert_box,
    apps::{FormError, logo, path},
    words::{account_cells, account_line, on, products},
};
use crate::{
    PLAID_NAME,
    pages::{CHECK, details},
    plaid_side::Offer,
    text::isolated,
};
use maud::{Markup, PreEscaped, html};
use px_client::portal::ConnectedApp;
use px_types::model::{account::Account, scopes::Scopes};

/// The reason why a form is shown again, and its input, so that users need not repeat it.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct RefusedChange<'a> {
    pub(in super::super) why: FormError,
    pub(in super::super) posted: &'a Scopes,
}

/// Renders the form for an application's scopes. It offers the shared accounts only.
pub(in super::super) fn change(
    frame: &Frame<'_>,
    app: &ConnectedApp,
    (accounts, others): (&[Account], &[Account]),
    pictures: &[String],
    refused: Option<RefusedChange<'_>>,
) -> Markup {
    let posted = refused.map(|refused| refused.posted);
    let picked = |account: &Account| match posted {
        Some(posted) => {
            let mut accounts = posted.accounts.iter();
            accounts.any(|one| one.unique_id == account.id && one.authorized == Some(true))
        }
        None => app.sees(&account.id),
    };
    let access = posted.and_then(|posted| posted.product_access.as_ref()).unwrap_or(&app.products);
    let known_products: Vec<_> =
        products(access).into_iter().filter(|(.., seen)| seen.is_some()).collect();
    let later = posted.map_or(app.new_accounts, |posted| posted.new_accounts) == Some(true);
    let none_picked = refused.is_some_and(|refused| refused.why == FormError::NoAccount);
    let described = if none_picked { "message hint" } else { "hint" };
    let error = if refused.is_some() { "Error: " } else { "" };
    frame.page(
        &format!("{error}What {} can see", isolated(&app.name)),
        false,
        &html! {
            p class="crumb" { a href="/apps" { "Connected apps" } }
            div class="heading with-logo" {
                (logo(app, pictures))
                div {
                    h1 { "What " (isolated(&app.name)) " can see" }
                    p class="lead" { "Connected since " (on(app.since.date())) }
                }
            }
            @if let Some(refused) = refused { (alert_box(refused.why.text())) }
            form method="post" action=(path(&app.application_id)) class="consent" {
                (frame.csrf())
                fieldset class="accounts" aria-describedby=(described) {
                    legend { "Accounts" }
                    p class="hint" id="hint" { "It sees the accounts that you select and no others." }
                    ul {
                        @for (n, account) in accounts.iter().enumerate() {
                            li {
                                label class="account" for={ "account-" (n) } {
                                    input type="checkbox" id={ "account-" (n) } name="account_id" value=(account.id)
                                        checked[picked(account)] aria-invalid[none_picked] aria-describedby=(described);
                                    (account_cells(account))
                                }
                            }
                        }
                        // A consent covers the selected accounts. Later accounts need another
                        // consent.
                        @if app.new_accounts == Some(true) { li {
                            label class="account" for="new_accounts" {
                                input type="checkbox" id="new_accounts" name="new_accounts" value="yes"
                                    checked[later];
                                span class="name" { strong { "New accounts" } small { "Those that you open later" } }
                            }
                        } }
                    }
                    @if !others.is_empty() {
                        p class="hint others" {
                            "Not shared with any app: "
                            @for (n, account) in others.iter().enumerate() {
                                @if n > 0 { ", " }
                                (account_line(account))
                            }
                            ". To share one of them, connect " (isolated(&app.name)) " again and select it."
                        }
                    }
                }
                div class="scopes" {
                    fieldset class="products" {
                        legend { "Data" }
                        ul {
                            li class="always" { (PreEscaped(CHECK)) span { strong { "Names and balances" } small { "Always, of the selected accounts" } } }
                            @for detail in details(accounts) {
                                li class="always" { (PreEscaped(CHECK)) span { strong { (detail.title) } small { "Of the selected accounts, whenever it asks: " (detail.about) } } }
                            }
                            @for (name, title, about, seen) in &known_products {
                                li {
                                    label for={ "product-" (name) } {
                                        input type="checkbox" id={ "product-" (name) } name="product" value=(name) checked[*seen == Some(true)];
                                        span { strong { (title) } small { (about) } }
                                    }
                                }
                            }
                        }
                    }
                    div class="actions" {
                        button type="submit" class="primary" { "Save" }
                        a class="button secondary" href="/apps" { "Cancel" }
                    }
                    p class="note" {
                        a class="danger-text" href={ (path(&app.application_id)) "/disconnect" } { "Disconnect " (isolated(&app.name)) }
                    }
                }
            }
        },
    )
}

/// Renders the consent form for a customer who shares nothing yet. Plaid reads nothing before the
/// form is sent.
pub(in super::super) fn share(
    frame: &Frame<'_>,
    offer: &Offer,
    number: &str,
    accounts: &[Account],
    why: Option<FormError>,
) -> Markup {
    let described = if why.is_some() { "message hint" } else { "hint" };
    let error = if why.is_some() { "Error: " } else { "" };
    frame.page(
        &format!("{error}Share your accounts with {}", isolated(&offer.name)),
        false,
        &html! {
            p class="crumb" { a href="/apps" { "Connected apps" } }
            div class="heading" {
                h1 { "Share your accounts with " (isolated(&offer.name)) }
                p class="lead" {
                    "The connection runs through " strong { (PLAID_NAME) } ". On the next page you choose what "
                    (isolated(&offer.name)) " may see of the accounts that you share here."
                }
            }
            @if let Some(why) = why { (alert_box(why.text())) }
            form method="post" action="/apps/connect" class="consent" {
                (frame.csrf())
                input type="hidden" name="offer" value=(number);
                fieldset class="accounts" aria-describedby=(described) {
                    legend { "Which accounts do you want to share?" }
                    p class="hint" id="hint" { "Only the accounts that you select, and none that you open later." }
                    ul {
                        @for (n, account) in accounts.iter().enumerate() {
                            li {
                                label class="account" for={ "account-" (n) } {
                                    input type="checkbox" id={ "account-" (n) } name="account_id" value=(account.id)
                                        aria-invalid[why.is_some()] aria-describedby=(described);
                                    (account_cells(account))
                                }
                            }
                        }
                    }
                }
                div class="scopes" {
                    h2 { "What " (PLAID_NAME) " will read" }
                    ul {
                        li { (PreEscaped(CHECK)) span { "Names, types and balances of these accounts" } }
                        li { (PreEscaped(CHECK)) span { "Transactions of the last two years and new ones" } }
                        li { (PreEscaped(CHECK)) span { "Your name, address, phone number and email" } }
                        li { (PreEscaped(CHECK)) span { "Account and routing numbers" } }
                        @for detail in details(accounts) {
                            li { (PreEscaped(CHECK)) span { "Of " (detail.kind) ": " (detail.about) } }
                        }
                    }
                    div class="actions" {
                        button type="submit" name="decision" value="allow" class="primary" { "Share and continue" }
                        button type="submit" name="decision" value="deny" class="secondary" { "Don’t share" }
                    }
                    p class="note" { "If you do not finish there, nothing stays shared." }
                }
            }
        },
    )
}

/// Renders the confirmation page before an application is disconnected.
pub(in super::super) fn confirm(
    frame: &Frame<'_>,
    app: &ConnectedApp,
    pictures: &[String],
) -> Markup {
    frame.page(
        &format!("Disconnect {}?", isolated(&app.name)),
        false,
        &html! {
            section class="card question" {
                (logo(app, pictures))
                h1 { "Disconnect " (isolated(&app.name)) "?" }
                ul class="plain" {
                    li { (isolated(&app.name)) " can no longer see your accounts, from this moment on." }
                    li { "What it has already seen may stay with it. Ask " (isolated(&app.name)) " to delete it." }
                    li { "Your other apps stay connected." }
                }
                form method="post" action={ (path(&app.application_id)) "/disconnect" } class="actions" {
                    (frame.csrf())
                    button type="submit" class="danger" { "Disconnect " (isolated(&app.name)) }
                    a class="button secondary" href="/apps" { "Keep it connected" }
                }
            }
        },
    )
}
