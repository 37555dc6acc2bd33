//! Calls for one Item: with its tokens, within its partner's budget, by the rule for 401.
//!
//! The rule: a refused token ends nothing yet. The store is read again; if other tokens are
//! there by now, they are used. Else they are refreshed, once. Only what is refused then is lost.

use super::{
    failure::Failure,
    gate::Gated,
    tokens::{ItemTokens, Place},
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

/// How many times tokens may turn out to be others before an attempt is given up.
const MOST_CHANGES: u32 = 4;

/// Number of readings of a window after which it is given up if its rows and its `total` differ in
/// another way each time.
const MOST_READINGS: u32 = 4;

/// Maximum number of faults of a page that are counted by their paths. What was set aside counts
/// anyhow.
const MAX_FAULTS_HELD: usize = 2000;

/// Why work on an Item does not go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// The authorization is lost; the tokens were of this version.
    Refused(Option<u64>),
    /// Another attempt may succeed.
    Failed(Failure),
    /// The store failed, or has given the Item to someone else.
    Store(StoreError),
    /// This process stops: the Item is given back.
    Stopping,
    /// The clock was set while the Item was worked on: another worker reads it again.
    WrongClock,
    /// Its tokens are of a backup, and others are refreshed first.
    Deferred(DateTime<Utc>),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What became of the reading of a window.
#[derive(Debug)]
pub(super) enum Read {
    Whole(ReadWindow, Vec<Security>),
    /// Two readings had the same rows, and that `total`, which is not their number.
    Miscounted(ReadWindow, Vec<Security>, u64),
    /// It has that many transactions, more than are read at once.
    TooMany(u64),
    /// The partner refuses it for its length.
    TooLong,
}

/// Whether a request waits for the rate limit. It counts either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    InTurn,
    AtOnce,
}

/// Calls for one Item.
pub(super) struct Session {
    place: Place,
    gated: Gated,
    item: ItemId,
    user: UserId,
    tokens: Arc<ItemTokens>,
    client: PartnerClient,
    changes: u32,
    /// Whether a refresh was tried because the tokens were refused.
    refreshed: bool,
    /// Whether earlier tokens of this work were refreshed well.
    did_refresh: bool,
}

