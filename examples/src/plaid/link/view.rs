//! The HTML of the Link pages. maud escapes all external text.

mod bank;
mod words;

pub(super) use self::{
    bank::{accounts, answers, code, delivery, sign_in},
    words::{Message, StopPage},
};

use self::words::products;
use super::super::config::{Application, Institution, SignInMode};
use crate::{PLAID_NAME as NAME, text::isolated};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use px_types::model::account::Account;

/// The data of every page of a visit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'v> {
    pub(super) visit: &'v str,
    pub(super) csrf: &'v str,
    pub(super) app: &'v Application,
    /// The products that the application requests.
    pub(super) requested: &'v [String],
    pub(super) message: Option<&'v Message>,
}

/// The target of the last page's button.
#[derive(Clone, Copy, Debug)]
pub(super) enum ReturnTarget<'v> {
    /// A redirect URI. The value is the name of its owner.
    To(&'v str),
    /// No redirect URI: the window can be closed.
    Nowhere,
}

const MARK: &str = r#"<svg class="mark" viewBox="0 0 28 28" aria-hidden="true" focusable="false"><path d="M2.5 19.5h23" stroke="currentColor" stroke-width="2.6" stroke-linecap="round"/><path d="M4 19c0-7 4-11 10-11s10 4 10 11" fill="none" stroke="currentColor" stroke-width="2.6" stroke-linecap="round"/><path d="M10 18.5c0-3 1.5-4.7 4-4.7s4 1.7 4 4.7" fill="none" stroke="currentColor" stroke-width="2.6" stroke-linecap="round"/></svg>"#;
const LOCK: &str = r#"<svg viewBox="0 0 20 20" aria-hidden="true" focusable="false"><rect x="4" y="8.7" width="12" height="8" rx="2" fill="none" stroke="currentColor" stroke-width="1.6"/><path d="M6.8 8.5V6.3a3.2 3.2 0 0 1 6.4 0v2.2" fill="none" stroke="currentColor" stroke-width="1.6"/></svg>"#;
const PICK: &str = r#"<svg viewBox="0 0 20 20" aria-hidden="true" focusable="false"><rect x="3" y="3.5" width="14" height="13" rx="3" fill="none" stroke="currentColor" stroke-width="1.6"/><path d="m6.7 10.2 2.3 2.3 4.3-4.9" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round"/></svg>"#;
const DOOR: &str = r#"<svg viewBox="0 0 20 20" aria-hidden="true" focusable="false"><path d="M8 3.5H5a1.5 1.5 0 0 0-1.5 1.5v10A1.5 1.5 0 0 0 5 16.5h3M12.5 6.5 16 10l-3.5 3.5M16 10H8" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round"/></svg>"#;
const CHECK: &str = r#"<svg viewBox="0 0 20 20" aria-hidden="true" focusable="false"><path d="m4.5 10.5 3.8 3.8 7.2-8" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"/></svg>"#;
const WARNING: &str = r#"<svg viewBox="0 0 20 20" aria-hidden="true" focusable="false"><circle cx="10" cy="10" r="8" fill="none" stroke="currentColor" stroke-width="1.6"/><path d="M10 5.8v5.2m0 2.6v.2" fill="none" stroke="currentColor" stroke-width="1.9" stroke-linecap="round"/></svg>"#;
const ARROW: &str = r#"<svg class="arrow" viewBox="0 0 20 20" aria-hidden="true" focusable="false"><path d="m7.5 4.5 5.5 5.5-5.5 5.5" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"/></svg>"#;
const DONE: &str = r#"<svg class="done" viewBox="0 0 64 64" aria-hidden="true" focusable="false"><circle cx="32" cy="32" r="32"/><path d="m19.5 33 8.7 8.7 17-19" fill="none" stroke="white" stroke-width="5.5" stroke-linecap="round" stroke-linejoin="round"/></svg>"#;

/// Renders a page: its progress in four steps, and whether it reloads by itself.
fn layout(
    title: &str,
    step: Option<u8>,
    cancel: &Markup,
    content: &Markup,
    reload: bool,
) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                @if reload { meta http-equiv="refresh" content="2"; }
                title { (title) " · " (NAME) }
                link rel="stylesheet" href="/link/style.css";
            }
            body {
                div class="window" {
                    header class="top" {
                        span class="brand" { (PreEscaped(MARK)) span { (NAME) } }
                        (cancel)
                    }
                    @if let Some(step) = step {
                        section aria-label="Progress" {
                            div class={ "steps at-" (step) } role="img" aria-label={ "Step " (step) " of 4" } {
                                span {} span {} span {} span {}
                            }
                        }
                    }
                    main { (content) }
                    footer {
                        p { (PreEscaped(LOCK)) span { (NAME) " is a demonstration: its banks and their customers are made up." } }
                    }
                }
            }
        }
    }
}

