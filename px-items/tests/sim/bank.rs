//! A bank that lives in memory: users, their accounts and transactions, and tokens by the real
//! OAuth kit, behind the real service.
//!
//! The demo bank of `examples` keeps its ledger in SQLite, which has threads of its own, so that
//! no run of it repeats exactly. This one has the same habits (what is pending posts, changes or
//! vanishes; rows come late) and no thread.

mod desk;
mod ledger;

pub(crate) use ledger::Ledger;

use crate::{
    dice::{Dice, SharedDice},
    time::SimClock,
    trace::Trace,
};
use chrono::TimeDelta;
use px_core::{Clock as _, Digest};
use px_server::{
    PartnerService, PermittedAccounts, ResponseCheck,
    clients::{Client, MemoryClients},
    oauth::{Authorization, GrantStore as _, MemoryGrantStore, OAuth},
};
use px_types::{AccessToken, ClientId, ClientSecret, Date, InstitutionId, UserId};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Where the bank sends users back to.
pub(crate) const REDIRECT_URI: &str = "https://plaid.example/back";

/// Who calls.
pub(crate) fn credentials() -> (ClientId, ClientSecret) {
    (ClientId::new("plaid").unwrap(), ClientSecret::new("a long random secret"))
}

/// What kind of bank it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Pages by cursor; else by offset.
    pub(crate) by_cursor: bool,
    /// A cursor walks the window as it was; else it expires when the window changes.
    pub(crate) snapshots: bool,
    /// Rows on a page.
    pub(crate) page: usize,
    /// The longest window that it serves, in days.
    pub(crate) longest: Option<u64>,
    /// How often of a thousand a transaction gets another id when it posts.
    pub(crate) new_id_on_posting: u64,
    /// How long an access token lives, in seconds.
    pub(crate) token_life: u64,
    /// Hours that its calendar is ahead of UTC.
    pub(crate) ahead: i64,
}

impl Style {
    /// Some kind of bank.
    pub(crate) fn random(dice: &mut Dice) -> Self {
        Self {
            by_cursor: dice.chance(500),
            snapshots: dice.chance(500),
            page: usize::try_from(dice.between(2, 20)).unwrap_or(2),
            longest: dice.chance(300).then(|| dice.between(5, 40)),
            new_id_on_posting: if dice.chance(300) { dice.between(100, 1000) } else { 0 },
            token_life: dice.between(20, 900),
            ahead: i64::try_from(dice.between(0, 25)).unwrap_or_default() - 11,
        }
    }
}

/// A bank.
pub(crate) struct Bank {
    pub(crate) id: InstitutionId,
    pub(crate) style: Style,
    pub(crate) clock: SimClock,
    pub(crate) oauth: OAuth,
    grants: Arc<MemoryGrantStore>,
    /// Grants that someone ended on purpose, and who.
    ended: Mutex<BTreeMap<String, &'static str>>,
    ledgers: Mutex<BTreeMap<UserId, Ledger>>,
    cursors: Mutex<desk::Cursors>,
    trace: Arc<Trace>,
}

impl Bank {
    /// A bank with its users.
    pub(crate) fn open(
        name: &str,
        seed: u64,
        users: &[UserId],
        clock: SimClock,
        trace: Arc<Trace>,
    ) -> Arc<Self> {
        let mut dice = Dice::new(seed, name);
        let style = Style::random(&mut dice);
        let (client_id, secret) = credentials();
        let client = Client::new(client_id, "Plaid", [REDIRECT_URI]);
        let clients = MemoryClients::new().with(client, &secret).unwrap();
        let grants = Arc::new(MemoryGrantStore::new());
        let oauth = OAuth::builder("https://bank.example", Arc::new(clients), grants.clone())
            .clock(Arc::new(clock))
            .random(Arc::new(SharedDice::new(seed, &format!("{name} oauth"))))
            .access_token_lifetime(Duration::from_secs(style.token_life))
            .build()
            .unwrap();
        trace.note(name, format_args!("opens: {style:?}"));
        let bank = Self {
            id: InstitutionId::new(name).unwrap(),
            style,
            clock,
            oauth,
            grants,
            ended: Mutex::default(),
            ledgers: Mutex::default(),
            cursors: Mutex::default(),
            trace,
        };
        for user in users {
            let mut dice = Dice::new(seed, &format!("{name} {user}"));
            let ledger = Ledger::fill(user, bank.today(), bank.clock.now(), &mut dice);
            bank.trace.note(name, format_args!("{user}: {ledger}"));
            bank.ledgers().insert(user.clone(), ledger);
        }
        Arc::new(bank)
    }

