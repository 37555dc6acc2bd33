//! The pages and forms of the connected apps.

use super::{
    Html, Site, ledger_error, portal_error,
    session::{FlashMessage, Session},
    view,
};
use crate::{
    pages::{Form, redirect},
    plaid_side::{Offer, PlaidGateway},
};
use http::StatusCode;
use px_client::portal::{
    AppProducts, AppScopes, ConnectedApp, Disconnected, PortalError, PortalErrorKind,
};
use px_server::{Error, PermittedAccounts};
use px_types::{
    AccountId, ApplicationId,
    model::{
        account::Account,
        scopes::{AccountAccess, ProductAccess, Scopes},
    },
};
use serde::Deserialize;
use std::collections::BTreeSet;

/// Maximum number of messages on a page.
const MESSAGES_PER_PAGE: usize = 50;
/// Maximum number of entries on a page of the activity log.
const ACTIVITY_PAGE_SIZE: u64 = 20;

/// The query with which Plaid's page sends a customer back.
///
/// Anyone can construct such a URL and make a customer open it, so it counts only with the link
/// token of the visit that the customer began here.
#[derive(Deserialize)]
pub(super) struct ReturnQuery {
    #[serde(default)]
    link_token: String,
    error: Option<String>,
}

impl Site {
    fn gateway(&self) -> Result<&PlaidGateway, Error> {
        self.0.gateway.as_ref().ok_or_else(Error::not_offered)
    }

    async fn accounts(&self, session: &Session) -> Result<Vec<Account>, Error> {
        let user = self.user(session).await?;
        Ok(self.0.ledger.holdings(&user, |_| true).await.map_err(ledger_error)?.accounts)
    }

    /// Returns the customer's accounts: those that Plaid reads, and the others. Plaid does not know
    /// the others and refuses requests that name one, so they are never sent.
    async fn accounts_by_sharing(
        &self,
        session: &Session,
    ) -> Result<(Vec<Account>, Vec<Account>), Error> {
        let shared = self.gateway()?.shared(&session.user).await;
        let shared = shared.map_err(|error| Error::unavailable().with_source(error))?;
        let is_shared = |account: &Account| shared.iter().any(|some| some.allows(&account.id));
        Ok(self.accounts(session).await?.into_iter().partition(is_shared))
    }

    /// `GET /apps`
    pub(super) async fn list(&self, session: &Session) -> Result<Html, Error> {
        let Ok(gateway) = self.gateway() else { return self.not_offered_page(session).await };
        let portal = gateway.portal();
        let apps = portal.applications(&session.user).await.map_err(portal_error)?;
        let notices = portal.notices(&session.user, 3).await.map_err(portal_error)?;
        let accounts = self.accounts(session).await?;
        let frame = self.frame(session, view::Tab::Apps).await?;
        let today = portal.clock().now();
        let body = view::apps::list(
            &frame,
            &view::apps::AppList {
                apps: &apps,
                accounts: &accounts,
                notices: &notices,
                offers: gateway.offers(),
                pictures: gateway.origins(),
                now: today,
            },
        );
        Ok(self.page(StatusCode::OK, body))
    }

    async fn not_offered_page(&self, session: &Session) -> Result<Html, Error> {
        let frame = self.frame(session, view::Tab::Apps).await?;
        Ok(self.page(StatusCode::NOT_FOUND, view::apps::not_offered(&frame)))
    }

    /// Returns an application of this customer. Returns `None` for unknown applications and for
    /// those of other customers.
    async fn app(
        &self,
        session: &Session,
        id: &ApplicationId,
    ) -> Result<Option<ConnectedApp>, Error> {
        let Ok(gateway) = self.gateway() else { return Ok(None) };
        let apps = gateway.portal().applications(&session.user).await.map_err(portal_error)?;
        Ok(apps.list.into_iter().find(|app| app.application_id == *id))
    }

