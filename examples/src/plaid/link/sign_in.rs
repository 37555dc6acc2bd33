//! Sign-in: at the bank, or here with the credentials and factors that the bank requires.

use super::{Form, Link, LinkError, Message, Purpose, Redirect, Step, Visit, visit::Authorized};
use crate::plaid::config::{Institution, SignInMode};
use chrono::TimeDelta;
use px_client::{
    Error, PartnerClient,
    credentials::SignInStep,
    oauth::{AuthorizationRequest, CallbackErrorKind, TokenSet},
};
use px_types::{
    InstitutionId, KbaAnswer, OneTimeCode, Password, Username, partner::AuthorizationError,
};

/// Time until the tokens of a sign-in that led to no connection are revoked, as long as a link token
/// is valid.
const AUTHORIZATION_LIFETIME: TimeDelta = TimeDelta::hours(4);
/// Number of wrong answers that locks a challenge (`px.md` section 5).
const MAX_WRONG_ANSWERS: u8 = 5;

impl Link {
    /// Continues from the first page.
    pub(super) async fn begin(&self, visit: &mut Visit, id: &str) -> Result<Redirect, LinkError> {
        if !matches!(visit.step, Step::Welcome) {
            return Ok(Redirect::Visit);
        }
        match &visit.link_request.purpose {
            Purpose::Repair { institution, .. } => {
                let bank = institution.clone();
                self.go_to(visit, id, &bank)
            }
            _ => {
                visit.step = Step::Choose;
                Ok(Redirect::Visit)
            }
        }
    }

    /// Processes the choice of a bank.
    pub(super) async fn choose(
        &self,
        visit: &mut Visit,
        id: &str,
        form: &Form,
    ) -> Result<Redirect, LinkError> {
        if !matches!(visit.step, Step::Choose | Step::AtBank(..)) {
            return Ok(Redirect::Visit);
        }
        let chosen = InstitutionId::new(form.one("institution_id")).ok();
        let fixed = match &visit.link_request.purpose {
            Purpose::Repair { institution, .. } => Some(institution.clone()),
            _ => None,
        };
        let chosen = chosen.filter(|id| fixed.as_ref().is_none_or(|fixed| fixed == id));
        match chosen.filter(|id| self.bank(id).is_some()) {
            Some(bank) => self.go_to(visit, id, &bank),
            None => {
                visit.message = Some(Message::NoSuchBank);
                Ok(Redirect::Visit)
            }
        }
    }

