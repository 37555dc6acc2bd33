//! Serve Plaid's own API: what a partner calls. A service implements [`Plaid`], the rest is here.
//!
//! - [`Plaid`]: one method for each endpoint; [`PlaidService`]: the API over it, as a tower service;
//! - [`Caller`]: the client that calls; [`Error`]: what it is told when something is refused.
//!
//! Who may touch which Item is the method's matter: the service has checked who calls, and
//! nothing about the access token in the body. Contract: `px.md` section 6.

mod caller;
mod credentials;
mod error;
mod limits;
mod refusal;
mod service;

pub use caller::Caller;
pub use error::Error;
pub use service::{BuildError, PlaidService, PlaidServiceBuilder};

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

/// Plaid, as its own code sees the API that partners and applications call.
///
/// When a method runs, the service has checked the client's id and secret, the rate, and that
/// the body is the endpoint's, whole and within its limits: a batch has 1 to 2000 entries, a
/// page 1 to 50, tokens and names are not empty, addresses are URLs. An event, an action or a
/// product that nobody knows yet comes through as it was read.
///
/// The `request_id` of an answer is set to [`Caller::request_id`], whatever the method put there.
#[async_trait]
pub trait Plaid: Send + Sync + 'static {
    /// Accounts have new transactions. All entries are taken, or none.
    async fn notify_transactions(
        &self,
        caller: &Caller,
        request: NewTransactionsNotification,
    ) -> Result<Acknowledged, Error>;

    /// Accounts were opened, closed or changed. All entries are taken, or none.
    async fn notify_accounts(
        &self,
        caller: &Caller,
        request: AccountsNotification,
    ) -> Result<Acknowledged, Error>;

    /// Tokens are to be deleted or cycled. All entries are taken, or none.
    async fn notify_tokens(
        &self,
        caller: &Caller,
        request: TokensNotification,
    ) -> Result<Acknowledged, Error>;

    /// Makes an Item from a partner's own token.
    async fn import(
        &self,
        caller: &Caller,
        request: ImportItem,
    ) -> Result<ImportItemResponse, Error>;

    /// The applications that a user connected.
    async fn list_applications(
        &self,
        caller: &Caller,
        request: ListApplications,
    ) -> Result<ListApplicationsResponse, Error>;

    /// Ends one application's access at once; the others keep theirs.
    async fn unlink_application(
        &self,
        caller: &Caller,
        request: UnlinkApplication,
    ) -> Result<Acknowledged, Error>;

    /// Sets what one application may see.
    async fn update_scopes(
        &self,
        caller: &Caller,
        request: UpdateScopes,
    ) -> Result<Acknowledged, Error>;

    /// What was done with a user's consent.
    async fn list_activity(
        &self,
        caller: &Caller,
        request: ListActivity,
    ) -> Result<ListActivityResponse, Error>;

    /// One application, to be shown to a user.
    async fn application(
        &self,
        caller: &Caller,
        request: GetApplication,
    ) -> Result<GetApplicationResponse, Error>;

    /// A token that opens Plaid's page, once.
    async fn create_link_token(
        &self,
        caller: &Caller,
        request: CreateLinkToken,
    ) -> Result<CreateLinkTokenResponse, Error>;

    /// Exchanges a public token for an Item's token, once.
    async fn exchange_public_token(
        &self,
        caller: &Caller,
        request: ExchangePublicToken,
    ) -> Result<ExchangePublicTokenResponse, Error>;

    /// An Item and how it is.
    async fn item(&self, caller: &Caller, request: GetItem) -> Result<GetItemResponse, Error>;

    /// Gives an Item up.
    async fn remove_item(
        &self,
        caller: &Caller,
        request: RemoveItem,
    ) -> Result<Acknowledged, Error>;

    /// Sets where webhooks for an Item go.
    async fn update_webhook(
        &self,
        caller: &Caller,
        request: UpdateWebhook,
    ) -> Result<UpdateWebhookResponse, Error>;

    /// Replaces the token of an Item; the old one is dead at once.
    async fn invalidate_token(
        &self,
        caller: &Caller,
        request: InvalidateToken,
    ) -> Result<InvalidateTokenResponse, Error>;

    /// The key that signed a webhook.
    async fn verification_key(
        &self,
        caller: &Caller,
        request: GetVerificationKey,
    ) -> Result<GetVerificationKeyResponse, Error>;
}