/// Renders a page of a visit, with a cancel button.
fn page(frame: &Frame<'_>, title: &str, step: u8, content: &Markup) -> Markup {
    let cancel = html! {
        (form(frame, "cancel", &html! {
            button type="submit" class="cancel" { "Cancel" }
        }))
    };
    layout(title, Some(step), &cancel, content, false)
}

fn form(frame: &Frame<'_>, action: &str, content: &Markup) -> Markup {
    html! {
        form method="post" action={ "/link/visit/" (frame.visit) "/" (action) } {
            input type="hidden" name="csrf" value=(frame.csrf);
            (content)
        }
    }
}

fn alert(message: Option<&Message>) -> Markup {
    html! {
        @if let Some(message) = message {
            div class="alert" id="message" role="alert" { (PreEscaped(WARNING)) p { (message.text()) } }
        }
    }
}

fn app_logo(app: &Application) -> Markup {
    html! { img class="logo" src={ "/logos/applications/" (app.id) ".svg" } alt="" width="56" height="56"; }
}

fn bank_logo(bank: &Institution) -> Markup {
    html! { img class="logo" src={ "/logos/institutions/" (bank.id) ".svg" } alt="" width="56" height="56"; }
}

fn pair(app: &Application, bank: Option<&Institution>) -> Markup {
    html! {
        div class="pair" aria-hidden="true" {
            (app_logo(app))
            span class="dots" { i {} i {} i {} }
            @match bank {
                Some(bank) => (bank_logo(bank)),
                None => span class="logo own" { (PreEscaped(MARK)) },
            }
        }
    }
}

/// Describes the data that the application requests.
fn sees(app: &Application, requested: &[String]) -> Markup {
    html! {
        section class="sees" aria-labelledby="sees" {
            h2 id="sees" { (isolated(&app.name)) " asks to see" }
            ul {
                @for text in products(requested) {
                    li { (PreEscaped(CHECK)) span { (text) } }
                }
            }
        }
    }
}

/// Renders the first page: the application, and the procedure.
pub(super) fn welcome(frame: &Frame<'_>) -> Markup {
    let app = frame.app;
    let promise = |icon: &str, title: &str, text: &Markup| {
        html! { li { (PreEscaped(icon)) div { strong { (title) } p { (text) } } } }
    };
    page(
        frame,
        &format!("Connect to {}", isolated(&app.name)),
        1,
        &html! {
            (pair(app, None))
            h1 class="center" { (isolated(&app.name)) " uses " (NAME) " to connect your accounts" }
            @if let Some(reason) = &app.reason { p class="lead center" { (reason) } }
            (alert(frame.message))
            ul class="promises" {
                (promise(PICK, "You choose what is shared", &html! { (isolated(&app.name)) " sees the accounts that you pick and nothing else." }))
                (promise(LOCK, "Your sign-in stays yours", &html! { (isolated(&app.name)) " never gets your username or password." }))
                (promise(DOOR, "You can end it at any time", &html! { "Your bank shows you every connected app and lets you disconnect it." }))
            }
            (sees(app, frame.requested))
            (form(frame, "begin", &html! { button type="submit" class="primary" { "Continue" } }))
        },
    )
}

/// Renders the page for the choice of the bank.
pub(super) fn choose(frame: &Frame<'_>, banks: &[Institution]) -> Markup {
    page(
        frame,
        "Select your bank",
        2,
        &html! {
            h1 { "Select your bank" }
            p class="lead" { "Where are the accounts that " (isolated(&frame.app.name)) " is to see?" }
            (alert(frame.message))
            (form(frame, "bank", &html! {
                ul class="banks" {
                    @for bank in banks {
                        li {
                            button type="submit" name="institution_id" value=(bank.id) class="bank" {
                                (bank_logo(bank))
                                span class="name" {
                                    strong { (isolated(&bank.name)) }
                                    small {
                                        @match bank.mode {
                                            SignInMode::Oauth => { "You sign in on the bank’s own site" }
                                            SignInMode::Credentials => { "You sign in here" }
                                        }
                                    }
                                }
                                (PreEscaped(ARROW))
                            }
                        }
                    }
                }
            }))
            @if banks.is_empty() { p { "There is no bank to choose from." } }
        },
    )
}

