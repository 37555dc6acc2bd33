//! The list of connected apps.

use super::{
    Frame, alert_box,
    words::{accounts, data, day, on, since},
};
use crate::{PLAID_NAME, plaid_side::Offer, text::isolated};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use px_client::portal::{AppState, Applications, ConnectedApp, Notice, NoticeKind};
use px_types::{ApplicationId, model::account::Account};
use std::fmt::Write as _;

/// The reason why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum FormError {
    /// No account is selected for a connected application.
    NoAccount,
    /// No account is selected for sharing.
    NothingToShare,
    /// Plaid cannot make the change at the moment.
    Plaid,
}

impl FormError {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::NoAccount => {
                "Select at least one account. To end all access, disconnect the app instead."
            }
            Self::NothingToShare => {
                "Select at least one account to share, or choose “Don’t share”."
            }
            Self::Plaid => {
                "We could not change this now. Everything is as it was; please try again."
            }
        }
    }
}

/// The content of the list of connected apps.
#[derive(Debug)]
pub(in super::super) struct AppList<'a> {
    pub(in super::super) apps: &'a Applications,
    pub(in super::super) accounts: &'a [Account],
    pub(in super::super) notices: &'a [Notice],
    pub(in super::super) offers: &'a [Offer],
    /// The origins from which images may be loaded.
    pub(in super::super) pictures: &'a [String],
    pub(in super::super) now: DateTime<Utc>,
}

impl AppList<'_> {
    /// Returns a text that changes when there is news. The script compares it.
    fn state(&self) -> String {
        let mut state = String::new();
        for app in &self.apps.list {
            // Writing to a string does not fail.
            let _ = write!(state, "{} {:?} ", app.application_id, app.state);
        }
        for notice in self.notices.iter().filter(|notice| !notice.read) {
            let _ = write!(state, "{} ", notice.notification_id);
        }
        state
    }

    fn has(&self, offer: &Offer) -> bool {
        let same = |app: &ConnectedApp| match &offer.application_id {
            Some(id) => app.application_id == *id,
            None => app.name == offer.name,
        };
        self.apps.list.iter().any(same)
    }
}

/// Renders the page of the connected apps.
pub(in super::super) fn list(frame: &Frame<'_>, list: &AppList<'_>) -> Markup {
    let unread: Vec<_> = list.notices.iter().filter(|notice| !notice.read).collect();
    frame.page(
        "Connected apps",
        true,
        &html! {
            div class="heading" {
                h1 { "Connected apps" }
                p class="lead" { "These apps can see some of your accounts. You can change or end that at any time." }
                p class="links" { a href="/apps/activity" { "Activity log" } }
            }
            p id="said" class="unseen" role="status" aria-live="polite" {}
            div id="live" data-state=(list.state()) {
                @if !list.apps.current {
                    (alert_box(&format!("We cannot reach {PLAID_NAME} right now. This is what we knew last, and there may be more.")))
                }
                @if !unread.is_empty() {
                    section class="notices" aria-labelledby="news" {
                        h2 id="news" class="unseen" { "News" }
                        ul {
                            @for notice in &unread {
                                li { p data-news { (subject(notice)) } small { (since(notice.occurred_at, list.now)) } }
                            }
                        }
                        form method="post" action="/messages/read" {
                            (frame.csrf())
                            input type="hidden" name="from" value="apps";
                            button type="submit" class="small" id="read" { "Got it" }
                        }
                    }
                }
                @if list.apps.list.is_empty() {
                    section class="panel nothing" {
                        h2 { "No app is connected" }
                        p { "When you connect an app to your accounts, it shows up here." }
                    }
                }
                ul class="apps" {
                    @for app in &list.apps.list { li { (card(app, list)) } }
                }
                (offers(frame, list))
            }
        },
    )
}

/// Describes a notice in one line.
pub(super) fn subject(notice: &Notice) -> String {
    match notice.kind {
        NoticeKind::Linked => {
            format!("{} was connected to your accounts", isolated(&notice.name()))
        }
        NoticeKind::Unlinked => {
            format!("{} was disconnected from your accounts", isolated(&notice.name()))
        }
        _ => format!("News of {}", isolated(&notice.name())),
    }
}

/// Renders an application's image if it may be loaded. Otherwise renders the first letter of its
/// name.
pub(super) fn logo(app: &ConnectedApp, pictures: &[String]) -> Markup {
    let shown = app.logo_url.as_deref().filter(|address| {
        let origin = url::Url::parse(address).map(|url| url.origin().ascii_serialization());
        origin.is_ok_and(|origin| pictures.contains(&origin))
    });
    html! {
        @match shown {
            Some(address) => img class="logo" src=(address) alt="" width="48" height="48";,
            None => (letter(&app.name)),
        }
    }
}

