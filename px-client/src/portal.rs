//! The data of the page where a bank's customers see, change and end the applications that they
//! connected.
//!
//! A bank adds the page to its own site, behind the customer's login: its handlers call a [`Portal`]
//! and render the result. Every method takes the [`UserId`] of the signed-in customer, and neither
//! shows nor changes data of others.
//!
//! Sessions, forms, CSRF protection and HTML are up to the bank.
//!
//! # Usage
//!
//! | event | call |
//! |---|---|
//! | a customer consents to an application on the bank's OAuth pages | [`Portal::import`], in the background |
//! | the page is requested | [`Portal::applications`], [`Portal::notices`] |
//! | the form of accounts and products is sent | [`Portal::set_scopes`] |
//! | the form "disconnect" is sent | [`Portal::disconnect`] |
//! | the activity log is requested | [`Portal::activity`] |
//! | the button "connect" is pressed | [`Portal::connect`], then Plaid's page with the link token |
//! | the customer returns from Plaid's page without a consent | [`Portal::cancel_connect`] |
//! | `POST /applications/notify` arrives and its signature is right | [`Portal::application_linked`] |
//! | a stream of server-sent events is opened | [`Portal::changes`] |
//! | the program starts | [`Portal::run`], spawned |
//!
//! # Examples
//!
//! ```
//! use chrono::{DateTime, Utc};
//! use px_client::{PlaidClient, portal::{RemainingGrants, MemoryPortalStore, MintReason, MintToken, Portal}};
//! use px_core::InProcessTransport;
//! use px_types::{AccessToken, ClientSecret, UserId};
//! use std::{error::Error, sync::Arc};
//!
//! /// The bank's own OAuth server. For that of `px-server`, use `OAuthTokens`.
//! #[derive(Debug)]
//! struct OurTokens;
//!
//! #[async_trait::async_trait]
//! impl MintToken for OurTokens {
//!     async fn mint(&self, user: &UserId, reason: MintReason) -> Result<Option<AccessToken>, Box<dyn Error + Send + Sync>> {
//!         // In this example every user has consented.
//!         Ok(Some(AccessToken::new(format!("a token for {user}"))))
//!     }
//!     async fn connected(&self, user: &UserId) -> Result<(), Box<dyn Error + Send + Sync>> {
//!         Ok(())
//!     }
//!     async fn end(&self, user: &UserId, up_to: DateTime<Utc>) -> Result<RemainingGrants, Box<dyn Error + Send + Sync>> {
//!         // The tokens of `user` that were made up to `up_to` are revoked.
//!         Ok(RemainingGrants::None)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn Error>> {
//! # use bytes::Bytes;
//! # use http_body_util::Full;
//! # let a_plaid = tower::service_fn(|request: http::Request<Full<Bytes>>| async move {
//! #     http::Response::builder()
//! #         .header("content-type", "application/json")
//! #         .body(Full::new(Bytes::from(match request.uri().path() {
//! #             "/item/import" => r#"{"access_token": "access-1", "request_id": "r-1"}"#,
//! #             "/item/application/list" => r#"{"applications": [{"application_id": "app-1",
//! #                 "name": "Budget App", "created_at": "2024-05-06T12:00:00Z"}], "request_id": "r-2"}"#,
//! #             "/item/activity/list" => r#"{"activities": [], "last_data_access_times": [],
//! #                 "request_id": "r-3"}"#,
//! #             _ => r#"{"request_id": "r-4"}"#,
//! #         })))
//! # });
//! let plaid = PlaidClient::builder("https://plaid.example", InProcessTransport::new(a_plaid))
//!     .client("the-bank".parse()?, ClientSecret::new("its-secret"))
//!     .build()?;
//! let portal = Portal::builder(plaid, Arc::new(MemoryPortalStore::default()), "First Platypus Bank")
//!     .tokens(Arc::new(OurTokens))
//!     .build();
//!
//! let ann: UserId = "ann".parse()?; // the customer who is signed in
//! let page = portal.applications(&ann).await?;
//! assert_eq!(page.list[0].name, "Budget App");
//! portal.disconnect(&ann, &page.list[0].application_id).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Contract: `px.md` sections 6, 9 and 10.

