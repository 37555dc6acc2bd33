//! The merge of accounts: the changes of a complete response to `GET /users/{user_id}`.
//!
//! Operators' decisions about accounts with changed ids are in `remap`.

mod remap;

pub use remap::{RemapError, Remapped, accept, remap};

use super::{
    Digest, derived_id,
    unread::{UnreadUser, retain_unread_elements},
};
use chrono::{DateTime, TimeDelta, Utc};
use px_types::{
    AccountId, IdentityId, Unit,
    model::{
        account::{Account, AccountStatus, AccountType},
        identity::Identity,
        security::Security,
        transaction::Transaction,
    },
    partner::UserAccountInfoResponse,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A stored account.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct KnownAccount {
    /// Account as applications see it, with the Item's own id.
    pub account: Account,
    /// Current id of the partner.
    pub partner_id: AccountId,
    /// Whether the partner lists the account.
    pub standing: AccountStanding,
}

impl KnownAccount {
    /// Creates a stored account.
    #[must_use]
    pub fn new(account: Account, partner_id: AccountId, standing: AccountStanding) -> Self {
        Self { account, partner_id, standing }
    }

    /// Returns whether the stored account must be updated. A different scale of an amount is a change.
    fn differs(&self, after: &Self) -> bool {
        self.standing != after.standing
            || Digest::of_json(&self.account) != Digest::of_json(&after.account)
    }

    /// Returns the likeness by which the account is recognized under another id.
    ///
    /// A closed account is recognized by its mask only: a name such as "Savings" may be used again.
    fn likeness(&self) -> Option<AccountLikeness> {
        let likeness = AccountLikeness::of(&self.account);
        match self.standing {
            AccountStanding::Listed | AccountStanding::Missing => Some(likeness),
            AccountStanding::Closed => {
                Some(likeness).filter(|likeness| matches!(likeness.basis, LikenessBasis::Mask(_)))
            }
            AccountStanding::Held => None,
        }
    }

    /// Returns whether the partner lists the account, or has not confirmed yet that it is closed.
    #[must_use]
    pub fn is_present(&self) -> bool {
        matches!(self.standing, AccountStanding::Listed | AccountStanding::Missing)
    }
}

/// The state of an account at the partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccountStanding {
    /// The last response contained the account.
    Listed,
    /// One response did not contain the account. That may be a mistake of the partner.
    Missing,
    /// A second complete response, hours later, did not contain the account either. It is closed, but
    /// stays readable.
    Closed,
    /// The account resembles another account under a new id. It is on hold until an operator or a
    /// later response decides, and no application sees it.
    Held,
}

impl AccountStanding {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Listed, Self::Missing, Self::Closed, Self::Held];

    /// Returns the name in stores.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::Missing => "missing",
            Self::Closed => "closed",
            Self::Held => "held",
        }
    }

    /// Returns the state with this name in stores.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.as_str() == name)
    }
}

/// An account to store.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AccountWrite {
    /// Account, with the Item's own id.
    pub known: KnownAccount,
    /// Whether the account is new to applications, so that it is added to connections: it is listed
    /// for the first time. An account on hold is new when it is accepted.
    pub new: bool,
}

impl AccountWrite {
    /// Creates a write of an account.
    #[must_use]
    pub fn new(known: KnownAccount, new: bool) -> Self {
        Self { known, new }
    }
}

/// The changes by a response.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MergedAccounts {
    /// Changed accounts, and no others.
    pub writes: Vec<AccountWrite>,
    /// Identity of the signed-in user.
    pub user_identity_id: IdentityId,
    /// All identities of the response.
    pub identities: Vec<Identity>,
    /// All securities of the response.
    pub securities: Vec<Security>,
    /// Whether accounts returned under other ids.
    pub ids_changed: bool,
    /// Accounts on hold, each with the account that it resembles.
    pub on_hold: Vec<Resemblance>,
}

/// An account on hold and the account that it resembles, by the Item's own ids.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resemblance {
    /// Account on hold.
    pub held: AccountId,
    /// Account that it resembles.
    pub like: AccountId,
    /// Whether only the name and the owners are equal, not the mask.
    pub by_name: bool,
}

impl Resemblance {
    /// Creates a resemblance of two accounts.
    #[must_use]
    pub fn new(held: AccountId, like: AccountId, by_name: bool) -> Self {
        Self { held, like, by_name }
    }
}

