//! Checks of a request by section 6 of the contract, beyond what its type ensures. They run before
//! a method does.
//!
//! The types check the number of entries in a batch and the form of ids. Unknown values of open
//! enums are not checked here: each method decides how to handle them.

use super::Error;
use px_types::plaid::{
    AccountsNotification, CreateLinkToken, ExchangePublicToken, GetApplication, GetItem,
    GetVerificationKey, ImportItem, InvalidateToken, ListActivity, ListApplications,
    MAX_ACTIVITY_COUNT, NewTransactionsNotification, RemoveItem, TokensNotification,
    UnlinkApplication, UpdateScopes, UpdateWebhook,
};
use std::fmt::Display;
use url::Url;

/// A request with limits that its type does not ensure.
pub(super) trait CheckLimits {
    /// Checks the limits.
    ///
    /// # Errors
    /// `INVALID_FIELD` with the path of the first invalid field.
    fn check(&self) -> Result<(), Error>;
}

macro_rules! item_token_alone {
    ($($request:ty),+ $(,)?) => {$(
        impl CheckLimits for $request {
            fn check(&self) -> Result<(), Error> {
                text("access_token", self.access_token.expose())
            }
        }
    )+};
}

item_token_alone!(
    GetItem,
    InvalidateToken,
    ListApplications,
    RemoveItem,
    UnlinkApplication,
    UpdateScopes,
);

macro_rules! batches {
    ($($request:ty),+ $(,)?) => {$(
        impl CheckLimits for $request {
            fn check(&self) -> Result<(), Error> {
                let tokens = self.notifications.iter().map(|entry| entry.access_token.expose());
                match tokens.into_iter().position(str::is_empty) {
                    Some(index) => text(format_args!("notifications[{index}].access_token"), ""),
                    None => Ok(()),
                }
            }
        }
    )+};
}

batches!(NewTransactionsNotification, AccountsNotification, TokensNotification);

macro_rules! ids_alone {
    ($($request:ty),+ $(,)?) => {$(
        impl CheckLimits for $request {
            fn check(&self) -> Result<(), Error> {
                Ok(())
            }
        }
    )+};
}

ids_alone!(GetApplication, GetVerificationKey);

impl CheckLimits for ImportItem {
    fn check(&self) -> Result<(), Error> {
        text("user_auth.auth_token", self.user_auth.auth_token.expose())?;
        let webhook = self.options.as_ref().and_then(|options| options.webhook.as_deref());
        url("options.webhook", webhook)
    }
}

impl CheckLimits for ListActivity {
    fn check(&self) -> Result<(), Error> {
        text("access_token", self.access_token.expose())?;
        match self.count {
            Some(count) if !(1..=MAX_ACTIVITY_COUNT).contains(&count) => {
                refuse("count", format_args!("expected a number from 1 to {MAX_ACTIVITY_COUNT}"))
            }
            _ => Ok(()),
        }
    }
}

impl CheckLimits for CreateLinkToken {
    fn check(&self) -> Result<(), Error> {
        text("client_name", &self.client_name)?;
        text("language", &self.language)?;
        if self.country_codes.is_empty() {
            return refuse("country_codes", "expected at least one");
        }
        for (index, code) in self.country_codes.iter().enumerate() {
            if code.len() != 2 || !code.bytes().all(|byte| byte.is_ascii_uppercase()) {
                let expected = "expected two letters of ISO 3166-1";
                return refuse(format_args!("country_codes[{index}]"), expected);
            }
        }
        text("user.client_user_id", &self.user.client_user_id)?;
        if let Some(target) = &self.cross_app_item_add {
            let token = target.target_application_token.expose();
            text("cross_app_item_add.target_application_token", token)?;
        }
        url("webhook", self.webhook.as_deref())?;
        url("redirect_uri", self.redirect_uri.as_deref())
    }
}

impl CheckLimits for ExchangePublicToken {
    fn check(&self) -> Result<(), Error> {
        text("public_token", self.public_token.expose())
    }
}

impl CheckLimits for UpdateWebhook {
    fn check(&self) -> Result<(), Error> {
        text("access_token", self.access_token.expose())?;
        url("webhook", self.webhook.as_deref())
    }
}

fn text(path: impl Display, value: &str) -> Result<(), Error> {
    if value.is_empty() { refuse(path, "expected a text that is not empty") } else { Ok(()) }
}

/// Checks an address. Whether it may be called is checked by the caller of the address.
fn url(path: impl Display, value: Option<&str>) -> Result<(), Error> {
    let good = |value: &str| {
        let plain = value.bytes().all(|byte| byte.is_ascii_graphic());
        let url = Url::parse(value).ok().filter(|_| plain);
        url.is_some_and(|url| matches!(url.scheme(), "https" | "http") && url.has_host())
    };
    match value {
        Some(value) if !good(value) => refuse(path, "expected an http or https URL"),
        _ => Ok(()),
    }
}

fn refuse(path: impl Display, expected: impl Display) -> Result<(), Error> {
    let message = format!("The request is not valid: the body, at `{path}`: {expected}.");
    Err(Error::invalid_field(message))
}