    async fn unknown_app_page(&self, session: &Session) -> Result<Html, Error> {
        let frame = self.frame(session, view::Tab::Apps).await?;
        Ok(self.page(StatusCode::NOT_FOUND, view::apps::unknown(&frame)))
    }

    /// `GET /apps/app/{id}`
    pub(super) async fn change(
        &self,
        session: &Session,
        id: &ApplicationId,
    ) -> Result<Html, Error> {
        self.change_form(session, id, None).await
    }

    async fn change_form(
        &self,
        session: &Session,
        id: &ApplicationId,
        refused: Option<view::change::RefusedChange<'_>>,
    ) -> Result<Html, Error> {
        let Some(app) = self.app(session, id).await? else {
            return self.unknown_app_page(session).await;
        };
        let (accounts, others) = self.accounts_by_sharing(session).await?;
        let frame = self.frame(session, view::Tab::Apps).await?;
        let pictures = self.gateway()?.origins();
        let accounts = (&*accounts, &*others);
        let body = view::change::change(&frame, &app, accounts, pictures, refused);
        Ok(self.page(StatusCode::OK, body))
    }

    /// `POST /apps/app/{id}`
    pub(super) async fn set_scopes(
        &self,
        session: &Session,
        id: &ApplicationId,
        form: &Form,
    ) -> Result<Html, Error> {
        let Some(app) = self.app(session, id).await? else {
            return self.unknown_app_page(session).await;
        };
        let (accounts, _) = self.accounts_by_sharing(session).await?;
        let scopes = scopes(&app, &accounts, form);
        if scopes.accounts.iter().all(|account| account.authorized != Some(true)) {
            let why = view::apps::FormError::NoAccount;
            let refused = view::change::RefusedChange { why, posted: &scopes };
            return self.change_form(session, id, Some(refused)).await;
        }
        match self.gateway()?.portal().set_scopes(&session.user, id, portal_scopes(&scopes)).await {
            Ok(()) => {
                self.0.sessions.set_flash(session, FlashMessage::Changed(app.name));
                Ok(redirect("/apps"))
            }
            Err(error) => self.change_failed(session, id, &scopes, error).await,
        }
    }

    async fn change_failed(
        &self,
        session: &Session,
        id: &ApplicationId,
        posted: &Scopes,
        error: PortalError,
    ) -> Result<Html, Error> {
        match error.kind() {
            PortalErrorKind::UnknownApplication => self.unknown_app_page(session).await,
            PortalErrorKind::Disconnecting => Ok(redirect("/apps")),
            PortalErrorKind::Plaid => {
                tracing::warn!(%error, cause = error.plaid().map(tracing::field::display),
                    "the scopes of an application could not be changed");
                let why = view::apps::FormError::Plaid;
                let refused = view::change::RefusedChange { why, posted };
                self.change_form(session, id, Some(refused)).await
            }
            _ => Err(portal_error(error)),
        }
    }

    /// `GET /apps/app/{id}/disconnect`
    pub(super) async fn confirm(
        &self,
        session: &Session,
        id: &ApplicationId,
    ) -> Result<Html, Error> {
        let Some(app) = self.app(session, id).await? else {
            return self.unknown_app_page(session).await;
        };
        let frame = self.frame(session, view::Tab::Apps).await?;
        let pictures = self.gateway()?.origins();
        Ok(self.page(StatusCode::OK, view::change::confirm(&frame, &app, pictures)))
    }

    /// `POST /apps/app/{id}/disconnect`
    pub(super) async fn disconnect(
        &self,
        session: &Session,
        id: &ApplicationId,
    ) -> Result<Html, Error> {
        let Ok(gateway) = self.gateway() else { return self.unknown_app_page(session).await };
        // The name is not available after the disconnection.
        let name =
            self.app(session, id).await?.map_or_else(|| "The app".to_owned(), |app| app.name);
        let message = match gateway.portal().disconnect(&session.user, id).await {
            Ok(Disconnected::Done) => FlashMessage::Disconnected(name),
            Ok(_) => FlashMessage::Disconnecting(name),
            Err(error) if error.kind() == PortalErrorKind::UnknownApplication => {
                return self.unknown_app_page(session).await;
            }
            Err(error) => return Err(portal_error(error)),
        };
        self.0.sessions.set_flash(session, message);
        Ok(redirect("/apps"))
    }

