//! The tolerant decoding of messages with elements.

use super::{Location, Members, ReadElement, Tolerant, TolerantReader};
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
        let mut page: Self = members.read_message()?;
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
            && members.reader.faults.set_aside(ElementKind::Identity) == 0
        {
            // The id must be that of one of the identities, and there is only one.
            members.default_text("user_identity_id", only.id.as_str());
        }
        let mut user: Self = members.read_message()?;
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

/// A token response is accepted if its access token can be read, because a refused pair of tokens is
/// lost.
impl Tolerant for TokenResponse {
    fn from_members(members: &mut Members<'_, '_>) -> Result<Self, DecodeError> {
        members.default_text("token_type", "Bearer");
        members.join_list("scope");
        members.read_message()
    }
}

macro_rules! elements {
    ($($element:ty: $kind:ident;)+) => {$(
        impl ReadElement for $element {
            const KIND: ElementKind = ElementKind::$kind;
            type Nested = ();
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
    type Nested = NestedInAccount;

    fn read_nested(
        node: &mut Node<'_>,
        reader: &mut TolerantReader<'_>,
        location: &Location,
    ) -> NestedInAccount {
        let mut nested = NestedInAccount::default();
        // Only for these types: for others the lists are kept as they are or not read.
        match node.member("type") {
            Some(Node::Text(kind)) if kind == "depository" => {
                if let Some(Node::List(entries)) = node.member_mut(TransferCode::KIND.list()) {
                    nested.transfer_codes = elements_of(entries, reader, location);
                }
            }
            Some(Node::Text(kind)) if kind == "investment" => {
                match node.member_mut(Holding::KIND.list()) {
                    Some(Node::List(entries)) => {
                        nested.holdings = elements_of(entries, reader, location);
                    }
                    // Record the list as unread. A missing list must not look like a sale of all holdings.
                    _ => reader.record_unread_list(node, Holding::KIND, location),
                }
            }
            _ => {}
        }
        nested
    }

    fn attach_nested(&mut self, nested: NestedInAccount) {
        match &mut self.kind {
            AccountKind::Depository(kind) => {
                if let Some(codes) = &mut kind.transfer_codes {
                    codes.extend(nested.transfer_codes);
                }
            }
            AccountKind::Investment(kind) => kind.holdings.extend(nested.holdings),
            _ => {}
        }
    }
}

/// The nested elements of an account.
#[derive(Default)]
pub(super) struct NestedInAccount {
    transfer_codes: Vec<TransferCode>,
    holdings: Vec<Holding>,
}

fn elements_of<E: ReadElement>(
    entries: &mut Vec<Node<'_>>,
    reader: &mut TolerantReader<'_>,
    location: &Location,
) -> Vec<E> {
    let entries = std::mem::take(entries).into_iter().enumerate();
    entries
        .filter_map(|(index, mut node)| reader.nested_element(&mut node, index, location))
        .collect()
}