fn letter(name: &str) -> Markup {
    let letter = name.chars().find(|letter| letter.is_alphanumeric());
    let letter: String = letter.into_iter().flat_map(char::to_uppercase).collect();
    html! { span class="logo letter" aria-hidden="true" { (letter) } }
}

/// Returns the path of an application's page.
pub(super) fn path(id: &ApplicationId) -> String {
    format!("/apps/app/{}", encoded(id))
}

/// Encodes an id for a path and an element id. Ids are external text, so every other byte is
/// percent-encoded.
fn encoded(id: &ApplicationId) -> String {
    let mut path = String::new();
    for byte in id.as_str().bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' => path.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => _ = write!(path, "%{byte:02X}"),
        }
    }
    path
}

fn card(app: &ConnectedApp, list: &AppList<'_>) -> Markup {
    let id = encoded(&app.application_id);
    let path = path(&app.application_id);
    html! {
        article class="app panel" aria-labelledby={ "app-" (id) } {
            div class="who" {
                (logo(app, list.pictures))
                div {
                    h2 id={ "app-" (id) } { (isolated(&app.name)) }
                    p class="soft" { "Connected since " (on(app.since.date())) }
                    @if let AppState::Disconnecting { since: begun } = app.state {
                        p class="chip" { "Disconnecting" span class="unseen" { ", since " (since(begun, list.now)) } }
                    }
                }
            }
            @if let Some(reason) = &app.reason { blockquote class="reason" { p { (reason) } } }
            dl {
                div { dt { "Accounts" } dd { (accounts(app, list.accounts)) } }
                div { dt { "Data" } dd { (data(&app.products, list.accounts.iter().filter(|account| app.sees(&account.id)))) } }
                div {
                    dt { "Last access" }
                    dd {
                        @match app.last_access.as_deref() {
                            None => "Not known just now",
                            Some([]) => "Never",
                            Some([latest, ..]) => {
                                (since(latest.at, list.now)) " " small class="soft" { (latest.kind.label()) }
                            }
                        }
                    }
                }
            }
            @match app.state {
                AppState::Disconnecting { .. } => {
                    p class="soft wait" { "We could not reach " (PLAID_NAME) " yet and keep trying until it is done. You need do nothing." }
                }
                _ => div class="doing" {
                    a class="button secondary" id={ "change-" (id) } href=(path) { "Change" span class="unseen" { " what " (isolated(&app.name)) " can see" } }
                    a class="button danger-text" id={ "end-" (id) } href={ (path) "/disconnect" } { "Disconnect" span class="unseen" { " " (isolated(&app.name)) } }
                }
            }
        }
    }
}

fn offers(frame: &Frame<'_>, list: &AppList<'_>) -> Markup {
    let open: Vec<_> =
        list.offers.iter().enumerate().filter(|(_, offer)| !list.has(offer)).collect();
    html! {
        @if !open.is_empty() {
            section class="offers" aria-labelledby="offers" {
                h2 id="offers" { "Connect another app" }
                p class="soft" { "You choose the accounts on the next page, without signing in again." }
                ul {
                    @for (n, offer) in open {
                        li class="panel offer" {
                            (letter(&offer.name))
                            strong { (isolated(&offer.name)) }
                            form method="post" action="/apps/connect" {
                                (frame.csrf())
                                input type="hidden" name="offer" value=(n);
                                button type="submit" class="secondary" id={ "connect-" (n) } { "Connect to " (isolated(&offer.name)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Renders the page for an unknown application, or one of another customer.
pub(in super::super) fn unknown(frame: &Frame<'_>) -> Markup {
    small(
        frame,
        "This app is not connected",
        "It was disconnected, or it never had access to your accounts.",
    )
}

/// Renders the page of a bank that calls no Plaid.
pub(in super::super) fn not_offered(frame: &Frame<'_>) -> Markup {
    small(frame, "No connected apps", "Larkfield Bank does not show connected apps at the moment.")
}

/// Renders the page for a failure to open Plaid's page.
pub(in super::super) fn cannot_connect(frame: &Frame<'_>, name: &str) -> Markup {
    let text = format!(
        "{name} cannot be connected right now. Nothing was shared; please try again in a few minutes."
    );
    small(frame, &format!("We could not reach {PLAID_NAME}"), &text)
}

fn small(frame: &Frame<'_>, title: &str, text: &str) -> Markup {
    frame.page(
        title,
        false,
        &html! {
            section class="panel nothing" {
                h1 { (title) }
                p { (text) }
                p { a href="/apps" { "Back to your connected apps" } }
            }
        },
    )
}

/// Formats the date of a notice.
pub(super) fn dated(notice: &Notice) -> String {
    day(notice.occurred_at.date())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_leave_its_place_in_a_path() {
        let of = |id: &str| path(&ApplicationId::new(id).unwrap());
        assert_eq!(of("budget-app_1"), "/apps/app/budget-app_1");
        assert_eq!(of("../x?y"), "/apps/app/%2E%2E%2Fx%3Fy");
    }
}
