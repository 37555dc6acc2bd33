//! The HTML of the pages. maud escapes all external text.

use super::{money::readable, visit::Visit};
use crate::{
    ledger::read::User,
    sign_in::{
        steps::Refusal,
        view::{self as sign_in_forms, Forms, alert},
    },
    text::isolated,
};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use px_server::oauth::AuthorizationRequest;
use px_types::{
    Scope,
    model::{
        account::{Account, AccountType},
        sign_in::Challenge,
    },
};

/// The message of a form that is shown again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Message {
    /// A step of the sign-in was refused.
    Refused(Refusal),
    /// No account is selected.
    NonePicked,
    /// Neither button was pressed.
    Undecided,
}

/// The reason for a page without a form.
#[derive(Clone, Copy, Debug)]
pub(super) enum ErrorPage {
    /// The authorization request is invalid and has no redirect URI to respond to.
    Refused(&'static str),
    /// The page has expired, or the form is not from it.
    Expired,
    /// The user has consented or declined already.
    Decided,
    /// The bank is unavailable.
    Unavailable,
    /// The page was opened without an authorization request.
    NoEntry,
}

impl Message {
    fn text(self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.text(),
            Self::NonePicked => "Select at least one account to share, or choose “Don’t allow”.",
            Self::Undecided => "Choose “Allow” or “Don’t allow”.",
        }
    }
}

pub(crate) const LOGO: &str = r#"<svg class="mark" viewBox="0 0 32 32" aria-hidden="true" focusable="false"><rect width="32" height="32" rx="9"/><path d="M8 20.5c4.8.6 8.4-1.2 10.2-5.2.9-2 2.6-3 5.8-2.8-1 .7-1.6 1.6-1.9 2.8-1.3 5.1-5.6 8.2-11 7.4-1.3-.2-2.4-.9-3.1-2.2Z"/><path d="M9.5 15.5c1.9-4.6 5.2-6.6 9.6-6.2-3.4 1-5.4 3-6.6 6.4-1 .2-2 .1-3-.2Z"/></svg>"#;
pub(crate) const CHECK: &str = r#"<svg viewBox="0 0 20 20" aria-hidden="true" focusable="false"><path d="m4.5 10.5 3.8 3.8 7.2-8" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"/></svg>"#;
pub(crate) const WARNING: &str = r#"<svg viewBox="0 0 20 20" aria-hidden="true" focusable="false"><circle cx="10" cy="10" r="8" fill="none" stroke="currentColor" stroke-width="1.6"/><path d="M10 5.8v5.2m0 2.6v.2" fill="none" stroke="currentColor" stroke-width="1.9" stroke-linecap="round"/></svg>"#;

fn layout(title: &str, narrow: bool, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " · Larkfield Bank" }
                link rel="stylesheet" href="/style.css";
            }
            body {
                header class="top" {
                    div class="bar" {
                        span class="brand" { (PreEscaped(LOGO)) span { "Larkfield" b { " Bank" } } }
                        span class="service" { "Online Banking" }
                    }
                }
                main class=(if narrow { "narrow" } else { "wide" }) { (content) }
                footer {
                    p { "Larkfield Bank, N.A. is a demonstration. Its customers and their money are made up." }
                    p { "Help: 1-800-555-0142" }
                }
            }
        }
    }
}

fn hidden(visit: &Visit) -> Markup {
    html! {
        input type="hidden" name="visit" value=(visit.id);
        input type="hidden" name="csrf" value=(visit.csrf);
    }
}

/// Returns the requesting application's name, or the client's.
fn requester_name(request: &AuthorizationRequest) -> String {
    isolated(request.application_name.as_deref().unwrap_or(&request.client_name))
}

/// Renders the sign-in page.
pub(super) fn sign_in(
    request: &AuthorizationRequest,
    sealed: &str,
    username: &str,
    refusal: Option<Refusal>,
) -> Markup {
    let app = requester_name(request);
    let hidden = html! { input type="hidden" name="csrf" value=(sealed); };
    let forms = Forms { action: "/sign-in", hidden };
    layout(
        "Sign in",
        true,
        &html! {
            section class="card" {
                h1 { "Sign in" }
                p class="lead" { "to continue to " strong { (app) } }
                (sign_in_forms::password(&forms, username, refusal))
                p class="note" {
                    "You are signing in at Larkfield Bank. "
                    @if request.application_name.is_some() {
                        (app) " connects through " (isolated(&request.client_name)) ". "
                    }
                    "Your username and password are never shared."
                }
            }
        },
    )
}

/// Renders the page of a challenge.
pub(super) fn challenge(
    visit: &Visit,
    challenge: &Challenge,
    sent: bool,
    refusal: Option<Refusal>,
) -> Markup {
    let forms = Forms { action: "/sign-in", hidden: hidden(visit) };
    layout(
        "One more step",
        true,
        &html! {
            section class="card" {
                (sign_in_forms::challenge(&forms, challenge, sent, refusal))
                p class="note" { "You are signing in to continue to " (requester_name(&visit.request)) "." }
            }
        },
    )
}

