//! Accounts: what a complete answer to `GET /users/{user_id}` changes.
//!
//! What an operator decides about an account whose id changed is in `remap`.

mod remap;

pub use remap::{RemapError, Remapped, accept, remap};

use super::{
    Digest, another_id,
    unread::{UnreadUser, keep_within},
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
    /// An account that is stored.
    #[must_use]
    pub fn new(account: Account, partner_id: AccountId, standing: AccountStanding) -> Self {
        Self { account, partner_id, standing }
    }

    /// Whether something of it is to be stored anew; a scale that changed is a change.
    fn differs(&self, after: &Self) -> bool {
        self.standing != after.standing
            || Digest::of_json(&self.account) != Digest::of_json(&after.account)
    }

    /// By what it is known if it comes back under another id.
    ///
    /// One that closed long ago is known by its mask alone: "Savings" may well be opened again.
    fn likeness(&self) -> Option<Likeness> {
        let likeness = Likeness::of(&self.account);
        match self.standing {
            AccountStanding::Listed | AccountStanding::Missing => Some(likeness),
            AccountStanding::Closed => {
                Some(likeness).filter(|likeness| matches!(likeness.by, By::Mask(_)))
            }
            AccountStanding::Held => None,
        }
    }

    /// Whether the partner lists it, or did not confirm yet that it is gone.
    #[must_use]
    pub fn is_present(&self) -> bool {
        matches!(self.standing, AccountStanding::Listed | AccountStanding::Missing)
    }
}

/// Whether the partner still lists an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccountStanding {
    /// It was in the last answer.
    Listed,
    /// It was missing in one answer. That may be the partner's mistake.
    Missing,
    /// A second complete response, hours later, confirmed that it is gone: closed, and kept.
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
    /// The accounts on hold, with what they resemble.
    pub on_hold: Vec<Resemblance>,
}

/// An account on hold, and the one that it resembles. Ids are the Item's own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resemblance {
    /// The account on hold.
    pub held: AccountId,
    /// The account that it resembles.
    pub like: AccountId,
    /// Whether it is alike by name and owners only, not by its mask.
    pub by_name: bool,
}

impl Resemblance {
    /// An account on hold, and the one that it resembles.
    #[must_use]
    pub fn new(held: AccountId, like: AccountId, by_name: bool) -> Self {
        Self { held, like, by_name }
    }
}

/// Merges a complete response into what is stored.
///
/// - An account that the response lacks is missing. If a second response lacks it as well, at least
///   as long after the first as `absences` says, it is closed, and kept. A response without any
///   account closes none: a partner that lost sight of all of them has a fault.
/// - A new account that looks like one that is missing is on hold: most likely the partner changed
///   its ids. It waits for [`remap`](super::remap) or [`accept`](super::accept), or until the
///   other one is listed beside it. The account that it looks like is not closed meanwhile.
///   One that is alike by name only does not keep the other from being closed.
/// - An account that was set aside is listed: it keeps what it has. If the id of one could not be
///   read, nothing is missing.
#[must_use]
pub fn merge_accounts(
    known: &[KnownAccount],
    answer: UserAccountInfoResponse,
    absences: &Absences,
) -> MergedAccounts {
    merge_accounts_on_hold(known, &[], answer, absences)
}

/// [`merge_accounts`] of an Item with accounts on hold: they stay so until the account that each
/// resembles is listed beside it, whatever becomes of that one meanwhile.
#[must_use]
pub fn merge_accounts_on_hold(
    known: &[KnownAccount],
    on_hold: &[Resemblance],
    answer: UserAccountInfoResponse,
    absences: &Absences,
) -> MergedAccounts {
    let unread = UnreadUser::of(&answer.faults);
    let mut merge = Merge::new(known, on_hold, &answer.accounts, &unread);
    let mut ids = HashSet::with_capacity(answer.accounts.len());
    for account in answer.accounts {
        if ids.insert(account.id.clone()) {
            merge.take(account);
        }
    }
    let absent = known.iter().filter(|known| !ids.contains(&known.partner_id));
    let (unread_ones, missing) =
        absent.partition::<Vec<_>, _>(|known| unread.accounts.contains(&known.partner_id));
    merge.keep_unread(&unread_ones);
    if !unread.any_account {
        let none_listed = ids.is_empty() && unread_ones.is_empty();
        merge.judge_missing(missing, none_listed, absences);
    }
    MergedAccounts {
        writes: merge.writes,
        user_identity_id: answer.user_identity_id,
        identities: answer.identities,
        securities: answer.securities,
        ids_changed: !merge.on_hold.is_empty(),
        on_hold: merge.on_hold,
    }
}

