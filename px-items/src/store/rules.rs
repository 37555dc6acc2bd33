//! Rules that all stores share: due times, the effects of links, and the receivers of webhooks.
//!
//! They are pure functions. Each store implements how their results are persisted.

mod coalesce;
mod side_effects;

pub(super) use coalesce::{CoalescedWebhooks, UnsentWebhook, coalesce};
pub(crate) use side_effects::connected;
pub(super) use side_effects::{
    ItemContext, SideEffects, change_effects, leave_effects, link_effects,
};

use super::{
    AccountsWrite, ChangeTo, Changed, ConnectionChange, Destination, Fence, NewHolder, NewLink,
    NotificationRequest, NotifyBatch, Result, StoreError, StoreErrorKind,
};
use crate::{
    changes::{ItemChanges, Milestone},
    connection::Connection,
    item::{Event, State, step},
    merge::{AccountStanding, KnownAccount},
    sync_state::{History, SyncState},
};
use chrono::{DateTime, Utc};
use px_client::oauth::TokenSet;
use px_core::Random;
use px_types::{
    AccountId, ApplicationId, Date, ItemId,
    model::plaid_error::{PlaidError, PlaidErrorType},
    webhook::Environment,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// Returns the due time of an Item for which an update was requested: at once, but not before
/// `not_before`, and not later than it was due anyway.
pub(super) fn due_at_once(
    due_at: Option<DateTime<Utc>>,
    not_before: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> DateTime<Utc> {
    let soonest = not_before.map_or(now, |not_before| not_before.max(now));
    due_at.map_or(soonest, |due_at| due_at.min(soonest))
}

/// Draws a fencing token. One is enough for a whole batch, because it only has to differ from
/// earlier tokens of the same Item.
pub(super) fn new_fence(random: &dyn Random) -> Fence {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    Fence(i64::from_le_bytes(bytes))
}

/// Applies an event to the state of an Item.
///
/// # Errors
/// [`StoreErrorKind::Corrupt`] if the transition does not exist, which is a program error.
pub(super) fn apply_event(from: State, event: Event) -> Result<State> {
    step(from, event).map(|(state, _)| state).map_err(|impossible| {
        StoreError::new(StoreErrorKind::Corrupt, "an Item in this state does not accept this event")
            .caused_by(impossible)
    })
}

/// The outcome of a link, or of a change of a connection, for an existing Item.
#[derive(Debug)]
pub(super) struct JoinOutcome {
    /// New state of the Item.
    pub(super) state: State,
    /// Whether the Item had lost its authorization.
    pub(super) repaired: bool,
    /// The connection to store; `None` if the partner itself was linked.
    pub(super) connection: Option<Connection>,
    /// Whether any connection needs transactions now.
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres")),
        expect(dead_code, reason = "the store in memory looks at the connections themselves")
    )]
    pub(super) needs_transactions: bool,
    /// Whether the Item is due at once, or once more if a worker has it.
    pub(super) due: bool,
    /// The part of the history that the application is notified of.
    pub(super) history_notice: HistoryNotice,
    /// Whether the application was not connected before.
    pub(super) is_new: bool,
}

/// The part of the history that an application finds when it joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HistoryNotice {
    /// None of it, or the application does not need it.
    None,
    /// The last 30 days; the rest is being fetched.
    Recent,
    /// All of it.
    All,
}

/// Links an application or the partner to an existing Item, with or without new tokens.
pub(super) fn join(
    (state, sync_state): (State, &SyncState),
    (connections, epoch): (&[Connection], u64),
    known: &[KnownAccount],
    new: &NewLink,
) -> Result<JoinOutcome> {
    let repaired = state.login_required() && new.tokens.is_some();
    let mut joined = match &new.holder {
        NewHolder::Application(connection) => {
            connect((state, sync_state), (connections, epoch), known, connection.clone())
        }
        NewHolder::Partner => JoinOutcome {
            state,
            repaired,
            connection: None,
            needs_transactions: connections.iter().any(Connection::needs_transactions),
            due: false,
            history_notice: HistoryNotice::None,
            is_new: false,
        },
    };
    if repaired {
        joined.state = apply_event(state, Event::Repaired)?;
        joined.repaired = true;
        joined.due = true;
    }
    Ok(joined)
}

