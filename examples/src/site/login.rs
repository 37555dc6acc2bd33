//! Signing in and out: name and password, then the customer's second factor.
//!
//! The steps are those of [`sign_in`](crate::sign_in), with the same credentials kit.

use super::{Html, Site, session::PendingSignIn, view::login as view};
use crate::{
    pages::{Form, redirect},
    sign_in::steps::{self, Refusal},
};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use px_server::{
    Error,
    credentials::{SignInOrigin, SignInStep},
};
use px_types::UserId;

/// Purpose to which the sealed field of a sign-in page is bound.
const PURPOSE: &str = "sign in to the site";

/// The pages that may follow a sign-in.
const NEXT_PAGES: [&str; 4] = ["/home", "/apps", "/apps/activity", "/messages"];

fn known(next: &str) -> &'static str {
    NEXT_PAGES.into_iter().find(|known| *known == next).unwrap_or("/home")
}

impl Site {
    /// `GET /login`
    pub(super) fn login_page(&self, headers: &HeaderMap, next: &str) -> Result<Html, Error> {
        if self.session(headers).is_some() {
            return Ok(redirect("/home"));
        }
        let sealed = &self.0.sealed;
        let browser = sealed.browser(headers);
        let field = sealed.seal(&browser, PURPOSE, &known(next)).map_err(Error::internal)?;
        let mut page = self.page(StatusCode::OK, view::sign_in(&field, "", None));
        if let Some(cookie) = browser.set_cookie() {
            page.headers_mut().append(header::SET_COOKIE, cookie);
        }
        Ok(page)
    }

    fn pending_sign_in(&self, headers: &HeaderMap, form: &Form) -> Option<PendingSignIn> {
        let secret = super::cookie(headers, &self.sign_in_cookie())?;
        self.0.sessions.find_pending_form(secret, form.one("csrf"))
    }

    fn expired(&self) -> Html {
        self.page(StatusCode::FORBIDDEN, view::expired())
    }

    /// `POST /login`
    pub(super) async fn sign_in(
        &self,
        headers: &HeaderMap,
        origin: &SignInOrigin,
        form: &Form,
    ) -> Result<Html, Error> {
        let (sealed, field) = (&self.0.sealed, form.one("csrf"));
        let Ok(opened) = sealed.open::<String>(headers, PURPOSE, field) else {
            return Ok(self.expired());
        };
        match steps::password(&self.0.kit, origin, form).await? {
            Ok(step) => {
                // A form is good for one sign-in.
                if sealed.finish(&opened).is_err() {
                    return Ok(self.expired());
                }
                self.next_step(known(&opened.value), step).await
            }
            Err(refusal) => {
                let shown: String = form.one("username").chars().take(64).collect();
                let page = view::sign_in(field, &shown, Some(refusal));
                Ok(self.page(refusal.status(), page))
            }
        }
    }

    /// `POST /login/code`: sends a code.
    pub(super) async fn send_code(
        &self,
        headers: &HeaderMap,
        origin: &SignInOrigin,
        form: &Form,
    ) -> Result<Html, Error> {
        let Some(mut entry) = self.pending_sign_in(headers, form) else {
            return Ok(self.expired());
        };
        match steps::send_code(&self.0.kit, origin, &entry.challenge, form).await? {
            Ok(()) => {
                entry.sent = true;
                self.0.sessions.update_pending(&entry);
                Ok(self.challenge(&entry, None))
            }
            Err(refusal) => Ok(self.challenge(&entry, Some(refusal))),
        }
    }

    /// `POST /login/answer`
    pub(super) async fn answer(
        &self,
        headers: &HeaderMap,
        origin: &SignInOrigin,
        form: &Form,
    ) -> Result<Html, Error> {
        let Some(entry) = self.pending_sign_in(headers, form) else { return Ok(self.expired()) };
        match steps::answer(&self.0.kit, origin, &entry.challenge, form).await? {
            // Each step has a cookie of its own.
            Ok(step) if self.0.sessions.finish_pending(&entry) => {
                self.next_step(entry.next, step).await
            }
            Ok(_) => Ok(self.expired()),
            Err(refusal) => Ok(self.challenge(&entry, Some(refusal))),
        }
    }

    fn challenge(&self, entry: &PendingSignIn, refusal: Option<Refusal>) -> Html {
        self.page(StatusCode::OK, view::challenge(entry, refusal))
    }

    /// Shows the next challenge, or opens the session.
    async fn next_step(&self, next: &'static str, step: SignInStep) -> Result<Html, Error> {
        match step {
            SignInStep::Challenge(challenge) => {
                let (entry, secret) = self.0.sessions.begin_sign_in(next, challenge);
                let page = self.challenge(&entry, None);
                let age = super::session::SIGN_IN_TIMEOUT;
                Ok(self.with_cookie(page, &self.sign_in_cookie(), &secret, age))
            }
            SignInStep::SignedIn(user) => self.open_session(next, user).await,
            _ => Err(Error::internal("an unknown step of a sign-in")),
        }
    }

    async fn open_session(&self, next: &str, id: UserId) -> Result<Html, Error> {
        let user = self.0.ledger.user(&id).await.map_err(super::ledger_error)?;
        let user = user.ok_or_else(|| Error::internal("a signed-in user does not exist"))?;
        let secret = self.0.sessions.open_session(id, user.username);
        let (name, age) = (self.session_cookie(), super::session::MAX_SESSION_AGE);
        let to = self.with_cookie(redirect(next), &name, &secret, age);
        Ok(self.without_cookie(to, &self.sign_in_cookie()))
    }

    /// `POST /logout`
    pub(super) fn sign_out(&self, headers: &HeaderMap, form: &Form) -> Response<Bytes> {
        let Some(session) = self.session(headers) else { return redirect("/login") };
        if !session.is_own_form(form.one("csrf")) {
            return self.expired();
        }
        self.0.sessions.sign_out(&session);
        self.without_cookie(redirect("/login"), &self.session_cookie())
    }
}
