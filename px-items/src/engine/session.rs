//! Calls for one Item: with its tokens, within its partner's budget, and with the rule for 401.
//!
//! A refused token does not yet end the authorization. The store is read again. If it has other
//! tokens now, they are used. Otherwise the tokens are refreshed, once. If the partner refuses them
//! after that, the authorization has ended.

use super::{
    failure::Failure,
    gate::GatedPartner,
    tokens::{ItemTokens, TokenBackend},
};
use crate::{
    faults::FaultTally,
    merge::{ReadWindow, UnreadRows},
    metrics,
    store::{ItemRecord, StoreError},
};
use chrono::{DateTime, Utc};
use px_client::{
    Error, PageEvent, PartnerClient, ReadMode, RefreshingTokens, TokenSource as _, Window,
    oauth::TokenSet,
};
use px_types::{
    Fault, ItemId, UserId, error_id, model::security::Security, partner::UserAccountInfoResponse,
};
use std::{collections::BTreeMap, sync::Arc};

/// Maximum number of token changes during one attempt.
const MAX_TOKEN_CHANGES: u32 = 4;

/// Maximum number of readings of a window if its rows and `total` differ in another way each time.
const MAX_READINGS: u32 = 4;

/// Maximum number of faults of a page that are counted by their paths. Elements that were set aside
/// are always counted.
const MAX_FAULTS_PER_PAGE: usize = 2000;

/// Reason why work on an Item stops.
#[derive(Debug)]
pub(super) enum StopReason {
    /// The authorization has ended; the tokens had this version.
    Refused(Option<u64>),
    /// Another attempt may succeed.
    Failed(Failure),
    /// The store failed, or another worker has the Item.
    Store(StoreError),
    /// The process shuts down: the Item is handed back.
    Stopping,
    /// The clock was set during the work: another worker reads the Item again.
    WrongClock,
    /// The tokens come from a backup, and others are refreshed first.
    Deferred(DateTime<Utc>),
}

impl From<StoreError> for StopReason {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Result of reading a window.
#[derive(Debug)]
pub(super) enum WindowReading {
    Whole(ReadWindow, Vec<Security>),
    /// Two readings had the same rows, and the same `total`, which differs from their number.
    Miscounted(ReadWindow, Vec<Security>, u64),
    /// The window has this number of transactions, which is more than are read at once.
    TooMany(u64),
    /// The partner refuses the window for its length.
    TooLong,
}

/// Whether a request waits for the rate limit. It counts in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    InTurn,
    AtOnce,
}

/// Calls for one Item.
pub(super) struct Session {
    backend: TokenBackend,
    gated: GatedPartner,
    item: ItemId,
    user: UserId,
    tokens: Arc<ItemTokens>,
    client: PartnerClient,
    changes: u32,
    /// Whether a refresh was tried because the tokens were refused.
    refreshed: bool,
    /// Whether earlier tokens of this work were refreshed successfully.
    did_refresh: bool,
}

impl Session {
    pub(super) fn open(backend: TokenBackend, gated: GatedPartner, record: &ItemRecord) -> Self {
        let owner = (record.institution_id.clone(), record.user_id.clone());
        let tokens = ItemTokens::new(backend.clone(), record.id.clone(), owner, None);
        let client = client_with_tokens(&gated, &tokens);
        Self {
            backend,
            gated,
            item: record.id.clone(),
            user: record.user_id.clone(),
            tokens,
            client,
            changes: 0,
            refreshed: false,
            did_refresh: false,
        }
    }

    /// Returns whether the tokens were refreshed successfully.
    pub(super) fn has_refreshed(&self) -> bool {
        self.did_refresh || self.tokens.refreshed()
    }

    /// Refreshes the tokens because the partner requested it. A failure is only logged: the present
    /// tokens may still work, and if not, the calls fail.
    pub(super) async fn cycle(&mut self) -> Result<(), StopReason> {
        let Some((tokens, version)) = self.backend.store.tokens(&self.item).await? else {
            return Ok(());
        };
        if self.admit_refresh(&tokens).is_err() {
            // The partner's request stays recorded.
            return Ok(());
        }
        if let Err(error) = self.refresh(version, Pace::InTurn).await {
            tracing::info!(item = %self.item, %error, "tokens could not be cycled");
            self.with_tokens(None);
        }
        Ok(())
    }

