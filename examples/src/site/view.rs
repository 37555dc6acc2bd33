//! The common parts of the site's pages. maud escapes all external text.

pub(super) mod activity;
pub(super) mod apps;
pub(super) mod change;
pub(super) mod home;
pub(super) mod login;
mod words;

use super::session::{FlashMessage, Session};
use crate::{
    PLAID_NAME,
    pages::{LOGO, WARNING},
    text::isolated,
};
use maud::{DOCTYPE, Markup, PreEscaped, html};

const DONE: &str = r#"<svg viewBox="0 0 20 20" aria-hidden="true" focusable="false"><circle cx="10" cy="10" r="8" fill="none" stroke="currentColor" stroke-width="1.6"/><path d="m6.3 10.3 2.6 2.6 4.8-5.4" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"/></svg>"#;

/// The sections of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    /// Accounts and balances.
    Accounts,
    /// Connected apps.
    Apps,
    /// Messages from the bank to the customer.
    Messages,
}

/// The frame around every page of a session.
#[derive(Debug)]
pub(super) struct Frame<'s> {
    pub(super) session: &'s Session,
    pub(super) tab: Tab,
    /// The number of unread messages.
    pub(super) unread: usize,
    /// The message that this page shows once.
    pub(super) flash: Option<FlashMessage>,
    /// Whether the bank offers connected apps.
    pub(super) apps: bool,
}

impl Frame<'_> {
    /// Renders the hidden field which shows that a form is from a page of this session.
    fn csrf(&self) -> Markup {
        html! { input type="hidden" name="csrf" value=(self.session.csrf); }
    }

    /// Renders a page of a signed-in user.
    fn page(&self, title: &str, live: bool, content: &Markup) -> Markup {
        let tabs = [
            (Tab::Accounts, "/home", "Accounts"),
            (Tab::Apps, "/apps", "Connected apps"),
            (Tab::Messages, "/messages", "Messages"),
        ];
        let nav = html! {
            nav class="tabs" aria-label="Online Banking" {
                ul {
                    @for (tab, path, name) in tabs.into_iter().filter(|tab| self.apps || tab.0 == Tab::Accounts) {
                        li {
                            a href=(path) aria-current=[(tab == self.tab).then_some("page")] {
                                (name)
                                @if tab == Tab::Messages {
                                    span id="count" {
                                        @if self.unread > 0 {
                                            span class="count" { (self.unread) span class="unseen" { " unread" } }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        };
        let out = html! {
            form method="post" action="/logout" class="out" {
                (self.csrf())
                span class="who" { (self.session.username) }
                button type="submit" { "Sign out" }
            }
        };
        layout(title, &out, &nav, live, &html! { (self.flash()) (content) })
    }

    fn flash(&self) -> Markup {
        let text = match &self.flash {
            None => return html! {},
            Some(FlashMessage::Changed(name)) => {
                format!("What {} can see has been changed.", isolated(name))
            }
            Some(FlashMessage::Disconnected(name)) => {
                format!("{} is disconnected. It cannot see your accounts any more.", isolated(name))
            }
            Some(FlashMessage::Disconnecting(name)) => format!(
                "{} is being disconnected. We could not reach {PLAID_NAME} just now and keep trying until it is done.",
                isolated(name)
            ),
            Some(FlashMessage::Returned { connected: true }) => {
                "Welcome back. A new connection shows up here within moments.".to_owned()
            }
            Some(FlashMessage::Returned { connected: false }) => {
                "Welcome back. Nothing new was connected.".to_owned()
            }
        };
        html! { div class="done" role="status" { (PreEscaped(DONE)) p { (text) } } }
    }
}

/// Renders a complete page.
fn layout(title: &str, right: &Markup, nav: &Markup, live: bool, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " · Larkfield Bank" }
                link rel="icon" href="/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/style.css";
                link rel="stylesheet" href="/site.css";
                @if live { script src="/live.js" defer {} }
            }
            body class="site" {
                a class="skip" href="#main" { "Skip to content" }
                header class="top" {
                    div class="bar" {
                        a class="brand" href="/home" { (PreEscaped(LOGO)) span { "Larkfield" b { " Bank" } } }
                        (right)
                    }
                    (nav)
                }
                main id="main" tabindex="-1" { (content) }
                footer {
                    p { "Larkfield Bank, N.A. is a demonstration. Its customers and their money are made up." }
                    p { "Help: 1-800-555-0142" }
                }
            }
        }
    }
}

/// Renders a page without a form and without a session.
fn stop(title: &str, text: &str, link: (&str, &str)) -> Markup {
    let right = html! { span class="service" { "Online Banking" } };
    let content = html! {
        section class="card stop" {
            h1 { (title) }
            p class="lead" { (text) }
            p { a href=(link.0) { (link.1) } }
        }
    };
    layout(title, &right, &html! {}, false, &html! { div class="narrow" { (content) } })
}

/// Renders an alert.
fn alert_box(text: &str) -> Markup {
    html! { div class="alert" id="message" role="alert" { (PreEscaped(WARNING)) p { (text) } } }
}

/// Renders the page for an unavailable bank.
pub(super) fn unavailable() -> Markup {
    stop(
        "We’ll be right back",
        "Larkfield Bank cannot answer at the moment. Please try again in a few minutes.",
        ("/home", "Try again"),
    )
}

/// Renders the page for a form that is not from a page of the session.
pub(super) fn forged() -> Markup {
    stop(
        "Nothing was changed",
        "This form was not sent from a page of your present visit, so we did nothing.",
        ("/home", "Back to your accounts"),
    )
}