// Modules:
// - `store`: the trait of the bank's own records; `memory`: records for tests;
// - `view`: the data of the pages, with foreign text made safe to show (pure);
// - `setup`: settings, and the trait that makes tokens; `oauth_tokens`: that trait over the OAuth kit;
// - `scopes`: the complete scopes of an application (pure);
// - `item`: the bank's token for a user's Item, and connecting an application with it;
// - `disconnect`: ending an application's access, with retries;
// - `linked`: notifications of Plaid and notices for customers; `watchers`: open pages.

mod disconnect;
mod error;
mod item;
mod linked;
mod memory;
#[cfg(feature = "bank")]
mod oauth_tokens;
mod scopes;
mod setup;
mod store;
mod view;
mod watchers;

pub use self::{
    disconnect::{Disconnected, RetrySummary},
    error::{PortalError, PortalErrorKind},
    item::ConnectLink,
    memory::MemoryPortalStore,
    scopes::{AppProducts, AppScopes},
    setup::{MintReason, MintToken, PortalBuilder, RemainingGrants},
    store::{Disconnection, DisconnectionState, Notice, NoticeKind, NoticeOutcome, PortalStore},
    view::{
        AccountsSeen, ActivityEntry, ActivityPage, AppState, Applications, ConnectedApp, DataKind,
        LastAccess,
    },
    watchers::Changes,
};

#[cfg(feature = "bank")]
pub use self::oauth_tokens::{BankConsent, OAuthTokens};

use crate::plaid::PlaidClient;
use futures_util::future::join_all;
use px_core::Clock;
use px_types::{
    ApplicationId, UserId,
    model::{application::ConnectedApplication, last_data_access_times::LastDataAccessTimes},
    plaid::{
        GetApplication, ListActivity, ListApplications, MAX_ACTIVITY_COUNT, ScopesContext,
        UpdateScopes,
    },
};
use std::{collections::BTreeSet, fmt, sync::Arc};
use tokio::sync::OwnedMutexGuard;
use watchers::{Locks, Watchers};

/// The data of the connected-apps page.
///
/// Cheap to clone; all clones share their state. See [`portal`](self).
#[derive(Clone)]
pub struct Portal(Arc<PortalInner>);

struct PortalInner {
    client: PlaidClient,
    store: Arc<dyn PortalStore>,
    settings: setup::Settings,
    locks: Locks,
    watchers: Arc<Watchers>,
}

impl fmt::Debug for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Portal")
            .field("client", &self.0.client)
            .field("store", &self.0.store)
            .finish_non_exhaustive()
    }
}

impl Portal {
    /// Returns the applications that the user connected, the newest first.
    ///
    /// If Plaid is out of reach, the result is the list that the bank stored last, and
    /// [`current`](Applications::current) is `false`.
    ///
    /// # Errors
    /// If the records are out of reach, or the bank cannot make a token.
    pub async fn applications(&self, user: &UserId) -> Result<Applications, PortalError> {
        let _guard = self.lock(user).await;
        let (mut list, current) = match self.list_at_plaid(user).await {
            Ok(Some(list)) => (list, true),
            Ok(None) => {
                // A notification may arrive before the import.
                let list = self.recorded(user).await?;
                let current = list.is_empty();
                (list, current)
            }
            Err(error) => {
                let Some(call) = error.plaid() else { return Err(error) };
                tracing::warn!(error = %call, "Plaid failed; a user's stored applications are shown");
                (self.recorded(user).await?, false)
            }
        };
        let last_access = match current && !list.is_empty() {
            true => self.last_access(user).await?,
            false => current.then(Vec::new),
        };
        let mut disconnections =
            self.store().disconnections(user).await.map_err(PortalError::store)?;
        if current {
            self.delete_relinked(user, &list, &mut disconnections).await?;
            if !list.is_empty() {
                self.confirm_tokens(user).await?;
            }
        }
        list.sort_by_key(|one| std::cmp::Reverse(one.created_at));
        let view = |one: &_| view::connected_app(one, last_access.as_deref(), &disconnections);
        Ok(Applications { list: list.iter().map(view).collect(), current })
    }

