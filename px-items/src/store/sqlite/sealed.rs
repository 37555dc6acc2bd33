//! Sealed values. Each is bound to its row, so that it cannot be opened elsewhere.

use super::row::{Failure, Result, hex};
use crate::{
    store::{StoreError, StoreErrorKind, TicketDigest},
    vault::{Envelope, Sealed, VaultError},
};
use px_types::ItemId;
use sqlx::{Row as _, sqlite::SqliteRow};
use zeroize::Zeroizing;

/// Returns the name that the body of a webhook is bound to.
pub(super) fn of_outbox(item: &ItemId) -> String {
    format!("outbox/{item}")
}

/// Returns the name that a ticket is bound to.
pub(super) fn of_ticket(digest: &TicketDigest) -> String {
    format!("ticket/{}", hex(&digest.0))
}

pub(super) fn seal(vault: &dyn Envelope, plain: &[u8], bound_to: &str) -> Result<Sealed> {
    vault.seal(plain, bound_to).map_err(locked)
}

/// Opens the columns `key_id` and `sealed` of a row.
pub(super) fn open(
    vault: &dyn Envelope,
    row: &SqliteRow,
    bound_to: &str,
) -> Result<Zeroizing<Vec<u8>>> {
    let sealed = Sealed::new(row.try_get("key_id")?, row.try_get("sealed")?);
    vault.open(&sealed, bound_to).map_err(locked)
}

fn locked(error: VaultError) -> Failure {
    let what = "a stored secret cannot be sealed or opened";
    StoreError::new(StoreErrorKind::Corrupt, what).caused_by(error).into()
}
