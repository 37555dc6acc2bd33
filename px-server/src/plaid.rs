//! Serves Plaid's own API, which partners and applications call: a service implements [`Plaid`],
//! and this module does the rest.
//!
//! - [`Plaid`]: the trait to implement, with one method for each endpoint;
//! - [`PlaidService`]: the API over it, as a tower service;
//! - [`Caller`]: the authenticated client of a request;
//! - [`Error`]: the error of a method.
//!
//! The service authenticates the client. It does not check the access token in the body: each
//! method decides which Items the client may use. Contract: `px.md` section 6.

mod caller;
mod credentials;
mod error;
mod limits;
mod refusal;
mod service;

pub use caller::Caller;
pub use error::Error;
pub use service::{PlaidService, PlaidServiceBuildError, PlaidServiceBuilder};

use async_trait::async_trait;
use px_types::plaid::{
    AccountsNotification, Acknowledged, CreateLinkToken, CreateLinkTokenResponse,
    ExchangePublicToken, ExchangePublicTokenResponse, GetApplication, GetApplicationResponse,
    GetItem, GetItemResponse, GetVerificationKey, GetVerificationKeyResponse, ImportItem,
    ImportItemResponse, InvalidateToken, InvalidateTokenResponse, ListActivity,
    ListActivityResponse, ListApplications, ListApplicationsResponse, NewTransactionsNotification,
    RemoveItem, TokensNotification, UnlinkApplication, UpdateScopes, UpdateWebhook,
    UpdateWebhookResponse,
};

/// Plaid's own code behind the API that partners and applications call.
///
/// Before a method runs, the service has checked the client's id and secret, the rate limit, and
/// that the body is valid for the endpoint and within its limits: a batch has 1 to 2000 entries, a
/// page 1 to 50, tokens and names are not empty, addresses are URLs. An unknown event, action or
/// product is passed on as it was read.
///
/// The service sets the `request_id` of a response to [`Caller::request_id`], whatever value the
/// method returned.
///
/// # Errors
/// Each method returns the [`Error`] that the service sends to the client.
#[async_trait]
pub trait Plaid: Send + Sync + 'static {
    /// Handles a notification of new transactions. All entries are accepted, or none.
    async fn notify_transactions(
        &self,
        caller: &Caller,
        request: NewTransactionsNotification,
    ) -> Result<Acknowledged, Error>;

    /// Handles a notification of opened, closed or changed accounts. All entries are accepted,
    /// or none.
    async fn notify_accounts(
        &self,
        caller: &Caller,
        request: AccountsNotification,
    ) -> Result<Acknowledged, Error>;

    /// Handles a request to delete or rotate tokens. All entries are accepted, or none.
    async fn notify_tokens(
        &self,
        caller: &Caller,
        request: TokensNotification,
    ) -> Result<Acknowledged, Error>;

    /// Creates an Item from a partner's own token.
    async fn import(
        &self,
        caller: &Caller,
        request: ImportItem,
    ) -> Result<ImportItemResponse, Error>;

    /// Returns the applications that a user connected.
    async fn list_applications(
        &self,
        caller: &Caller,
        request: ListApplications,
    ) -> Result<ListApplicationsResponse, Error>;

    /// Ends one application's access immediately. Other applications keep theirs.
    async fn unlink_application(
        &self,
        caller: &Caller,
        request: UnlinkApplication,
    ) -> Result<Acknowledged, Error>;

    /// Sets the permissions of one application.
    async fn update_scopes(
        &self,
        caller: &Caller,
        request: UpdateScopes,
    ) -> Result<Acknowledged, Error>;

    /// Returns the activity log of a user's consent.
    async fn list_activity(
        &self,
        caller: &Caller,
        request: ListActivity,
    ) -> Result<ListActivityResponse, Error>;

    /// Returns one application, to be shown to a user.
    async fn application(
        &self,
        caller: &Caller,
        request: GetApplication,
    ) -> Result<GetApplicationResponse, Error>;

    /// Creates a link token, which opens Plaid's page once.
    async fn create_link_token(
        &self,
        caller: &Caller,
        request: CreateLinkToken,
    ) -> Result<CreateLinkTokenResponse, Error>;

    /// Exchanges a public token for an Item's access token, once.
    async fn exchange_public_token(
        &self,
        caller: &Caller,
        request: ExchangePublicToken,
    ) -> Result<ExchangePublicTokenResponse, Error>;

    /// Returns an Item and its health.
    async fn item(&self, caller: &Caller, request: GetItem) -> Result<GetItemResponse, Error>;

    /// Removes an Item.
    async fn remove_item(
        &self,
        caller: &Caller,
        request: RemoveItem,
    ) -> Result<Acknowledged, Error>;

    /// Sets the address of an Item's webhooks.
    async fn update_webhook(
        &self,
        caller: &Caller,
        request: UpdateWebhook,
    ) -> Result<UpdateWebhookResponse, Error>;

    /// Replaces the access token of an Item. The old one is invalid immediately.
    async fn invalidate_token(
        &self,
        caller: &Caller,
        request: InvalidateToken,
    ) -> Result<InvalidateTokenResponse, Error>;

    /// Returns the key that signed a webhook.
    async fn verification_key(
        &self,
        caller: &Caller,
        request: GetVerificationKey,
    ) -> Result<GetVerificationKeyResponse, Error>;
}
