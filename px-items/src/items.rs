//! How a Plaid service serves applications and partners: link, read, notify, unlink.
//!
//! Everything that is read goes through the connection of the application that asks: the
//! accounts and products that its user allowed it, under the Item's own ids, and no sign that
//! there is more. Fetching is not here; see [`crate::item`] for what an Item goes through.

mod activity;
mod caller;
mod cursor;
mod error;
mod link;
mod notify;
mod partner;
mod read;
mod reads;
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
    caller::{Holder, SharedItems},
    error::{ItemsError, ItemsErrorKind},
    link::{Authorization, JoinedApplication, LinkedApplication},
    partner::ApplicationOfItem,
    read::{Answer, Balance, Holdings, Identities},
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
    webhook::{Allow, check_url},
};
use chrono::TimeDelta;
use px_core::{Clock, Random, SystemClock, SystemRandom};
use reads::Reads;
use std::{fmt, sync::Arc};

/// Items, as a Plaid service offers them to applications and partners.
///
/// Cheap to clone. Many processes can serve the same store.
#[derive(Clone)]
pub struct Items {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    webhooks: Allow,
    applications: Option<Arc<dyn Applications>>,
    plan: PlanSettings,
    stall_notice_after: TimeDelta,
    reads: Arc<Reads>,
    /// Whose tokens it takes; `None` is anyone's.
    caller: Option<Holder>,
}

/// Sets [`Items`] up.
pub struct ItemsBuilder(Items);

impl Items {
    /// Sets it up over a store, with the machine's clock and randomness, for the store's
    /// environment.
    #[must_use]
    pub fn builder(store: Arc<dyn Store>) -> ItemsBuilder {
        ItemsBuilder(Self {
            reads: Arc::new(Reads::over(Arc::clone(&store))),
            store,
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
            webhooks: Allow::Public,
            applications: None,
            plan: PlanSettings::default(),
            stall_notice_after: DEFAULT_STALL_NOTICE_AFTER,
            caller: None,
        })
    }

    /// Link tokens, public tokens and the sessions of Plaid's page.
    #[must_use]
    pub fn tickets(&self) -> Tickets {
        Tickets::new(Arc::clone(&self.store), Arc::clone(&self.clock), Arc::clone(&self.random))
    }

    /// What can be told from the address alone. Where its name leads is looked at on sending.
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
    /// Takes the time from another clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.0.clock = clock;
        self
    }

    /// Takes randomness from elsewhere.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.0.random = random;
        self
    }

    /// Which addresses of webhooks are accepted; public ones, unless told otherwise.
    #[must_use]
    pub fn webhooks(mut self, allow: Allow) -> Self {
        self.0.webhooks = allow;
        self
    }

    /// Where applications are registered. With it, partners are told (`POST
    /// /applications/notify`) of each application that is newly connected, and of each that leaves
    /// without the partner having asked for it; without it they are told nothing.
    #[must_use]
    pub fn applications(mut self, applications: Arc<dyn Applications>) -> Self {
        self.0.applications = Some(applications);
        self
    }

    /// Which windows the engine reads, where its settings are not the default ones: a decision
    /// about accounts has all of them read again.
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

    /// Makes it. It takes anyone's tokens: for a program that serves one client, and for people.
    #[must_use]
    pub fn build(self) -> Items {
        self.0
    }

    /// Makes it for a service with several clients: nothing can be done with it before it is said
    /// for whom.
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
