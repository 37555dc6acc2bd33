//! The user signs in: at the bank, or here with what the bank asks for.

use super::{Fault, Form, Link, Message, Next, Purpose, Step, Visit, visit::Authorized};
use crate::plaid::config::{Institution, SignInMode};
use px_client::{
    Error, PartnerClient,
    credentials::SignInStep,
    oauth::{AuthorizationRequest, CallbackErrorKind, TokenSet},
};
use px_types::{
    InstitutionId, KbaAnswer, OneTimeCode, Password, Username, partner::AuthorizationError,
};

/// The fifth wrong answer locks a challenge (`px.md` section 5).
const WRONG_ANSWERS: u8 = 5;

impl Link {
    /// The user goes on from the first page.
    pub(super) async fn begin(&self, visit: &mut Visit, id: &str) -> Result<Next, Fault> {
        if !matches!(visit.step, Step::Welcome) {
            return Ok(Next::Page);
        }
        match &visit.order.purpose {
            Purpose::Repair { institution, .. } => {
                let bank = institution.clone();
                self.go_to(visit, id, &bank)
            }
            _ => {
                visit.step = Step::Choose;
                Ok(Next::Page)
            }
        }
    }

    /// The user chose a bank.
    pub(super) async fn choose(
        &self,
        visit: &mut Visit,
        id: &str,
        form: &Form,
    ) -> Result<Next, Fault> {
        if !matches!(visit.step, Step::Choose | Step::AtBank(..)) {
            return Ok(Next::Page);
        }
        let chosen = InstitutionId::new(form.one("institution_id")).ok();
        let fixed = match &visit.order.purpose {
            Purpose::Repair { institution, .. } => Some(institution.clone()),
            _ => None,
        };
        let chosen = chosen.filter(|id| fixed.as_ref().is_none_or(|fixed| fixed == id));
        match chosen.filter(|id| self.bank(id).is_some()) {
            Some(bank) => self.go_to(visit, id, &bank),
            None => {
                visit.message = Some(Message::NoSuchBank);
                Ok(Next::Page)
            }
        }
    }

