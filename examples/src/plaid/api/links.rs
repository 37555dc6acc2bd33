//! The content of link tokens. All of it is checked when the token is created, so the Link page
//! needs no further checks.

use super::{Api, items_error};
use crate::plaid::{
    config::{Application, Institution},
    link_request::{LinkRequest, Purpose},
};
use chrono::TimeDelta;
use px_items::{
    items::{Items, TokenOwner},
    store::{ApplicationUser, ItemRecord},
    tickets::{LINK_TOKEN_LIFETIME, TIED_LINK_TOKEN_LIFETIME},
    webhook::check_url,
};
use px_server::plaid::{Caller, Error};
use px_types::{
    ItemId, TargetApplicationToken,
    model::{plaid_error::PlaidErrorType, product::Product},
    plaid::CreateLinkToken,
};

/// Maximum length of a user id of a client, in bytes.
const MAX_ID_BYTES: usize = 255;

impl Api {
    /// Checks a request for a link token. Returns the content of the token and its lifetime.
    pub(super) async fn link_request(
        &self,
        caller: &Caller,
        request: CreateLinkToken,
    ) -> Result<(LinkRequest, TimeDelta), Error> {
        check_form(&request)?;
        if let Some(webhook) = &request.webhook {
            check_url(webhook, self.config.allow())
                .map_err(|error| Error::invalid_field(format!("webhook: {error}")))?;
        }
        match self.holder(caller)? {
            TokenOwner::Application(id) => {
                let app = self.registered(id)?;
                self.application_order(caller, app, request).await
            }
            TokenOwner::Partner(id) => {
                let bank = self.institution(id)?;
                self.bank_order(caller, bank, request).await
            }
        }
    }

    /// Checks an application's request: to connect a user, or to repair an Item.
    async fn application_order(
        &self,
        caller: &Caller,
        app: &Application,
        request: CreateLinkToken,
    ) -> Result<(LinkRequest, TimeDelta), Error> {
        if request.cross_app_item_add.is_some() {
            return Err(Error::invalid_field("cross_app_item_add is for banks"));
        }
        let redirect_uri = registered(&app.redirect_uris, request.redirect_uri)?;
        let mut link_request = LinkRequest {
            client: caller.client_id().clone(),
            application: app.id.clone(),
            products: names(&request.products),
            webhook: request.webhook,
            redirect_uri,
            item_user: ApplicationUser::by_application(request.user.client_user_id),
            purpose: Purpose::Connect,
        };
        let Some(token) = request.access_token else {
            check_products(&app.products, &request.products, true)?;
            return Ok((link_request, LINK_TOKEN_LIFETIME));
        };
        check_products(&app.products, &request.products, false)?;
        let status = self.items_of(caller)?.status(&token).await.map_err(items_error)?;
        let record = self.record(&status.item.item_id).await?;
        link_request.webhook = link_request.webhook.or(status.item.webhook);
        if link_request.products.is_empty() {
            link_request.products = names(&status.item.products);
        }
        link_request.purpose =
            Purpose::Repair { institution: record.institution_id, user: record.user_id };
        Ok((link_request, TIED_LINK_TOKEN_LIFETIME))
    }

    /// Checks a bank's request: to connect an application for one of its users (`px.md` section
    /// 10).
    async fn bank_order(
        &self,
        caller: &Caller,
        bank: &Institution,
        request: CreateLinkToken,
    ) -> Result<(LinkRequest, TimeDelta), Error> {
        let missing = |field: &str| {
            let what = format!("{field} is missing: a bank's link token is for cross_app_item_add");
            Error::new(PlaidErrorType::InvalidRequest, "MISSING_FIELDS", what)
        };
        let add = request.cross_app_item_add.ok_or_else(|| missing("cross_app_item_add"))?;
        let token = request.access_token.ok_or_else(|| missing("access_token"))?;
        if request.webhook.is_some() {
            let what = "webhook is for applications: the one that is connected has its own";
            return Err(Error::invalid_field(what));
        }
        let items: Items = self.items_of(caller)?;
        let record = self.record(&items.item_of(&token).await.map_err(items_error)?).await?;
        let app = self.target(bank, &add.target_application_token)?;
        check_products(&app.products, &request.products, false)?;
        // The page has no sign-in, so it is tied to the user that the bank names.
        if request.user.client_user_id != record.user_id.as_str() {
            let what = "user.client_user_id is not the user of the Item that access_token names";
            return Err(Error::invalid_field(what));
        }
        let products = if request.products.is_empty() { &app.products } else { &request.products };
        let link_request = LinkRequest {
            client: caller.client_id().clone(),
            application: app.id.clone(),
            products: names(products),
            webhook: None,
            redirect_uri: registered(&bank.redirect_uris, request.redirect_uri)?,
            item_user: ApplicationUser::by_partner(add.foreign_id),
            purpose: Purpose::CrossApp {
                institution: record.institution_id,
                item: record.id,
                user: record.user_id,
            },
        };
        Ok((link_request, TIED_LINK_TOKEN_LIFETIME))
    }

