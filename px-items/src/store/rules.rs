//! What every store decides alike: when an Item is due, what a link changes, who is told. Pure.
//!
//! How it is stored is each store's own.

mod coalesce;
mod traces;

pub(super) use coalesce::{Coalesced, Unsent, coalesce};
pub(crate) use traces::connected;
pub(super) use traces::{Place, Traces, of_change, of_leave, of_link};

use super::{
    AccountsWrite, ChangeTo, Changed, ConnectionChange, Destination, Fence, NewHolder, NewLink,
    NotifyAsk, NotifyBatch, Result, StoreError, StoreErrorKind,
};
use crate::{
    connection::Connection,
    item::{Event, State, step},
    life::{History, Life},
    merge::{AccountStanding, KnownAccount},
    news::{Milestone, News},
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

/// When an Item is due that was asked for an update: at once, though not before the partner's
/// word, and no later than it was due anyway.
pub(super) fn due_at_once(
    due_at: Option<DateTime<Utc>>,
    not_before: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> DateTime<Utc> {
    let soonest = not_before.map_or(now, |not_before| not_before.max(now));
    due_at.map_or(soonest, |due_at| due_at.min(soonest))
}

/// Draws a fencing token. One serves a whole batch: it only has to differ from those that the same
/// Item had before.
pub(super) fn new_fence(random: &dyn Random) -> Fence {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    Fence(i64::from_le_bytes(bytes))
}

/// Moves an Item; that it cannot move so is a fault of a program.
pub(super) fn moved(from: State, event: Event) -> Result<State> {
    step(from, event).map(|(state, _)| state).map_err(|impossible| {
        StoreError::new(StoreErrorKind::Corrupt, "the Item cannot move so").caused_by(impossible)
    })
}

/// What a link, or a change of a connection, makes of an Item that is there.
#[derive(Debug)]
pub(super) struct Joined {
    /// Where the Item is then.
    pub(super) state: State,
    /// Whether it had lost its authorization.
    pub(super) repaired: bool,
    /// The connection as it is stored; `None` when the partner itself came.
    pub(super) connection: Option<Connection>,
    /// Whether any connection needs transactions then.
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres")),
        expect(dead_code, reason = "the store in memory looks at the connections themselves")
    )]
    pub(super) needs_transactions: bool,
    /// Whether it is due at once, or once more when a worker has it.
    pub(super) due: bool,
    /// What the application that joined is told of the history.
    pub(super) tell: Tell,
    /// Whether the application was not connected before.
    pub(super) fresh: bool,
}

/// How much of the history an application that joins finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    /// None, or it does not need it.
    Nothing,
    /// The last 30 days; the rest is on its way.
    Recent,
    /// All.
    All,
}

/// Links a holder to an Item that is there, with new tokens or without.
pub(super) fn join(
    (state, life): (State, &Life),
    (connections, epoch): (&[Connection], u64),
    known: &[KnownAccount],
    new: &NewLink,
) -> Result<Joined> {
    let repaired = state.login_required() && new.tokens.is_some();
    let mut joined = match &new.holder {
        NewHolder::Application(connection) => {
            connect((state, life), (connections, epoch), known, connection.clone())
        }
        NewHolder::Partner => Joined {
            state,
            repaired,
            connection: None,
            needs_transactions: connections.iter().any(Connection::needs_transactions),
            due: false,
            tell: Tell::Nothing,
            fresh: false,
        },
    };
    if repaired {
        joined.state = moved(state, Event::Repaired)?;
        joined.repaired = true;
        joined.due = true;
    }
    Ok(joined)
}