    /// The API of it.
    pub(crate) fn service(self: &Arc<Self>, seed: u64) -> PartnerService {
        PartnerService::builder(desk::Desk(self.clone()))
            .oauth(self.oauth.clone())
            .clock(Arc::new(self.clock))
            .random(Arc::new(SharedDice::new(seed, "request ids")))
            .response_check(ResponseCheck::Refuse)
            .build()
            .unwrap()
    }

    /// The date in the bank's own zone.
    pub(crate) fn today(&self) -> Date {
        Date::from((self.clock.now() + TimeDelta::hours(self.style.ahead)).date_naive())
    }

    /// What the bank knows of its users.
    pub(crate) fn ledgers(&self) -> MutexGuard<'_, BTreeMap<UserId, Ledger>> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happens on a user's accounts. Answers what; `None` when nothing could.
    pub(crate) fn live(&self, user: &UserId, dice: &mut Dice) -> Option<String> {
        let (today, now) = (self.today(), self.clock.now());
        let what = self.ledgers().get_mut(user)?.live(today, now, &self.style, dice)?;
        self.trace.note(self.id.as_str(), format_args!("{user}: {what}"));
        Some(what)
    }

    /// The user signs in and consents: where the browser is sent then.
    pub(crate) async fn authorize(&self, user: &UserId, query: &str) -> Option<String> {
        let Authorization::Ask(request) = self.oauth.authorize(query).await else { return None };
        self.oauth.approve(&request, user.clone(), PermittedAccounts::All).await.ok()
    }

    /// The user takes back every consent.
    pub(crate) async fn revoke_all(&self, user: &UserId) {
        for grant in self.live_grants(user).await {
            self.note_end(&grant, "the user");
        }
        self.oauth.revoke_principal(user).await.unwrap();
    }

    /// The grants of a user that live.
    pub(crate) async fn live_grants(&self, user: &UserId) -> BTreeSet<String> {
        let grants = self.grants.of_principal(user).await.unwrap();
        grants
            .iter()
            .filter(|grant| grant.record.revoked_at.is_none() && grant.record.refresh.is_some())
            .map(|grant| grant.record.id.clone())
            .collect()
    }

    /// The grant that an access token is of.
    pub(crate) async fn grant_of(&self, token: &AccessToken) -> Option<String> {
        let found = self.grants.find(&Digest::of(token.expose())).await.unwrap();
        found.map(|found| found.record.id.clone())
    }

    /// The grant that a token of either kind is of.
    pub(crate) async fn grant_of_any(&self, token: &str) -> Option<String> {
        let family = token.split_once('.').map_or(token, |(family, _)| family);
        for text in [token, family] {
            if let Some(found) = self.grants.find(&Digest::of(text)).await.unwrap() {
                return Some(found.record.id.clone());
            }
        }
        None
    }

    /// Whether a grant has not ended.
    pub(crate) async fn is_alive(&self, grant: &str) -> bool {
        let found = self.grants.find_by_id(grant).await.unwrap();
        found.is_some_and(|found| found.record.revoked_at.is_none())
    }

    /// Someone ends a grant on purpose.
    pub(crate) fn note_end(&self, grant: &str, who: &'static str) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.entry(grant.to_owned()).or_insert(who);
    }

    /// Who ended a grant on purpose.
    pub(crate) fn ended_by(&self, grant: &str) -> Option<&'static str> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).get(grant).copied()
    }
}