/// Merges a complete response into the stored accounts.
///
/// - **Missing accounts.** A stored account that the response does not contain is missing. If a later
///   response does not contain it either, and the time between the two is at least
///   [`Absences::confirmed_after`], the account is closed and stays readable. A response without any
///   accounts closes none: a partner that returns no accounts most likely has a fault.
/// - **Accounts with changed ids.** A new account that resembles a missing one is on hold, because
///   most likely the partner changed its ids. It stays on hold until a call of [`remap`](super::remap)
///   or [`accept`](super::accept), or until a response contains both accounts. Meanwhile the missing
///   account is not closed. If the two are alike by name and owners only, the missing account can
///   still be closed.
/// - **Unreadable accounts.** An account that was set aside counts as listed and keeps its stored
///   data. If the id of one account could not be read, no account counts as missing.
#[must_use]
pub fn merge_accounts(
    known: &[KnownAccount],
    response: UserAccountInfoResponse,
    absences: &Absences,
) -> MergedAccounts {
    merge_accounts_on_hold(known, &[], response, absences)
}

/// Like [`merge_accounts`], for an Item with accounts on hold.
///
/// They stay on hold until a response also contains the account that each resembles, even if that
/// account is closed in the meantime.
#[must_use]
pub fn merge_accounts_on_hold(
    known: &[KnownAccount],
    on_hold: &[Resemblance],
    response: UserAccountInfoResponse,
    absences: &Absences,
) -> MergedAccounts {
    let unread = UnreadUser::of(&response.faults);
    let mut merge = AccountMerge::new(known, on_hold, &response.accounts, &unread);
    let mut ids = HashSet::with_capacity(response.accounts.len());
    for account in response.accounts {
        if ids.insert(account.id.clone()) {
            merge.merge_account(account);
        }
    }
    let absent = known.iter().filter(|known| !ids.contains(&known.partner_id));
    let (unread_accounts, missing) =
        absent.partition::<Vec<_>, _>(|known| unread.accounts.contains(&known.partner_id));
    merge.mark_unread_listed(&unread_accounts);
    if !unread.any_account {
        let none_listed = ids.is_empty() && unread_accounts.is_empty();
        merge.update_missing(missing, none_listed, absences);
    }
    MergedAccounts {
        writes: merge.writes,
        user_identity_id: response.user_identity_id,
        identities: response.identities,
        securities: response.securities,
        ids_changed: !merge.on_hold.is_empty(),
        on_hold: merge.on_hold,
    }
}

/// The times since which accounts are missing, and the time after which they are closed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Absences {
    /// Time of the first response without each account, by the Item's own ids.
    pub since: BTreeMap<AccountId, DateTime<Utc>>,
    /// Time of the response to merge.
    pub now: DateTime<Utc>,
    /// Minimum time between the two responses that close an account.
    pub confirmed_after: TimeDelta,
}

impl Absences {
    /// Creates the absences at a response that was requested at `now`.
    #[must_use]
    pub fn new(
        since: BTreeMap<AccountId, DateTime<Utc>>,
        now: DateTime<Utc>,
        confirmed_after: TimeDelta,
    ) -> Self {
        Self { since, now, confirmed_after }
    }

    /// Returns the time since which each account is missing after the merge.
    #[must_use]
    pub fn of(&self, accounts: &[KnownAccount]) -> BTreeMap<AccountId, DateTime<Utc>> {
        let missing = accounts.iter().filter(|known| known.standing == AccountStanding::Missing);
        let since = |id: &AccountId| self.since.get(id).copied().unwrap_or(self.now);
        missing.map(|known| (known.account.id.clone(), since(&known.account.id))).collect()
    }

    fn confirms(&self, account: &AccountId) -> bool {
        self.since.get(account).is_some_and(|since| self.now - *since >= self.confirmed_after)
    }
}

/// Returns the accounts after the writes, with new accounts last.
#[must_use]
pub fn updated(mut known: Vec<KnownAccount>, writes: &[AccountWrite]) -> Vec<KnownAccount> {
    for write in writes {
        match known.iter_mut().find(|known| known.account.id == write.known.account.id) {
            Some(known) => *known = write.known.clone(),
            None => known.push(write.known.clone()),
        }
    }
    known
}

