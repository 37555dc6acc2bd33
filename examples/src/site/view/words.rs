//! Texts for dates, accounts and kinds of data.

use crate::pages::{details, readable, subtype};
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use px_client::portal::{AccountsSeen, ConnectedApp};
use px_types::{
    Date, Timestamp,
    model::{
        account::{Account, AccountType},
        scopes::ProductAccess,
    },
    primitive::date::Iso8601,
};

/// Formats a date: `May 6, 2024`.
pub(super) fn day(date: Date) -> String {
    date.naive().format("%B %-d, %Y").to_string()
}

/// Renders a date.
pub(super) fn on(date: Date) -> Markup {
    html! { time datetime=(date) { (day(date)) } }
}

/// Renders a date in short form.
pub(super) fn on_short(date: Date) -> Markup {
    html! { time datetime=(date) { (date.naive().format("%b %-d")) } }
}

/// Renders a past time relative to now.
pub(super) fn since(at: Timestamp, now: DateTime<Utc>) -> Markup {
    let ago = now - at.utc();
    let some = |n: i64, what: &str| match n {
        1 => format!("1 {what} ago"),
        n => format!("{n} {what}s ago"),
    };
    let text = match ago.num_minutes() {
        ..1 => "Just now".to_owned(),
        n @ 1..60 => some(n, "minute"),
        n @ 60..1440 => some(n / 60, "hour"),
        _ => day(at.date()),
    };
    html! { time datetime=(at) { (text) } }
}

/// Renders a time in full.
pub(super) fn moment(at: &Iso8601) -> Markup {
    html! {
        time datetime=(at) {
            @match at {
                Iso8601::Timestamp(at) => (at.utc().format("%B %-d, %Y, %H:%M UTC")),
                _ => (day(at.date())),
            }
        }
    }
}

/// Renders an account in one line: `Everyday Checking •••• 1234`.
pub(super) fn account_line(account: &Account) -> Markup {
    html! {
        (account.name)
        @if let Some(mask) = &account.display_mask { " " span class="mask" { "•••• " (mask) } }
    }
}

/// Renders an account with its kind and balance.
pub(super) fn account_cells(account: &Account) -> Markup {
    let kind = match account.account_type() {
        AccountType::Credit => "owed",
        AccountType::Loan => "left to pay",
        AccountType::Investment => "value",
        _ => "balance",
    };
    html! {
        span class="name" {
            strong { (account.name) }
            small {
                (subtype(account))
                @if let Some(mask) = &account.display_mask { " " span class="mask" { "•••• " (mask) } }
            }
        }
        span class="balance" {
            strong { (readable(account.current_balance, &account.unit)) }
            small { (kind) }
        }
    }
}

/// Returns the products: form value, title, description, and the access that Plaid reports, if any.
pub(super) fn products(
    access: &ProductAccess,
) -> [(&'static str, &'static str, &'static str, Option<bool>); 4] {
    [
        ("transactions", "Transactions", "What you paid, received and where", access.transactions),
        (
            "identity",
            "Contact details",
            "Your name, address, phone number and email",
            access.identity,
        ),
        (
            "auth",
            "Account and routing numbers",
            "What it takes to pay into an account or from it",
            access.auth,
        ),
        ("statements", "Statements", "Your monthly statements", access.statements),
    ]
}

/// Describes in one line the data of these accounts that an application may see.
pub(super) fn data<'a>(
    access: &ProductAccess,
    accounts: impl IntoIterator<Item = &'a Account>,
) -> String {
    let seen = products(access).into_iter().filter(|(.., seen)| *seen == Some(true));
    let names: Vec<_> = ["Balances"].into_iter().chain(seen.map(|(_, name, ..)| name)).collect();
    let more: Vec<_> = details(accounts).map(|detail| detail.kind).collect();
    match more.as_slice() {
        [] => names.join(", "),
        more => format!("{}; if it asks: {}", names.join(", "), more.join(", ")),
    }
}

/// Renders the accounts that an application may see.
pub(super) fn accounts(app: &ConnectedApp, accounts: &[Account]) -> Markup {
    let seen: Vec<_> = accounts.iter().filter(|account| app.sees(&account.id)).collect();
    html! {
        @if app.accounts == AccountsSeen::All || seen.len() == accounts.len() {
            "All " (accounts.len()) " accounts"
        } @else if seen.is_empty() {
            "None"
        } @else {
            ul class="seen" { @for account in seen { li { (account_line(account)) } } }
        }
        @if app.new_accounts == Some(true) { " " small class="soft" { "and those you open later" } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_formatted_for_people() {
        let now: DateTime<Utc> = "2024-05-06T12:00:00Z".parse().unwrap();
        let text_of = |at: &str| since(at.parse().unwrap(), now).into_string();
        for (at, text) in [
            ("2024-05-06T12:00:30Z", "Just now"),
            ("2024-05-06T11:59:00Z", "1 minute ago"),
            ("2024-05-06T10:00:00Z", "2 hours ago"),
            ("2024-05-03T10:00:00Z", "May 3, 2024"),
        ] {
            assert!(text_of(at).contains(text), "{}", text_of(at));
        }
    }
}
