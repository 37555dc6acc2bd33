//! The sign-in pages.

use super::{layout, stop};
use crate::{
    sign_in::{
        steps::Refusal,
        view::{self as forms, Forms},
    },
    site::session::PendingSignIn,
};
use maud::{Markup, html};

fn page(title: &str, content: &Markup) -> Markup {
    let right = html! { span class="service" { "Online Banking" } };
    let content = html! { div class="narrow" { section class="card" { (content) } } };
    layout(title, &right, &html! {}, false, &content)
}

fn hidden(csrf: &str) -> Forms<'static> {
    let hidden = html! { input type="hidden" name="csrf" value=(csrf); };
    Forms { action: "/login", hidden }
}

/// Renders the page for name and password.
pub(in super::super) fn sign_in(csrf: &str, username: &str, refusal: Option<Refusal>) -> Markup {
    page(
        "Sign in",
        &html! {
            h1 { "Sign in" }
            p class="lead" { "to your accounts at Larkfield Bank" }
            (forms::password(&hidden(csrf), username, refusal))
            p class="note" { "You will be signed out after 15 minutes without a click." }
        },
    )
}

/// Renders the page of a challenge.
pub(in super::super) fn challenge(entry: &PendingSignIn, refusal: Option<Refusal>) -> Markup {
    page(
        "One more step",
        &html! {
            (forms::challenge(&hidden(&entry.csrf), &entry.challenge, entry.sent, refusal))
            p class="note" { a href="/login" { "Start again" } }
        },
    )
}

/// Renders the page for a sign-in that has expired, or a form that is not from its page.
pub(in super::super) fn expired() -> Markup {
    stop(
        "This page has expired",
        "It was open for too long, or it was opened in another browser.",
        ("/login", "Sign in again"),
    )
}
