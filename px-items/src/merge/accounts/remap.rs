//! Operators' decisions about accounts that returned under another id. All ids are the Item's own.

use super::{AccountStanding, AccountWrite, KnownAccount};
use px_types::AccountId;

/// The changes by a decision.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Remapped {
    /// Changed accounts.
    pub writes: Vec<AccountWrite>,
    /// Accounts on hold to delete, with their rows.
    pub forgotten: Vec<AccountId>,
}

/// An error of [`remap`] or [`accept`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemapError {
    /// The Item has no such account.
    #[error("the Item has no account {0}")]
    Unknown(AccountId),
    /// The account is not on hold.
    #[error("the account {0} is not on hold; only accounts on hold can be re-mapped or accepted")]
    NotOnHold(AccountId),
    /// The partner still lists the account under its current id.
    #[error(
        "the partner still lists the account {0} under its current id, so these are two accounts"
    )]
    StillListed(AccountId),
    /// The accounts have different types or units.
    #[error(
        "the account {0} and the account on hold differ in type or currency, so these are two accounts"
    )]
    Incompatible(AccountId),
}

/// Merges an account on hold into the account that the Item already has.
///
/// `account` keeps the Item's own id, and gets the partner's id and the contents of the account on
/// hold.
///
/// # Errors
/// [`RemapError::NotOnHold`] if `on_hold_id` is not an account on hold, [`RemapError::Unknown`] if
/// there is no other account `account`, [`RemapError::StillListed`] if the partner still lists it, and
/// [`RemapError::Incompatible`] if the two differ in type or unit.
pub fn remap(
    known: &[KnownAccount],
    account: &AccountId,
    on_hold_id: &AccountId,
) -> Result<Remapped, RemapError> {
    let on_hold = find_on_hold(known, on_hold_id)?;
    let before = known
        .iter()
        .filter(|known| known.standing != AccountStanding::Held)
        .find(|known| known.account.id == *account)
        .ok_or_else(|| RemapError::Unknown(account.clone()))?;
    if before.standing == AccountStanding::Listed {
        return Err(RemapError::StillListed(account.clone()));
    }
    let (old, new) = (&before.account, &on_hold.account);
    if old.account_type() != new.account_type() || old.unit != new.unit {
        return Err(RemapError::Incompatible(account.clone()));
    }
    let mut after = on_hold.clone();
    after.account.id = account.clone();
    after.standing = AccountStanding::Listed;
    Ok(Remapped {
        writes: vec![AccountWrite::new(after, false)],
        forgotten: vec![on_hold.account.id.clone()],
    })
}

/// Accepts an account on hold as an account of its own that only resembles another one.
///
/// # Errors
/// [`RemapError::NotOnHold`] if `on_hold_id` is not an account on hold.
pub fn accept(known: &[KnownAccount], on_hold_id: &AccountId) -> Result<Remapped, RemapError> {
    let mut after = find_on_hold(known, on_hold_id)?.clone();
    after.standing = AccountStanding::Listed;
    Ok(Remapped { writes: vec![AccountWrite::new(after, true)], forgotten: Vec::new() })
}

fn find_on_hold<'a>(
    known: &'a [KnownAccount],
    id: &AccountId,
) -> Result<&'a KnownAccount, RemapError> {
    known
        .iter()
        .find(|known| known.standing == AccountStanding::Held && known.account.id == *id)
        .ok_or_else(|| RemapError::NotOnHold(id.clone()))
}
