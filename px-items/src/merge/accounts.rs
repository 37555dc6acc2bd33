//! Accounts: what a complete answer to `GET /users/{user_id}` changes.

use px_types::{
    AccountId, IdentityId,
    model::{account::Account, identity::Identity, security::Security, transaction::Transaction},
    partner::UserAccountInfoResponse,
};
use std::collections::{BTreeSet, HashMap, HashSet};

/// An account that is stored.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct KnownAccount {
    /// The account as applications see it, under the Item's own id.
    pub account: Account,
    /// The partner's present id of it.
    pub partner_id: AccountId,
    /// Whether the partner still lists it.
    pub standing: AccountStanding,
}

impl KnownAccount {
    /// An account that the partner listed last time.
    #[must_use]
    pub fn new(account: Account, partner_id: AccountId, standing: AccountStanding) -> Self {
        Self { account, partner_id, standing }
    }
}

/// Whether the partner still lists an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccountStanding {
    /// It was in the last answer.
    Listed,
    /// It was missing in one answer. That may be the partner's mistake.
    Missing,
    /// A second complete answer confirmed that it is gone: closed, and kept.
    Closed,
    /// It looks like another account under a new id, and waits for a re-map or for a word that
    /// it is new. No application sees it.
    Held,
}

impl AccountStanding {
    /// Every standing.
    pub const ALL: [Self; 4] = [Self::Listed, Self::Missing, Self::Closed, Self::Held];

    /// The name that stores keep.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::Missing => "missing",
            Self::Closed => "closed",
            Self::Held => "held",
        }
    }

    /// The standing of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.as_str() == name)
    }
}

/// An account to be stored.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AccountWrite {
    /// The account under the Item's own id.
    pub known: KnownAccount,
    /// Whether connections take it in, because applications did not have it: once it is listed
    /// for the first time. One that is held is new when it is accepted.
    pub new: bool,
}

impl AccountWrite {
    /// An account to be stored.
    #[must_use]
    pub fn new(known: KnownAccount, new: bool) -> Self {
        Self { known, new }
    }
}

/// What an answer changes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MergedAccounts {
    /// The accounts that changed in any way, and only those.
    pub writes: Vec<AccountWrite>,
    /// The signed-in user.
    pub user_identity_id: IdentityId,
    /// All identities of the answer.
    pub identities: Vec<Identity>,
    /// All securities of the answer.
    pub securities: Vec<Security>,
    /// Whether accounts came back under other ids.
    pub ids_changed: bool,
}

/// Merges a complete answer into what is stored.
#[must_use]
pub fn merge_accounts(known: &[KnownAccount], answer: UserAccountInfoResponse) -> MergedAccounts {
    let writes = answer
        .accounts
        .into_iter()
        .filter(|account| !known.iter().any(|known| known.account == *account))
        .map(|account| {
            let new = !known.iter().any(|known| known.partner_id == account.id);
            let id = account.id.clone();
            AccountWrite::new(KnownAccount::new(account, id, AccountStanding::Listed), new)
        })
        .collect();
    MergedAccounts {
        writes,
        user_identity_id: answer.user_identity_id,
        identities: answer.identities,
        securities: answer.securities,
        ids_changed: false,
    }
}

/// What the partner's account ids are to an Item.
#[derive(Clone, Debug, Default)]
pub struct AccountIds {
    own: HashMap<AccountId, AccountId>,
    held: HashSet<AccountId>,
    silent: BTreeSet<AccountId>,
}

impl AccountIds {
    /// Of the accounts as they are once the last answer was merged.
    #[must_use]
    pub fn of(known: &[KnownAccount]) -> Self {
        let mut ids = Self::default();
        for known in known {
            match known.standing {
                AccountStanding::Held => {
                    ids.held.insert(known.partner_id.clone());
                    continue;
                }
                AccountStanding::Missing | AccountStanding::Closed => {
                    ids.silent.insert(known.account.id.clone());
                }
                AccountStanding::Listed => {}
            }
            ids.own.insert(known.partner_id.clone(), known.account.id.clone());
        }
        ids
    }

    /// Puts the Item's own account ids into rows as the partner gave them.
    ///
    /// Rows of accounts that are held are left out: they may be there already, under the account
    /// that the held one looks like. An account that was opened since the accounts were read
    /// keeps the partner's id, which will be its own.
    #[must_use]
    pub fn translate(&self, mut rows: Vec<Transaction>) -> Vec<Transaction> {
        rows.retain(|row| !self.held.contains(&row.account_id));
        for row in &mut rows {
            if let Some(own) = self.own.get(&row.account_id) {
                row.account_id = own.clone();
            }
        }
        rows
    }

    /// The accounts whose rows are not judged when they are not read: missing or closed.
    #[must_use]
    pub fn silent(&self) -> &BTreeSet<AccountId> {
        &self.silent
    }
}