/// Since when accounts are missing, and how long that must be before they are closed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Absences {
    /// The time of the first response without each account, by the Item's own ids.
    pub since: BTreeMap<AccountId, DateTime<Utc>>,
    /// The time of the response that is merged.
    pub now: DateTime<Utc>,
    /// The least time between the two responses that close an account.
    pub confirmed_after: TimeDelta,
}

impl Absences {
    /// The accounts that are missing since the times given, at a response that was requested `now`.
    #[must_use]
    pub fn new(
        since: BTreeMap<AccountId, DateTime<Utc>>,
        now: DateTime<Utc>,
        confirmed_after: TimeDelta,
    ) -> Self {
        Self { since, now, confirmed_after }
    }

    /// Returns since when accounts are missing after the response was merged.
    #[must_use]
    pub fn of(&self, accounts: &[KnownAccount]) -> BTreeMap<AccountId, DateTime<Utc>> {
        let missing = accounts.iter().filter(|known| known.standing == AccountStanding::Missing);
        let since = |id: &AccountId| self.since.get(id).copied().unwrap_or(self.now);
        missing.map(|known| (known.account.id.clone(), since(&known.account.id))).collect()
    }

    fn confirm(&self, account: &AccountId) -> bool {
        self.since.get(account).is_some_and(|since| self.now - *since >= self.confirmed_after)
    }
}

/// The accounts as they are once those that changed are stored; new ones last.
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

/// A merge under way.
struct Merge<'a> {
    by_partner_id: HashMap<&'a AccountId, &'a KnownAccount>,
    own_ids: HashSet<AccountId>,
    /// What accounts look like that were not listed, with the Item's own ids.
    missing: HashMap<Likeness, AccountId>,
    /// The accounts that are on hold already, by the Item's own ids.
    before: HashMap<&'a AccountId, &'a Resemblance>,
    /// The Item's own ids of accounts that are listed.
    listed: HashSet<&'a AccountId>,
    /// Of those, what a new account looks like.
    claimed: HashSet<Likeness>,
    writes: Vec<AccountWrite>,
    on_hold: Vec<Resemblance>,
    unread: &'a UnreadUser,
}