    /// Repeats a refresh with an unknown outcome. The partner returns the new pair again for a
    /// short time only, so this does not wait for the rate limit.
    pub(super) async fn repeat_refresh(&mut self) -> Result<(), StopReason> {
        let Some((_, version)) = self.backend.store.tokens(&self.item).await? else {
            return Ok(());
        };
        self.refreshed = true;
        match self.refresh(version, Pace::AtOnce).await {
            Ok(()) => Ok(()),
            Err(error) => self.handle_error(error).await,
        }
    }

    /// Reads accounts, identities and securities. Also returns the time at which the reading began.
    pub(super) async fn user(
        &mut self,
    ) -> Result<(UserAccountInfoResponse, DateTime<Utc>), StopReason> {
        loop {
            self.gated.request().await;
            let began_at = self.backend.clock.now();
            match self.client.user(&self.user).await {
                Ok(response) => {
                    metrics::faults(&self.gated.institution, response.faults());
                    return Ok((response, began_at));
                }
                Err(error) => self.handle_error(error).await?,
            }
        }
    }

    /// Returns whether the partner serves the accounts now.
    pub(super) async fn serves_accounts(&mut self) -> Result<bool, StopReason> {
        match self.user().await {
            Ok(_) => Ok(true),
            Err(StopReason::Failed(_)) => Ok(false),
            Err(stop) => Err(stop),
        }
    }

    /// Reads a window of at most `at_most` transactions. `beyond_total` is set if the partner's
    /// `total` is known to be too small.
    pub(super) async fn window(
        &mut self,
        window: Window,
        at_most: Option<u64>,
        beyond_total: bool,
    ) -> Result<WindowReading, StopReason> {
        let mut before = None;
        let mut readings = 0;
        loop {
            match self.read_once(window, at_most, beyond_total).await {
                Ok(WindowReading::Miscounted(read, securities, total)) => {
                    let count = (read.rows_sent, total);
                    if before.replace(count) == Some(count) {
                        return Ok(WindowReading::Miscounted(read, securities, total));
                    }
                    readings += 1;
                    if readings == MAX_READINGS {
                        return Err(StopReason::Failed(Failure::miscounted()));
                    }
                }
                Ok(read) => return Ok(read),
                Err(error) if error.error_id() == Some(error_id::WINDOW_TOO_LONG) => {
                    return Ok(WindowReading::TooLong);
                }
                Err(error) => self.handle_error(error).await?,
            }
        }
    }

    async fn read_once(
        &self,
        window: Window,
        at_most: Option<u64>,
        beyond_total: bool,
    ) -> Result<WindowReading, Error> {
        let began_at = self.backend.clock.now();
        let mut pages = self.client.pages_with_any_total(&self.user, window, beyond_total);
        let (mut rows, mut securities) = (Vec::new(), BTreeMap::new());
        let (mut faults, mut unread) = (Vec::<Fault>::new(), UnreadRows::default());
        let mut total = 0;
        // Rows that the partner sent, and those among them that repeat another one.
        let (mut sent, mut repeated) = (0, 0);
        while pages.has_more() {
            self.gated.request().await;
            match pages.next().await? {
                None => break,
                Some(PageEvent::Page(page)) => {
                    if at_most.is_some_and(|at_most| page.total > at_most) {
                        return Ok(WindowReading::TooMany(page.total));
                    }
                    total = page.total;
                    sent += page.rows_sent();
                    repeated += page.rows_repeated();
                    unread.add(&page);
                    faults.extend(page.faults().iter().take(MAX_FAULTS_PER_PAGE).cloned());
                    rows.extend(page.transactions);
                    let new = page.securities.into_iter();
                    securities.extend(new.map(|security| (security.id.clone(), security)));
                }
                // The reading begins again. Events that a later client adds are handled the same
                // way.
                Some(_) => {
                    rows.clear();
                    securities.clear();
                    faults.clear();
                    unread = UnreadRows::default();
                    (sent, repeated) = (0, 0);
                }
            }
        }
        metrics::faults(&self.gated.institution, &faults);
        let mut read = ReadWindow::new(window, rows, began_at).unread(unread);
        read.faults = FaultTally::of(&faults);
        read.rows_sent = sent;
        let securities = securities.into_values().collect();
        // A row that came twice may count as one or two in the partner's `total`.
        Ok(if sent == total || sent - repeated == total {
            WindowReading::Whole(read, securities)
        } else {
            WindowReading::Miscounted(read, securities, total)
        })
    }