/// Adds or replaces a connection. `epoch` is one that the Item has never used, so that a cursor
/// becomes invalid when its application was disconnected meanwhile or can see different data.
pub(super) fn connect(
    (state, sync_state): (State, &SyncState),
    (connections, epoch): (&[Connection], u64),
    known: &[KnownAccount],
    mut connection: Connection,
) -> JoinOutcome {
    connection.epoch = epoch;
    // A response without any account is a response, too: the user then has no accounts.
    if sync_state.fresh.accounts.is_some() || !known.is_empty() {
        connection.settle(known);
    }
    let old = connections.iter().find(|old| old.application_id == connection.application_id);
    let is_new = old.is_none();
    if let Some(old) = old {
        connection.replace(old);
    }
    let needs = connection.needs_transactions();
    let (mut needed, mut needed_itself) = (false, false);
    for old in connections.iter().filter(|old| old.needs_transactions()) {
        needed = true;
        needed_itself |= old.application_id == connection.application_id;
    }
    let others_need = connections.iter().any(|other| {
        other.needs_transactions() && other.application_id != connection.application_id
    });
    let history_notice = match &sync_state.history {
        _ if !needs || needed_itself => HistoryNotice::None,
        History::Complete => HistoryNotice::All,
        History::Fetching { recent: true, .. } => HistoryNotice::Recent,
        History::Fetching { recent: false, .. } | History::Missing => HistoryNotice::None,
    };
    JoinOutcome {
        state,
        repaired: false,
        connection: Some(connection),
        needs_transactions: needs || others_need,
        // An Item without applications was updated rarely.
        due: (connections.is_empty() || (needs && !needed)) && !state.login_required(),
        history_notice,
        is_new,
    }
}

/// Changes an existing connection. Returns the old connection and the outcome for the Item.
pub(super) fn change(
    change: &ConnectionChange,
    current: (State, &SyncState),
    (connections, epoch): (&[Connection], u64),
    known: &[KnownAccount],
) -> std::result::Result<(Connection, JoinOutcome), Changed> {
    let old = connections.iter().find(|old| old.application_id == change.application_id);
    let old = old.ok_or(Changed::NotConnected)?;
    let connection = match &change.to {
        ChangeTo::Connection(connection) => {
            Connection { application_id: old.application_id.clone(), ..connection.clone() }
        }
        ChangeTo::Scopes(scopes, key) => {
            let connection = old.with_scopes(scopes, known).map_err(Changed::Refused)?;
            Connection { cursor_key: key.clone(), ..connection }
        }
        ChangeTo::Webhook(webhook) => Connection { webhook: webhook.clone(), ..old.clone() },
    };
    Ok((old.clone(), connect(current, (connections, epoch), known, connection)))
}

impl JoinOutcome {
    /// Returns the webhooks about it. `counts` are the numbers of transactions by account; they are
    /// needed only if the history is reported.
    pub(super) fn webhooks(
        &self,
        (item, environment): (&ItemId, &Environment),
        connections: &[Connection],
        counts: BTreeMap<AccountId, u64>,
    ) -> Result<Vec<OutboxEntry>> {
        let mut all = Vec::new();
        if self.repaired {
            let changes = ItemChanges { repaired: true, ..ItemChanges::default() };
            all = compose(&changes, (item, environment), connections)?;
        }
        let milestone = match self.history_notice {
            HistoryNotice::None => return Ok(all),
            HistoryNotice::Recent => Milestone::Initial(counts),
            HistoryNotice::All => Milestone::Both(counts),
        };
        let changes = ItemChanges {
            milestone: Some(milestone),
            initial_complete: true,
            historical_complete: self.history_notice == HistoryNotice::All,
            ..ItemChanges::default()
        };
        all.extend(compose(&changes, (item, environment), self.connection.as_slice())?);
        Ok(all)
    }
}

/// A new entry of the outbox. It does not implement `Debug`, because its body can contain a token.
#[derive(Clone)]
pub(super) struct OutboxEntry {
    pub(super) application_id: ApplicationId,
    pub(super) to: Destination,
    pub(super) body: String,
    /// Whether the body contains a token, so that it is sealed when stored.
    pub(super) secret: bool,
}

impl OutboxEntry {
    /// Returns the address of the application, if an earlier webhook to it may be merged with this
    /// one.
    pub(super) fn coalesces_at(&self) -> Option<&str> {
        self.to.url().filter(|_| !self.secret)
    }
}

/// Returns the webhooks about an event, with their bodies as they are sent.
pub(super) fn compose(
    changes: &ItemChanges,
    (item, environment): (&ItemId, &Environment),
    connections: &[Connection],
) -> Result<Vec<OutboxEntry>> {
    let outgoing = changes.webhooks(item, environment, connections).into_iter();
    outgoing
        .map(|outgoing| {
            Ok(OutboxEntry {
                application_id: outgoing.application_id,
                to: Destination::Url(outgoing.url),
                body: to_json(&outgoing.webhook)?,
                secret: false,
            })
        })
        .collect()
}

