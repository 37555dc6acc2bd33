//! Signing in and out: name and password, then what else the bank asks of a customer.
//!
//! The checks are those of credentials mode, so that a customer has one set of locks.

use super::{Html, Site, session::SigningIn, view::door as view};
use crate::pages::{Form, redirect};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use px_server::{
    Error, Kind,
    credentials::{Credentials as _, TokenIssuer},
};
use px_types::{
    AccessToken, ClientId, DeliveryId, KbaAnswer, OneTimeCode, Password, UserId, Username,
    model::sign_in::{ChallengeKind, SignIn},
    partner::{
        AuthTokenRequest, KbaAnswerEntry, KbaValidationRequest, OtpValidationRequest,
        RequestAuthToken, SendOtp, SendOtpRequest, TwoFactorRequest, ValidateTwoFactor,
    },
};

/// The longest name and password that are looked at.
const LONGEST: usize = 1024;

/// Where a sign-in may lead.
const NEXT: [&str; 4] = ["/home", "/apps", "/apps/activity", "/messages"];

/// Ends a sign-in in the browser, where a session takes the place of a token.
pub(super) struct NoToken;

#[async_trait]
impl TokenIssuer for NoToken {
    async fn issue(&self, _: &ClientId, _: &UserId) -> Result<AccessToken, Error> {
        Ok(AccessToken::new("a session"))
    }
}

impl Site {
    /// `GET /login`
    pub(super) fn enter(&self, headers: &HeaderMap, next: &str) -> Result<Html, Error> {
        if self.session(headers).is_some() {
            return Ok(redirect("/home"));
        }
        let next = NEXT.into_iter().find(|known| *known == next).unwrap_or("/home");
        let (entry, secret) = self.0.sessions.enter(next);
        let page = self.page(StatusCode::OK, view::sign_in(&entry, "", None));
        Ok(self.with_cookie(page, &self.entry_cookie(), &secret, super::session::SIGN_IN))
    }

    fn entry_of(&self, headers: &HeaderMap, form: &Form) -> Option<SigningIn> {
        let secret = super::cookie(headers, &self.entry_cookie())?;
        self.0.sessions.entry_of(secret, form.one("csrf"))
    }

    fn expired(&self) -> Html {
        self.page(StatusCode::FORBIDDEN, view::expired())
    }

    /// `POST /login`
    pub(super) async fn sign_in(&self, headers: &HeaderMap, form: &Form) -> Result<Html, Error> {
        let Some(entry) = self.entry_of(headers, form) else { return Ok(self.expired()) };
        let (name, password) = (form.one("username"), form.one("password"));
        let shown: String = name.chars().take(64).collect();
        let again = |why| {
            let page = view::sign_in(&entry, &shown, Some(why));
            Ok(self.page(StatusCode::OK, page))
        };
        if name.len() > LONGEST || password.len() > LONGEST {
            return again(view::Why::Wrong);
        }
        let request = AuthTokenRequest::new(Username::new(name), Password::new(password));
        let request = RequestAuthToken::new(request);
        match self.0.kit.auth_token(&self.0.client, request).await {
            Ok(sign_in) => self.go_on(entry.clone(), sign_in).await,
            Err(error) if error.kind() == Kind::SignInRefused => again(why(&error)),
            Err(error) if error.kind() == Kind::TooManyRequests => again(view::Why::Wait),
            Err(error) => Err(error),
        }
    }

    /// `POST /login/code`: has the code sent.
    pub(super) async fn send_code(&self, headers: &HeaderMap, form: &Form) -> Result<Html, Error> {
        let Some(mut entry) = self.entry_of(headers, form) else { return Ok(self.expired()) };
        let Some(challenge) = entry.challenge.clone() else { return Ok(self.expired()) };
        let Ok(delivery) = DeliveryId::new(form.one("delivery")) else {
            return Ok(self.page(StatusCode::OK, view::challenge(&entry, &challenge, None)));
        };
        let request = SendOtpRequest::new(challenge.challenge_id.clone(), delivery);
        let request = SendOtp::new(challenge.user_id.clone(), request);
        let said = match self.0.kit.send_otp(&self.0.client, request).await {
            Ok(_) => {
                entry.sent = true;
                self.0.sessions.go_on(&entry);
                None
            }
            Err(error) => Some(self.refused(error)?),
        };
        Ok(self.page(StatusCode::OK, view::challenge(&entry, &challenge, said)))
    }

