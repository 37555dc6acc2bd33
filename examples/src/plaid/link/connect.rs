//! NewConnection an application: after a sign-in, or with the consent of a bank's user.

use super::{
    Form, Frame, Link, LinkError, Message, Purpose, Redirect, Step, Visit, view,
    visit::{Authorized, Connected},
};
use crate::plaid::{config::Institution, link_items::NewConnection};
use axum::response::Response;
use http::StatusCode;
use px_types::{AccountId, model::account::Account};
use std::collections::BTreeSet;

impl Link {
    /// Connects the application to the shared accounts: the selected ones, or all of the
    /// authorization.
    pub(super) async fn connect(
        &self,
        visit: &mut Visit,
        bank: &Institution,
        authorized: Authorized,
        picked: Option<BTreeSet<AccountId>>,
    ) -> Result<(), LinkError> {
        let link_request = &visit.link_request;
        let is_repair = match &link_request.purpose {
            // Another user's accounts cannot repair this Item.
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
        let app = self.application(&link_request.application).ok_or(LinkError::Gone)?;
        let accounts = shared(&authorized.accounts, picked.as_ref());
        let public_token = self
            .0
            .link_items
            .connect(NewConnection {
                institution: &bank.id,
                app,
                products: &link_request.products,
                webhook: link_request.webhook.as_deref().or(app.webhook.as_deref()),
                authorized,
                picked,
                // Without a redirect URI, the webhook notifies the application of the connection.
                notify: (link_request.redirect_uri.is_none() && !is_repair)
                    .then(|| link_request.item_user.clone()),
            })
            .await?;
        // After a repair, the existing access token stays valid, so there is nothing to exchange.
        let public_token = public_token.filter(|_| !is_repair);
        let institution = bank.id.clone();
        visit.step = Step::Done(Box::new(Connected { institution, accounts, public_token }));
        Ok(())
    }

    /// Processes the selection of accounts.
    pub(super) async fn share(
        &self,
        visit: &mut Visit,
        form: &Form,
    ) -> Result<Redirect, LinkError> {
        let Step::Accounts(bank, authorized) = &visit.step else { return Ok(Redirect::Visit) };
        let bank = self.bank(bank).ok_or(LinkError::Gone)?;
        let authorized = Authorized::clone(authorized);
        let picked = picked(&authorized.accounts, form);
        if picked.is_empty() {
            visit.message = Some(Message::NonePicked);
            return Ok(Redirect::Visit);
        }
        self.connect(visit, bank, authorized, Some(picked)).await?;
        Ok(Redirect::Visit)
    }

    /// Renders the consent page, or a waiting page until the accounts are known.
    pub(super) async fn show_consent(
        &self,
        frame: &Frame<'_>,
        visit: &Visit,
    ) -> Result<Response, LinkError> {
        let Purpose::CrossApp { institution, item, .. } = &visit.link_request.purpose else {
            return Err(LinkError::Gone);
        };
        let bank = self.bank(institution).ok_or(LinkError::Gone)?;
        let accounts = self.0.link_items.accounts_of(item).await?.ok_or(LinkError::Gone)?;
        let body = match accounts.is_empty() {
            true => view::wait(frame, bank),
            false => view::consent(frame, bank, &accounts),
        };
        Ok(super::web::page(StatusCode::OK, body, self.targets(visit)))
    }

    /// Processes the decision of a bank's user.
    pub(super) async fn consent(
        &self,
        visit: &mut Visit,
        form: &Form,
    ) -> Result<Redirect, LinkError> {
        let (Step::Consent, Purpose::CrossApp { institution, item, .. }) =
            (&visit.step, &visit.link_request.purpose)
        else {
            return Ok(Redirect::Visit);
        };
        match form.one("decision") {
            "allow" => {}
            "deny" => {
                visit.step = Step::Ended;
                let Some(uri) = &visit.link_request.redirect_uri else {
                    return Ok(Redirect::Visit);
                };
                let fields =
                    [("link_token", visit.link_token.expose()), ("error", "access_denied")];
                return Ok(Redirect::Away(super::with_fields(uri, &fields)));
            }
            _ => {
                visit.message = Some(Message::Undecided);
                return Ok(Redirect::Visit);
            }
        }
        let accounts = self.0.link_items.accounts_of(item).await?.ok_or(LinkError::Gone)?;
        let picked = picked(&accounts, form);
        if picked.is_empty() {
            visit.message = Some(Message::NonePicked);
            return Ok(Redirect::Visit);
        }
        let app = self.application(&visit.link_request.application).ok_or(LinkError::Gone)?;
        let shown = shared(&accounts, Some(&picked));
        let institution = institution.clone();
        let terms = (&*visit.link_request.products, &visit.link_request.item_user);
        let joined = self.0.link_items.join(item, app, terms, picked).await?;
        if !joined {
            return Err(LinkError::Gone);
        }
        let connected = Connected { institution, accounts: shown, public_token: None };
        visit.step = Step::Done(Box::new(connected));
        Ok(Redirect::Visit)
    }
}

/// Returns the accounts that the form selects.
fn picked(all: &[Account], form: &Form) -> BTreeSet<AccountId> {
    let ids = all.iter().map(|account| &account.id);
    ids.filter(|id| form.all("account_id").any(|given| given == id.as_str())).cloned().collect()
}

fn shared(all: &[Account], picked: Option<&BTreeSet<AccountId>>) -> Vec<Account> {
    let is_shared = |account: &&Account| picked.is_none_or(|ids| ids.contains(&account.id));
    all.iter().filter(is_shared).cloned().collect()
}