    /// Sets everything that an application may see from now on.
    ///
    /// `scopes` is complete: it replaces the current scopes. The accounts are those of the bank's own page
    /// for this user. An account that the application sees and that `scopes` does not name is withdrawn.
    ///
    /// # Errors
    /// [`NoAccount`](PortalErrorKind::NoAccount) if `scopes` names no account;
    /// [`UnknownApplication`](PortalErrorKind::UnknownApplication) if the user has no such application;
    /// [`Disconnecting`](PortalErrorKind::Disconnecting) if it is being disconnected; or if Plaid refuses,
    /// fails or is out of reach, or the records are. After an error of Plaid the scopes are presumably
    /// unchanged.
    pub async fn set_scopes(
        &self,
        user: &UserId,
        application: &ApplicationId,
        scopes: AppScopes,
    ) -> Result<(), PortalError> {
        if scopes.accounts.is_empty() {
            return Err(PortalError::new(PortalErrorKind::NoAccount));
        }
        let _guard = self.lock(user).await;
        self.check_is_connected(user, application).await?;
        let disconnections = self.store().disconnections(user).await.map_err(PortalError::store)?;
        if disconnections.iter().any(|one| one.application_id == *application && one.is_pending()) {
            return Err(PortalError::new(PortalErrorKind::Disconnecting));
        }
        let known = self.recorded(user).await?;
        let known = known.iter().find(|one| one.application_id == *application);
        let scopes = scopes.to_wire(known.and_then(|one| one.scopes.as_ref()));
        let set = self
            .with_token(user, MintReason::View, |token| {
                let (application, scopes) = (application.clone(), scopes.clone());
                let request = UpdateScopes::new(token, application, scopes, ScopesContext::Portal);
                async move { self.client().update_scopes(request).await }
            })
            .await;
        match set {
            Ok(Some(_)) => {}
            Ok(None) => return Err(PortalError::new(PortalErrorKind::UnknownApplication)),
            Err(error) => {
                // It may have been unlinked elsewhere since it was listed.
                if error.plaid().is_some_and(disconnect::is_refusal)
                    && let Ok(Some(list)) = self.list_at_plaid(user).await
                    && list.iter().all(|one| one.application_id != *application)
                {
                    return Err(PortalError::new(PortalErrorKind::UnknownApplication));
                }
                return Err(error);
            }
        }
        let mut list = self.recorded(user).await?;
        for one in list.iter_mut().filter(|one| one.application_id == *application) {
            one.scopes = Some(scopes.clone());
        }
        self.save_recorded(user, &list).await?;
        self.notify_watchers(user);
        Ok(())
    }

    /// Returns a page of the user's activity log.
    ///
    /// It has at most `count` entries (1 to 50). `cursor` is that of the previous page.
    ///
    /// # Errors
    /// If Plaid refuses the cursor or is out of reach; if the records are out of reach; or if the bank cannot
    /// make a token.
    pub async fn activity(
        &self,
        user: &UserId,
        cursor: Option<&str>,
        count: u64,
    ) -> Result<ActivityPage, PortalError> {
        let guard = self.lock(user).await;
        let page = self
            .with_token(user, MintReason::View, |token| {
                let mut request = ListActivity::new(token);
                request.cursor = cursor.map(str::to_owned);
                request.count = Some(count.clamp(1, MAX_ACTIVITY_COUNT));
                async move { self.client().list_activity(request).await }
            })
            .await?;
        drop(guard);
        let Some(page) = page else {
            return Ok(ActivityPage { entries: Vec::new(), next: None });
        };
        let known = self.recorded(user).await?;
        let targets = page.activities.iter().filter_map(|one| one.target_application_id.as_ref());
        let unlisted: BTreeSet<_> = targets
            .filter(|id| known.iter().all(|one| one.application_id != **id))
            .cloned()
            .collect();
        let names = join_all(unlisted.into_iter().map(|id| self.name_of(id))).await;
        let name_of = |id: &ApplicationId| {
            let known = known.iter().find(|one| one.application_id == *id).map(view::name);
            known.or_else(|| {
                names.iter().flatten().find(|(one, _)| one == id).map(|(_, n)| n.clone())
            })
        };
        let entries = page.activities.into_iter();
        Ok(ActivityPage {
            entries: entries.map(|one| view::activity_entry(one, name_of)).collect(),
            next: page.cursor,
        })
    }

