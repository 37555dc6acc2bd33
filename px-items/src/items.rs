//! The API for a Plaid service: links, reads, notifications and unlinks.
//!
//! Every read goes through the connection of the calling application. It returns the accounts and
//! products that the user allowed, under the Item's own ids, and no sign of other data. Fetching is
//! not part of this module; see [`crate::item`] for the states of an Item.

mod access_log;
mod activity;
mod caller;
mod cursor;
mod error;
mod link;
mod notify;
mod partner;
mod read;
mod remap;
mod review;
mod status;
mod sync;
mod token;
mod transactions;
mod view;

pub(crate) use self::error::cannot_finish;
pub(crate) use self::sync::REMOVED_RETENTION;
pub use self::{
    activity::ActivityPage,
    caller::{SharedItems, TokenOwner},
    error::{ItemsError, ItemsErrorKind},
    link::{Authorization, JoinedApplication, LinkedApplication},
    partner::ApplicationOfItem,
    read::{Balance, Holdings, Identities, ItemResponse},
    review::{ReviewOutcome, ReviewScope},
    status::{HistoryStatus, Status},
    sync::{RemovedTransaction, SyncPage},
    transactions::{Transactions, TransactionsRequest},
};

pub(crate) use token::{id as random_id, unguessable};

use crate::{
    applications::Applications,
    connection::{Connection, CursorKey},
    health::DEFAULT_STALL_NOTICE_AFTER,
    plan::PlanSettings,
    store::Store,
    tickets::Tickets,
    webhook::{UrlPolicy, check_url},
};
use access_log::AccessRecorder;
use chrono::TimeDelta;
use px_core::{Clock, Random, SystemClock, SystemRandom};
use std::{fmt, sync::Arc};

/// Items, as a Plaid service offers them to applications and partners.
///
/// Cheap to clone. Many processes can serve the same store.
#[derive(Clone)]
pub struct Items {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    webhooks: UrlPolicy,
    applications: Option<Arc<dyn Applications>>,
    plan: PlanSettings,
    stall_notice_after: TimeDelta,
    access_log: Arc<AccessRecorder>,
    /// Owner of the accepted tokens; `None` for any owner.
    caller: Option<TokenOwner>,
}

/// Builder of [`Items`].
pub struct ItemsBuilder(Items);

impl Items {
    /// Returns a builder on a store, with the machine's clock and randomness and the environment of
    /// the store.
    #[must_use]
    pub fn builder(store: Arc<dyn Store>) -> ItemsBuilder {
        ItemsBuilder(Self {
            access_log: Arc::new(AccessRecorder::over(Arc::clone(&store))),
            store,
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            webhooks: UrlPolicy::Public,
            applications: None,
            plan: PlanSettings::default(),
            stall_notice_after: DEFAULT_STALL_NOTICE_AFTER,
            caller: None,
        })
    }

    /// Returns the link tokens, public tokens and sessions of Plaid's page.
    #[must_use]
    pub fn tickets(&self) -> Tickets {
        Tickets::new(Arc::clone(&self.store), Arc::clone(&self.clock), Arc::clone(&self.random))
    }

    /// Checks what the URL alone shows. Its host name is resolved when a webhook is sent.
    fn check_webhook(&self, connection: &Connection) -> Result<(), ItemsError> {
        let Some(webhook) = &connection.webhook else { return Ok(()) };
        self.check_address(webhook)
    }

    fn check_address(&self, webhook: &str) -> Result<(), ItemsError> {
        check_url(webhook, self.webhooks)
            .map_err(|error| ItemsError::invalid_field("webhook", &error.to_string()))
    }

    fn cursor_key(&self) -> CursorKey {
        let mut key = [0; 32];
        self.random.fill(&mut key);
        CursorKey::new(key)
    }
}

impl ItemsBuilder {
    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.0.clock = clock;
        self
    }

    /// Sets the source of randomness.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.0.random = random;
        self
    }

    /// Sets the accepted webhook URLs. Default: public ones.
    #[must_use]
    pub fn webhooks(mut self, allow: UrlPolicy) -> Self {
        self.0.webhooks = allow;
        self
    }

    /// Sets the directory of registered applications. With it, partners are notified (`POST
    /// /applications/notify`) of each newly connected application, and of each that leaves without
    /// a request of the partner. Without it partners are not notified.
    #[must_use]
    pub fn applications(mut self, applications: Arc<dyn Applications>) -> Self {
        self.0.applications = Some(applications);
        self
    }

    /// Sets the read windows if the engine's settings are not the default ones. A decision about
    /// accounts schedules a scan of all these dates.
    #[must_use]
    pub fn plan(mut self, plan: PlanSettings) -> Self {
        self.0.plan = plan;
        self
    }

    /// Sets the time after which applications are notified that an Item cannot finish.
    ///
    /// Default: [`DEFAULT_STALL_NOTICE_AFTER`], 72 hours. Operators see it at once.
    #[must_use]
    pub fn stall_notice_after(mut self, after: TimeDelta) -> Self {
        self.0.stall_notice_after = after;
        self
    }

    /// Builds an [`Items`] that accepts the tokens of all owners, for a program with a single
    /// client or for operators.
    #[must_use]
    pub fn build(self) -> Items {
        self.0
    }

    /// Builds a [`SharedItems`] for a service with several clients. Each use of it must name the
    /// client.
    #[must_use]
    pub fn build_shared(self) -> SharedItems {
        SharedItems::new(self.0)
    }
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items")
            .field("store", &self.store)
            .field("environment", self.store.environment())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ItemsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ItemsBuilder").field(&self.0).finish()
    }
}
