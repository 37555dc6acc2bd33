//! The pages for banks in credentials mode: name and password, codes, questions, accounts.

use super::{Frame, alert, bank_logo, form, page, sees};
use crate::{pages::readable, plaid::config::Institution, text::isolated};
use maud::{Markup, html};
use px_types::model::{
    account::{Account, AccountType},
    sign_in::{Delivery, DeliveryMethod, Question},
};

fn heading(bank: &Institution, title: &str, lead: &str) -> Markup {
    html! {
        div class="heading" {
            (bank_logo(bank))
            div { h1 { (title) } p class="lead" { (lead) } }
        }
    }
}

/// Renders the page for name and password.
pub(in super::super) fn sign_in(frame: &Frame<'_>, bank: &Institution, username: &str) -> Markup {
    let wrong = frame.message.is_some();
    let described = wrong.then_some("message");
    page(
        frame,
        &format!("Sign in at {}", isolated(&bank.name)),
        3,
        &html! {
            (heading(bank, &format!("Sign in at {}", isolated(&bank.name)), "With the name and the password of your online banking."))
            (alert(frame.message))
            (form(frame, "sign-in", &html! {
                div class="field" {
                    label for="username" { "Username" }
                    input id="username" name="username" type="text" value=(username) autocomplete="username"
                        autocapitalize="none" spellcheck="false" required maxlength="255"
                        autofocus[username.is_empty()] aria-invalid[wrong] aria-describedby=[described];
                }
                div class="field" {
                    label for="password" { "Password" }
                    input id="password" name="password" type="password" autocomplete="current-password" required
                        maxlength="1024" autofocus[!username.is_empty()] aria-invalid[wrong] aria-describedby=[described];
                }
                button type="submit" class="primary" { "Sign in" }
            }))
            (form(frame, "back", &html! { button type="submit" class="quiet" { "Select another bank" } }))
            p class="fine" { "Your username and password go to " (isolated(&bank.name)) " and are kept by nobody else." }
        },
    )
}

/// Renders the page for the choice of a code's delivery.
pub(in super::super) fn delivery(
    frame: &Frame<'_>,
    bank: &Institution,
    deliveries: &[Delivery],
) -> Markup {
    page(
        frame,
        "Get a code",
        3,
        &html! {
            (heading(bank, "How do you want to get your code?", &format!("{} sends you a code to make sure that it is you.", isolated(&bank.name))))
            (alert(frame.message))
            (form(frame, "delivery", &html! {
                fieldset class="choices" {
                    legend class="unseen" { "How do you want to get your code?" }
                    @for (n, delivery) in deliveries.iter().enumerate() {
                        label class="choice" {
                            input type="radio" name="delivery_id" value=(delivery.id) required checked[n == 0];
                            span { strong { (method(&delivery.method)) } small { (delivery.mask) } }
                        }
                    }
                }
                button type="submit" class="primary" { "Send the code" }
            }))
        },
    )
}

fn method(method: &DeliveryMethod) -> &str {
    match method {
        DeliveryMethod::Sms => "Text message",
        DeliveryMethod::Email => "Email",
        DeliveryMethod::Voice => "Phone call",
        other => other.as_str(),
    }
}

/// Renders the page for a one-time code, sent to the address `sent`, or shown by the user's device.
pub(in super::super) fn code(frame: &Frame<'_>, bank: &Institution, sent: Option<&str>) -> Markup {
    let wrong = frame.message.is_some();
    let lead = match sent {
        Some(mask) => format!("{} has sent it to {mask}.", isolated(&bank.name)),
        None => "Open your authenticator app and type the code that it shows.".to_owned(),
    };
    page(
        frame,
        "Enter your code",
        3,
        &html! {
            (heading(bank, "Enter your code", &lead))
            (alert(frame.message))
            (form(frame, "code", &html! {
                div class="field" {
                    label for="code" { "Code" }
                    input id="code" class="code" name="code" type="text" inputmode="numeric" autocomplete="one-time-code"
                        required maxlength="32" autofocus aria-invalid[wrong] aria-describedby=[wrong.then_some("message")];
                }
                button type="submit" class="primary" { "Continue" }
            }))
            @if sent.is_some() {
                (form(frame, "another-code", &html! { button type="submit" class="quiet" { "Send another code" } }))
            }
        },
    )
}

/// Renders the page for security questions.
pub(in super::super) fn answers(
    frame: &Frame<'_>,
    bank: &Institution,
    questions: &[Question],
) -> Markup {
    let wrong = frame.message.is_some();
    page(
        frame,
        "Security questions",
        3,
        &html! {
            (heading(bank, "Answer your security questions", &format!("{} asks, to make sure that it is you.", isolated(&bank.name))))
            (alert(frame.message))
            (form(frame, "answers", &html! {
                @for (n, question) in questions.iter().enumerate() {
                    @let id = format!("answer-{n}");
                    @if question.choices.is_empty() {
                        div class="field" {
                            label for=(id) { (question.text) }
                            input id=(id) name=(id) type="text" autocomplete="off" required maxlength="255"
                                autofocus[n == 0] aria-invalid[wrong] aria-describedby=[wrong.then_some("message")];
                        }
                    } @else {
                        fieldset class="choices" {
                            legend { (question.text) }
                            @for choice in &question.choices {
                                label class="choice" {
                                    input type="radio" name=(id) value=(choice) required;
                                    span { strong { (choice) } }
                                }
                            }
                        }
                    }
                }
                button type="submit" class="primary" { "Continue" }
            }))
        },
    )
}

/// Renders the choice of accounts, for a bank without a consent page.
pub(in super::super) fn accounts(frame: &Frame<'_>, bank: &Institution, all: &[Account]) -> Markup {
    page(
        frame,
        "Select accounts",
        3,
        &html! {
            (heading(bank, "Select accounts", &format!("Which accounts is {} to see?", isolated(&frame.app.name))))
            (alert(frame.message))
            (form(frame, "accounts", &html! {
                (picker(all, false, "Only the accounts that you select, and none that you open later."))
                (sees(frame.app, frame.requested))
                button type="submit" class="primary" { "Share and connect" }
            }))
        },
    )
}

/// Renders a choice of accounts.
pub(super) fn picker(all: &[Account], picked: bool, hint: &str) -> Markup {
    html! {
        fieldset class="accounts" {
            legend { "Accounts" }
            p class="hint" id="hint" { (hint) }
            @if all.is_empty() { p class="none" { "There are no accounts." } }
            @for account in all {
                label class="account" {
                    input type="checkbox" name="account_id" value=(account.id) checked[picked] aria-describedby="hint";
                    (account_line(account))
                }
            }
        }
    }
}

/// Renders one account.
pub(super) fn account_line(account: &Account) -> Markup {
    let kind = match account.account_type() {
        AccountType::Credit => "owed",
        AccountType::Loan => "left to pay",
        AccountType::Investment => "value",
        _ => "balance",
    };
    html! {
        span class="line" {
            span class="name" {
                strong { (account.name) }
                small {
                    (capital(account.kind.subtype()))
                    @if let Some(mask) = &account.display_mask { " ···· " (mask) }
                }
            }
            span class="balance" {
                strong { (readable(account.current_balance, &account.unit)) }
                small { (kind) }
            }
        }
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