    /// Handles a failed call: switches to other tokens, or returns the reason to stop.
    async fn handle_error(&mut self, error: Error) -> Result<(), StopReason> {
        let lost = self.tokens.lost();
        if !lost && !error.ends_token() {
            // Without tokens no call is possible, whatever the error.
            return Err(match self.tokens.version() {
                None if error.kind() == px_client::ErrorKind::Auth => self.without_tokens().await,
                _ => StopReason::Failed(Failure::of(&error)),
            });
        }
        self.changes += 1;
        if self.changes > MAX_TOKEN_CHANGES {
            return Err(StopReason::Failed(Failure::internal("the tokens kept changing")));
        }
        let used = self.tokens.version();
        let Some((tokens, stored)) = self.backend.store.tokens(&self.item).await? else {
            return Err(StopReason::Refused(None));
        };
        if lost || used != Some(stored) {
            tracing::debug!(item = %self.item, "the tokens were replaced meanwhile");
            self.with_tokens(None);
            return Ok(());
        }
        // A refused refresh is not repeated, and neither is one that did not help.
        if error.operation() == "token" || self.refreshed {
            return Err(StopReason::Refused(Some(stored)));
        }
        self.admit_refresh(&tokens)?;
        self.refreshed = true;
        let Err(error) = self.refresh(stored, Pace::InTurn).await else {
            return Ok(());
        };
        let now = self.backend.store.tokens(&self.item).await?.map(|(_, version)| version);
        match now {
            Some(now) if now != stored => {
                self.with_tokens(None);
                Ok(())
            }
            _ if error.ends_token() => Err(StopReason::Refused(Some(stored))),
            _ => Err(StopReason::Failed(Failure::of(&error))),
        }
    }

    /// Admits a refresh. Tokens that come from a backup wait for their turn.
    fn admit_refresh(&self, tokens: &TokenSet) -> Result<(), StopReason> {
        match &self.backend.restore {
            Some(restore) if restore.concerns(tokens) => {
                restore.admit().map_err(StopReason::Deferred)
            }
            _ => Ok(()),
        }
    }

    async fn without_tokens(&self) -> StopReason {
        match self.backend.store.tokens(&self.item).await {
            Ok(None) => StopReason::Refused(None),
            Ok(Some(_)) => {
                StopReason::Failed(Failure::internal("the tokens changed while they were read"))
            }
            Err(error) => StopReason::Store(error),
        }
    }

    /// Refreshes the tokens of a version, expired or not, and uses the new ones.
    async fn refresh(&mut self, version: u64, pace: Pace) -> Result<(), Error> {
        self.with_tokens(Some(version));
        let source =
            RefreshingTokens::new(self.gated.partner.client.clone(), Arc::clone(&self.tokens) as _);
        match pace {
            Pace::InTurn => self.gated.request().await,
            Pace::AtOnce => self.gated.request_at_once(),
        }
        source.token().await?;
        self.client = self.gated.partner.client.with_tokens(Arc::new(source));
        Ok(())
    }

    fn with_tokens(&mut self, expired: Option<u64>) {
        let owner = (self.gated.institution.clone(), self.user.clone());
        self.did_refresh |= self.tokens.refreshed();
        self.tokens = ItemTokens::new(self.backend.clone(), self.item.clone(), owner, expired);
        self.client = client_with_tokens(&self.gated, &self.tokens);
    }
}

/// Returns the partner's client with an Item's tokens.
///
/// The client reads tolerantly: the merge does not treat elements that were set aside as removed.
fn client_with_tokens(gated: &GatedPartner, tokens: &Arc<ItemTokens>) -> PartnerClient {
    let client = &gated.partner.client.with_read_mode(ReadMode::Tolerant);
    let source = RefreshingTokens::new(client.clone(), Arc::clone(tokens) as _);
    client.with_tokens(Arc::new(source))
}