    /// Returns the notifications of the user's changes, for an open page.
    ///
    /// Call it before the page is read, so that no change in between is missed.
    #[must_use]
    pub fn changes(&self, user: &UserId) -> Changes {
        self.0.watchers.watch(user)
    }

    /// Returns the clock of the client.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        self.0.client.clock()
    }

    fn client(&self) -> &PlaidClient {
        &self.0.client
    }

    fn store(&self) -> &dyn PortalStore {
        &*self.0.store
    }

    async fn lock(&self, user: &UserId) -> OwnedMutexGuard<()> {
        self.0.locks.lock(user).await
    }

    fn notify_watchers(&self, user: &UserId) {
        self.0.watchers.notify(user);
    }

    async fn recorded(&self, user: &UserId) -> Result<Vec<ConnectedApplication>, PortalError> {
        self.store().applications(user).await.map_err(PortalError::store)
    }

    async fn save_recorded(
        &self,
        user: &UserId,
        list: &[ConnectedApplication],
    ) -> Result<(), PortalError> {
        self.store().save_applications(user, list).await.map_err(PortalError::store)
    }

    async fn has_record_of(
        &self,
        user: &UserId,
        application: &ApplicationId,
    ) -> Result<bool, PortalError> {
        let list = self.recorded(user).await?;
        Ok(list.iter().any(|one| one.application_id == *application))
    }

    /// Checks the records, and Plaid if they do not have the application. The user's lock is held.
    async fn check_is_connected(
        &self,
        user: &UserId,
        application: &ApplicationId,
    ) -> Result<(), PortalError> {
        if self.has_record_of(user, application).await? {
            return Ok(());
        }
        let listed = self.list_at_plaid(user).await?;
        match listed.iter().flatten().any(|one| one.application_id == *application) {
            true => Ok(()),
            false => Err(PortalError::new(PortalErrorKind::UnknownApplication)),
        }
    }

    /// Reads the list from Plaid and stores it in the records. The user's lock is held.
    async fn list_at_plaid(
        &self,
        user: &UserId,
    ) -> Result<Option<Vec<ConnectedApplication>>, PortalError> {
        let listed = self
            .with_token(user, MintReason::View, |token| {
                let request = ListApplications::new(token);
                async move { self.client().list_applications(request).await }
            })
            .await?;
        let Some(listed) = listed else { return Ok(None) };
        self.save_recorded(user, &listed.applications).await?;
        Ok(Some(listed.applications))
    }

    /// Deletes completed disconnections of applications that are listed: they were linked again.
    async fn delete_relinked(
        &self,
        user: &UserId,
        list: &[ConnectedApplication],
        disconnections: &mut Vec<Disconnection>,
    ) -> Result<(), PortalError> {
        for one in disconnections.iter().filter(|one| !one.is_pending()) {
            let id = &one.application_id;
            if list.iter().any(|listed| listed.application_id == *id) {
                let deleted = self.store().delete_disconnection(user, id).await;
                deleted.map_err(PortalError::store)?;
            }
        }
        disconnections.retain(Disconnection::is_pending);
        Ok(())
    }

    /// Returns the times of the applications' last reads.
    ///
    /// The page is shown without them if they are not available.
    async fn last_access(
        &self,
        user: &UserId,
    ) -> Result<Option<Vec<LastDataAccessTimes>>, PortalError> {
        let page = self
            .with_token(user, MintReason::View, |token| {
                let mut request = ListActivity::new(token);
                request.count = Some(1);
                async move { self.client().list_activity(request).await }
            })
            .await;
        match page {
            Ok(page) => Ok(page.map(|page| page.last_data_access_times)),
            Err(error) if error.plaid().is_some() => {
                tracing::warn!(%error, "the times of last access are not available");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the name of an application that the user no longer has.
    async fn name_of(&self, id: ApplicationId) -> Option<(ApplicationId, String)> {
        let response = self.client().application(GetApplication::new(id.clone())).await.ok()?;
        let application = response.application;
        let display = application.display_name.as_deref();
        let name = view::named(display, &application.name, &application.application_id);
        Some((id, name))
    }
}
