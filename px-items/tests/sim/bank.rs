//! A bank in memory: users, their accounts and transactions, and tokens by the real OAuth kit,
//! behind the real service.
//!
//! The demo bank of `examples` keeps its ledger in SQLite, which has threads of its own, so that
//! its runs are not reproducible. This bank has the same habits (pending rows post, change or
//! vanish; rows come late) and no thread.

mod api;
mod habit;
mod ledger;

pub(crate) use habit::Habit;
pub(crate) use ledger::Ledger;

use crate::{
    dice::{Dice, SharedDice},
    time::SimClock,
    trace::Trace,
};
use chrono::{DateTime, TimeDelta, Utc};
use px_core::{Clock as _, Digest};
use px_server::{
    PartnerService, PermittedAccounts, ResponseCheck,
    clients::{Client, MemoryClients},
    oauth::{Authorization, GrantStore as _, MemoryGrantStore, OAuth},
};
use px_types::{
    AccessToken, ClientId, ClientSecret, Date, InstitutionId, Iso8601, UserId,
    model::transaction::Transaction,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Redirect URI of the sign-in.
pub(crate) const REDIRECT_URI: &str = "https://plaid.example/back";

/// Returns the credentials of the caller.
pub(crate) fn credentials() -> (ClientId, ClientSecret) {
    (ClientId::new("plaid").unwrap(), ClientSecret::new("a long random secret"))
}

/// Properties of a bank.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    /// Pages by cursor, otherwise by offset.
    pub(crate) by_cursor: bool,
    /// A cursor pages over a snapshot of the window. Otherwise it expires when the window changes.
    pub(crate) snapshots: bool,
    /// Maximum number of rows of a page.
    pub(crate) page: usize,
    /// Maximum length of a window, in days.
    pub(crate) longest: Option<u64>,
    /// Number of transactions of a thousand that get another id when they post.
    pub(crate) new_id_on_posting: u64,
    /// Lifetime of an access token, in seconds.
    pub(crate) token_life: u64,
    /// Hours by which its calendar is ahead of UTC.
    pub(crate) ahead: i64,
    pub(crate) habits: BTreeSet<Habit>,
    /// Whether it has many users with little data each.
    pub(crate) crowded: bool,
    /// Maximum number of Items that one process works on at the same time.
    pub(crate) at_once: usize,
    /// Error of the total of a window.
    pub(crate) total_off: i64,
    /// Seconds from the start after which no transaction can be read.
    pub(crate) transactions_end: Option<u64>,
}

impl Style {
    /// Returns random properties of a bank.
    pub(crate) fn random(wanted: Option<Habit>, crowded: bool, dice: &mut Dice) -> Self {
        let habits = Habit::random(wanted, dice);
        let token_life = dice.between(20, 900);
        let off = if dice.chance(500) { 1 } else { -1 };
        let at_once = if crowded { usize::try_from(dice.between(1, 4)).unwrap_or(1) } else { 16 };
        let end = if dice.chance(300) { 0 } else { dice.between(600, 200_000) };
        Self {
            by_cursor: dice.chance(500),
            snapshots: dice.chance(500),
            page: usize::try_from(dice.between(2, 20)).unwrap_or(2),
            longest: dice.chance(300).then(|| dice.between(5, 40)),
            new_id_on_posting: if dice.chance(300) { dice.between(100, 1000) } else { 0 },
            // A token that is returned twice has no refresh token, so it must last.
            token_life: if habits.contains(&Habit::ReusesTokens) {
                40 * 86_400
            } else {
                token_life
            },
            ahead: i64::try_from(dice.between(0, 26)).unwrap_or_default() - 12,
            total_off: if habits.contains(&Habit::WrongTotal) { off } else { 0 },
            transactions_end: habits.contains(&Habit::NoTransactions).then_some(end),
            habits,
            crowded,
            at_once,
        }
    }

    pub(crate) fn has(&self, habit: Habit) -> bool {
        self.habits.contains(&habit)
    }

    /// Returns the date by which windows are filtered.
    pub(crate) fn filed(&self, row: &Transaction) -> Date {
        let by_purchase = self.has(Habit::DatesByPurchase)
            || (self.has(Habit::DatesPerAccount)
                && row.account_id.as_str().ends_with(['1', '3', '5', '7', '9']));
        let at = match row.settled_at {
            Some(settled) if !by_purchase => settled,
            _ => row.transacted_at,
        };
        match at {
            Iso8601::Timestamp(time) if self.has(Habit::DatesInUtc) => {
                Date::from(time.utc().date_naive())
            }
            _ => at.date(),
        }
    }

    /// Returns a date as the bank writes it.
    pub(crate) fn written(&self, date: Date, dice: &mut Dice) -> Iso8601 {
        let timed = self.has(Habit::Offsets) || self.has(Habit::DatesInUtc);
        if !timed || dice.chance(100) {
            return date.into();
        }
        let sign = if self.ahead < 0 { '-' } else { '+' };
        let (hour, minute, ahead) = (dice.below(24), dice.below(60), self.ahead.unsigned_abs());
        format!("{date}T{hour:02}:{minute:02}:00{sign}{ahead:02}:00").parse().unwrap()
    }

    /// Whether all responses follow the contract.
    fn is_exact(&self) -> bool {
        let loose =
            [Habit::DatesInUtc, Habit::DatesByPurchase, Habit::DatesPerAccount, Habit::WrongTotal];
        !loose.iter().any(|habit| self.has(*habit))
    }
}

