//! The messages that have elements, and the elements.

use super::{Guide, Members, Place, ReadElement, Tolerant};
use crate::{
    fault::{ElementKind, Fault, Faults},
    json::Node,
    model::{
        account::{Account, AccountKind},
        depository::TransferCode,
        identity::Identity,
        investment::Holding,
        security::Security,
        transaction::Transaction,
    },
    partner::{TokenResponse, TransactionsResponse, UserAccountInfoResponse},
    wire::DecodeError,
};

impl Tolerant for TransactionsResponse {
    fn from_members(members: &mut Members<'_, '_>) -> Result<Self, DecodeError> {
        let transactions = members.list()?;
        let securities = members.list()?;
        let mut page: Self = members.rest()?;
        page.transactions.extend(transactions);
        page.securities.extend(securities);
        Ok(page)
    }

    fn note_fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    fn note_faults(&mut self, faults: &Faults) {
        self.faults = faults.clone();
    }
}

impl Tolerant for UserAccountInfoResponse {
    fn from_members(members: &mut Members<'_, '_>) -> Result<Self, DecodeError> {
        let identities: Vec<Identity> = members.list()?;
        let securities = members.list()?;
        let accounts = members.list()?;
        if let [only] = identities.as_slice()
            && members.guide.faults.set_aside(ElementKind::Identity) == 0
        {
            // It is one of the identities, and there is one.
            members.text_or("user_identity_id", only.id.as_str());
        }
        let mut user: Self = members.rest()?;
        user.identities.extend(identities);
        user.securities.extend(securities);
        user.accounts.extend(accounts);
        Ok(user)
    }

    fn note_fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    fn note_faults(&mut self, faults: &Faults) {
        self.faults = faults.clone();
    }
}

/// A token response is taken if its access token can be read: a pair that is not taken is lost.
impl Tolerant for TokenResponse {
    fn from_members(members: &mut Members<'_, '_>) -> Result<Self, DecodeError> {
        members.text_or("token_type", "Bearer");
        members.joined("scope");
        members.rest()
    }
}

macro_rules! elements {
    ($($element:ty: $kind:ident;)+) => {$(
        impl ReadElement for $element {
            const KIND: ElementKind = ElementKind::$kind;
            type Within = ();
        }
    )+};
}

elements! {
    Identity: Identity;
    Security: Security;
    Holding: Holding;
    TransferCode: TransferCode;
    Transaction: Transaction;
}

impl ReadElement for Account {
    const KIND: ElementKind = ElementKind::Account;
    type Within = WithinAccount;

    fn read_within(node: &mut Node<'_>, guide: &mut Guide<'_>, place: &Place) -> WithinAccount {
        let mut within = WithinAccount::default();
        // Only of these types: of another one the members are kept whole, or not read.
        match node.member("type") {
            Some(Node::Text(kind)) if kind == "depository" => {
                if let Some(Node::List(entries)) = node.member_mut(TransferCode::KIND.list()) {
                    within.transfer_codes = elements_of(entries, guide, place);
                }
            }
            Some(Node::Text(kind)) if kind == "investment" => {
                match node.member_mut(Holding::KIND.list()) {
                    Some(Node::List(entries)) => {
                        within.holdings = elements_of(entries, guide, place);
                    }
                    // Not empty but unread: nobody sold everything because a list is missing.
                    _ => guide.list_unread(node, Holding::KIND, place),
                }
            }
            _ => {}
        }
        within
    }

    fn take_within(&mut self, within: WithinAccount) {
        match &mut self.kind {
            AccountKind::Depository(kind) => {
                if let Some(codes) = &mut kind.transfer_codes {
                    codes.extend(within.transfer_codes);
                }
            }
            AccountKind::Investment(kind) => kind.holdings.extend(within.holdings),
            _ => {}
        }
    }
}

/// The elements within an account.
#[derive(Default)]
pub(super) struct WithinAccount {
    transfer_codes: Vec<TransferCode>,
    holdings: Vec<Holding>,
}

fn elements_of<E: ReadElement>(
    entries: &mut Vec<Node<'_>>,
    guide: &mut Guide<'_>,
    place: &Place,
) -> Vec<E> {
    let entries = std::mem::take(entries).into_iter().enumerate();
    entries.filter_map(|(index, mut node)| guide.element_within(&mut node, index, place)).collect()
}