/// The state of a merge of accounts.
struct AccountMerge<'a> {
    by_partner_id: HashMap<&'a AccountId, &'a KnownAccount>,
    own_ids: HashSet<AccountId>,
    /// Likenesses of stored accounts that the response does not contain, with the Item's own ids.
    missing: HashMap<AccountLikeness, AccountId>,
    /// Accounts that were on hold before, by the Item's own ids.
    on_hold_before: HashMap<&'a AccountId, &'a Resemblance>,
    /// Accounts that the response contains, by the Item's own ids.
    listed: HashSet<&'a AccountId>,
    /// Likenesses of accounts that were put on hold because of their mask. A missing account with one
    /// of them is not closed.
    claimed: HashSet<AccountLikeness>,
    writes: Vec<AccountWrite>,
    on_hold: Vec<Resemblance>,
    unread: &'a UnreadUser,
}

impl<'a> AccountMerge<'a> {
    fn new(
        known: &'a [KnownAccount],
        on_hold: &'a [Resemblance],
        response: &[Account],
        unread: &'a UnreadUser,
    ) -> Self {
        let read = response.iter().map(|account| &account.id);
        let listed: HashSet<_> = read.chain(&unread.accounts).collect();
        let (present, lost): (Vec<_>, Vec<_>) =
            known.iter().partition(|known| listed.contains(&known.partner_id));
        let lost = lost.into_iter();
        Self {
            by_partner_id: known.iter().map(|known| (&known.partner_id, known)).collect(),
            own_ids: known.iter().map(|known| known.account.id.clone()).collect(),
            missing: lost
                .filter_map(|known| Some((known.likeness()?, known.account.id.clone())))
                .collect(),
            on_hold_before: on_hold.iter().map(|one| (&one.held, one)).collect(),
            listed: present.into_iter().map(|known| &known.account.id).collect(),
            claimed: HashSet::new(),
            writes: Vec::new(),
            on_hold: Vec::new(),
            unread,
        }
    }

    /// Merges one account of the response.
    fn merge_account(&mut self, mut account: Account) {
        let partner_id = account.id.clone();
        let before = self.by_partner_id.get(&partner_id).copied();
        let visible = before.filter(|known| known.standing != AccountStanding::Held);
        let likeness = AccountLikeness::of(&account);
        account.id = match before {
            Some(known) => known.account.id.clone(),
            None => self.new_id(&partner_id),
        };
        if let Some(known) = before {
            retain_unread_elements(&mut account, &known.account, &partner_id, self.unread);
        }
        let standing = match self.resembled(&account.id, &likeness).filter(|_| visible.is_none()) {
            Some(resemblance) => {
                self.on_hold.push(resemblance);
                if matches!(likeness.basis, LikenessBasis::Mask(_)) {
                    self.claimed.insert(likeness);
                }
                AccountStanding::Held
            }
            None => AccountStanding::Listed,
        };
        let new = visible.is_none() && standing == AccountStanding::Listed;
        let known = KnownAccount::new(account, partner_id, standing);
        if before.is_none_or(|before| before.differs(&known)) {
            self.writes.push(AccountWrite::new(known, new));
        }
    }

    /// Returns the resemblance of an account that is new or on hold.
    fn resembled(&self, id: &AccountId, likeness: &AccountLikeness) -> Option<Resemblance> {
        if let Some(before) = self.on_hold_before.get(id) {
            return (!self.listed.contains(&before.like)).then(|| (*before).clone());
        }
        let like = self.missing.get(likeness)?;
        let by_name = matches!(likeness.basis, LikenessBasis::NameAndOwners(..));
        Some(Resemblance::new(id.clone(), like.clone(), by_name))
    }

    /// Marks missing accounts that were set aside as listed. Their stored data stay.
    fn mark_unread_listed(&mut self, unread: &[&KnownAccount]) {
        for known in unread.iter().filter(|known| known.standing == AccountStanding::Missing) {
            let mut after = (*known).clone();
            after.standing = AccountStanding::Listed;
            self.writes.push(AccountWrite::new(after, false));
        }
    }

