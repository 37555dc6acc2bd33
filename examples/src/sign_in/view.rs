//! The forms of a sign-in, for the site and for the OAuth pages, which add the page around them.

use super::steps::Refusal;
use crate::pages::WARNING;
use maud::{Markup, PreEscaped, html};
use px_types::model::sign_in::{Challenge, ChallengeKind, Delivery, DeliveryMethod, Question};

/// The target and the hidden fields of the forms on a page.
pub(crate) struct Forms<'a> {
    /// Path of the first form. The paths of the others are below it: `/code`, `/answer`.
    pub(crate) action: &'a str,
    /// Hidden fields.
    pub(crate) hidden: Markup,
}

/// Renders an alert.
pub(crate) fn alert(text: Option<&str>) -> Markup {
    html! {
        @if let Some(text) = text {
            div class="alert" id="message" role="alert" { (PreEscaped(WARNING)) p { (text) } }
        }
    }
}

/// Renders the form for name and password.
pub(crate) fn password(forms: &Forms<'_>, username: &str, refusal: Option<Refusal>) -> Markup {
    let wrong = refusal.is_some();
    html! {
        (alert(refusal.map(Refusal::text)))
        form method="post" action=(forms.action) {
            (forms.hidden)
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
    }
}

/// Renders the form of a challenge.
pub(crate) fn challenge(
    forms: &Forms<'_>,
    challenge: &Challenge,
    sent: bool,
    refusal: Option<Refusal>,
) -> Markup {
    html! {
        h1 { "One more step" }
        (alert(refusal.map(Refusal::text)))
        @match &challenge.kind {
            ChallengeKind::Otp(otp) if !sent => (deliveries(forms, &otp.deliveries)),
            ChallengeKind::Kba(kba) => (questions(forms, &kba.questions, refusal)),
            kind => (code(forms, matches!(kind, ChallengeKind::Otp(_)), refusal)),
        }
    }
}

fn deliveries(forms: &Forms<'_>, deliveries: &[Delivery]) -> Markup {
    html! {
        p class="lead" { "We send you a code. Where should it go?" }
        form method="post" action={ (forms.action) "/code" } {
            (forms.hidden)
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

fn code(forms: &Forms<'_>, sent: bool, refusal: Option<Refusal>) -> Markup {
    let wrong = refusal.is_some();
    html! {
        p class="lead" {
            @if sent { "Enter the code that we have just sent you." }
            @else { "Enter the code that your authenticator app shows." }
        }
        form method="post" action={ (forms.action) "/answer" } {
            (forms.hidden)
            div class="field" {
                label for="code" { "Code" }
                input id="code" name="code" type="text" inputmode="numeric" autocomplete="one-time-code" required
                    maxlength="20" autofocus aria-invalid[wrong] aria-describedby=[wrong.then_some("message")];
            }
            button type="submit" class="primary" { "Continue" }
        }
    }
}

fn questions(forms: &Forms<'_>, questions: &[Question], refusal: Option<Refusal>) -> Markup {
    let wrong = refusal.is_some();
    html! {
        p class="lead" { "Please answer your security questions." }
        form method="post" action={ (forms.action) "/answer" } {
            (forms.hidden)
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
