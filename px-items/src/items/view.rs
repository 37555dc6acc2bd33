//! What a connection sees of an Item. Pure.
//!
//! What an application may not see is left out as if it did not exist: accounts, fields, the
//! people and securities that only they refer to.

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

/// Whether a connection sees an account. One that is held is nobody's.
pub(super) fn sees(connection: &Connection, known: &KnownAccount) -> bool {
    known.standing != AccountStanding::Held && connection.sees(&known.account.id)
}

/// The accounts that a connection sees, without what belongs to products that it does not use.
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

/// The ids by which a store is asked for the transactions that a connection sees; `None` is all
/// that there are.
pub(super) fn filter(known: &[KnownAccount], connection: &Connection) -> Option<Vec<AccountId>> {
    // Without a list, who is not shown later accounts is not shown those that come while it reads.
    let all = connection.accounts.is_none() && connection.new_accounts;
    if all && known.iter().all(|known| sees(connection, known)) {
        return None;
    }
    let seen = known.iter().filter(|known| sees(connection, known));
    Some(seen.map(|known| known.account.id.clone()).collect())
}

/// Takes off an account what only products show that the application does not use.
fn strip(account: &mut Account, connection: &Connection) {
    let uses = |product| connection.uses(&product);
    match &mut account.kind {
        AccountKind::Depository(depository) if !uses(Product::Auth) => {
            depository.transfer_codes = None;
        }
        // The limit belongs to the balances: what can still be spent depends on it.
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
        // In a type that is not known, any field may belong to any of these.
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

/// The identities that accounts refer to.
pub(super) fn identities(all: Vec<Identity>, accounts: &[Account]) -> Vec<Identity> {
    let named: BTreeSet<&IdentityId> = accounts.iter().flat_map(Account::identity_ids).collect();
    all.into_iter().filter(|identity| named.contains(&identity.id)).collect()
}

/// The securities that are held on accounts.
pub(super) fn held(all: Vec<Security>, accounts: &[Account]) -> Vec<Security> {
    let named = accounts.iter().flat_map(|account| match &account.kind {
        AccountKind::Investment(investment) => investment.holdings.as_slice(),
        _ => &[],
    });
    pick(all, named.map(|holding| &holding.security_id).collect())
}

/// The security of each transaction that has one.
pub(super) fn traded(transaction: &Transaction) -> Option<&SecurityId> {
    transaction.investment.as_ref()?.security_id.as_ref()
}

pub(super) fn pick(all: Vec<Security>, named: BTreeSet<&SecurityId>) -> Vec<Security> {
    all.into_iter().filter(|security| named.contains(&security.id)).collect()
}
