//! What a response has that could not be read: rows and accounts that were set aside.
//!
//! One rule: what may be among them is not judged. It is neither gone nor closed, and nothing is
//! joined with it or takes its place.

use crate::merge::AccountIds;
use px_types::{
    AccountId, ElementKind, Fault, FaultSeverity, Faults, TransactionId,
    fault::Element,
    model::{
        account::{Account, AccountKind},
        depository::TransferCode,
        identity::Identity,
        investment::Holding,
    },
    partner::TransactionsResponse,
};
use std::collections::BTreeSet;

/// Rows of a window that were set aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnreadRows {
    /// Their ids, as the partner gives them, where these could be read.
    pub ids: BTreeSet<TransactionId>,
    /// The accounts of which a row has no readable id: the partner's ids, or the Item's own once they
    /// are translated for a merge.
    pub accounts: BTreeSet<AccountId>,
    /// Whether there is a row of which neither can be read.
    pub any: bool,
}

impl UnreadRows {
    /// Adds the rows of a page.
    pub fn add(&mut self, page: &TransactionsResponse) {
        for element in set_aside(page.faults(), ElementKind::Transaction) {
            let id = element.id.as_deref().and_then(|id| TransactionId::new(id).ok());
            match (id, &element.account_id) {
                (Some(id), _) => drop(self.ids.insert(id)),
                (None, Some(account)) => drop(self.accounts.insert(account.clone())),
                (None, None) => self.any = true,
            }
        }
        self.any |= page.faults.lacks_unnamed(ElementKind::Transaction);
    }

    /// Adds the rows of another window.
    pub fn extend(&mut self, other: Self) {
        self.ids.extend(other.ids);
        self.accounts.extend(other.accounts);
        self.any |= other.any;
    }

    /// Whether every row was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.accounts.is_empty() && !self.any
    }

    /// The same with the Item's own ids of accounts. A row of an account that the Item does not have
    /// concerns nothing that is stored.
    pub(crate) fn translated(mut self, ids: &AccountIds) -> Self {
        self.accounts = self.accounts.iter().filter_map(|id| ids.own(id)).cloned().collect();
        self
    }
}

/// What could not be read of a response about a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnreadUser {
    /// The ids of accounts that were set aside, as the partner gives them.
    pub accounts: BTreeSet<AccountId>,
    /// Whether there is an account whose id could not be read.
    pub any_account: bool,
    /// The ids of identities that were set aside.
    pub identities: BTreeSet<String>,
    /// Whether there is an identity whose id could not be read.
    pub any_identity: bool,
    /// The accounts, by the partner's ids, whose holdings or transfer codes were not all read.
    pub(crate) within: Vec<UnreadWithin>,
}

/// Something within an account that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnreadWithin {
    pub(crate) account: AccountId,
    pub(crate) kind: ElementKind,
    /// The place in the partner's list; `None` for the whole list.
    pub(crate) index: Option<usize>,
    /// Of a holding, the security.
    pub(crate) id: Option<Box<str>>,
}

impl UnreadUser {
    /// What a response has that could not be read.
    #[must_use]
    pub fn of(faults: &Faults) -> Self {
        let mut unread = Self {
            any_account: faults.lacks_unnamed(ElementKind::Account),
            any_identity: faults.lacks_unnamed(ElementKind::Identity),
            ..Self::default()
        };
        for element in set_aside(faults, ElementKind::Account) {
            match &element.account_id {
                Some(id) => drop(unread.accounts.insert(id.clone())),
                None => unread.any_account = true,
            }
        }
        for element in set_aside(faults, ElementKind::Identity) {
            match &element.id {
                Some(id) => drop(unread.identities.insert(id.to_string())),
                None => unread.any_identity = true,
            }
        }
        for kind in [ElementKind::Holding, ElementKind::TransferCode] {
            for element in set_aside(faults, kind) {
                if let Some(account) = element.account_id.clone() {
                    let (index, id) = (element.index, element.id.clone());
                    unread.within.push(UnreadWithin { account, kind, index, id });
                }
            }
        }
        unread
    }

    /// Returns the identities that were read, and those of the stored ones that may be among those
    /// that were not.
    #[must_use]
    pub fn with_stored(&self, mut read: Vec<Identity>, stored: &[Identity]) -> Vec<Identity> {
        let ids: BTreeSet<_> = read.iter().map(|identity| identity.id.clone()).collect();
        let is_lost =
            |one: &&Identity| self.any_identity || self.identities.contains(one.id.as_str());
        let lost = stored.iter().filter(is_lost).filter(|one| !ids.contains(&one.id));
        read.extend(lost.cloned());
        read
    }

    /// Whether stored identities are to stay beside those that were read.
    #[must_use]
    pub fn lacks_identities(&self) -> bool {
        self.any_identity || !self.identities.is_empty()
    }
}

/// The elements of a kind that were set aside, and the lists of them that were not read.
fn set_aside(faults: &[Fault], kind: ElementKind) -> impl Iterator<Item = &Element> {
    let lost = faults.iter().filter(|fault| fault.severity() == FaultSeverity::SetAside);
    lost.filter_map(Fault::element).filter(move |element| element.kind == kind)
}

/// Puts what is stored into an account as it was read, where its lists could not be read whole.
pub(super) fn keep_within(
    account: &mut Account,
    stored: &Account,
    partner_id: &AccountId,
    unread: &UnreadUser,
) {
    let of = |kind| {
        let within = unread.within.iter();
        within.filter(move |one| one.account == *partner_id && one.kind == kind)
    };
    match (&mut account.kind, &stored.kind) {
        (AccountKind::Investment(now), AccountKind::Investment(before)) => {
            let lost: Vec<_> = of(ElementKind::Holding).collect();
            let may_be = |holding: &Holding| {
                let named = |id: &str| id == holding.security_id.as_str();
                lost.iter().any(|one| one.id.as_deref().is_none_or(named))
            };
            let read: BTreeSet<_> =
                now.holdings.iter().map(|holding| holding.security_id.clone()).collect();
            let kept = before.holdings.iter().filter(|one| !read.contains(&one.security_id));
            now.holdings.extend(kept.filter(|one| may_be(one)).cloned());
        }
        (AccountKind::Depository(now), AccountKind::Depository(before)) => {
            let Some(before) = &before.transfer_codes else { return };
            let lost: Vec<_> = of(ElementKind::TransferCode).collect();
            match &mut now.transfer_codes {
                // A list that is missing does not say that there is none.
                None => now.transfer_codes = Some(before.clone()),
                Some(_) if lost.is_empty() => {}
                Some(read) => keep_codes(read, before, &lost),
            }
        }
        _ => {}
    }
}

/// Puts stored transfer codes where those stood that were set aside. One of a network that was read
/// is kept only in its own place: an old number beside the new one would send money elsewhere.
fn keep_codes(read: &mut Vec<TransferCode>, before: &[TransferCode], lost: &[&UnreadWithin]) {
    if lost.iter().any(|one| one.index.is_none()) {
        *read = before.to_vec();
        return;
    }
    let places: BTreeSet<usize> = lost.iter().filter_map(|one| one.index).collect();
    let in_place = before.len() == read.len() + places.len();
    for place in places {
        let Some(code) = before.get(place).filter(|_| in_place) else { continue };
        if !read.contains(code) {
            read.insert(place.min(read.len()), code.clone());
        }
    }
    if !in_place {
        let networks: Vec<_> = read.iter().map(TransferCode::network).collect();
        let others = before.iter().filter(|code| !networks.contains(&code.network()));
        let others: Vec<_> = others.cloned().collect();
        read.extend(others);
    }
}
