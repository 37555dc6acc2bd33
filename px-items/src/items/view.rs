//! View of an Item by a connection. Pure.
//!
//! Data that an application may not see is left out as if it did not exist: accounts, fields, and
//! the identities and securities that only they refer to.

use crate::{
    connection::Connection,
    merge::{AccountStanding, KnownAccount},
};
use px_types::{
    AccountId, IdentityId, SecurityId,
    model::{
        account::{Account, AccountKind, AccountStatus},
        credit::Credit,
        identity::Identity,
        loan::Loan,
        product::Product,
        security::Security,
        transaction::Transaction,
    },
};
use std::collections::BTreeSet;

/// Returns whether a connection may see an account. Accounts on hold are not visible.
pub(super) fn sees(connection: &Connection, known: &KnownAccount) -> bool {
    known.standing != AccountStanding::Held && connection.sees(&known.account.id)
}

/// Returns the accounts that a connection may see, without details of products that it does not
/// use.
pub(super) fn accounts(known: Vec<KnownAccount>, connection: &Connection) -> Vec<Account> {
    known
        .into_iter()
        .filter(|known| sees(connection, known))
        .map(|known| {
            let mut account = known.account;
            if known.standing == AccountStanding::Closed {
                account.status = AccountStatus::Closed;
            }
            strip(&mut account, connection);
            account
        })
        .collect()
}

/// Returns the account ids for a query of the transactions that a connection may see, or `None` for
/// all accounts.
pub(super) fn filter(known: &[KnownAccount], connection: &Connection) -> Option<Vec<AccountId>> {
    // A connection without later accounts needs a list, so that it does not see accounts that come
    // while it reads.
    let all = connection.accounts.is_none() && connection.new_accounts;
    if all && known.iter().all(|known| sees(connection, known)) {
        return None;
    }
    let seen = known.iter().filter(|known| sees(connection, known));
    Some(seen.map(|known| known.account.id.clone()).collect())
}

/// Removes the fields of an account that belong to products that the application does not use.
fn strip(account: &mut Account, connection: &Connection) {
    let uses = |product| connection.uses(&product);
    match &mut account.kind {
        AccountKind::Depository(depository) if !uses(Product::Auth) => {
            depository.transfer_codes = None;
        }
        // The limit belongs to the balances, since the available balance depends on it.
        AccountKind::Credit(credit) if !uses(Product::Liabilities) => {
            let limit = credit.credit_limit;
            *credit = Credit::new(credit.subtype.clone());
            credit.credit_limit = limit;
        }
        AccountKind::Loan(loan) if !uses(Product::Liabilities) => {
            **loan = Loan::new(loan.subtype.clone());
        }
        AccountKind::Investment(investment) if !uses(Product::Investments) => {
            investment.holdings.clear();
        }
        // In an account of unknown type, any field may belong to any of these products.
        AccountKind::Unknown(unknown)
            if ![Product::Auth, Product::Liabilities, Product::Investments]
                .into_iter()
                .all(uses) =>
        {
            unknown.clear_fields();
        }
        _ => {}
    }
}

/// Returns the identities that accounts refer to.
pub(super) fn identities(all: Vec<Identity>, accounts: &[Account]) -> Vec<Identity> {
    let named: BTreeSet<&IdentityId> = accounts.iter().flat_map(Account::identity_ids).collect();
    all.into_iter().filter(|identity| named.contains(&identity.id)).collect()
}

/// Returns the securities that are held on accounts.
pub(super) fn of_holdings(all: Vec<Security>, accounts: &[Account]) -> Vec<Security> {
    let named = accounts.iter().flat_map(|account| match &account.kind {
        AccountKind::Investment(investment) => investment.holdings.as_slice(),
        _ => &[],
    });
    select(all, named.map(|holding| &holding.security_id).collect())
}

/// Returns the security of a transaction, if it has one.
pub(super) fn security_of(transaction: &Transaction) -> Option<&SecurityId> {
    transaction.investment.as_ref()?.security_id.as_ref()
}

pub(super) fn select(all: Vec<Security>, named: BTreeSet<&SecurityId>) -> Vec<Security> {
    all.into_iter().filter(|security| named.contains(&security.id)).collect()
}
