//! Removes everything from a response that the grant does not cover, whatever the partner's code
//! returned.
//!
//! Without I/O. The service applies it to every response before it is sent.

use crate::{PermittedAccounts, TokenGrant};
use px_types::{
    Scope,
    model::account::AccountKind,
    partner::{TransactionsResponse, UserAccountInfoResponse},
};
use std::collections::BTreeSet;

/// Removes from a user's response what the grant does not cover.
///
/// Without the scope `identity`, identities have only id and name, and no account has a postal
/// address. Without `auth`, no account has an account, reference or payment number (`px.md` section
/// 4). For a grant over some accounts, the other accounts are removed, with the identities and
/// securities that only they refer to.
pub(crate) fn filter_user(response: &mut UserAccountInfoResponse, grant: &TokenGrant) {
    if let PermittedAccounts::Only(permitted) = &grant.accounts {
        response.accounts.retain(|account| permitted.contains(&account.id));
        // A user has few accounts and holdings, so an ordered set is cheaper than hashing.
        let holder_ids: BTreeSet<_> = response
            .accounts
            .iter()
            .flat_map(|account| account.identity_ids())
            .chain([&response.user_identity_id])
            .collect();
        response.identities.retain(|identity| holder_ids.contains(&identity.id));
        let security_ids: BTreeSet<_> = response
            .accounts
            .iter()
            .filter_map(|account| match &account.kind {
                AccountKind::Investment(investment) => Some(&investment.holdings),
                _ => None,
            })
            .flatten()
            .map(|holding| &holding.security_id)
            .collect();
        response.securities.retain(|security| security_ids.contains(&security.id));
    }
    let (identity, auth) =
        (grant.scopes.contains(&Scope::IDENTITY), grant.scopes.contains(&Scope::AUTH));
    if !identity {
        for identity in &mut response.identities {
            let (id, name) = (identity.id.clone(), std::mem::take(&mut identity.name));
            *identity = px_types::model::identity::Identity::new(id, name);
        }
    }
    for account in &mut response.accounts {
        if !identity {
            hide_addresses(&mut account.kind);
        }
        if !auth {
            hide_numbers(&mut account.kind);
        }
    }
}

/// Removes postal addresses from an account.
fn hide_addresses(kind: &mut AccountKind) {
    match kind {
        AccountKind::Loan(loan) => {
            if let Some(mortgage) = &mut loan.mortgage {
                mortgage.property_address = None;
            }
            if let Some(student) = &mut loan.student {
                student.servicer_address = None;
            }
        }
        // A field of an unknown account type could be an address.
        AccountKind::Unknown(unknown) => unknown.clear_fields(),
        _ => {}
    }
}

/// Removes account, reference and payment numbers from an account.
fn hide_numbers(kind: &mut AccountKind) {
    match kind {
        AccountKind::Depository(depository) => depository.transfer_codes = None,
        AccountKind::Loan(loan) => {
            if let Some(student) = &mut loan.student {
                student.payment_reference_number = None;
            }
        }
        // A field of an unknown account type could be an account number.
        AccountKind::Unknown(unknown) => unknown.clear_fields(),
        _ => {}
    }
}

/// Removes from a page what the grant does not cover, and returns the number of removed rows.
pub(crate) fn filter_page(page: &mut TransactionsResponse, grant: &TokenGrant) -> usize {
    let PermittedAccounts::Only(permitted) = &grant.accounts else {
        return 0;
    };
    let before = page.transactions.len();
    page.transactions.retain(|transaction| permitted.contains(&transaction.account_id));
    if !page.securities.is_empty() {
        let security_ids: BTreeSet<_> = page
            .transactions
            .iter()
            .filter_map(|transaction| transaction.investment.as_ref()?.security_id.as_ref())
            .collect();
        page.securities.retain(|security| security_ids.contains(&security.id));
    }
    before - page.transactions.len()
}