impl<'a> Merge<'a> {
    fn new(
        known: &'a [KnownAccount],
        on_hold: &'a [Resemblance],
        answer: &[Account],
        unread: &'a UnreadUser,
    ) -> Self {
        let read = answer.iter().map(|account| &account.id);
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
            before: on_hold.iter().map(|one| (&one.held, one)).collect(),
            listed: present.into_iter().map(|known| &known.account.id).collect(),
            claimed: HashSet::new(),
            writes: Vec::new(),
            on_hold: Vec::new(),
            unread,
        }
    }

    /// Takes an account of the answer.
    fn take(&mut self, mut account: Account) {
        let partner_id = account.id.clone();
        let before = self.by_partner_id.get(&partner_id).copied();
        let settled = before.filter(|known| known.standing != AccountStanding::Held);
        let likeness = Likeness::of(&account);
        account.id = match before {
            Some(known) => known.account.id.clone(),
            None => self.new_id(&partner_id),
        };
        if let Some(known) = before {
            keep_within(&mut account, &known.account, &partner_id, self.unread);
        }
        let standing = match self.resembled(&account.id, &likeness).filter(|_| settled.is_none()) {
            Some(resemblance) => {
                self.on_hold.push(resemblance);
                if matches!(likeness.by, By::Mask(_)) {
                    self.claimed.insert(likeness);
                }
                AccountStanding::Held
            }
            None => AccountStanding::Listed,
        };
        let new = settled.is_none() && standing == AccountStanding::Listed;
        let known = KnownAccount::new(account, partner_id, standing);
        if before.is_none_or(|before| before.differs(&known)) {
            self.writes.push(AccountWrite::new(known, new));
        }
    }

    /// Returns what an account resembles that is new or on hold.
    fn resembled(&self, id: &AccountId, likeness: &Likeness) -> Option<Resemblance> {
        if let Some(before) = self.before.get(id) {
            return (!self.listed.contains(&before.like)).then(|| (*before).clone());
        }
        let like = self.missing.get(likeness)?;
        let by_name = matches!(likeness.by, By::NameAndOwners(..));
        Some(Resemblance::new(id.clone(), like.clone(), by_name))
    }

    /// Keeps accounts that were set aside as they are. The partner lists them.
    fn keep_unread(&mut self, unread: &[&KnownAccount]) {
        for known in unread.iter().filter(|known| known.standing == AccountStanding::Missing) {
            let mut after = (*known).clone();
            after.standing = AccountStanding::Listed;
            self.writes.push(AccountWrite::new(after, false));
        }
    }

    /// Judges those that the answer has not.
    fn judge_missing(
        &mut self,
        missing: Vec<&KnownAccount>,
        none_listed: bool,
        absences: &Absences,
    ) {
        for known in missing {
            let mut after = known.clone();
            let claimed = self.claimed.contains(&Likeness::of(&known.account));
            match known.standing {
                AccountStanding::Listed => after.standing = AccountStanding::Missing,
                AccountStanding::Missing
                    if !none_listed && !claimed && absences.confirm(&known.account.id) =>
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

    /// An id for an account that is new: the partner's, unless the Item has given that one away.
    fn new_id(&mut self, partner_id: &AccountId) -> AccountId {
        let mut id = partner_id.clone();
        let mut attempt = 0_u32;
        while !self.own_ids.insert(id.clone()) {
            attempt += 1;
            let text = another_id(partner_id.as_str(), &[&attempt.to_be_bytes()]);
            id = AccountId::new(text).unwrap_or(id);
        }
        id
    }
}

/// What an account is known by when its id is not: what a person would tell it by.
///
/// The mask if there is one, for names can be changed and the ids of owners may have changed
/// along with the account's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Likeness {
    kind: AccountType,
    subtype: String,
    unit: Unit,
    by: By,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum By {
    Mask(String),
    NameAndOwners(String, BTreeSet<IdentityId>),
}

impl Likeness {
    fn of(account: &Account) -> Self {
        let by = match &account.display_mask {
            Some(mask) => By::Mask(mask.clone()),
            None => By::NameAndOwners(
                account.name.clone(),
                account.owner_identity_ids.iter().cloned().collect(),
            ),
        };
        Self {
            kind: account.account_type(),
            subtype: account.kind.subtype().to_owned(),
            unit: account.unit.clone(),
            by,
        }
    }
}

/// What the partner's account ids are to an Item.
#[derive(Clone, Debug, Default)]
pub struct AccountIds {
    own: HashMap<AccountId, AccountId>,
    silent: BTreeSet<AccountId>,
}

impl AccountIds {
    /// Of the accounts as they are once the last answer was merged.
    #[must_use]
    pub fn of(known: &[KnownAccount]) -> Self {
        let mut ids = Self::default();
        for known in known {
            match known.standing {
                AccountStanding::Held => continue,
                AccountStanding::Missing | AccountStanding::Closed => {
                    ids.silent.insert(known.account.id.clone());
                }
                AccountStanding::Listed => {}
            }
            ids.own.insert(known.partner_id.clone(), known.account.id.clone());
        }
        ids
    }

    /// Returns the Item's own id of an account of the partner's.
    pub(crate) fn own(&self, partner_id: &AccountId) -> Option<&AccountId> {
        self.own.get(partner_id)
    }

    /// Puts the Item's own account ids into rows as the partner gave them.
    ///
    /// Rows of accounts that are held are left out: they may be there already, under the account
    /// that the held one looks like. So are those of an account that was opened since the
    /// accounts were read: nobody can see it yet, and a reader whose cursor went past its rows
    /// would never get them. All of it is read once it is listed.
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
    /// that it resembles: the same contents in the other account.
    #[must_use]
    pub(crate) fn has_twin(row: &Transaction, like: &AccountId, stored: &HashSet<Digest>) -> bool {
        let mut as_there = row.clone();
        as_there.account_id = like.clone();
        stored.contains(&super::transactions::content_digest(&mut as_there))
    }

    /// The accounts whose rows are not judged when they are not read: missing or closed.
    #[must_use]
    pub fn silent(&self) -> &BTreeSet<AccountId> {
        &self.silent
    }
}