    /// `POST /login/answer`
    pub(super) async fn answer(&self, headers: &HeaderMap, form: &Form) -> Result<Html, Error> {
        let Some(entry) = self.entry_of(headers, form) else { return Ok(self.expired()) };
        let Some(challenge) = entry.challenge.clone() else { return Ok(self.expired()) };
        let id = challenge.challenge_id.clone();
        let answer = match &challenge.kind {
            ChallengeKind::Kba(kba) => {
                let answers = kba.questions.iter().enumerate().map(|(n, question)| {
                    let given = form.one(&format!("answer-{n}")).to_owned();
                    KbaAnswerEntry::new(question.id.clone(), KbaAnswer::new(given))
                });
                let answers: Vec<_> = answers.collect();
                TwoFactorRequest::Answers(KbaValidationRequest::new(id, answers))
            }
            _ => {
                let code: String = form.one("code").split_whitespace().collect();
                TwoFactorRequest::Code(OtpValidationRequest::new(id, OneTimeCode::new(code)))
            }
        };
        let request = ValidateTwoFactor::new(challenge.user_id.clone(), answer);
        match self.0.kit.two_factor(&self.0.client, request).await {
            Ok(sign_in) => self.go_on(entry, sign_in).await,
            Err(error) => {
                let why = self.refused(error)?;
                Ok(self.page(StatusCode::OK, view::challenge(&entry, &challenge, Some(why))))
            }
        }
    }

    /// The next question, or the session.
    async fn go_on(&self, mut entry: SigningIn, sign_in: SignIn) -> Result<Html, Error> {
        match sign_in {
            SignIn::Challenge(challenge) => {
                (entry.challenge, entry.sent) = (Some(challenge.clone()), false);
                self.0.sessions.go_on(&entry);
                Ok(self.page(StatusCode::OK, view::challenge(&entry, &challenge, None)))
            }
            SignIn::Token(done) => {
                let found = self.0.ledger.user(&done.user_id).await.map_err(super::failed)?;
                let user = found.ok_or_else(|| Error::internal("a user who is none"))?;
                let secret = self.0.sessions.signed_in(&entry, done.user_id, user.username);
                let Some(secret) = secret else {
                    return Ok(self.expired());
                };
                let to = self.with_cookie(
                    redirect(entry.next),
                    &self.session_cookie(),
                    &secret,
                    super::session::LIFE,
                );
                Ok(self.without_cookie(to, &self.entry_cookie()))
            }
            _ => Err(Error::internal("a step of a sign-in that is not known")),
        }
    }

    /// What a refusal says; what is no refusal stays an error.
    fn refused(&self, error: Error) -> Result<view::Why, Error> {
        match error.kind() {
            Kind::SignInRefused => Ok(why(&error)),
            Kind::TooManyRequests => Ok(view::Why::TooManyCodes),
            Kind::InvalidRequest => Ok(view::Why::Answer),
            _ => Err(error),
        }
    }

    /// `POST /logout`
    pub(super) fn sign_out(&self, headers: &HeaderMap, form: &Form) -> Response<Bytes> {
        let Some(session) = self.session(headers) else { return redirect("/login") };
        if !session.sent(form.one("csrf")) {
            return self.expired();
        }
        self.0.sessions.sign_out(&session);
        self.without_cookie(redirect("/login"), &self.session_cookie())
    }
}

fn why(error: &Error) -> view::Why {
    match error.id() {
        "user_locked" => view::Why::Locked,
        "invalid_challenge" => view::Why::Answer,
        _ => view::Why::Wrong,
    }
}
