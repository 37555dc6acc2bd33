//! The pages to sign in on.

use super::{layout, stop, trouble};
use crate::site::session::SigningIn;
use maud::{Markup, html};
use px_types::model::sign_in::{Challenge, ChallengeKind, Delivery, DeliveryMethod, Question};

/// Why a page is shown again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Why {
    /// The name or the password is wrong.
    Wrong,
    /// The profile is locked.
    Locked,
    /// Too many tries.
    Wait,
    /// The code or an answer is wrong, or came too late.
    Answer,
    /// Too many codes were sent.
    TooManyCodes,
}

impl Why {
    fn text(self) -> &'static str {
        match self {
            Self::Wrong => "The username or password is not right. Please try again.",
            Self::Locked => {
                "You cannot sign in at the moment: this profile is locked, or too many answers were wrong. Try again later, or call us."
            }
            Self::Wait => "Too many attempts. Please wait a minute, then try again.",
            Self::Answer => "That is not right, or it came too late. Please try again.",
            Self::TooManyCodes => {
                "We have sent several codes already. Use the latest, or start again."
            }
        }
    }
}

fn page(title: &str, content: &Markup) -> Markup {
    let right = html! { span class="service" { "Online Banking" } };
    layout(title, &right, &html! {}, false, &html! { div class="narrow" { (content) } })
}

fn hidden(entry: &SigningIn) -> Markup {
    html! { input type="hidden" name="csrf" value=(entry.csrf); }
}

/// The page for name and password.
pub(in super::super) fn sign_in(entry: &SigningIn, username: &str, why: Option<Why>) -> Markup {
    let wrong = why.is_some();
    page(
        "Sign in",
        &html! {
            section class="card" {
                h1 { "Sign in" }
                p class="lead" { "to your accounts at Larkfield Bank" }
                @if let Some(why) = why { (trouble(why.text())) }
                form method="post" action="/login" {
                    (hidden(entry))
                    div class="field" {
                        label for="username" { "Username" }
                        input id="username" name="username" type="text" value=(username) autocomplete="username"
                            autocapitalize="none" spellcheck="false" required maxlength="255"
                            autofocus[username.is_empty()] aria-invalid[wrong] aria-describedby=[wrong.then_some("message")];
                    }
                    div class="field" {
                        label for="password" { "Password" }
                        input id="password" name="password" type="password" autocomplete="current-password"
                            required maxlength="1024"
                            autofocus[!username.is_empty()] aria-invalid[wrong] aria-describedby=[wrong.then_some("message")];
                    }
                    button type="submit" class="primary" { "Sign in" }
                }
                p class="note" { "You will be signed out after 15 minutes without a click." }
            }
        },
    )
}

/// The page for what else the bank asks.
pub(in super::super) fn challenge(
    entry: &SigningIn,
    challenge: &Challenge,
    why: Option<Why>,
) -> Markup {
    let content = match &challenge.kind {
        ChallengeKind::Otp(otp) if !entry.sent => deliveries(entry, &otp.deliveries),
        ChallengeKind::Kba(kba) => questions(entry, &kba.questions, why),
        kind => code(entry, matches!(kind, ChallengeKind::Otp(_)), why),
    };
    page(
        "One more step",
        &html! {
            section class="card" {
                h1 { "One more step" }
                @if let Some(why) = why { (trouble(why.text())) }
                (content)
                p class="note" { a href="/login" { "Start again" } }
            }
        },
    )
}

fn deliveries(entry: &SigningIn, deliveries: &[Delivery]) -> Markup {
    html! {
        p class="lead" { "We send you a code. Where should it go?" }
        form method="post" action="/login/code" {
            (hidden(entry))
            fieldset class="choices" {
                legend class="unseen" { "Where the code goes" }
                @for (n, delivery) in deliveries.iter().enumerate() {
                    label class="choice" for={ "delivery-" (n) } {
                        input type="radio" id={ "delivery-" (n) } name="delivery" value=(delivery.id) required checked[n == 0];
                        span {
                            strong {
                                @match delivery.method {
                                    DeliveryMethod::Sms => "Text message",
                                    DeliveryMethod::Voice => "Phone call",
                                    _ => "Email",
                                }
                            }
                            small { (delivery.mask) }
                        }
                    }
                }
            }
            button type="submit" class="primary" { "Send the code" }
        }
    }
}

fn code(entry: &SigningIn, sent: bool, why: Option<Why>) -> Markup {
    let wrong = why.is_some();
    html! {
        p class="lead" {
            @if sent { "Enter the code that we have just sent you." }
            @else { "Enter the code that your authenticator app shows." }
        }
        form method="post" action="/login/answer" {
            (hidden(entry))
            div class="field" {
                label for="code" { "Code" }
                input id="code" name="code" type="text" inputmode="numeric" autocomplete="one-time-code" required
                    maxlength="20" autofocus aria-invalid[wrong] aria-describedby=[wrong.then_some("message")];
            }
            button type="submit" class="primary" { "Continue" }
        }
    }
}

fn questions(entry: &SigningIn, questions: &[Question], why: Option<Why>) -> Markup {
    let wrong = why.is_some();
    html! {
        p class="lead" { "Please answer your security questions." }
        form method="post" action="/login/answer" {
            (hidden(entry))
            @for (n, question) in questions.iter().enumerate() {
                @if question.choices.is_empty() {
                    div class="field" {
                        label for={ "answer-" (n) } { (question.text) }
                        input id={ "answer-" (n) } name={ "answer-" (n) } type="text" autocomplete="off" required
                            maxlength="255" aria-invalid[wrong] aria-describedby=[wrong.then_some("message")];
                    }
                } @else {
                    fieldset class="choices" {
                        legend { (question.text) }
                        @for (m, choice) in question.choices.iter().enumerate() {
                            label class="choice" for={ "answer-" (n) "-" (m) } {
                                input type="radio" id={ "answer-" (n) "-" (m) } name={ "answer-" (n) } value=(choice) required;
                                span { (choice) }
                            }
                        }
                    }
                }
            }
            button type="submit" class="primary" { "Continue" }
        }
    }
}

/// The sign-in took too long, or the form is not from its page.
pub(in super::super) fn expired() -> Markup {
    stop(
        "This page has expired",
        "It was open for too long, or it was opened in another browser.",
        ("/login", "Sign in again"),
    )
}
