//! What a link token is made for: checked when it is made, so that the page has nothing to ask.

use super::{Api, refusal};
use crate::plaid::{
    config::{Application, Institution},
    order::{Order, Purpose},
};
use chrono::TimeDelta;
use px_items::{
    items::{Holder, Items},
    store::{ItemRecord, Whose},
    tickets::{LINK_LIFE, TIED_LINK_LIFE},
    webhook::check_url,
};
use px_server::plaid::{Caller, Error};
use px_types::{
    ItemId, TargetApplicationToken,
    model::{plaid_error::PlaidErrorType, product::Product},
    plaid::CreateLinkToken,
};

/// The longest id by which others know a user.
const LONGEST_ID: usize = 255;

impl Api {
    /// What a client asks a link token for, and how long it lives.
    pub(super) async fn order(
        &self,
        caller: &Caller,
        request: CreateLinkToken,
    ) -> Result<(Order, TimeDelta), Error> {
        check_form(&request)?;
        if let Some(webhook) = &request.webhook {
            check_url(webhook, self.config.allow())
                .map_err(|error| Error::invalid_field(format!("webhook: {error}")))?;
        }
        match self.holder(caller)? {
            Holder::Application(id) => {
                let app = self.registered(id)?;
                self.application_order(caller, app, request).await
            }
            Holder::Partner(id) => {
                let bank = self.institution(id)?;
                self.bank_order(caller, bank, request).await
            }
        }
    }

    /// An application connects a user, or has an Item repaired.
    async fn application_order(
        &self,
        caller: &Caller,
        app: &Application,
        request: CreateLinkToken,
    ) -> Result<(Order, TimeDelta), Error> {
        if request.cross_app_item_add.is_some() {
            return Err(Error::invalid_field("cross_app_item_add is for banks"));
        }
        let redirect_uri = registered(&app.redirect_uris, request.redirect_uri)?;
        let mut order = Order {
            client: caller.client_id().clone(),
            application: app.id.clone(),
            products: names(&request.products),
            webhook: request.webhook,
            redirect_uri,
            whose: Whose::by_application(request.user.client_user_id),
            purpose: Purpose::Connect,
        };
        let Some(token) = request.access_token else {
            check_products(&app.products, &request.products, true)?;
            return Ok((order, LINK_LIFE));
        };
        check_products(&app.products, &request.products, false)?;
        let status = self.items_of(caller)?.status(&token).await.map_err(refusal)?;
        let record = self.record(&status.item.item_id).await?;
        order.webhook = order.webhook.or(status.item.webhook);
        if order.products.is_empty() {
            order.products = names(&status.item.products);
        }
        order.purpose =
            Purpose::Repair { institution: record.institution_id, user: record.user_id };
        Ok((order, TIED_LINK_LIFE))
    }

    /// A bank asks one of its users to connect an application (`px.md` section 10).
    async fn bank_order(
        &self,
        caller: &Caller,
        bank: &Institution,
        request: CreateLinkToken,
    ) -> Result<(Order, TimeDelta), Error> {
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
        let record = self.record(&items.item_of(&token).await.map_err(refusal)?).await?;
        let app = self.target(bank, &add.target_application_token)?;
        check_products(&app.products, &request.products, false)?;
        // The page asks for no sign-in, so it is tied to the user that the bank says it is for.
        if request.user.client_user_id != record.user_id.as_str() {
            let what = "user.client_user_id is not the user of the Item that access_token names";
            return Err(Error::invalid_field(what));
        }
        let asked = if request.products.is_empty() { &app.products } else { &request.products };
        let order = Order {
            client: caller.client_id().clone(),
            application: app.id.clone(),
            products: names(asked),
            webhook: None,
            redirect_uri: registered(&bank.redirect_uris, request.redirect_uri)?,
            whose: Whose::by_partner(add.foreign_id),
            purpose: Purpose::CrossApp {
                institution: record.institution_id,
                item: record.id,
                user: record.user_id,
            },
        };
        Ok((order, TIED_LINK_LIFE))
    }

    /// The application that a bank calls so. Another bank's name for it is none.
    fn target(
        &self,
        bank: &Institution,
        token: &TargetApplicationToken,
    ) -> Result<&Application, Error> {
        // Each is compared, and each in constant time.
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

/// What can be told from the request alone.
fn check_form(request: &CreateLinkToken) -> Result<(), Error> {
    let letters = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_alphabetic());
    if request.client_name.trim().is_empty() || request.client_name.chars().count() > 100 {
        return Err(Error::invalid_field("client_name must be 1 to 100 letters"));
    }
    if !letters(&request.language) {
        return Err(Error::invalid_field("language must be two letters, such as en"));
    }
    if request.country_codes.is_empty() || !request.country_codes.iter().all(|c| letters(c)) {
        return Err(Error::invalid_field("country_codes must be one or more of two letters each"));
    }
    let foreign = request.cross_app_item_add.as_ref().and_then(|add| add.foreign_id.as_ref());
    let ids = [
        ("user.client_user_id", Some(&request.user.client_user_id)),
        ("cross_app_item_add.foreign_id", foreign),
    ];
    for (name, id) in ids {
        // They are kept, and sent to applications.
        if id.is_some_and(|id| {
            id.is_empty() || id.len() > LONGEST_ID || id.contains(char::is_control)
        }) {
            let what = format!("{name} must be 1 to {LONGEST_ID} bytes without control characters");
            return Err(Error::invalid_field(what));
        }
    }
    Ok(())
}

/// An address that was registered, byte by byte.
fn registered(known: &[String], asked: Option<String>) -> Result<Option<String>, Error> {
    match asked {
        Some(uri) if !known.contains(&uri) => {
            Err(Error::invalid_field("redirect_uri is not one that was registered"))
        }
        asked => Ok(asked),
    }
}

fn check_products(allowed: &[Product], asked: &[Product], at_least_one: bool) -> Result<(), Error> {
    if at_least_one && asked.is_empty() {
        let what = "products is missing: name one or more";
        return Err(Error::new(PlaidErrorType::InvalidRequest, "MISSING_FIELDS", what));
    }
    match asked.iter().position(|product| !allowed.contains(product)) {
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