/// Renders the page for the choice of accounts and the consent.
pub(super) fn consent(
    visit: &Visit,
    user: &User,
    accounts: &[Account],
    ends_online: bool,
    message: Option<Message>,
) -> Markup {
    let app = requester_name(&visit.request);
    let through = visit.request.application_name.is_some();
    layout(
        "Share your accounts",
        false,
        &html! {
            form method="post" action="/consent" class="consent" {
                (hidden(visit))
                div class="intro" {
                    p class="signed" { "Signed in as " strong { (user.username) } }
                    h1 { (app) " would like to see your accounts" }
                    @if through {
                        p class="lead" { "The connection runs through " strong { (isolated(&visit.request.client_name)) } "." }
                    }
                    (alert(message.map(Message::text)))
                }
                fieldset class="accounts" {
                    legend { "Which accounts do you want to share?" }
                    p class="hint" id="hint" { "Only the accounts that you select, and none that you open later." }
                    @if accounts.is_empty() {
                        p class="none" { "You have no accounts to share." }
                    }
                    ul {
                        @for (n, account) in accounts.iter().enumerate() {
                            li { (row(n, account)) }
                        }
                    }
                }
                aside class="scopes" {
                    h2 { "What " (app) " will be able to see" }
                    ul {
                        @for scope in scopes_in_order(visit) {
                            li { (PreEscaped(CHECK)) span { (scope_text(scope)) } }
                            @if scope.as_str() == "accounts" {
                                @for detail in details(accounts) {
                                    li { (PreEscaped(CHECK)) span { "Of " (detail.kind) ", if it asks: " (detail.about) } }
                                }
                            }
                        }
                    }
                    p class="note" {
                        (app) " cannot move your money. You can end this access at any time "
                        @if ends_online { "under Connected apps in Online Banking." } @else { "by calling us." }
                    }
                    div class="actions" {
                        button type="submit" name="decision" value="allow" class="primary" { "Allow" }
                        button type="submit" name="decision" value="deny" class="secondary" { "Don’t allow" }
                    }
                }
            }
        },
    )
}

fn row(n: usize, account: &Account) -> Markup {
    let id = format!("account-{n}");
    let kind = match account.account_type() {
        AccountType::Credit => "owed",
        AccountType::Loan => "left to pay",
        AccountType::Investment => "value",
        _ => "balance",
    };
    html! {
        label class="account" for=(id) {
            input type="checkbox" id=(id) name="account_id" value=(account.id) aria-describedby="hint";
            span class="name" {
                strong { (account.name) }
                small {
                    (subtype(account))
                    @if let Some(mask) = &account.display_mask {
                        " " span class="mask" { "•••• " (mask) }
                    }
                }
            }
            span class="balance" {
                strong { (readable(account.current_balance, &account.unit)) }
                small { (kind) }
            }
        }
    }
}

/// Data that some kinds of accounts show beside their balance, to an application that requests it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detail {
    pub(crate) title: &'static str,
    /// The title within a sentence.
    pub(crate) kind: &'static str,
    pub(crate) about: &'static str,
}

/// Returns the data that these accounts show beside their balances.
///
/// No scope and no product that a bank can switch off covers this data, and the bank does not learn
/// whether an application requests it. Sharing such an account shares the data, so the page must
/// say so.
pub(crate) fn details<'a>(
    accounts: impl IntoIterator<Item = &'a Account>,
) -> impl Iterator<Item = Detail> {
    let (mut invests, mut owes) = (false, false);
    for account in accounts {
        match account.account_type() {
            AccountType::Investment => invests = true,
            AccountType::Credit | AccountType::Loan => owes = true,
            _ => {}
        }
    }
    let investments = Detail {
        title: "Investments",
        kind: "investments",
        about: "what you hold and what it is worth",
    };
    let debts = Detail {
        title: "Cards and loans",
        kind: "cards and loans",
        about: "rates, limits, payments and due dates",
    };
    [(invests, investments), (owes, debts)].into_iter().filter(|(shown, _)| *shown).map(|(_, d)| d)
}

pub(crate) fn subtype(account: &Account) -> String {
    let text = account.kind.subtype();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Returns the requested scopes in display order.
fn scopes_in_order(visit: &Visit) -> Vec<&Scope> {
    const ORDER: [&str; 5] = ["accounts", "transactions", "identity", "auth", "offline_access"];
    let position = |scope: &&Scope| ORDER.iter().position(|name| *name == scope.as_str());
    let mut scopes: Vec<_> = visit.request.scopes.iter().collect();
    scopes.sort_by_key(|scope| position(scope).unwrap_or(ORDER.len()));
    scopes
}

/// Describes a scope.
fn scope_text(scope: &Scope) -> &str {
    match scope.as_str() {
        "accounts" => "Names, types and balances of these accounts",
        "identity" => "Your name, address, phone number and email",
        "auth" => "Account and routing numbers",
        "transactions" => "Transactions of the last two years and new ones",
        "offline_access" => "All of this also while you are away, until you end it",
        other => other,
    }
}

/// Renders a page without a form.
pub(super) fn error_page(page: ErrorPage) -> Markup {
    let (title, text, help) = match page {
        ErrorPage::Refused(why) => (
            "This link doesn’t work",
            why,
            "Go back to the app that you came from and start again. Nothing has been shared.",
        ),
        ErrorPage::Expired => (
            "This page has expired",
            "It was open for too long, or it was opened in another browser.",
            "Go back to the app that you came from and start again. Nothing has been shared.",
        ),
        ErrorPage::Decided => (
            "You have already answered",
            "This request has been answered and cannot be answered again.",
            "Go back to the app that you came from.",
        ),
        ErrorPage::Unavailable => (
            "We’ll be right back",
            "Larkfield Bank cannot answer at the moment.",
            "Please try again in a few minutes. Nothing has been shared.",
        ),
        ErrorPage::NoEntry => (
            "Nothing to see here",
            "This page opens when an app asks to connect to your accounts.",
            "Start in the app that you want to connect.",
        ),
    };
    layout(
        title,
        true,
        &html! {
            section class="card stop" {
                h1 { (title) }
                p class="lead" { (text) }
                p { (help) }
            }
        },
    )
}
