//! Cuts an answer down to what a grant covers, whatever the partner's code returned.
//!
//! Pure. The service calls it on every answer before it leaves.

use crate::{PermittedAccounts, TokenGrant};
use px_types::{
    Scope,
    model::account::AccountKind,
    partner::{TransactionsResponse, UserAccountInfoResponse},
};
use std::collections::BTreeSet;

/// Leaves of a user's answer what the grant covers.
///
/// Without `identity` the holders show id and name alone and no account shows a postal address;
/// without `auth` none shows an account, reference or payment number (`px.md` section 4). For a grant over some accounts the other accounts go,
/// and with them the holders and securities that only they refer to.
pub(crate) fn filter_user(answer: &mut UserAccountInfoResponse, grant: &TokenGrant) {
    if let PermittedAccounts::Only(permitted) = &grant.accounts {
        answer.accounts.retain(|account| permitted.contains(&account.id));
        // A user has a handful of each, for which a hash costs more than it saves.
        let holders: BTreeSet<_> = answer
            .accounts
            .iter()
            .flat_map(|account| account.identity_ids())
            .chain([&answer.user_identity_id])
            .collect();
        answer.identities.retain(|identity| holders.contains(&identity.id));
        let held: BTreeSet<_> = answer
            .accounts
            .iter()
            .filter_map(|account| match &account.kind {
                AccountKind::Investment(investment) => Some(&investment.holdings),
                _ => None,
            })
            .flatten()
            .map(|holding| &holding.security_id)
            .collect();
        answer.securities.retain(|security| held.contains(&security.id));
    }
    let (identity, auth) =
        (grant.scopes.contains(&Scope::IDENTITY), grant.scopes.contains(&Scope::AUTH));
    if !identity {
        for identity in &mut answer.identities {
            let (id, name) = (identity.id.clone(), std::mem::take(&mut identity.name));
            *identity = px_types::model::identity::Identity::new(id, name);
        }
    }
    for account in &mut answer.accounts {
        if !identity {
            hide_addresses(&mut account.kind);
        }
        if !auth {
            hide_numbers(&mut account.kind);
        }
    }
}

/// Leaves no postal address in an account.
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
        // What an unknown type holds cannot be told from an address.
        AccountKind::Unknown(unknown) => unknown.clear_fields(),
        _ => {}
    }
}

/// Leaves no account, reference or payment number in an account.
fn hide_numbers(kind: &mut AccountKind) {
    match kind {
        AccountKind::Depository(depository) => depository.transfer_codes = None,
        AccountKind::Loan(loan) => {
            if let Some(student) = &mut loan.student {
                student.payment_reference_number = None;
            }
        }
        // What an unknown type holds cannot be told from an account number.
        AccountKind::Unknown(unknown) => unknown.clear_fields(),
        _ => {}
    }
}

/// Leaves of a page what the grant covers, and says how many rows went.
pub(crate) fn filter_page(page: &mut TransactionsResponse, grant: &TokenGrant) -> usize {
    let PermittedAccounts::Only(permitted) = &grant.accounts else {
        return 0;
    };
    let before = page.transactions.len();
    page.transactions.retain(|transaction| permitted.contains(&transaction.account_id));
    if !page.securities.is_empty() {
        let named: BTreeSet<_> = page
            .transactions
            .iter()
            .filter_map(|transaction| transaction.investment.as_ref()?.security_id.as_ref())
            .collect();
        page.securities.retain(|security| named.contains(&security.id));
    }
    before - page.transactions.len()
}