    /// Updates the state of accounts that the response does not contain.
    fn update_missing(
        &mut self,
        missing: Vec<&KnownAccount>,
        none_listed: bool,
        absences: &Absences,
    ) {
        for known in missing {
            let mut after = known.clone();
            let claimed = self.claimed.contains(&AccountLikeness::of(&known.account));
            match known.standing {
                AccountStanding::Listed => after.standing = AccountStanding::Missing,
                AccountStanding::Missing
                    if !none_listed && !claimed && absences.confirms(&known.account.id) =>
                {
                    after.standing = AccountStanding::Closed;
                    after.account.status = AccountStatus::Closed;
                }
                AccountStanding::Missing | AccountStanding::Closed | AccountStanding::Held => {
                    continue;
                }
            }
            self.writes.push(AccountWrite::new(after, false));
        }
    }

    /// Returns the Item's own id for a new account: the partner's id, unless the Item already uses it
    /// for another account.
    fn new_id(&mut self, partner_id: &AccountId) -> AccountId {
        let mut id = partner_id.clone();
        let mut attempt = 0_u32;
        while !self.own_ids.insert(id.clone()) {
            attempt += 1;
            let text = derived_id(partner_id.as_str(), &[&attempt.to_be_bytes()]);
            id = AccountId::new(text).unwrap_or(id);
        }
        id
    }
}

/// The properties by which a customer would recognize an account after its id changed.
///
/// The mask has priority over the name and the owners: names can be edited, and the ids of owners may
/// have changed together with the account's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct AccountLikeness {
    kind: AccountType,
    subtype: String,
    unit: Unit,
    basis: LikenessBasis,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum LikenessBasis {
    Mask(String),
    NameAndOwners(String, BTreeSet<IdentityId>),
}

impl AccountLikeness {
    fn of(account: &Account) -> Self {
        let basis = match &account.display_mask {
            Some(mask) => LikenessBasis::Mask(mask.clone()),
            None => LikenessBasis::NameAndOwners(
                account.name.clone(),
                account.owner_identity_ids.iter().cloned().collect(),
            ),
        };
        Self {
            kind: account.account_type(),
            subtype: account.kind.subtype().to_owned(),
            unit: account.unit.clone(),
            basis,
        }
    }
}

/// The mapping from the partner's account ids to the Item's own ids.
#[derive(Clone, Debug, Default)]
pub struct AccountIds {
    own: HashMap<AccountId, AccountId>,
    unlisted: BTreeSet<AccountId>,
}

impl AccountIds {
    /// Creates the mapping from the accounts after the last merge.
    #[must_use]
    pub fn of(known: &[KnownAccount]) -> Self {
        let mut ids = Self::default();
        for known in known {
            match known.standing {
                AccountStanding::Held => continue,
                AccountStanding::Missing | AccountStanding::Closed => {
                    ids.unlisted.insert(known.account.id.clone());
                }
                AccountStanding::Listed => {}
            }
            ids.own.insert(known.partner_id.clone(), known.account.id.clone());
        }
        ids
    }

    /// Returns the Item's own id for a partner's account id.
    pub(crate) fn own(&self, partner_id: &AccountId) -> Option<&AccountId> {
        self.own.get(partner_id)
    }

    /// Replaces the partner's account ids of rows by the Item's own.
    ///
    /// Drops rows of accounts on hold: they may be stored already, in the account that the one on hold
    /// resembles. Also drops rows of accounts that were opened after the accounts were read. No
    /// application sees such an account yet, and a client with a cursor past its rows would never get
    /// them. All rows are read once the account is listed.
    #[must_use]
    pub fn translate(&self, mut rows: Vec<Transaction>) -> Vec<Transaction> {
        rows.retain_mut(|row| match self.own.get(&row.account_id) {
            Some(own) => {
                row.account_id = own.clone();
                true
            }
            None => false,
        });
        rows
    }

    /// Returns whether a row of an account on hold has a twin among the stored rows of the account
    /// that it resembles, that is, a row with the same contents in that account.
    #[must_use]
    pub(crate) fn has_twin(row: &Transaction, like: &AccountId, stored: &HashSet<Digest>) -> bool {
        let mut in_account = row.clone();
        in_account.account_id = like.clone();
        stored.contains(&super::transactions::content_digest(&mut in_account))
    }

    /// Returns the missing and closed accounts, by the Item's own ids. Their rows do not count as
    /// removed when they are not read.
    #[must_use]
    pub fn unlisted(&self) -> &BTreeSet<AccountId> {
        &self.unlisted
    }
}
