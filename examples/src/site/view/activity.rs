//! The activity log of a customer's consent, and the bank's messages to the customer.

use super::{
    Frame, alert_box,
    apps::{dated, subject},
    words::{account_line, data, moment},
};
use crate::{PLAID_NAME, text::isolated};
use maud::{Markup, html};
use px_client::portal::{ActivityEntry, ActivityPage, Notice, NoticeKind};
use px_types::{
    ApplicationId,
    model::{
        account::Account,
        activity::{ActivityState, ActivityType},
        scopes::Scopes,
    },
};

/// Renders the activity log. With `None`, renders an alert: Plaid cannot be reached.
pub(in super::super) fn activity(
    frame: &Frame<'_>,
    page: Option<&ActivityPage>,
    accounts: &[Account],
    first: bool,
) -> Markup {
    frame.page(
        "Activity log",
        false,
        &html! {
            p class="crumb" { a href="/apps" { "Connected apps" } }
            div class="heading" {
                h1 { "Activity log" }
                p class="lead" { "What was connected, changed and disconnected, by whom and when." }
            }
            @match page {
                None => (alert_box(&format!("We cannot reach {PLAID_NAME} right now. Please try again in a few minutes."))),
                Some(page) => {
                    @if page.entries.is_empty() {
                        section class="panel nothing" { p { "Nothing yet." } }
                    } @else {
                        ol class="log panel" { @for entry in &page.entries { li { (line(entry, accounts)) } } }
                    }
                    nav class="pager" aria-label="Pages of the log" {
                        @if !first { a href="/apps/activity" { "Latest" } }
                        @if let Some(next) = &page.next {
                            @let query: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
                            a href={ "/apps/activity?cursor=" (query) } { "Older" }
                        }
                    }
                }
            }
        },
    )
}

fn line(entry: &ActivityEntry, accounts: &[Account]) -> Markup {
    let state = match &entry.state {
        ActivityState::Success => None,
        ActivityState::Attempt => Some("Under way"),
        ActivityState::Failure => Some("Failed"),
        ActivityState::Skipped => Some("Skipped"),
        _ => Some("Not known how it ended"),
    };
    html! {
        div class="what" {
            strong { (what(entry)) }
            @if let Some(state) = state { " " span class="chip" { (state) } }
            @if let Some(scopes) = &entry.scopes { small { (allowed(scopes, accounts)) } }
        }
        small class="soft" { (moment(&entry.at)) @if let Some(who) = who(entry) { br; "by " (who) } }
    }
}

/// Returns the initiator of an entry. Returns `None` if the entry's text names it.
fn who(entry: &ActivityEntry) -> Option<&str> {
    let app = entry.application_id.as_ref().map(ApplicationId::as_str);
    match entry.initiator.as_str() {
        _ if entry.activity == ActivityType::PortalUnlink => None,
        initiator if Some(initiator) == app => entry.application_name.as_deref(),
        // The only institution in this log is this bank.
        initiator if initiator.starts_with("ins_") => Some("Larkfield Bank"),
        initiator => Some(initiator),
    }
}

fn what(entry: &ActivityEntry) -> String {
    let app = isolated(entry.application_name.as_deref().unwrap_or("An app"));
    match &entry.activity {
        ActivityType::ItemCreate => format!("{app} was connected"),
        ActivityType::ItemImport => {
            format!("Larkfield Bank let {PLAID_NAME} know of your accounts")
        }
        ActivityType::ItemUpdate => format!("The connection of {app} was renewed"),
        ActivityType::ItemUnlink => format!("{app} was disconnected"),
        ActivityType::PortalUnlink => format!("You disconnected {app}"),
        ActivityType::PortalItemsDelete => "All connections were ended".to_owned(),
        ActivityType::ItemRemove => format!("{app} ended its connection"),
        ActivityType::InvariantCheckerDeletion => {
            format!("{PLAID_NAME} ended the connection of {app}")
        }
        ActivityType::ScopesUpdate => format!("What {app} can see was changed"),
        _ => format!("Something changed for {app}"),
    }
}

/// Renders the scopes of an application after an entry.
fn allowed(scopes: &Scopes, accounts: &[Account]) -> Markup {
    // Without accounts in the scopes, the application sees all of them.
    let may = |account: &&Account| {
        scopes.accounts.is_empty()
            || scopes
                .accounts
                .iter()
                .any(|one| one.unique_id == account.id && one.authorized != Some(false))
    };
    let seen: Vec<_> = accounts.iter().filter(may).collect();
    html! {
        @if let Some(products) = &scopes.product_access { (data(products, seen.iter().copied())) }
        @if !scopes.accounts.is_empty() {
            " · "
            @match seen.as_slice() {
                [one] => (account_line(one)),
                seen => { (seen.len()) " accounts" }
            }
        }
    }
}

/// Renders the bank's messages to the customer.
pub(in super::super) fn messages(
    frame: &Frame<'_>,
    notices: &[Notice],
    accounts: &[Account],
) -> Markup {
    let unread = notices.iter().any(|notice| !notice.read);
    frame.page(
        "Messages",
        false,
        &html! {
            div class="heading" {
                h1 { "Messages" }
                p class="lead" { "What we let you know about your connected apps." }
            }
            @if notices.is_empty() { section class="panel nothing" { p { "You have no messages." } } }
            @if unread {
                form method="post" action="/messages/read" class="above" {
                    (frame.csrf())
                    button type="submit" class="small" { "Mark all as read" }
                }
            }
            ul class="messages" {
                @for notice in notices {
                    li { (message(notice, &frame.session.username, accounts)) }
                }
            }
        },
    )
}

fn message(notice: &Notice, username: &str, accounts: &[Account]) -> Markup {
    let name = isolated(&notice.name());
    let shared: Vec<_> =
        accounts.iter().filter(|account| notice.account_ids.contains(&account.id)).collect();
    html! {
        article class={ "panel message" @if !notice.read { " new" } } {
            h2 {
                @if !notice.read { span class="dot" { span class="unseen" { "Unread: " } } }
                (subject(notice))
            }
            p class="soft" { "From Larkfield Bank to " (username) " · " (dated(notice)) }
            @match notice.kind {
                NoticeKind::Linked => {
                    p { (name) " can now see accounts of yours through " (PLAID_NAME) "." }
                    @if !shared.is_empty() { ul class="seen" { @for account in &shared { li { (account_line(account)) } } } }
                    p { "If that was not you, disconnect it at once and call us. " a href="/apps" { "See your connected apps" } }
                }
                _ => p { (name) " can no longer see your accounts. You need do nothing. " a href="/apps" { "See your connected apps" } },
            }
        }
    }
}
