//! Accounts and transactions of one user at a bank.

mod events;
mod products;

use super::{Habit, Style};
use crate::dice::Dice;
use chrono::{DateTime, Utc};
use px_types::{
    AccountId, Amount, Date, IdentityId, SecurityId, TransactionId, UserId,
    model::{
        account::{Account, AccountKind},
        identity::Identity,
        security::Security,
        transaction::Transaction,
    },
    partner::UserAccountInfoResponse,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Maximum age of transactions in days. With the days of a run they stay within the
/// history that the workers keep, so that in the end all of them can be compared.
const OLDEST: u64 = 45;

/// Accounts and transactions of one user.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    user: UserId,
    name: String,
    pub(crate) accounts: BTreeMap<AccountId, Listing>,
    pub(crate) rows: BTreeMap<TransactionId, Transaction>,
    deleted: Vec<Transaction>,
    securities: BTreeMap<SecurityId, Security>,
    /// Time at which a transaction was last removed, or moved to another date or id.
    moved: BTreeMap<TransactionId, DateTime<Utc>>,
    /// Transactions that are, or were, equal to another one in everything but the id.
    twins: BTreeSet<TransactionId>,
    missing: Option<Missing>,
    /// Number of times that all transactions got other ids.
    pub(crate) renumbered: u64,
    next: u64,
    /// Number of changes.
    pub(super) version: u64,
}

/// Account of the bank.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(crate) account: Account,
    /// Whether the bank still lists it.
    pub(crate) listed: bool,
    /// Time at which it was opened, or listed again.
    pub(crate) since: DateTime<Utc>,
}

/// Account that responses lack by mistake.
#[derive(Clone, Debug)]
struct Missing {
    account: AccountId,
    until: DateTime<Utc>,
    responses: u64,
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} accounts, {} transactions", self.accounts.len(), self.rows.len())
    }
}

impl Ledger {
    /// Creates a user with some history.
    pub(crate) fn fill(
        user: &UserId,
        (today, now): (Date, DateTime<Utc>),
        style: &Style,
        dice: &mut Dice,
    ) -> Self {
        let mut ledger = Self {
            user: user.clone(),
            name: format!("Name of {user}"),
            accounts: BTreeMap::new(),
            rows: BTreeMap::new(),
            deleted: Vec::new(),
            securities: BTreeMap::new(),
            moved: BTreeMap::new(),
            twins: BTreeSet::new(),
            missing: None,
            renumbered: 0,
            next: 0,
            version: 0,
        };
        let (most_accounts, most_rows) = match (style.crowded, style.has(Habit::Wide)) {
            (true, _) => (1, 6),
            (false, true) => (6, 90),
            (false, false) => (3, 60),
        };
        for _ in 0..dice.between(1, most_accounts) {
            ledger.open_account(now, style, dice);
        }
        for _ in 0..dice.between(most_rows / 12, most_rows) {
            let back = dice.below(OLDEST);
            let pending = back < 6 && dice.chance(400);
            ledger.add(today.minus_days(back), today, pending, style, dice);
        }
        ledger
    }

    /// Returns the response to `GET /users/{user_id}`.
    pub(super) fn respond(&mut self, now: DateTime<Utc>) -> UserAccountInfoResponse {
        let lacks = self.lacks(now);
        let identity = self.identity();
        let listed = self.accounts.values().filter(|listing| listing.listed);
        let accounts: Vec<_> = listed
            .map(|listing| listing.account.clone())
            .filter(|account| Some(&account.id) != lacks.as_ref())
            .collect();
        let held_ids: BTreeSet<_> = accounts.iter().flat_map(securities_in).collect();
        let securities: Vec<_> =
            self.securities.values().filter(|one| held_ids.contains(&&one.id)).cloned().collect();
        UserAccountInfoResponse::new(identity.id.clone(), vec![identity], securities, accounts)
    }

    /// Returns the account that a response lacks now.
    fn lacks(&mut self, now: DateTime<Utc>) -> Option<AccountId> {
        let missing = self.missing.as_mut()?;
        if missing.until < now || missing.responses == 0 {
            return None;
        }
        missing.responses -= 1;
        Some(missing.account.clone())
    }

    /// Returns the securities that are held in listed accounts.
    pub(crate) fn held_securities(&self) -> impl Iterator<Item = &Security> {
        let listed = self.accounts.values().filter(|listing| listing.listed);
        let held_ids: BTreeSet<_> =
            listed.flat_map(|listing| securities_in(&listing.account)).collect();
        self.securities.values().filter(move |security| held_ids.contains(&&security.id))
    }

    /// Returns the securities that a page refers to and a response about the user does not list.
    pub(super) fn securities_of(&self, rows: &[Transaction]) -> Vec<Security> {
        let listed: BTreeSet<_> = self.held_securities().map(|security| &security.id).collect();
        let details = rows.iter().filter_map(|row| row.investment.as_ref());
        let ids: BTreeSet<_> = details.filter_map(|details| details.security_id.as_ref()).collect();
        let ids = ids.difference(&listed);
        ids.filter_map(|id| self.securities.get(*id)).cloned().collect()
    }

    /// Returns the account holder.
    pub(crate) fn identity(&self) -> Identity {
        Identity::new(identity_id(&self.user), self.name.clone())
    }

    /// Returns the transactions of listed accounts.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &Transaction> {
        self.rows.values().filter(|row| self.is_listed(&row.account_id))
    }

    fn is_listed(&self, account: &AccountId) -> bool {
        self.accounts.get(account).is_some_and(|listing| listing.listed)
    }

    /// Returns whether a transaction existed all the time since a given time, under this id and
    /// date, and no other one could be confused with it.
    pub(crate) fn stayed(&self, id: &TransactionId, since: DateTime<Utc>) -> bool {
        self.rows.get(id).is_some_and(|row| self.account_stayed(&row.account_id, since))
            && self.moved.get(id).is_none_or(|at| *at < since)
            && !self.twins.contains(id)
    }

    /// Returns whether the bank has a transaction that has posted.
    pub(crate) fn is_posted(&self, id: &TransactionId) -> bool {
        self.rows.get(id).is_some_and(|row| row.settled_at.is_some())
    }

    /// Returns whether an account was listed all the time since a given time.
    pub(crate) fn account_stayed(&self, id: &AccountId, since: DateTime<Utc>) -> bool {
        self.accounts.get(id).is_some_and(|listing| listing.listed && listing.since < since)
    }
}

/// Returns the securities that an account holds.
fn securities_in(account: &Account) -> impl Iterator<Item = &SecurityId> {
    let holdings = match &account.kind {
        AccountKind::Investment(investment) => investment.holdings.as_slice(),
        _ => &[],
    };
    holdings.iter().map(|holding| &holding.security_id)
}

fn identity_id(user: &UserId) -> IdentityId {
    IdentityId::new(format!("{user}-i")).unwrap()
}

fn amount(cents: u64) -> Amount {
    format!("{}.{:02}", cents / 100, cents % 100).parse().unwrap()
}