    /// Sends the user to a bank, or shows the sign-in form of a bank in credentials mode.
    fn go_to(
        &self,
        visit: &mut Visit,
        id: &str,
        bank: &InstitutionId,
    ) -> Result<Redirect, LinkError> {
        let (Some(institution), Some(client)) = (self.bank(bank), self.0.banks.client(bank)) else {
            return Err(LinkError::Gone);
        };
        if institution.mode == SignInMode::Credentials {
            visit.step = Step::SignIn(bank.clone(), String::new());
            return Ok(Redirect::Visit);
        }
        let app = self.application(&visit.link_request.application).ok_or(LinkError::Gone)?;
        let mut request =
            AuthorizationRequest::new(format!("{}/link/oauth", self.0.config.public_url));
        request.issuer = Some(institution.issuer().to_owned());
        request.application_id = Some(app.id.clone());
        request.application_name = Some(app.name.clone());
        let begun = client.begin_authorization(request);
        let (url, pending) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                self.bank_failed(visit, institution, &error);
                return Ok(Redirect::Visit);
            }
        };
        // `PendingAuthorization` does not expose the state, so it is read from the URL.
        let state = url.query_pairs().find(|(name, _)| name == "state");
        if let Some((_, state)) = state {
            self.0.visits.expect_state(id, &state);
        }
        visit.step = Step::AtBank(bank.clone(), Box::new(pending));
        Ok(Redirect::Away(url.into()))
    }

    /// Processes the callback of a bank. The query contains its response.
    pub(super) async fn handle_callback(
        &self,
        visit: &mut Visit,
        query: &str,
    ) -> Result<(), LinkError> {
        let Step::AtBank(id, pending) = &visit.step else { return Ok(()) };
        let (id, pending) = (id.clone(), pending.clone());
        let (Some(bank), Some(client)) = (self.bank(&id), self.0.banks.client(&id)) else {
            return Err(LinkError::Gone);
        };
        // A callback is accepted once, whatever its result.
        visit.step = self.restart_step(visit);
        let accepted = match pending.check_callback(query) {
            Ok(accepted) => accepted,
            Err(error) => {
                visit.message = Some(match error.kind() {
                    CallbackErrorKind::Refused(AuthorizationError::AccessDenied) => {
                        Message::Declined(bank.name.clone())
                    }
                    _ => {
                        tracing::warn!(institution = %id, %error, "the callback of a bank was not accepted");
                        Message::Refused(bank.name.clone())
                    }
                });
                return Ok(());
            }
        };
        let authorized = match client.exchange_code(accepted).await {
            Ok(tokens) => {
                self.hold_tokens(&id, &tokens).await?;
                self.fetch_user(client, tokens).await
            }
            Err(error) => Err(error),
        };
        match authorized {
            Ok(authorized) => self.connect(visit, bank, authorized, None).await,
            Err(error) => {
                self.bank_failed(visit, bank, &error);
                Ok(())
            }
        }
    }

    /// Stores tokens before they are used. If they are not linked, they are revoked.
    async fn hold_tokens(&self, bank: &InstitutionId, tokens: &TokenSet) -> Result<(), LinkError> {
        let until = self.0.link_items.clock.now() + AUTHORIZATION_LIFETIME;
        let items = self.0.link_items.items.for_any_owner();
        Ok(items.hold_tokens(bank, tokens.user_id.as_ref(), tokens, until).await?)
    }

    /// Fetches the user and the accounts of tokens.
    async fn fetch_user(
        &self,
        client: &PartnerClient,
        tokens: TokenSet,
    ) -> Result<Authorized, Error> {
        let client = client.with_token(tokens.access_token.clone());
        let user_id = client.current_user().await?.user_id;
        let accounts = client.user(&user_id).await?.accounts;
        Ok(Authorized { tokens, user_id, accounts })
    }

    /// Returns the step at which a user starts again after a failure.
    fn restart_step(&self, visit: &Visit) -> Step {
        match &visit.link_request.purpose {
            Purpose::Repair { .. } => Step::Welcome,
            _ => Step::Choose,
        }
    }

    /// Records a failed request to the bank, or its refusal.
    fn bank_failed(&self, visit: &mut Visit, bank: &Institution, error: &Error) {
        tracing::warn!(institution = %bank.id, %error, "a sign-in failed at the bank");
        visit.step = self.restart_step(visit);
        visit.message = Some(match error.status() {
            Some(400..=499) => Message::Refused(bank.name.clone()),
            _ => Message::Unreachable(bank.name.clone()),
        });
    }

    /// Goes back to the choice of a bank.
    pub(super) fn go_back(&self, visit: &mut Visit) -> Redirect {
        if matches!(visit.step, Step::AtBank(..) | Step::SignIn(..)) {
            visit.step = self.restart_step(visit);
        }
        Redirect::Visit
    }

    /// Processes the name and the password.
    pub(super) async fn sign_in(
        &self,
        visit: &mut Visit,
        form: &Form,
    ) -> Result<Redirect, LinkError> {
        let Step::SignIn(bank, _) = &visit.step else { return Ok(Redirect::Visit) };
        let bank = bank.clone();
        let client = self.0.banks.client(&bank).ok_or(LinkError::Gone)?;
        let (username, password) = (form.one("username"), form.one("password"));
        let result = client.sign_in(Username::new(username), Password::new(password)).await;
        // The name is shown again after a wrong password. It is not stored beyond the visit.
        let typed: String = username.chars().take(64).collect();
        self.next_step(visit, &bank, result, Step::SignIn(bank.clone(), typed)).await
    }

    /// Processes the choice of a delivery, and has the code sent.
    pub(super) async fn send_code(
        &self,
        visit: &mut Visit,
        form: &Form,
    ) -> Result<Redirect, LinkError> {
        let Step::Delivery(bank, step) = &visit.step else { return Ok(Redirect::Visit) };
        let (bank, step) = (bank.clone(), step.clone());
        let chosen = form.one("delivery_id");
        let delivery =
            step.deliveries().iter().find(|delivery| delivery.id.as_str() == chosen).cloned();
        let Some(delivery) = delivery else {
            visit.message = Some(Message::Undecided);
            return Ok(Redirect::Visit);
        };
        match step.clone().send(&delivery.id).await {
            Ok(sent) => visit.step = Step::Code(bank, sent, delivery.mask, step),
            Err(error) => self.sign_in_failed(visit, &bank, &error, None)?,
        }
        Ok(Redirect::Visit)
    }

    pub(super) fn send_another(&self, visit: &mut Visit) -> Redirect {
        if let Step::Code(bank, _, _, step) = &visit.step {
            visit.step = Step::Delivery(bank.clone(), step.clone());
        }
        Redirect::Visit
    }

    /// Processes a code: one that the bank sent, or one from the user's device.
    pub(super) async fn check_code(
        &self,
        visit: &mut Visit,
        form: &Form,
    ) -> Result<Redirect, LinkError> {
        let typed: String = form.one("code").chars().filter(|c| !c.is_whitespace()).collect();
        let code = OneTimeCode::new(typed);
        let again = visit.step.clone();
        let (bank, result) = match again.clone() {
            Step::Code(bank, sent, ..) => (bank, sent.answer(code).await),
            Step::Totp(bank, step) => (bank, step.answer(code).await),
            _ => return Ok(Redirect::Visit),
        };
        self.next_step(visit, &bank, result, again).await
    }

    /// Processes the answers to security questions.
    pub(super) async fn check_answers(
        &self,
        visit: &mut Visit,
        form: &Form,
    ) -> Result<Redirect, LinkError> {
        let again = visit.step.clone();
        let Step::Answers(bank, step) = again.clone() else { return Ok(Redirect::Visit) };
        let answers = step.questions().iter().enumerate();
        let answers = answers.map(|(n, question)| {
            (question.id.clone(), KbaAnswer::new(form.one(&format!("answer-{n}"))))
        });
        let answers = answers.collect();
        let result = step.answer(answers).await;
        self.next_step(visit, &bank, result, again).await
    }

    /// Moves a visit on after the bank's response to a step of the sign-in.
    async fn next_step(
        &self,
        visit: &mut Visit,
        bank: &InstitutionId,
        result: Result<SignInStep, Error>,
        again: Step,
    ) -> Result<Redirect, LinkError> {
        let bank = bank.clone();
        if result.is_ok() {
            visit.wrong = 0;
        }
        visit.step = match result {
            Ok(SignInStep::Done(token)) => {
                let client = self.0.banks.client(&bank).ok_or(LinkError::Gone)?;
                let mut tokens = TokenSet::new(token.auth_token, client.clock().now());
                tokens.user_id = Some(token.user_id);
                self.hold_tokens(&bank, &tokens).await?;
                match self.fetch_user(client, tokens).await {
                    Ok(authorized) => Step::Accounts(bank, Box::new(authorized)),
                    Err(error) => {
                        let institution = self.bank(&bank).ok_or(LinkError::Gone)?;
                        self.bank_failed(visit, institution, &error);
                        return Ok(Redirect::Visit);
                    }
                }
            }
            Ok(SignInStep::Otp(step)) => Step::Delivery(bank, step),
            Ok(SignInStep::Kba(step)) => Step::Answers(bank, step),
            Ok(SignInStep::Totp(step)) => Step::Totp(bank, step),
            Ok(_) => {
                visit.message = Some(Message::Again);
                Step::SignIn(bank, String::new())
            }
            Err(error) => {
                self.sign_in_failed(visit, &bank, &error, Some(again))?;
                return Ok(Redirect::Visit);
            }
        };
        Ok(Redirect::Visit)
    }

    /// Moves a visit on after a refused step. `again` is the step to which the user returns after a
    /// wrong answer.
    fn sign_in_failed(
        &self,
        visit: &mut Visit,
        bank: &InstitutionId,
        error: &Error,
        again: Option<Step>,
    ) -> Result<(), LinkError> {
        let institution = self.bank(bank).ok_or(LinkError::Gone)?;
        let restart = || Step::SignIn(bank.clone(), String::new());
        if error.error_id() == Some("invalid_challenge") {
            visit.wrong += 1;
        }
        // The response for a challenge that is over is the same as for a wrong answer. The limit
        // ends the attempts.
        let again = again.filter(|_| visit.wrong < MAX_WRONG_ANSWERS);
        (visit.step, visit.message) = match (error.error_id(), again) {
            (Some("invalid_credentials"), Some(again)) => (again, Some(Message::Wrong)),
            (Some("too_many_requests"), Some(again)) => (again, Some(Message::Wait)),
            (Some("invalid_challenge"), Some(again)) => (again, Some(Message::WrongAnswer)),
            (Some("invalid_challenge"), None) => {
                visit.wrong = 0;
                (restart(), Some(Message::Again))
            }
            (Some("user_locked"), _) => (restart(), Some(Message::Locked)),
            _ => {
                self.bank_failed(visit, institution, error);
                return Ok(());
            }
        };
        Ok(())
    }
}
