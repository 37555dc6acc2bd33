//! Accounts: what a complete answer to `GET /users/{user_id}` changes.

use super::Digest;
use px_types::{
    AccountId, IdentityId,
    model::{account::Account, identity::Identity, security::Security},
    partner::UserAccountInfoResponse,
};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    let _ = Digest::of;
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
