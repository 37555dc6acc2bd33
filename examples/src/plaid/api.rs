//! The endpoints that banks and applications call (`px.md` section 6), over Items.
//!
//! Access control is in one place: each method begins with the client's view of the Items
//! ([`SharedItems::by`]), which treats the tokens of other clients as unknown. `links` creates link
//! tokens.

mod links;

use super::{
    banks::Banks,
    clients::{self, Registry},
    config::{Application, Config, Institution},
};
use async_trait::async_trait;
use http::StatusCode;
use px_client::oauth::TokenSet;
use px_core::Clock;
use px_items::{
    items::{Items, ItemsError, SharedItems, TokenOwner},
    store::Store,
    webhook::Signer,
};
use px_server::plaid::{Caller, Error, Plaid};
use px_types::{
    ApplicationId, InstitutionId,
    model::plaid_error::PlaidErrorType,
    plaid::{
        AccountsNotification, Acknowledged, CreateLinkToken, CreateLinkTokenResponse,
        ExchangePublicToken, ExchangePublicTokenResponse, GetApplication, GetApplicationResponse,
        GetItem, GetItemResponse, GetVerificationKey, GetVerificationKeyResponse, ImportItem,
        ImportItemResponse, InvalidateToken, InvalidateTokenResponse, ListActivity,
        ListActivityResponse, ListApplications, ListApplicationsResponse,
        NewTransactionsNotification, RemoveItem, TokensNotification, UnlinkApplication,
        UpdateScopes, UpdateWebhook, UpdateWebhookResponse,
    },
};
use std::{fmt, sync::Arc};

/// The implementation of the endpoints.
pub(super) struct Api {
    pub(super) config: Arc<Config>,
    pub(super) registry: Registry,
    pub(super) banks: Banks,
    pub(super) items: SharedItems,
    pub(super) store: Arc<dyn Store>,
    pub(super) signer: Arc<Signer>,
    pub(super) clock: Arc<dyn Clock>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

/// Converts an error of Items to the response to a client.
pub(super) fn items_error(error: ItemsError) -> Error {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let response = Error::from_plaid_error(status, error.to_plaid_error(""));
    if status.is_server_error() { response.with_source(error) } else { response }
}

impl Api {
    /// Returns the token owner of the client. An authenticated client without one is a fault of
    /// this service.
    fn holder(&self, caller: &Caller) -> Result<&TokenOwner, Error> {
        let holder = self.registry.holder(caller.client_id());
        holder.ok_or_else(|| {
            Error::internal("an authenticated client is neither a bank nor an application")
        })
    }

    /// Returns the client's view of the Items.
    fn items_of(&self, caller: &Caller) -> Result<Items, Error> {
        Ok(self.items.by(self.holder(caller)?.clone()))
    }

    /// Returns the view and the institution of a bank. Refuses applications.
    fn bank(&self, caller: &Caller) -> Result<(Items, &InstitutionId), Error> {
        match self.holder(caller)? {
            holder @ TokenOwner::Partner(id) => Ok((self.items.by(holder.clone()), id)),
            TokenOwner::Application(_) => Err(Error::unauthorized_route()),
        }
    }

    /// Returns the view and the id of an application. Refuses banks.
    fn application_of(&self, caller: &Caller) -> Result<(Items, &ApplicationId), Error> {
        match self.holder(caller)? {
            holder @ TokenOwner::Application(id) => Ok((self.items.by(holder.clone()), id)),
            TokenOwner::Partner(_) => Err(Error::unauthorized_route()),
        }
    }

    fn registered(&self, id: &ApplicationId) -> Result<&Application, Error> {
        let what = "application_id names no application";
        self.config.application(id).ok_or_else(|| Error::invalid_field(what))
    }

    fn institution(&self, id: &InstitutionId) -> Result<&Institution, Error> {
        let what = "a client's bank is not in the configuration";
        self.config.institution(id).ok_or_else(|| Error::internal(what))
    }
}

fn acknowledged(caller: &Caller) -> Acknowledged {
    Acknowledged::new(caller.request_id())
}

#[async_trait]
impl Plaid for Api {
    async fn notify_transactions(
        &self,
        caller: &Caller,
        request: NewTransactionsNotification,
    ) -> Result<Acknowledged, Error> {
        let (items, bank) = self.bank(caller)?;
        items.handle_transactions_notification(bank, &request).await.map_err(items_error)?;
        Ok(acknowledged(caller))
    }