    /// Returns the application for a bank's target token. Tokens of other banks are unknown.
    fn target(
        &self,
        bank: &Institution,
        token: &TargetApplicationToken,
    ) -> Result<&Application, Error> {
        // Compares all tokens, each in constant time.
        let found = bank.targets.iter().fold(None, |found, target| {
            if target.token == *token { Some(&target.application_id) } else { found }
        });
        found.and_then(|id| self.config.application(id)).ok_or_else(|| {
            let what = "cross_app_item_add.target_application_token is not one of this bank's";
            Error::invalid_field(what)
        })
    }

    async fn record(&self, item: &ItemId) -> Result<ItemRecord, Error> {
        let found = self.store.item(item).await.map_err(Error::unavailable)?;
        found.ok_or_else(Error::invalid_access_token)
    }
}

/// Checks the fields of a request that need no other data.
fn check_form(request: &CreateLinkToken) -> Result<(), Error> {
    let is_code = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_alphabetic());
    if request.client_name.trim().is_empty() || request.client_name.chars().count() > 100 {
        return Err(Error::invalid_field("client_name must be 1 to 100 letters"));
    }
    if !is_code(&request.language) {
        return Err(Error::invalid_field("language must be two letters, such as en"));
    }
    if request.country_codes.is_empty() || !request.country_codes.iter().all(|c| is_code(c)) {
        return Err(Error::invalid_field("country_codes must be one or more of two letters each"));
    }
    let foreign = request.cross_app_item_add.as_ref().and_then(|add| add.foreign_id.as_ref());
    let ids = [
        ("user.client_user_id", Some(&request.user.client_user_id)),
        ("cross_app_item_add.foreign_id", foreign),
    ];
    for (name, id) in ids {
        // The ids are stored and sent to applications.
        if id.is_some_and(|id| {
            id.is_empty() || id.len() > MAX_ID_BYTES || id.contains(char::is_control)
        }) {
            let what =
                format!("{name} must be 1 to {MAX_ID_BYTES} bytes without control characters");
            return Err(Error::invalid_field(what));
        }
    }
    Ok(())
}

/// Checks that a redirect URI is registered, byte for byte.
fn registered(known: &[String], uri: Option<String>) -> Result<Option<String>, Error> {
    match uri {
        Some(uri) if !known.contains(&uri) => {
            Err(Error::invalid_field("redirect_uri is not one that was registered"))
        }
        uri => Ok(uri),
    }
}

fn check_products(
    allowed: &[Product],
    requested: &[Product],
    at_least_one: bool,
) -> Result<(), Error> {
    if at_least_one && requested.is_empty() {
        let what = "products is missing: name one or more";
        return Err(Error::new(PlaidErrorType::InvalidRequest, "MISSING_FIELDS", what));
    }
    match requested.iter().position(|product| !allowed.contains(product)) {
        None => Ok(()),
        Some(index) => {
            let what = format!("products[{index}] is not one that the application registered for");
            Err(Error::new(PlaidErrorType::InvalidInput, "INVALID_PRODUCT", what))
        }
    }
}

fn names(products: &[Product]) -> Vec<String> {
    products.iter().map(|product| product.as_str().to_owned()).collect()
}