/// Adds or replaces a connection. `epoch` is one that the Item never used before, so that no
/// cursor of an application that left goes on when it comes back, nor one that sees something else.
pub(super) fn connect(
    (state, life): (State, &Life),
    (connections, epoch): (&[Connection], u64),
    known: &[KnownAccount],
    mut connection: Connection,
) -> Joined {
    connection.epoch = epoch;
    // An answer without any account is an answer: those there are, are none.
    if life.fresh.accounts.is_some() || !known.is_empty() {
        connection.settle(known);
    }
    let old = connections.iter().find(|old| old.application_id == connection.application_id);
    let fresh = old.is_none();
    if let Some(old) = old {
        connection.take_place_of(old);
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
    let tell = match &life.history {
        _ if !needs || needed_itself => Tell::Nothing,
        History::Complete => Tell::All,
        History::Fetching { recent: true, .. } => Tell::Recent,
        History::Fetching { recent: false, .. } | History::Missing => Tell::Nothing,
    };
    Joined {
        state,
        repaired: false,
        connection: Some(connection),
        needs_transactions: needs || others_need,
        // An Item that no application used was updated seldom.
        due: (connections.is_empty() || (needs && !needed)) && !state.login_required(),
        tell,
        fresh,
    }
}

/// Changes a connection that there is: what it was, and what it makes of the Item.
pub(super) fn change(
    change: &ConnectionChange,
    place: (State, &Life),
    (connections, epoch): (&[Connection], u64),
    known: &[KnownAccount],
) -> std::result::Result<(Connection, Joined), Changed> {
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
    Ok((old.clone(), connect(place, (connections, epoch), known, connection)))
}

impl Joined {
    /// The webhooks that tell it. `counts` are the transactions of each account, which are asked
    /// for only when something is told of the history.
    pub(super) fn webhooks(
        &self,
        (item, environment): (&ItemId, &Environment),
        connections: &[Connection],
        counts: BTreeMap<AccountId, u64>,
    ) -> Result<Vec<Waiting>> {
        let mut all = Vec::new();
        if self.repaired {
            let news = News { repaired: true, ..News::default() };
            all = compose(&news, (item, environment), connections)?;
        }
        let milestone = match self.tell {
            Tell::Nothing => return Ok(all),
            Tell::Recent => Milestone::Initial(counts),
            Tell::All => Milestone::Both(counts),
        };
        let news = News {
            milestone: Some(milestone),
            initial_complete: true,
            historical_complete: self.tell == Tell::All,
            ..News::default()
        };
        all.extend(compose(&news, (item, environment), self.connection.as_slice())?);
        Ok(all)
    }
}

/// What is put in the outbox. Without `Debug`: a body may hold a token.
#[derive(Clone)]
pub(super) struct Waiting {
    pub(super) application_id: ApplicationId,
    pub(super) to: Destination,
    pub(super) body: String,
    /// Whether the body holds a token, so that it is sealed at rest.
    pub(super) secret: bool,
}

impl Waiting {
    /// The address of the application, if an earlier webhook to it may take this one in.
    pub(super) fn coalesces_at(&self) -> Option<&str> {
        self.to.url().filter(|_| !self.secret)
    }
}

/// The webhooks that tell news, with their bodies as they are sent.
pub(super) fn compose(
    news: &News,
    (item, environment): (&ItemId, &Environment),
    connections: &[Connection],
) -> Result<Vec<Waiting>> {
    let outgoing = news.webhooks(item, environment, connections).into_iter();
    outgoing
        .map(|outgoing| {
            Ok(Waiting {
                application_id: outgoing.application_id,
                to: Destination::Url(outgoing.url),
                body: written(&outgoing.webhook)?,
                secret: false,
            })
        })
        .collect()
}

fn written(message: &impl Serialize) -> Result<String> {
    serde_json::to_string(message).map_err(|_| {
        StoreError::new(StoreErrorKind::Corrupt, "a webhook cannot be written as JSON")
    })
}

/// What every application is told when a partner says that it revoked the tokens.
pub(super) fn revoked() -> News {
    let fault = PlaidError::new(
        PlaidErrorType::ItemError,
        "ITEM_LOGIN_REQUIRED",
        "the institution ended the access; the user has to authorize again",
    );
    News { fault: Some(fault), ..News::default() }
}

/// The connections that a commit's new accounts, or a first answer, change, as they are then.
/// `present` are the accounts that the Item had, held ones left out.
pub(super) fn take_in(
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

/// Which tokens an Item that is there has after a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tokens {
    /// The new ones; the old ones are revoked if they [outlived](outlived) their use.
    New,
    /// Those that it has; the new ones are revoked, if these are others.
    Old,
    /// Those that it has; there are no new ones, or they are the partner's own and left alone.
    OldAlone,
}

/// Which tokens an Item has after a link. `present` are the partner's ids of the accounts that
/// the partner lists.
///
/// An Item has one authorization, so the one that shows more must stay.
pub(super) fn which_tokens(
    state: State,
    new: &NewLink,
    connections: &[Connection],
    present: &[AccountId],
) -> Tokens {
    if new.tokens.is_none() {
        return Tokens::OldAlone;
    }
    if state.login_required() {
        return Tokens::New;
    }
    let NewHolder::Application(joining) = &new.holder else { return Tokens::OldAlone };
    let Some(covers) = &new.covers else { return Tokens::New };
    let shows_enough = if present.is_empty() {
        // Before the first answer, ids are the partner's, and all there are is not known.
        let mut others =
            connections.iter().filter(|other| other.application_id != joining.application_id);
        others
            .all(|other| other.accounts.as_ref().is_some_and(|accounts| accounts.is_subset(covers)))
    } else {
        // What others see is among these.
        present.iter().all(|account| covers.contains(account))
    };
    if shows_enough { Tokens::New } else { Tokens::Old }
}

/// Whether old tokens are revoked once new ones are stored. Where the two have one in common,
/// its revocation would end the new ones too.
pub(super) fn outlived(old: &TokenSet, new: &TokenSet) -> bool {
    let same_refresh = old.refresh_token.is_some() && old.refresh_token == new.refresh_token;
    old.access_token != new.access_token && !same_refresh
}

/// What the entries of a batch ask of one Item, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// The earliest date named.
    pub(super) since: Option<Date>,
    /// Whether the tokens are to be cycled.
    pub(super) cycle: bool,
    /// Whether the tokens are revoked; that counts above the others.
    pub(super) revoked: bool,
}

impl Asked {
    fn add(&mut self, ask: NotifyAsk) {
        match ask {
            NotifyAsk::Update { since } => self.since = earliest(self.since, since),
            NotifyAsk::Cycle => self.cycle = true,
            NotifyAsk::Revoked => self.revoked = true,
        }
    }
}

/// What a batch asks, by Item; or the index of the first entry whose Item is not known.
pub(super) fn gather(
    batch: &NotifyBatch,
    item_of: impl Fn(&super::AccessDigest) -> Option<ItemId>,
) -> std::result::Result<BTreeMap<ItemId, Asked>, usize> {
    let mut asked: BTreeMap<ItemId, Asked> = BTreeMap::new();
    for (index, (digest, ask)) in batch.entries.iter().enumerate() {
        asked.entry(item_of(digest).ok_or(index)?).or_default().add(*ask);
    }
    Ok(asked)
}

/// The earlier of two dates, of which either may be missing.
pub(super) fn earliest(one: Option<Date>, other: Option<Date>) -> Option<Date> {
    [one, other].into_iter().flatten().min()
}