    async fn notify_accounts(
        &self,
        caller: &Caller,
        request: AccountsNotification,
    ) -> Result<Acknowledged, Error> {
        let (items, bank) = self.bank(caller)?;
        items.handle_accounts_notification(bank, &request).await.map_err(items_error)?;
        Ok(acknowledged(caller))
    }

    async fn notify_tokens(
        &self,
        caller: &Caller,
        request: TokensNotification,
    ) -> Result<Acknowledged, Error> {
        let (items, bank) = self.bank(caller)?;
        items.handle_tokens_notification(bank, &request).await.map_err(items_error)?;
        Ok(acknowledged(caller))
    }

    /// Imports an Item. First checks the token with a request to the bank, because only the bank
    /// knows whether it is valid and which user it belongs to.
    async fn import(
        &self,
        caller: &Caller,
        request: ImportItem,
    ) -> Result<ImportItemResponse, Error> {
        let (items, bank) = self.bank(caller)?;
        if request.options.is_some_and(|options| options.webhook.is_some()) {
            // Applications have one webhook address each. Notifications to a bank go to its
            // `/applications/notify`.
            let what = "options.webhook is not offered: a bank's Item has no address for webhooks";
            return Err(Error::invalid_field(what));
        }
        let client = self.banks.client(bank);
        let client = client.ok_or_else(|| Error::internal("a bank without a client"))?;
        let (user, token) = (request.user_auth.user_id, request.user_auth.auth_token);
        let requested_at = self.clock.now();
        let principal = client.with_token(token.clone()).current_user().await;
        match principal {
            Ok(principal) if principal.user_id == user => {}
            Err(error) if !matches!(error.status(), Some(401 | 403)) => {
                let code = "INSTITUTION_NOT_RESPONDING";
                let what = "the institution could not be reached to check user_auth.auth_token";
                return Err(Error::new(PlaidErrorType::InstitutionError, code, what)
                    .with_status(StatusCode::SERVICE_UNAVAILABLE)
                    .with_source(error));
            }
            // Another user's token gets the same response as an unknown token.
            _ => {
                let what = "user_auth.auth_token is not a valid token of user_auth.user_id at the institution";
                return Err(Error::new(PlaidErrorType::InvalidInput, "INVALID_CREDENTIALS", what));
            }
        }
        let mut tokens = TokenSet::new(token, requested_at);
        tokens.user_id = Some(user.clone());
        let imported = items.import(bank, &user, tokens).await.map_err(items_error)?;
        Ok(ImportItemResponse::new(imported.access_token, caller.request_id()))
    }

    async fn list_applications(
        &self,
        caller: &Caller,
        request: ListApplications,
    ) -> Result<ListApplicationsResponse, Error> {
        let (items, _) = self.bank(caller)?;
        let all = items.applications(&request.access_token).await.map_err(items_error)?;
        let all = all.into_iter().map(|one| one.application).collect::<Vec<_>>();
        Ok(ListApplicationsResponse::new(all, caller.request_id()))
    }

    async fn unlink_application(
        &self,
        caller: &Caller,
        request: UnlinkApplication,
    ) -> Result<Acknowledged, Error> {
        let (items, _) = self.bank(caller)?;
        let (token, application) = (&request.access_token, &request.application_id);
        items.unlink_application(token, application).await.map_err(items_error)?;
        Ok(acknowledged(caller))
    }

    async fn update_scopes(
        &self,
        caller: &Caller,
        request: UpdateScopes,
    ) -> Result<Acknowledged, Error> {
        let (items, _) = self.bank(caller)?;
        let (token, application) = (&request.access_token, &request.application_id);
        items.update_scopes(token, application, &request.scopes).await.map_err(items_error)?;
        Ok(acknowledged(caller))
    }