impl Session {
    pub(super) fn open(place: Place, gated: Gated, record: &ItemRecord) -> Self {
        let owner = (record.institution_id.clone(), record.user_id.clone());
        let tokens = ItemTokens::new(place.clone(), record.id.clone(), owner, None);
        let client = calling(&gated, &tokens);
        Self {
            place,
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

    /// Whether the tokens were refreshed well.
    pub(super) fn has_refreshed(&self) -> bool {
        self.did_refresh || self.tokens.refreshed()
    }

    /// Refreshes the tokens because the partner asked for it. What fails is only noted: the
    /// tokens that are there may do, and if not, the calls will tell.
    pub(super) async fn cycle(&mut self) -> Result<(), Stop> {
        let Some((tokens, version)) = self.place.store.tokens(&self.item).await? else {
            return Ok(());
        };
        if self.admit_refresh(&tokens).is_err() {
            // The partner's wish stays recorded.
            return Ok(());
        }
        if let Err(error) = self.refresh(version, Pace::InTurn).await {
            tracing::info!(item = %self.item, %error, "tokens could not be cycled");
            self.with_tokens(None);
        }
        Ok(())
    }

    /// Repeats a refresh whose outcome is not known. The partner gives the new pair once more for a
    /// short time only, so this does not wait for the rate limit.
    pub(super) async fn repeat_refresh(&mut self) -> Result<(), Stop> {
        let Some((_, version)) = self.place.store.tokens(&self.item).await? else {
            return Ok(());
        };
        self.refreshed = true;
        match self.refresh(version, Pace::AtOnce).await {
            Ok(()) => Ok(()),
            Err(error) => self.after(error).await,
        }
    }

    /// Reads accounts, identities and securities, and says when that began.
    pub(super) async fn user(&mut self) -> Result<(UserAccountInfoResponse, DateTime<Utc>), Stop> {
        loop {
            self.gated.request().await;
            let began_at = self.place.clock.now();
            match self.client.user(&self.user).await {
                Ok(answer) => {
                    metrics::faults(&self.gated.institution, answer.faults());
                    return Ok((answer, began_at));
                }
                Err(error) => self.after(error).await?,
            }
        }
    }

    /// Whether the partner serves the accounts well now.
    pub(super) async fn serves_accounts(&mut self) -> Result<bool, Stop> {
        match self.user().await {
            Ok(_) => Ok(true),
            Err(Stop::Failed(_)) => Ok(false),
            Err(stop) => Err(stop),
        }
    }

    /// Reads a window, if it has at most that many transactions; `beyond_total` if the partner's
    /// `total` is known to be too small.
    pub(super) async fn window(
        &mut self,
        window: Window,
        at_most: Option<u64>,
        beyond_total: bool,
    ) -> Result<Read, Stop> {
        let mut before = None;
        let mut readings = 0;
        loop {
            match self.walk(window, at_most, beyond_total).await {
                Ok(Read::Miscounted(read, securities, total)) => {
                    let count = (read.rows_sent, total);
                    if before.replace(count) == Some(count) {
                        return Ok(Read::Miscounted(read, securities, total));
                    }
                    readings += 1;
                    if readings == MOST_READINGS {
                        return Err(Stop::Failed(Failure::miscounted()));
                    }
                }
                Ok(read) => return Ok(read),
                Err(error) if error.error_id() == Some(error_id::WINDOW_TOO_LONG) => {
                    return Ok(Read::TooLong);
                }
                Err(error) => self.after(error).await?,
            }
        }
    }

    async fn walk(
        &self,
        window: Window,
        at_most: Option<u64>,
        beyond_total: bool,
    ) -> Result<Read, Error> {
        let began_at = self.place.clock.now();
        let mut pages = self.client.pages_with_any_total(&self.user, window, beyond_total);
        let (mut rows, mut securities) = (Vec::new(), BTreeMap::new());
        let (mut faults, mut unread) = (Vec::<Fault>::new(), UnreadRows::default());
        let mut total = 0;
        // Rows that the partner sent, and those of them of which another one is the same.
        let (mut sent, mut repeated) = (0, 0);
        while pages.has_more() {
            self.gated.request().await;
            match pages.next().await? {
                None => break,
                Some(PageEvent::Page(page)) => {
                    if at_most.is_some_and(|at_most| page.total > at_most) {
                        return Ok(Read::TooMany(page.total));
                    }
                    total = page.total;
                    sent += page.rows_sent();
                    repeated += page.rows_repeated();
                    unread.add(&page);
                    faults.extend(page.faults().iter().take(MAX_FAULTS_HELD).cloned());
                    rows.extend(page.transactions);
                    let new = page.securities.into_iter();
                    securities.extend(new.map(|security| (security.id.clone(), security)));
                }
                // Begun again; anything else that a later client may tell ends the same way.
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
        // A row that came twice may be one or two by the partner's `total`.
        Ok(if sent == total || sent - repeated == total {
            Read::Whole(read, securities)
        } else {
            Read::Miscounted(read, securities, total)
        })
    }

    /// What follows a failed call: other tokens to call with, or the end.
    async fn after(&mut self, error: Error) -> Result<(), Stop> {
        let lost = self.tokens.lost();
        if !lost && !error.ends_token() {
            // Without tokens there is nothing to call with, whatever the reason.
            return Err(match self.tokens.version() {
                None if error.kind() == px_client::Kind::Auth => self.without_tokens().await,
                _ => Stop::Failed(Failure::of(&error)),
            });
        }
        self.changes += 1;
        if self.changes > MOST_CHANGES {
            return Err(Stop::Failed(Failure::internal("the tokens never stayed the same")));
        }
        let used = self.tokens.version();
        let Some((tokens, stored)) = self.place.store.tokens(&self.item).await? else {
            return Err(Stop::Refused(None));
        };
        if lost || used != Some(stored) {
            tracing::debug!(item = %self.item, "there are other tokens by now");
            self.with_tokens(None);
            return Ok(());
        }
        // A refresh that was refused is not tried again, nor is one that did not help.
        if error.operation() == "token" || self.refreshed {
            return Err(Stop::Refused(Some(stored)));
        }
        self.admit_refresh(&tokens)?;
        self.refreshed = true;
        let Err(error) = self.refresh(stored, Pace::InTurn).await else {
            return Ok(());
        };
        let now = self.place.store.tokens(&self.item).await?.map(|(_, version)| version);
        match now {
            Some(now) if now != stored => {
                self.with_tokens(None);
                Ok(())
            }
            _ if error.ends_token() => Err(Stop::Refused(Some(stored))),
            _ => Err(Stop::Failed(Failure::of(&error))),
        }
    }

    /// Admits a refresh of tokens of a backup when it is their turn, and all others.
    fn admit_refresh(&self, tokens: &TokenSet) -> Result<(), Stop> {
        match &self.place.restore {
            Some(restore) if restore.concerns(tokens) => restore.admit().map_err(Stop::Deferred),
            _ => Ok(()),
        }
    }

    async fn without_tokens(&self) -> Stop {
        match self.place.store.tokens(&self.item).await {
            Ok(None) => Stop::Refused(None),
            Ok(Some(_)) => {
                Stop::Failed(Failure::internal("the tokens changed while they were read"))
            }
            Err(error) => Stop::Store(error),
        }
    }

    /// Refreshes the tokens of a version, due or not, and calls with the new ones.
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
        self.tokens = ItemTokens::new(self.place.clone(), self.item.clone(), owner, expired);
        self.client = calling(&self.gated, &self.tokens);
    }
}

/// The partner's client, calling with an Item's tokens.
///
/// A merge does not take for gone what a response says was set aside.
fn calling(gated: &Gated, tokens: &Arc<ItemTokens>) -> PartnerClient {
    let client = &gated.partner.client.with_read_mode(ReadMode::Tolerant);
    let source = RefreshingTokens::new(client.clone(), Arc::clone(tokens) as _);
    client.with_tokens(Arc::new(source))
}