fn to_json(message: &impl Serialize) -> Result<String> {
    serde_json::to_string(message).map_err(|_| {
        StoreError::new(StoreErrorKind::Corrupt, "a webhook cannot be serialized as JSON")
    })
}

/// Returns the event that reports revoked tokens to every application.
pub(super) fn revoked() -> ItemChanges {
    let fault = PlaidError::new(
        PlaidErrorType::ItemError,
        "ITEM_LOGIN_REQUIRED",
        "the institution ended the access; the user has to authorize again",
    );
    ItemChanges { fault: Some(fault), ..ItemChanges::default() }
}

/// Returns the connections that new accounts of a commit, or a first response, change, with their
/// new values. `present` are the accounts that the Item had, without those on hold.
pub(super) fn extend_connections(
    connections: &mut [Connection],
    write: &AccountsWrite,
    present: &[AccountId],
) -> Vec<Connection> {
    let listed = write.accounts.iter().filter(|account| account.new);
    let new: Vec<_> = listed
        .filter(|account| account.known.standing != AccountStanding::Held)
        .map(|account| account.known.account.id.clone())
        .collect();
    let mut changed = Vec::new();
    for connection in connections {
        if connection.take_in(&new, present, write.first) {
            changed.push(connection.clone());
        }
    }
    changed
}

/// The tokens of an existing Item after a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenChoice {
    /// The new ones. The old ones are revoked if [possible](is_revocable).
    New,
    /// The stored ones. The new ones are revoked if they differ.
    Old,
    /// The stored ones. There are no new ones, or they belong to the partner itself and are not
    /// touched.
    OldOnly,
}

/// Decides which tokens an Item has after a link. `present` are the partner's ids of the accounts
/// that the partner lists.
///
/// An Item has one authorization, so the one that covers more accounts must stay.
pub(super) fn choose_tokens(
    state: State,
    new: &NewLink,
    connections: &[Connection],
    present: &[AccountId],
) -> TokenChoice {
    if new.tokens.is_none() {
        return TokenChoice::OldOnly;
    }
    if state.login_required() {
        return TokenChoice::New;
    }
    let NewHolder::Application(joining) = &new.holder else { return TokenChoice::OldOnly };
    let Some(covers) = &new.covers else { return TokenChoice::New };
    let shows_enough = if present.is_empty() {
        // Before the first response, accounts have the partner's ids, and the full list is unknown.
        let mut others =
            connections.iter().filter(|other| other.application_id != joining.application_id);
        others
            .all(|other| other.accounts.as_ref().is_some_and(|accounts| accounts.is_subset(covers)))
    } else {
        // The accounts that other applications see are among these.
        present.iter().all(|account| covers.contains(account))
    };
    if shows_enough { TokenChoice::New } else { TokenChoice::Old }
}

/// Returns whether old tokens can be revoked once new ones are stored. If the two pairs have a
/// token in common, the revocation would end the new ones, too.
pub(super) fn is_revocable(old: &TokenSet, new: &TokenSet) -> bool {
    let same_refresh = old.refresh_token.is_some() && old.refresh_token == new.refresh_token;
    old.access_token != new.access_token && !same_refresh
}

/// The combined requests for one Item in a batch of notifications.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ItemRequest {
    /// Earliest date named.
    pub(super) since: Option<Date>,
    /// Whether the tokens must be refreshed.
    pub(super) cycle: bool,
    /// Whether the tokens were revoked. This takes precedence over the others.
    pub(super) revoked: bool,
}

impl ItemRequest {
    fn add(&mut self, request: NotificationRequest) {
        match request {
            NotificationRequest::Update { since } => self.since = earliest(self.since, since),
            NotificationRequest::Cycle => self.cycle = true,
            NotificationRequest::Revoked => self.revoked = true,
        }
    }
}

/// Groups the requests of a batch by Item. Fails with the index of the first entry that names an
/// unknown Item.
pub(super) fn group_by_item(
    batch: &NotifyBatch,
    item_of: impl Fn(&super::AccessDigest) -> Option<ItemId>,
) -> std::result::Result<BTreeMap<ItemId, ItemRequest>, usize> {
    let mut requests: BTreeMap<ItemId, ItemRequest> = BTreeMap::new();
    for (index, (digest, request)) in batch.entries.iter().enumerate() {
        requests.entry(item_of(digest).ok_or(index)?).or_default().add(*request);
    }
    Ok(requests)
}

/// Returns the earlier of two optional dates.
pub(super) fn earliest(one: Option<Date>, other: Option<Date>) -> Option<Date> {
    [one, other].into_iter().flatten().min()
}