    async fn list_activity(
        &self,
        caller: &Caller,
        request: ListActivity,
    ) -> Result<ListActivityResponse, Error> {
        let (items, _) = self.bank(caller)?;
        let page = items
            .list_activity(&request.access_token, request.cursor.as_deref(), request.count)
            .await
            .map_err(items_error)?;
        let mut response = ListActivityResponse::new(
            page.activities,
            page.last_data_access_times,
            caller.request_id(),
        );
        response.cursor = page.cursor;
        Ok(response)
    }

    async fn application(
        &self,
        caller: &Caller,
        request: GetApplication,
    ) -> Result<GetApplicationResponse, Error> {
        let app = self.registered(&request.application_id)?;
        let shown = clients::public_data(app, &self.config.public_url);
        Ok(GetApplicationResponse::new(shown, caller.request_id()))
    }

    async fn create_link_token(
        &self,
        caller: &Caller,
        request: CreateLinkToken,
    ) -> Result<CreateLinkTokenResponse, Error> {
        let (link_request, sync_state) = self.link_request(caller, request).await?;
        let tickets = self.items.for_any_owner().tickets();
        let minted = tickets.mint_link(&link_request, sync_state).await.map_err(items_error)?;
        let ends = minted.expires_at;
        Ok(CreateLinkTokenResponse::new(minted.token, ends, caller.request_id()))
    }

    async fn exchange_public_token(
        &self,
        caller: &Caller,
        request: ExchangePublicToken,
    ) -> Result<ExchangePublicTokenResponse, Error> {
        let (items, app) = self.application_of(caller)?;
        let linked =
            items.exchange_public_token(app, &request.public_token).await.map_err(items_error)?;
        let (token, item) = (linked.access_token, linked.item_id);
        Ok(ExchangePublicTokenResponse::new(token, item, caller.request_id()))
    }

    async fn item(&self, caller: &Caller, request: GetItem) -> Result<GetItemResponse, Error> {
        let items = self.items_of(caller)?;
        let token = &request.access_token;
        let (item, status) = match self.holder(caller)? {
            TokenOwner::Application(_) => {
                let status = items.status(token).await.map_err(items_error)?;
                (status.item, status.status)
            }
            TokenOwner::Partner(_) => items.item_for_partner(token).await.map_err(items_error)?,
        };
        let mut item = item;
        let bank = item.institution_id.as_ref().and_then(|id| self.config.institution(id));
        item.institution_name = bank.map(|bank| bank.name.clone());
        let mut response = GetItemResponse::new(item, caller.request_id());
        response.status = Some(status);
        Ok(response)
    }

    async fn remove_item(
        &self,
        caller: &Caller,
        request: RemoveItem,
    ) -> Result<Acknowledged, Error> {
        self.items_of(caller)?.unlink(&request.access_token).await.map_err(items_error)?;
        Ok(acknowledged(caller))
    }

    async fn update_webhook(
        &self,
        caller: &Caller,
        request: UpdateWebhook,
    ) -> Result<UpdateWebhookResponse, Error> {
        let items = self.items_of(caller)?;
        let status = items
            .update_webhook(&request.access_token, request.webhook.as_deref())
            .await
            .map_err(items_error)?;
        Ok(UpdateWebhookResponse::new(status.item, caller.request_id()))
    }

    async fn invalidate_token(
        &self,
        caller: &Caller,
        request: InvalidateToken,
    ) -> Result<InvalidateTokenResponse, Error> {
        let items = self.items_of(caller)?;
        let new = items.rotate_access(&request.access_token).await.map_err(items_error)?;
        Ok(InvalidateTokenResponse::new(new, caller.request_id()))
    }

    async fn verification_key(
        &self,
        caller: &Caller,
        request: GetVerificationKey,
    ) -> Result<GetVerificationKeyResponse, Error> {
        let key = self.signer.verification_key(&request.key_id, self.clock.now());
        let key = key.ok_or_else(|| {
            let code = "INVALID_WEBHOOK_VERIFICATION_KEY_ID";
            Error::new(PlaidErrorType::InvalidInput, code, "key_id names no key of this service")
        })?;
        Ok(GetVerificationKeyResponse::new(key, caller.request_id()))
    }
}