    /// `POST /apps/connect`
    pub(super) async fn connect(&self, session: &Session, form: &Form) -> Result<Html, Error> {
        let Ok(gateway) = self.gateway() else { return self.unknown_app_page(session).await };
        // The form names an offer by number, because the tokens of the offers are not sent to
        // browsers.
        let offer = form.one("offer").parse().ok().and_then(|n: usize| gateway.offers().get(n));
        let Some(offer) = offer else { return self.unknown_app_page(session).await };
        let consent = match form.one("decision") {
            "allow" => {
                let picked = self.picked(session, form).await?;
                if picked.is_empty() {
                    let why = Some(view::apps::FormError::NothingToShare);
                    return self.consent_page(session, offer, form, why).await;
                }
                // Stored before a token is made, so that the token ends even if this call does not return.
                gateway.sent_to_plaid(&session.user, None).await.map_err(ledger_error)?;
                Some(gateway.consent_of(&session.user, PermittedAccounts::Only(picked)))
            }
            "deny" => return Ok(redirect("/apps")),
            _ => None,
        };
        let connected = gateway.portal().connect(&session.user, &offer.target, None).await;
        let has_consented = consent.is_some();
        drop(consent);
        match connected {
            Ok(link) => {
                if has_consented {
                    let ends = Some(link.expires_at.utc());
                    gateway.sent_to_plaid(&session.user, ends).await.map_err(ledger_error)?;
                }
                self.0.sessions.sent_to_plaid(session, &link.link_token);
                Ok(redirect(gateway.link_page(&link.link_token).as_str()))
            }
            // Plaid reads no data of a customer who has not consented.
            Err(error) if error.kind() == PortalErrorKind::NotShared => {
                self.consent_page(session, offer, form, None).await
            }
            Err(error) => {
                if has_consented {
                    gateway.abandon_link(&session.user).await;
                }
                if error.kind() != PortalErrorKind::Plaid {
                    return Err(portal_error(error));
                }
                tracing::warn!(%error, cause = error.plaid().map(tracing::field::display),
                    "Plaid's page cannot be opened");
                let frame = self.frame(session, view::Tab::Apps).await?;
                let page = view::apps::cannot_connect(&frame, &offer.name);
                Ok(self.page(StatusCode::SERVICE_UNAVAILABLE, page))
            }
        }
    }

    /// Returns the customer's accounts that a form names.
    async fn picked(&self, session: &Session, form: &Form) -> Result<BTreeSet<AccountId>, Error> {
        let accounts = self.accounts(session).await?.into_iter().map(|account| account.id);
        let is_picked = |id: &AccountId| form.all("account_id").any(|given| given == id.as_str());
        Ok(accounts.filter(is_picked).collect())
    }

    /// Renders the consent page for a customer who shares nothing yet.
    async fn consent_page(
        &self,
        session: &Session,
        offer: &Offer,
        form: &Form,
        error: Option<view::apps::FormError>,
    ) -> Result<Html, Error> {
        let accounts = self.accounts(session).await?;
        let frame = self.frame(session, view::Tab::Apps).await?;
        let body = view::change::share(&frame, offer, form.one("offer"), &accounts, error);
        Ok(self.page(StatusCode::OK, body))
    }

    /// `GET /apps/connected`: the return from Plaid's page. If the customer did not consent there,
    /// the stored consent is removed.
    pub(super) async fn back(&self, session: &Session, query: &ReturnQuery) -> Html {
        if !self.0.sessions.finish_visit(session, &query.link_token) {
            return redirect("/apps");
        }
        if query.error.is_some()
            && let Ok(gateway) = self.gateway()
        {
            gateway.abandon_link(&session.user).await;
        }
        self.0
            .sessions
            .set_flash(session, FlashMessage::Returned { connected: query.error.is_none() });
        redirect("/apps")
    }

