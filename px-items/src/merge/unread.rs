//! Parts of a response that could not be read: rows and accounts that were set aside.
//!
//! One rule applies to everything that may be among them: it is neither removed nor closed, and no
//! other row is matched with it.

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

/// The rows of a window that were set aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnreadRows {
    /// Readable ids, as the partner returned them.
    pub ids: BTreeSet<TransactionId>,
    /// Accounts of rows with an unreadable id: the partner's ids, or the Item's own after the
    /// translation for a merge.
    pub accounts: BTreeSet<AccountId>,
    /// Whether there is a row with an unreadable id and an unreadable account.
    pub any: bool,
}

impl UnreadRows {
    /// Adds the rows of a page.
    pub fn add(&mut self, page: &TransactionsResponse) {
        for element in elements_set_aside(page.faults(), ElementKind::Transaction) {
            let id = element.id.as_deref().and_then(|id| TransactionId::new(id).ok());
            match (id, &element.account_id) {
                (Some(id), _) => drop(self.ids.insert(id)),
                (None, Some(account)) => drop(self.accounts.insert(account.clone())),
                (None, None) => self.any = true,
            }
        }
        self.any |= page.faults.has_unnamed_missing(ElementKind::Transaction);
    }

    /// Adds the rows of another window.
    pub fn extend(&mut self, other: Self) {
        self.ids.extend(other.ids);
        self.accounts.extend(other.accounts);
        self.any |= other.any;
    }

    /// Returns whether every row was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.accounts.is_empty() && !self.any
    }

    /// Returns the same rows with the Item's own account ids. Rows of accounts that the Item does not
    /// have affect no stored data and are left out.
    pub(crate) fn translated(mut self, ids: &AccountIds) -> Self {
        self.accounts = self.accounts.iter().filter_map(|id| ids.own(id)).cloned().collect();
        self
    }
}

/// The parts of a response about a user that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnreadUser {
    /// Ids of accounts that were set aside, as the partner returned them.
    pub accounts: BTreeSet<AccountId>,
    /// Whether there is an account with an unreadable id.
    pub any_account: bool,
    /// Ids of identities that were set aside.
    pub identities: BTreeSet<String>,
    /// Whether there is an identity with an unreadable id.
    pub any_identity: bool,
    /// Elements within accounts that were set aside: holdings and transfer codes.
    pub(crate) elements: Vec<UnreadElement>,
}

/// An element of an account that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnreadElement {
    pub(crate) account: AccountId,
    pub(crate) kind: ElementKind,
    /// Index in the partner's list; `None` if the whole list was not read.
    pub(crate) index: Option<usize>,
    /// Security id, for a holding.
    pub(crate) id: Option<Box<str>>,
}

impl UnreadUser {
    /// Collects the unread parts of a response from its faults.
    #[must_use]
    pub fn of(faults: &Faults) -> Self {
        let mut unread = Self {
            any_account: faults.has_unnamed_missing(ElementKind::Account),
            any_identity: faults.has_unnamed_missing(ElementKind::Identity),
            ..Self::default()
        };
        for element in elements_set_aside(faults, ElementKind::Account) {
            match &element.account_id {
                Some(id) => drop(unread.accounts.insert(id.clone())),
                None => unread.any_account = true,
            }
        }
        for element in elements_set_aside(faults, ElementKind::Identity) {
            match &element.id {
                Some(id) => drop(unread.identities.insert(id.to_string())),
                None => unread.any_identity = true,
            }
        }
        for kind in [ElementKind::Holding, ElementKind::TransferCode] {
            for element in elements_set_aside(faults, kind) {
                if let Some(account) = element.account_id.clone() {
                    let (index, id) = (element.index, element.id.clone());
                    unread.elements.push(UnreadElement { account, kind, index, id });
                }
            }
        }
        unread
    }

    /// Returns the identities that were read, together with the stored ones that may be among those
    /// that were not read.
    #[must_use]
    pub fn with_stored(&self, mut read: Vec<Identity>, stored: &[Identity]) -> Vec<Identity> {
        let ids: BTreeSet<_> = read.iter().map(|identity| identity.id.clone()).collect();
        let is_lost =
            |one: &&Identity| self.any_identity || self.identities.contains(one.id.as_str());
        let lost = stored.iter().filter(is_lost).filter(|one| !ids.contains(&one.id));
        read.extend(lost.cloned());
        read
    }

    /// Returns whether stored identities must be kept beside those that were read.
    #[must_use]
    pub fn lacks_identities(&self) -> bool {
        self.any_identity || !self.identities.is_empty()
    }
}

/// Returns the elements of a kind that were set aside, and the lists of such elements that were not
/// read.
fn elements_set_aside(faults: &[Fault], kind: ElementKind) -> impl Iterator<Item = &Element> {
    let lost = faults.iter().filter(|fault| fault.severity() == FaultSeverity::SetAside);
    lost.filter_map(Fault::element).filter(move |element| element.kind == kind)
}

/// Copies stored elements into an account if its lists were not read completely.
pub(super) fn retain_unread_elements(
    account: &mut Account,
    stored: &Account,
    partner_id: &AccountId,
    unread: &UnreadUser,
) {
    let of_kind = |kind| {
        let elements = unread.elements.iter();
        elements.filter(move |one| one.account == *partner_id && one.kind == kind)
    };
    match (&mut account.kind, &stored.kind) {
        (AccountKind::Investment(now), AccountKind::Investment(before)) => {
            let lost: Vec<_> = of_kind(ElementKind::Holding).collect();
            let may_be = |holding: &Holding| {
                let named = |id: &str| id == holding.security_id.as_str();
                lost.iter().any(|one| one.id.as_deref().is_none_or(named))
            };
            let read: BTreeSet<_> =
                now.holdings.iter().map(|holding| holding.security_id.clone()).collect();
            let retained = before.holdings.iter().filter(|one| !read.contains(&one.security_id));
            now.holdings.extend(retained.filter(|one| may_be(one)).cloned());
        }
        (AccountKind::Depository(now), AccountKind::Depository(before)) => {
            let Some(before) = &before.transfer_codes else { return };
            let lost: Vec<_> = of_kind(ElementKind::TransferCode).collect();
            match &mut now.transfer_codes {
                // A missing list does not mean that it is empty.
                None => now.transfer_codes = Some(before.clone()),
                Some(_) if lost.is_empty() => {}
                Some(read) => retain_unread_codes(read, before, &lost),
            }
        }
        _ => {}
    }
}

/// Inserts stored transfer codes at the positions of codes that were set aside. A stored code of a
/// network that was read is kept only at its own position: an outdated number beside the new one would
/// send money to another account.
fn retain_unread_codes(
    read: &mut Vec<TransferCode>,
    before: &[TransferCode],
    lost: &[&UnreadElement],
) {
    if lost.iter().any(|one| one.index.is_none()) {
        *read = before.to_vec();
        return;
    }
    let positions: BTreeSet<usize> = lost.iter().filter_map(|one| one.index).collect();
    let in_place = before.len() == read.len() + positions.len();
    for position in positions {
        let Some(code) = before.get(position).filter(|_| in_place) else { continue };
        if !read.contains(code) {
            read.insert(position.min(read.len()), code.clone());
        }
    }
    if !in_place {
        let networks: Vec<_> = read.iter().map(TransferCode::network).collect();
        let others = before.iter().filter(|code| !networks.contains(&code.network()));
        let others: Vec<_> = others.cloned().collect();
        read.extend(others);
    }
}
