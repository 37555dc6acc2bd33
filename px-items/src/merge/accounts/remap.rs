//! What an operator decides about an account that came back under another id.

use super::{AccountStanding, AccountWrite, KnownAccount};
use px_types::AccountId;

/// What a re-map changes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Remapped {
    /// The accounts that changed.
    pub writes: Vec<AccountWrite>,
    /// The Item's own ids of held accounts whose rows go.
    pub forgotten: Vec<AccountId>,
}

/// Why accounts cannot be made one, or a held one not be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemapError {
    /// There is no such account.
    #[error("the Item has no account {0}")]
    Unknown(AccountId),
    /// The partner's id belongs to no account that is held.
    #[error(
        "no account is held under the partner's id {0}; only one that is held can be decided on"
    )]
    NotHeld(AccountId),
    /// The partner lists the account under its present id.
    #[error("the partner still lists the account {0} under its present id: these are two accounts")]
    StillListed(AccountId),
    /// The two are of different types, or counted in different units.
    #[error("the account {0} and the held one differ in type or currency: these are two accounts")]
    Unlike(AccountId),
}

/// Makes an account that is held the one that the Item has had all along.
///
/// `account` is the Item's own id, which it keeps; `partner_id` is the partner's id from now on.
///
/// # Errors
/// When there is no such account, none is held under that id, or the two cannot be one.
pub fn remap(
    known: &[KnownAccount],
    account: &AccountId,
    partner_id: &AccountId,
) -> Result<Remapped, RemapError> {
    let held = held(known, partner_id)?;
    let before = known
        .iter()
        .filter(|known| known.standing != AccountStanding::Held)
        .find(|known| known.account.id == *account)
        .ok_or_else(|| RemapError::Unknown(account.clone()))?;
    if before.standing == AccountStanding::Listed {
        return Err(RemapError::StillListed(account.clone()));
    }
    let (old, new) = (&before.account, &held.account);
    if old.account_type() != new.account_type() || old.unit != new.unit {
        return Err(RemapError::Unlike(account.clone()));
    }
    let mut after = held.clone();
    after.account.id = account.clone();
    after.standing = AccountStanding::Listed;
    Ok(Remapped {
        writes: vec![AccountWrite::new(after, false)],
        forgotten: vec![held.account.id.clone()],
    })
}

/// Makes an account that is held one of its own: it only looks like another.
///
/// # Errors
/// When none is held under that id of the partner's.
pub fn accept(known: &[KnownAccount], partner_id: &AccountId) -> Result<Remapped, RemapError> {
    let mut after = held(known, partner_id)?.clone();
    after.standing = AccountStanding::Listed;
    Ok(Remapped { writes: vec![AccountWrite::new(after, true)], forgotten: Vec::new() })
}

fn held<'a>(
    known: &'a [KnownAccount],
    partner_id: &AccountId,
) -> Result<&'a KnownAccount, RemapError> {
    known
        .iter()
        .find(|known| known.standing == AccountStanding::Held && known.partner_id == *partner_id)
        .ok_or_else(|| RemapError::NotHeld(partner_id.clone()))
}