    /// `GET /apps/activity`
    pub(super) async fn activity(
        &self,
        session: &Session,
        cursor: Option<&str>,
    ) -> Result<Html, Error> {
        let Ok(gateway) = self.gateway() else { return self.not_offered_page(session).await };
        let page = gateway.portal().activity(&session.user, cursor, ACTIVITY_PAGE_SIZE).await;
        let page = match page {
            Ok(page) => Some(page),
            Err(error) if error.kind() == PortalErrorKind::Plaid => {
                tracing::warn!(%error, cause = error.plaid().map(tracing::field::display),
                    "the activity log cannot be read");
                None
            }
            Err(error) => return Err(portal_error(error)),
        };
        let frame = self.frame(session, view::Tab::Apps).await?;
        let accounts = self.accounts(session).await?;
        let first = cursor.is_none();
        let body = view::activity::activity(&frame, page.as_ref(), &accounts, first);
        Ok(self.page(StatusCode::OK, body))
    }

    /// `GET /messages`
    pub(super) async fn messages(&self, session: &Session) -> Result<Html, Error> {
        let (notices, accounts) = match self.gateway() {
            Ok(gateway) => {
                let notices = gateway.portal().notices(&session.user, MESSAGES_PER_PAGE).await;
                (notices.map_err(portal_error)?, self.accounts(session).await?)
            }
            Err(_) => (Vec::new(), Vec::new()),
        };
        let frame = self.frame(session, view::Tab::Messages).await?;
        Ok(self.page(StatusCode::OK, view::activity::messages(&frame, &notices, &accounts)))
    }

    /// `POST /messages/read`
    pub(super) async fn read_messages(
        &self,
        session: &Session,
        form: &Form,
    ) -> Result<Html, Error> {
        if let Ok(gateway) = self.gateway() {
            gateway.portal().mark_notices_read(&session.user).await.map_err(portal_error)?;
        }
        Ok(redirect(if form.one("from") == "apps" { "/apps" } else { "/messages" }))
    }
}

/// Returns the complete scopes of the form, as the portal takes them.
fn portal_scopes(scopes: &Scopes) -> AppScopes {
    let products = scopes.product_access.clone().unwrap_or_else(ProductAccess::new);
    let is_true = |value: Option<bool>| value == Some(true);
    let access = |one: &AccountAccess| (one.unique_id.clone(), is_true(one.authorized));
    AppScopes {
        accounts: scopes.accounts.iter().map(access).collect(),
        products: AppProducts {
            statements: is_true(products.statements),
            identity: is_true(products.identity),
            auth: is_true(products.auth),
            transactions: is_true(products.transactions),
        },
        new_accounts: is_true(scopes.new_accounts),
    }
}

/// Returns the complete scopes of the form, because Plaid takes complete scopes only. Contains the
/// customer's shared accounts and no others, whatever the form names.
fn scopes(app: &ConnectedApp, accounts: &[Account], form: &Form) -> Scopes {
    let mut scopes = Scopes::new();
    scopes.accounts = accounts
        .iter()
        .map(|account| {
            let mut access = AccountAccess::new(account.id.clone());
            let picked = form.all("account_id").any(|id| id == account.id.as_str());
            access.authorized = Some(picked);
            access
        })
        .collect();
    let picked = |name: &str| form.all("product").any(|product| product == name);
    let mut products = ProductAccess::new();
    // Products that Plaid does not name are not on the form and stay unset.
    let access = |now: Option<bool>, name| now.map(|_| picked(name));
    products.transactions = access(app.products.transactions, "transactions");
    products.identity = access(app.products.identity, "identity");
    products.auth = access(app.products.auth, "auth");
    products.statements = access(app.products.statements, "statements");
    scopes.product_access = Some(products);
    scopes.new_accounts = Some(form.one("new_accounts") == "yes");
    scopes
}