/// Parameters of a new bank.
pub(crate) struct NewBank<'a> {
    pub(crate) name: &'a str,
    pub(crate) users: &'a [UserId],
    /// Habit that it has in any case.
    pub(crate) habit: Option<Habit>,
    pub(crate) crowded: bool,
}

/// A simulated bank.
pub(crate) struct Bank {
    pub(crate) id: InstitutionId,
    pub(crate) style: Style,
    pub(crate) clock: SimClock,
    pub(crate) oauth: OAuth,
    grants: Arc<MemoryGrantStore>,
    /// Grants that were ended on purpose, and by whom.
    ended: Mutex<BTreeMap<String, &'static str>>,
    ledgers: Mutex<BTreeMap<UserId, Ledger>>,
    cursors: Mutex<api::Cursors>,
    opened: DateTime<Utc>,
    trace: Arc<Trace>,
}

impl Bank {
    /// Creates a bank with its users.
    pub(crate) fn open(
        seed: u64,
        new: NewBank<'_>,
        clock: SimClock,
        trace: Arc<Trace>,
    ) -> Arc<Self> {
        let NewBank { name, users, habit, crowded } = new;
        let mut dice = Dice::new(seed, name);
        let style = Style::random(habit, crowded, &mut dice);
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
            opened: clock.now(),
            trace,
        };
        for user in users {
            let mut dice = Dice::new(seed, &format!("{name} {user}"));
            let ledger =
                Ledger::fill(user, (bank.today(), bank.clock.now()), &bank.style, &mut dice);
            bank.trace.note(name, format_args!("{user}: {ledger}"));
            bank.ledgers().insert(user.clone(), ledger);
        }
        Arc::new(bank)
    }

    /// Returns the API of the bank.
    pub(crate) fn service(self: &Arc<Self>, seed: u64) -> PartnerService {
        PartnerService::builder(api::BankApi(self.clone()))
            .oauth(self.oauth.clone())
            .clock(Arc::new(self.clock))
            .random(Arc::new(SharedDice::new(seed, "request ids")))
            .response_check(if self.style.is_exact() {
                ResponseCheck::Refuse
            } else {
                ResponseCheck::Off
            })
            .build()
            .unwrap()
    }

    /// Returns the date in the bank's own zone.
    pub(crate) fn today(&self) -> Date {
        Date::from((self.clock.now() + TimeDelta::hours(self.style.ahead)).date_naive())
    }

    /// Returns whether transactions can still be read.
    pub(crate) fn has_transactions(&self) -> bool {
        let open = (self.clock.now() - self.opened).num_seconds().unsigned_abs();
        self.style.transactions_end.is_none_or(|end| open < end)
    }

    /// Returns the ledgers of its users.
    pub(crate) fn ledgers(&self) -> MutexGuard<'_, BTreeMap<UserId, Ledger>> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a random event happen on a user's accounts. Returns its description, or `None` if no
    /// event was possible.
    pub(crate) fn live(&self, user: &UserId, dice: &mut Dice) -> Option<String> {
        let (today, now) = (self.today(), self.clock.now());
        let what = self.ledgers().get_mut(user)?.live(today, now, &self.style, dice)?;
        self.trace.note(self.id.as_str(), format_args!("{user}: {what}"));
        Some(what)
    }

    /// The user signs in and consents. Returns the redirect of the browser.
    pub(crate) async fn authorize(&self, user: &UserId, query: &str) -> Option<String> {
        let Authorization::Prompt(request) = self.oauth.authorize(query).await else { return None };
        self.oauth.approve(&request, user.clone(), PermittedAccounts::All).await.ok()
    }

    /// The user revokes every consent.
    pub(crate) async fn revoke_all(&self, user: &UserId) {
        for grant in self.live_grants(user).await {
            self.note_end(&grant, "the user");
        }
        self.oauth.revoke_principal(user).await.unwrap();
    }

    /// Returns the active grants of a user.
    pub(crate) async fn live_grants(&self, user: &UserId) -> BTreeSet<String> {
        let grants = self.grants.find_by_principal(user).await.unwrap();
        grants
            .iter()
            .filter(|grant| grant.record.revoked_at.is_none() && grant.record.refresh.is_some())
            .map(|grant| grant.record.id.clone())
            .collect()
    }

    /// Returns the grant of an access token.
    pub(crate) async fn grant_of(&self, token: &AccessToken) -> Option<String> {
        let found = self.grants.find(&Digest::of(token.expose())).await.unwrap();
        found.map(|found| found.record.id.clone())
    }

    /// Returns whether an access token is valid.
    pub(crate) async fn is_good(&self, token: &AccessToken) -> bool {
        self.oauth.verifier().verify(token).await.is_ok()
    }

    /// Returns the grant of an access or refresh token.
    pub(crate) async fn grant_of_any(&self, token: &str) -> Option<String> {
        let family = token.split_once('.').map_or(token, |(family, _)| family);
        for text in [token, family] {
            if let Some(found) = self.grants.find(&Digest::of(text)).await.unwrap() {
                return Some(found.record.id.clone());
            }
        }
        None
    }

    /// Returns whether a grant has not ended.
    pub(crate) async fn is_alive(&self, grant: &str) -> bool {
        let found = self.grants.find_by_id(grant).await.unwrap();
        found.is_some_and(|found| found.record.revoked_at.is_none())
    }

    /// Records that a grant was ended on purpose.
    pub(crate) fn note_end(&self, grant: &str, who: &'static str) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.entry(grant.to_owned()).or_insert(who);
    }

    /// Returns who ended a grant on purpose.
    pub(crate) fn ended_by(&self, grant: &str) -> Option<&'static str> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).get(grant).copied()
    }
}
