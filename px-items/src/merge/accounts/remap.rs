//! What a person decides about an account that came back under another id. Ids are the Item's own.

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
    /// No account is held under that id.
    #[error("no account {0} is held; only one that is held can be decided on")]
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
/// `account` keeps its own id; the partner's id of it is that of the held one from now on.
///
/// # Errors
/// When there is no such account, none is held under that id, or the two cannot be one.
pub fn remap(
    known: &[KnownAccount],
    account: &AccountId,
    held_id: &AccountId,
) -> Result<Remapped, RemapError> {
    let held = held(known, held_id)?;
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
/// When none is held under that id.
pub fn accept(known: &[KnownAccount], held_id: &AccountId) -> Result<Remapped, RemapError> {
    let mut after = held(known, held_id)?.clone();
    after.standing = AccountStanding::Listed;
    Ok(Remapped { writes: vec![AccountWrite::new(after, true)], forgotten: Vec::new() })
}

fn held<'a>(known: &'a [KnownAccount], id: &AccountId) -> Result<&'a KnownAccount, RemapError> {
    known
        .iter()
        .find(|known| known.standing == AccountStanding::Held && known.account.id == *id)
        .ok_or_else(|| RemapError::NotHeld(id.clone()))
}