    /// Sends the user to a bank, or shows its form.
    fn go_to(&self, visit: &mut Visit, id: &str, bank: &InstitutionId) -> Result<Next, Fault> {
        let (Some(institution), Some(client)) = (self.bank(bank), self.0.banks.client(bank)) else {
            return Err(Fault::Gone);
        };
        if institution.mode == SignInMode::Credentials {
            visit.step = Step::SignIn(bank.clone(), String::new());
            return Ok(Next::Page);
        }
        let app = self.application(&visit.order.application).ok_or(Fault::Gone)?;
        let mut request =
            AuthorizationRequest::new(format!("{}/link/oauth", self.0.config.public_url));
        request.issuer = Some(institution.issuer().to_owned());
        request.application_id = Some(app.id.clone());
        request.application_name = Some(app.name.clone());
        let begun = client.begin_authorization(request);
        let (url, pending) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                self.not_answered(visit, institution, &error);
                return Ok(Next::Page);
            }
        };
        // The state is known to the authorization alone; the URL is where it can be read.
        let state = url.query_pairs().find(|(name, _)| name == "state");
        if let Some((_, state)) = state {
            self.0.visits.expect(id, &state);
        }
        visit.step = Step::AtBank(bank.clone(), Box::new(pending));
        Ok(Next::Away(url.into()))
    }

    /// The user came back from the bank, with its answer in the query.
    pub(super) async fn come_back(&self, visit: &mut Visit, query: &str) -> Result<(), Fault> {
        let Step::AtBank(id, pending) = &visit.step else { return Ok(()) };
        let (id, pending) = (id.clone(), pending.clone());
        let (Some(bank), Some(client)) = (self.bank(&id), self.0.banks.client(&id)) else {
            return Err(Fault::Gone);
        };
        // Whatever comes of it, this answer is taken once.
        visit.step = self.chooses_again(visit);
        let accepted = match pending.check_callback(query) {
            Ok(accepted) => accepted,
            Err(error) => {
                visit.message = Some(match error.kind() {
                    CallbackErrorKind::Refused(AuthorizationError::AccessDenied) => {
                        Message::Declined(bank.name.clone())
                    }
                    _ => {
                        tracing::warn!(institution = %id, %error, "an answer of a bank was not accepted");
                        Message::Refused(bank.name.clone())
                    }
                });
                return Ok(());
            }
        };
        let authorized = match client.exchange_code(accepted).await {
            Ok(tokens) => self.who_and_what(client, tokens).await,
            Err(error) => Err(error),
        };
        match authorized {
            Ok(authorized) => self.connect(visit, bank, authorized, None).await,
            Err(error) => {
                self.not_answered(visit, bank, &error);
                Ok(())
            }
        }
    }

    /// Whose tokens these are, and the accounts that they show.
    async fn who_and_what(
        &self,
        client: &PartnerClient,
        tokens: TokenSet,
    ) -> Result<Authorized, Error> {
        let client = client.with_token(tokens.access_token.clone());
        let user_id = client.current_user().await?.user_id;
        let accounts = client.user(&user_id).await?.accounts;
        Ok(Authorized { tokens, user_id, accounts })
    }

    /// Where a user is who did not get through.
    fn chooses_again(&self, visit: &Visit) -> Step {
        match &visit.order.purpose {
            Purpose::Repair { .. } => Step::Welcome,
            _ => Step::Choose,
        }
    }

    /// The bank could not be asked, or said no.
    fn not_answered(&self, visit: &mut Visit, bank: &Institution, error: &Error) {
        tracing::warn!(institution = %bank.id, %error, "a sign-in failed at the bank");
        visit.step = self.chooses_again(visit);
        visit.message = Some(match error.status() {
            Some(400..=499) => Message::Refused(bank.name.clone()),
            _ => Message::Unreachable(bank.name.clone()),
        });
    }

    /// The user wants another bank.
    pub(super) fn go_back(&self, visit: &mut Visit) -> Next {
        if matches!(visit.step, Step::AtBank(..) | Step::SignIn(..)) {
            visit.step = self.chooses_again(visit);
        }
        Next::Page
    }

    /// Name and password.
    pub(super) async fn sign_in(&self, visit: &mut Visit, form: &Form) -> Result<Next, Fault> {
        let Step::SignIn(bank, _) = &visit.step else { return Ok(Next::Page) };
        let bank = bank.clone();
        let client = self.0.banks.client(&bank).ok_or(Fault::Gone)?;
        let (username, password) = (form.one("username"), form.one("password"));
        let answer = client.sign_in(Username::new(username), Password::new(password)).await;
        // Shown again after a wrong password; never kept beyond the visit.
        let typed: String = username.chars().take(64).collect();
        self.go_on(visit, &bank, answer, Step::SignIn(bank.clone(), typed)).await
    }

    /// Where the code is to go.
    pub(super) async fn send_code(&self, visit: &mut Visit, form: &Form) -> Result<Next, Fault> {
        let Step::Delivery(bank, step) = &visit.step else { return Ok(Next::Page) };
        let (bank, step) = (bank.clone(), step.clone());
        let chosen = form.one("delivery_id");
        let way = step.deliveries().iter().find(|way| way.id.as_str() == chosen).cloned();
        let Some(way) = way else {
            visit.message = Some(Message::Undecided);
            return Ok(Next::Page);
        };
        match step.clone().send(&way.id).await {
            Ok(sent) => visit.step = Step::Code(bank, sent, way.mask, step),
            Err(error) => self.sign_in_failed(visit, &bank, &error, None)?,
        }
        Ok(Next::Page)
    }

    pub(super) fn send_another(&self, visit: &mut Visit) -> Next {
        if let Step::Code(bank, _, _, step) = &visit.step {
            visit.step = Step::Delivery(bank.clone(), step.clone());
        }
        Next::Page
    }

    /// A code: one that the bank sent, or one of the user's device.
    pub(super) async fn check_code(&self, visit: &mut Visit, form: &Form) -> Result<Next, Fault> {
        let typed: String = form.one("code").chars().filter(|c| !c.is_whitespace()).collect();
        let code = OneTimeCode::new(typed);
        let again = visit.step.clone();
        let (bank, answer) = match again.clone() {
            Step::Code(bank, sent, ..) => (bank, sent.answer(code).await),
            Step::Totp(bank, step) => (bank, step.answer(code).await),
            _ => return Ok(Next::Page),
        };
        self.go_on(visit, &bank, answer, again).await
    }

    /// Answers to security questions.
    pub(super) async fn check_answers(
        &self,
        visit: &mut Visit,
        form: &Form,
    ) -> Result<Next, Fault> {
        let again = visit.step.clone();
        let Step::Answers(bank, step) = again.clone() else { return Ok(Next::Page) };
        let answers = step.questions().iter().enumerate();
        let answers = answers.map(|(n, question)| {
            (question.id.clone(), KbaAnswer::new(form.one(&format!("answer-{n}"))))
        });
        let answers = answers.collect();
        let answer = step.answer(answers).await;
        self.go_on(visit, &bank, answer, again).await
    }

    /// What a bank answered to a step of a sign-in.
    async fn go_on(
        &self,
        visit: &mut Visit,
        bank: &InstitutionId,
        answer: Result<SignInStep, Error>,
        again: Step,
    ) -> Result<Next, Fault> {
        let bank = bank.clone();
        if answer.is_ok() {
            visit.wrong = 0;
        }
        visit.step = match answer {
            Ok(SignInStep::Done(token)) => {
                let client = self.0.banks.client(&bank).ok_or(Fault::Gone)?;
                let mut tokens = TokenSet::new(token.auth_token, client.clock().now());
                tokens.user_id = Some(token.user_id);
                match self.who_and_what(client, tokens).await {
                    Ok(authorized) => Step::Accounts(bank, Box::new(authorized)),
                    Err(error) => {
                        let institution = self.bank(&bank).ok_or(Fault::Gone)?;
                        self.not_answered(visit, institution, &error);
                        return Ok(Next::Page);
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
                return Ok(Next::Page);
            }
        };
        Ok(Next::Page)
    }

    /// A step of a sign-in was refused; `again` is where a wrong answer is typed anew.
    fn sign_in_failed(
        &self,
        visit: &mut Visit,
        bank: &InstitutionId,
        error: &Error,
        again: Option<Step>,
    ) -> Result<(), Fault> {
        let institution = self.bank(bank).ok_or(Fault::Gone)?;
        let begins_anew = || Step::SignIn(bank.clone(), String::new());
        if error.error_id() == Some("invalid_challenge") {
            visit.wrong += 1;
        }
        // A challenge that is over is answered as a wrong answer is: nobody tries for ever.
        let again = again.filter(|_| visit.wrong < WRONG_ANSWERS);
        (visit.step, visit.message) = match (error.error_id(), again) {
            (Some("invalid_credentials"), Some(again)) => (again, Some(Message::Wrong)),
            (Some("too_many_requests"), Some(again)) => (again, Some(Message::Wait)),
            (Some("invalid_challenge"), Some(again)) => (again, Some(Message::WrongAnswer)),
            (Some("invalid_challenge"), None) => {
                visit.wrong = 0;
                (begins_anew(), Some(Message::Again))
            }
            (Some("user_locked"), _) => (begins_anew(), Some(Message::Locked)),
            _ => {
                self.not_answered(visit, institution, error);
                return Ok(());
            }
        };
        Ok(())
    }
}
