//! The connected apps: what the pages ask and what the forms do.

use super::{
    Html, Site, failed,
    session::{Said, Session},
    shared, view,
};
use crate::{
    pages::{Form, redirect},
    plaid_side::{Offer, Outward},
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

/// The messages on a page.
const MESSAGES: usize = 50;
/// The entries on a page of the log.
const ENTRIES: u64 = 20;

/// What Plaid's page says when it sends a customer back. Anyone can write such an address, and a
/// link on any page can lead a customer to it: it counts only with the token of the trip that the
/// customer began here.
#[derive(Deserialize)]
pub(super) struct SaidByPlaid {
    #[serde(default)]
    link_token: String,
    error: Option<String>,
}

impl Site {
    fn outward(&self) -> Result<&Outward, Error> {
        self.0.outward.as_ref().ok_or_else(Error::not_offered)
    }

    async fn accounts(&self, session: &Session) -> Result<Vec<Account>, Error> {
        let user = self.user(session).await?;
        Ok(self.0.ledger.holdings(&user, |_| true).await.map_err(failed)?.accounts)
    }

    /// The customer's accounts: those that Plaid reads, and the others. Plaid knows nothing of the
    /// others: it refuses what names one, and is told of none.
    async fn shared_or_not(
        &self,
        session: &Session,
    ) -> Result<(Vec<Account>, Vec<Account>), Error> {
        let shared = self.outward()?.shared(&session.user).await;
        let shared = shared.map_err(|error| Error::unavailable().with_source(error))?;
        let reads = |account: &Account| shared.iter().any(|some| some.allows(&account.id));
        Ok(self.accounts(session).await?.into_iter().partition(reads))
    }

    /// `GET /apps`
    pub(super) async fn list(&self, session: &Session) -> Result<Html, Error> {
        let Ok(outward) = self.outward() else { return self.none(session).await };
        let portal = outward.portal();
        let apps = portal.applications(&session.user).await.map_err(shared)?;
        let notices = portal.notices(&session.user, 3).await.map_err(shared)?;
        let accounts = self.accounts(session).await?;
        let frame = self.frame(session, view::Tab::Apps).await?;
        let today = portal.clock().now();
        let body = view::apps::list(
            &frame,
            &view::apps::List {
                apps: &apps,
                accounts: &accounts,
                notices: &notices,
                offers: outward.offers(),
                pictures: outward.origins(),
                now: today,
            },
        );
        Ok(self.page(StatusCode::OK, body))
    }

    async fn none(&self, session: &Session) -> Result<Html, Error> {
        let frame = self.frame(session, view::Tab::Apps).await?;
        Ok(self.page(StatusCode::NOT_FOUND, view::apps::not_offered(&frame)))
    }

    /// An application of this customer's. Another's, and one that is none, are the same.
    async fn app(
        &self,
        session: &Session,
        id: &ApplicationId,
    ) -> Result<Option<ConnectedApp>, Error> {
        let Ok(outward) = self.outward() else { return Ok(None) };
        let apps = outward.portal().applications(&session.user).await.map_err(shared)?;
        Ok(apps.list.into_iter().find(|app| app.application_id == *id))
    }

    async fn unknown(&self, session: &Session) -> Result<Html, Error> {
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
        refused: Option<view::change::Refused<'_>>,
    ) -> Result<Html, Error> {
        let Some(app) = self.app(session, id).await? else { return self.unknown(session).await };
        let (accounts, others) = self.shared_or_not(session).await?;
        let frame = self.frame(session, view::Tab::Apps).await?;
        let pictures = self.outward()?.origins();
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
        let Some(app) = self.app(session, id).await? else { return self.unknown(session).await };
        let (accounts, _) = self.shared_or_not(session).await?;
        let scopes = scopes(&app, &accounts, form);
        if scopes.accounts.iter().all(|account| account.authorized != Some(true)) {
            let why = view::apps::Trouble::NoAccount;
            let refused = view::change::Refused { why, posted: &scopes };
            return self.change_form(session, id, Some(refused)).await;
        }
        match self.outward()?.portal().set_scopes(&session.user, id, statement(&scopes)).await {
            Ok(()) => {
                self.0.sessions.say(session, Said::Changed(app.name));
                Ok(redirect("/apps"))
            }
            Err(error) => self.not_done(session, id, &scopes, error).await,
        }
    }

    async fn not_done(
        &self,
        session: &Session,
        id: &ApplicationId,
        posted: &Scopes,
        error: PortalError,
    ) -> Result<Html, Error> {
        match error.kind() {
            PortalErrorKind::UnknownApplication => self.unknown(session).await,
            PortalErrorKind::Disconnecting => Ok(redirect("/apps")),
            PortalErrorKind::Plaid => {
                tracing::warn!(%error, cause = error.plaid().map(tracing::field::display),
                    "what an application may see is as it was");
                let why = view::apps::Trouble::Plaid;
                let refused = view::change::Refused { why, posted };
                self.change_form(session, id, Some(refused)).await
            }
            _ => Err(shared(error)),
        }
    }

    /// `GET /apps/app/{id}/disconnect`
    pub(super) async fn confirm(
        &self,
        session: &Session,
        id: &ApplicationId,
    ) -> Result<Html, Error> {
        let Some(app) = self.app(session, id).await? else { return self.unknown(session).await };
        let frame = self.frame(session, view::Tab::Apps).await?;
        let pictures = self.outward()?.origins();
        Ok(self.page(StatusCode::OK, view::change::confirm(&frame, &app, pictures)))
    }

    /// `POST /apps/app/{id}/disconnect`
    pub(super) async fn disconnect(
        &self,
        session: &Session,
        id: &ApplicationId,
    ) -> Result<Html, Error> {
        let Ok(outward) = self.outward() else { return self.unknown(session).await };
        // Its name is looked up before, because afterwards nobody has it any more.
        let name =
            self.app(session, id).await?.map_or_else(|| "The app".to_owned(), |app| app.name);
        let said = match outward.portal().disconnect(&session.user, id).await {
            Ok(Disconnected::Done) => Said::Disconnected(name),
            Ok(_) => Said::Disconnecting(name),
            Err(error) if error.kind() == PortalErrorKind::UnknownApplication => {
                return self.unknown(session).await;
            }
            Err(error) => return Err(shared(error)),
        };
        self.0.sessions.say(session, said);
        Ok(redirect("/apps"))
    }

    /// `POST /apps/connect`
    pub(super) async fn connect(&self, session: &Session, form: &Form) -> Result<Html, Error> {
        let Ok(outward) = self.outward() else { return self.unknown(session).await };
        // Which of the bank's offers, by number: what stands for them at Plaid stays here.
        let offer = form.one("offer").parse().ok().and_then(|n: usize| outward.offers().get(n));
        let Some(offer) = offer else { return self.unknown(session).await };
        let consent = match form.one("decision") {
            "allow" => {
                let picked = self.picked(session, form).await?;
                if picked.is_empty() {
                    let why = Some(view::apps::Trouble::NothingToShare);
                    return self.ask_to_share(session, offer, form, why).await;
                }
                // Stored before a token is made, so that the token ends even if this call does not return.
                outward.sent_to_plaid(&session.user, None).await.map_err(failed)?;
                Some(outward.consent_of(&session.user, PermittedAccounts::Only(picked)))
            }
            "deny" => return Ok(redirect("/apps")),
            _ => None,
        };
        let connected = outward.portal().connect(&session.user, &offer.target, None).await;
        let has_consented = consent.is_some();
        drop(consent);
        match connected {
            Ok(link) => {
                if has_consented {
                    let ends = Some(link.expires_at.utc());
                    outward.sent_to_plaid(&session.user, ends).await.map_err(failed)?;
                }
                self.0.sessions.sent_to_plaid(session, &link.link_token);
                Ok(redirect(outward.link_page(&link.link_token).as_str()))
            }
            // Plaid reads nothing of a customer who has not consented.
            Err(error) if error.kind() == PortalErrorKind::NotShared => {
                self.ask_to_share(session, offer, form, None).await
            }
            Err(error) => {
                if has_consented {
                    outward.abandon_link(&session.user).await;
                }
                if error.kind() != PortalErrorKind::Plaid {
                    return Err(shared(error));
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
    async fn ask_to_share(
        &self,
        session: &Session,
        offer: &Offer,
        form: &Form,
        trouble: Option<view::apps::Trouble>,
    ) -> Result<Html, Error> {
        let accounts = self.accounts(session).await?;
        let frame = self.frame(session, view::Tab::Apps).await?;
        let body = view::change::share(&frame, offer, form.one("offer"), &accounts, trouble);
        Ok(self.page(StatusCode::OK, body))
    }

    /// `GET /apps/connected`: back from Plaid's page. Who did not consent there leaves nothing behind.
    pub(super) async fn back(&self, session: &Session, said: &SaidByPlaid) -> Html {
        if !self.0.sessions.came_back(session, &said.link_token) {
            return redirect("/apps");
        }
        if said.error.is_some()
            && let Ok(outward) = self.outward()
        {
            outward.abandon_link(&session.user).await;
        }
        self.0.sessions.say(session, Said::Back { connected: said.error.is_none() });
        redirect("/apps")
    }

    /// `GET /apps/activity`
    pub(super) async fn activity(
        &self,
        session: &Session,
        cursor: Option<&str>,
    ) -> Result<Html, Error> {
        let Ok(outward) = self.outward() else { return self.none(session).await };
        let page = outward.portal().activity(&session.user, cursor, ENTRIES).await;
        let page = match page {
            Ok(page) => Some(page),
            Err(error) if error.kind() == PortalErrorKind::Plaid => {
                tracing::warn!(%error, cause = error.plaid().map(tracing::field::display),
                    "the log cannot be read");
                None
            }
            Err(error) => return Err(shared(error)),
        };
        let frame = self.frame(session, view::Tab::Apps).await?;
        let accounts = self.accounts(session).await?;
        let first = cursor.is_none();
        let body = view::activity::activity(&frame, page.as_ref(), &accounts, first);
        Ok(self.page(StatusCode::OK, body))
    }

    /// `GET /messages`
    pub(super) async fn messages(&self, session: &Session) -> Result<Html, Error> {
        let (notices, accounts) = match self.outward() {
            Ok(outward) => {
                let notices = outward.portal().notices(&session.user, MESSAGES).await;
                (notices.map_err(shared)?, self.accounts(session).await?)
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
        if let Ok(outward) = self.outward() {
            outward.portal().mark_notices_read(&session.user).await.map_err(shared)?;
        }
        Ok(redirect(if form.one("from") == "apps" { "/apps" } else { "/messages" }))
    }
}

/// The complete scopes that the form states.
fn statement(scopes: &Scopes) -> AppScopes {
    let products = scopes.product_access.clone().unwrap_or_else(ProductAccess::new);
    let is_true = |said: Option<bool>| said == Some(true);
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

/// What the form says: all of it, because Plaid takes it so. Accounts are the customer's own that
/// are shared and no others, whatever the form names.
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
    // What Plaid does not speak of is not asked, and stays unsaid.
    let asked = |now: Option<bool>, name| now.map(|_| picked(name));
    products.transactions = asked(app.products.transactions, "transactions");
    products.identity = asked(app.products.identity, "identity");
    products.auth = asked(app.products.auth, "auth");
    products.statements = asked(app.products.statements, "statements");
    scopes.product_access = Some(products);
    scopes.new_accounts = Some(form.one("new_accounts") == "yes");
    scopes
}