/// Renders the page of a user who is at the bank, or returned with the browser's back button.
pub(super) fn at_bank(frame: &Frame<'_>, bank: &Institution) -> Markup {
    page(
        frame,
        &format!("Continue at {}", isolated(&bank.name)),
        3,
        &html! {
            (pair(frame.app, Some(bank)))
            h1 class="center" { "Continue at " (isolated(&bank.name)) }
            p class="lead center" { "You sign in on the bank’s own site and choose there which accounts to share. Then you come back here." }
            (alert(frame.message))
            (form(frame, "bank", &html! {
                input type="hidden" name="institution_id" value=(bank.id);
                button type="submit" class="primary" { "Go to " (isolated(&bank.name)) }
            }))
            (form(frame, "back", &html! { button type="submit" class="quiet" { "Select another bank" } }))
        },
    )
}

/// Renders the page on which a bank's user consents to an application.
pub(super) fn consent(frame: &Frame<'_>, bank: &Institution, accounts: &[Account]) -> Markup {
    let app = frame.app;
    page(
        frame,
        &format!("Connect {}", isolated(&app.name)),
        3,
        &html! {
            (pair(app, Some(bank)))
            h1 class="center" { "Connect " (isolated(&app.name)) " to " (isolated(&bank.name)) "?" }
            p class="lead center" { "You come from " (isolated(&bank.name)) ", where you are signed in, so you need not sign in again." }
            @if let Some(reason) = &app.reason { p class="quote" { "“" (reason) "”" span { (app.company.as_deref().unwrap_or(&app.name)) } } }
            (alert(frame.message))
            (form(frame, "consent", &html! {
                (bank::picker(accounts, true, "Only the accounts that you leave selected, and none that you open later."))
                (sees(app, frame.requested))
                div class="actions" {
                    button type="submit" name="decision" value="allow" class="primary" { "Connect " (isolated(&app.name)) }
                    button type="submit" name="decision" value="deny" class="secondary" { "Not now" }
                }
            }))
            p class="fine" { (isolated(&app.name)) " cannot move your money. You can end this at any time under “Connected apps” at " (isolated(&bank.name)) "." }
        },
    )
}

/// Renders the waiting page, until the accounts are known. It reloads by itself.
pub(super) fn wait(frame: &Frame<'_>, bank: &Institution) -> Markup {
    let content = html! {
        (pair(frame.app, Some(bank)))
        h1 class="center" { "Getting your accounts" }
        p class="lead center" role="status" { (isolated(&bank.name)) " is asked for your accounts. This page goes on by itself." }
        p class="center" { a href={ "/link/visit/" (frame.visit) } { "Look again" } }
    };
    layout("Getting your accounts", Some(2), &html! {}, &content, true)
}

/// Renders the last page.
pub(super) fn done(
    frame: &Frame<'_>,
    bank: &Institution,
    accounts: &[Account],
    return_target: ReturnTarget<'_>,
) -> Markup {
    let app = frame.app;
    let content = html! {
        div class="center" { (PreEscaped(DONE)) }
        h1 class="center" { (isolated(&app.name)) " is connected" }
        p class="lead center" { (isolated(&app.name)) " can see these accounts at " (isolated(&bank.name)) " from now on." }
        @if accounts.is_empty() {
            p class="center" { "All accounts that you shared." }
        }
        ul class="listed" {
            @for account in accounts {
                li { (bank::account_line(account)) }
            }
        }
        @match return_target {
            ReturnTarget::To(name) => (form(frame, "finish", &html! {
                button type="submit" class="primary" { "Continue to " (name) }
            })),
            ReturnTarget::Nowhere => p class="center strong" { "You can close this window." },
        }
        p class="fine" {
            @match bank.mode {
                SignInMode::Oauth => { "To change or end this, open “Connected apps” at " (isolated(&bank.name)) "." }
                SignInMode::Credentials => { "To end this, disconnect " (isolated(&bank.name)) " in " (isolated(&app.name)) "." }
            }
        }
    };
    layout("Connected", Some(4), &html! {}, &content, false)
}

/// Renders a page without a form.
pub(super) fn stop(page: &StopPage) -> Markup {
    let (title, text, help) = page.texts();
    let content = html! {
        div class="center" { span class="sign" { (PreEscaped(WARNING)) } }
        h1 class="center" { (title) }
        p class="lead center" { (text) }
        p class="center" { (help) }
    };
    layout(title, None, &html! {}, &content, false)
}
