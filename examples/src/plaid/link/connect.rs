//! The application is connected: after a sign-in, or with a bank's user's consent alone.

use super::{
    Fault, Form, Frame, Link, Message, Next, Purpose, Step, Visit, view,
    visit::{Authorized, Connected},
};
use crate::plaid::{config::Institution, desk::Connecting};
use axum::response::Response;
use http::StatusCode;
use px_types::{AccountId, model::account::Account};
use std::collections::BTreeSet;

impl Link {
    /// Connects the application to the accounts that the user shared: all that the authorization
    /// shows, or those that were picked here.
    pub(super) async fn connect(
        &self,
        visit: &mut Visit,
        bank: &Institution,
        authorized: Authorized,
        picked: Option<BTreeSet<AccountId>>,
    ) -> Result<(), Fault> {
        let order = &visit.order;
        let repairs = match &order.purpose {
            // Another user's accounts do not repair this one's.
            Purpose::Repair { institution, user }
                if *institution != bank.id || *user != authorized.user_id =>
            {
                visit.step = Step::Welcome;
                visit.message = Some(Message::AnotherUser(bank.name.clone()));
                return Ok(());
            }
            Purpose::Repair { .. } => true,
            _ => false,
        };
        let app = self.application(&order.application).ok_or(Fault::Gone)?;
        let accounts = shared(&authorized.accounts, picked.as_ref());
        let public_token = self
            .0
            .desk
            .connect(Connecting {
                institution: &bank.id,
                app,
                products: &order.products,
                webhook: order.webhook.as_deref().or(app.webhook.as_deref()),
                authorized,
                picked,
                // Without a page to return to, its webhook is how the application learns of it.
                tell: (order.redirect_uri.is_none() && !repairs).then(|| order.whose.clone()),
            })
            .await?;
        // Its access token goes on: there is nothing to exchange.
        let public_token = public_token.filter(|_| !repairs);
        let institution = bank.id.clone();
        visit.step = Step::Done(Box::new(Connected { institution, accounts, public_token }));
        Ok(())
    }

    /// The user picked accounts here.
    pub(super) async fn share(&self, visit: &mut Visit, form: &Form) -> Result<Next, Fault> {
        let Step::Accounts(bank, authorized) = &visit.step else { return Ok(Next::Page) };
        let bank = self.bank(bank).ok_or(Fault::Gone)?;
        let authorized = Authorized::clone(authorized);
        let picked = picked(&authorized.accounts, form);
        if picked.is_empty() {
            visit.message = Some(Message::NonePicked);
            return Ok(Next::Page);
        }
        self.connect(visit, bank, authorized, Some(picked)).await?;
        Ok(Next::Page)
    }

    /// The page of consent, or the one that waits for what it is to show.
    pub(super) async fn show_consent(
        &self,
        frame: &Frame<'_>,
        visit: &Visit,
    ) -> Result<Response, Fault> {
        let Purpose::CrossApp { institution, item, .. } = &visit.order.purpose else {
            return Err(Fault::Gone);
        };
        let bank = self.bank(institution).ok_or(Fault::Gone)?;
        let accounts = self.0.desk.accounts_of(item).await?.ok_or(Fault::Gone)?;
        let body = match accounts.is_empty() {
            true => view::wait(frame, bank),
            false => view::consent(frame, bank, &accounts),
        };
        Ok(super::web::page(StatusCode::OK, body, self.targets(visit)))
    }

    /// A bank's user decided.
    pub(super) async fn consent(&self, visit: &mut Visit, form: &Form) -> Result<Next, Fault> {
        let (Step::Consent, Purpose::CrossApp { institution, item, .. }) =
            (&visit.step, &visit.order.purpose)
        else {
            return Ok(Next::Page);
        };
        match form.one("decision") {
            "allow" => {}
            "deny" => {
                visit.step = Step::Ended;
                let Some(uri) = &visit.order.redirect_uri else { return Ok(Next::Page) };
                let fields =
                    [("link_token", visit.link_token.expose()), ("error", "access_denied")];
                return Ok(Next::Away(super::with_fields(uri, &fields)));
            }
            _ => {
                visit.message = Some(Message::Undecided);
                return Ok(Next::Page);
            }
        }
        let accounts = self.0.desk.accounts_of(item).await?.ok_or(Fault::Gone)?;
        let picked = picked(&accounts, form);
        if picked.is_empty() {
            visit.message = Some(Message::NonePicked);
            return Ok(Next::Page);
        }
        let app = self.application(&visit.order.application).ok_or(Fault::Gone)?;
        let shown = shared(&accounts, Some(&picked));
        let institution = institution.clone();
        let asked = (&*visit.order.products, &visit.order.whose);
        let joined = self.0.desk.join(item, app, asked, picked).await?;
        if !joined {
            return Err(Fault::Gone);
        }
        let connected = Connected { institution, accounts: shown, public_token: None };
        visit.step = Step::Done(Box::new(connected));
        Ok(Next::Page)
    }
}

/// The accounts of a form, of those that there are.
fn picked(all: &[Account], form: &Form) -> BTreeSet<AccountId> {
    let ids = all.iter().map(|account| &account.id);
    ids.filter(|id| form.all("account_id").any(|given| given == id.as_str())).cloned().collect()
}

fn shared(all: &[Account], picked: Option<&BTreeSet<AccountId>>) -> Vec<Account> {
    let is_shared = |account: &&Account| picked.is_none_or(|ids| ids.contains(&account.id));
    all.iter().filter(is_shared).cloned().collect()
}
