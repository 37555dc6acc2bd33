//! Usage of sealing keys by stored secrets, and re-sealing under the current key.

/// Numbers of rows that are sealed under one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyUsage {
    /// Tokens of Items.
    pub tokens: u64,
    /// Tokens that are queued for revocation.
    pub revocations: u64,
    /// Webhooks with a public token.
    pub webhooks: u64,
    /// Link tokens, public tokens and sessions.
    pub tickets: u64,
    /// Secrets of the store itself.
    pub secrets: u64,
}

impl KeyUsage {
    /// Returns the sum.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.tokens + self.revocations + self.webhooks + self.tickets + self.secrets
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn add(&mut self, table: usize, rows: u64) {
        match table {
            0 => self.tokens += rows,
            1 => self.revocations += rows,
            2 => self.webhooks += rows,
            3 => self.tickets += rows,
            _ => self.secrets += rows,
        }
    }
}

/// The position of re-sealing: a row of a table. The default is the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResealPosition {
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres")),
        expect(dead_code, reason = "the store in memory seals nothing")
    )]
    pub(super) table: usize,
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres")),
        expect(dead_code, reason = "the store in memory seals nothing")
    )]
    pub(super) name: String,
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres")),
        expect(dead_code, reason = "the store in memory seals nothing")
    )]
    pub(super) id: i64,
}

/// The result of re-sealing a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resealed {
    /// Number of rows that were sealed again under the current key.
    pub resealed: u64,
    /// Number of rows that cannot be opened, because their key is lost or they are damaged. They
    /// are left as they are.
    pub unreadable: u64,
    /// Position of the next batch; `None` at the end.
    pub next: Option<ResealPosition>,
}

/// A sealed row and the name that its seal is bound to.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) struct SealedRow {
    pub(super) name: String,
    pub(super) id: i64,
    pub(super) sealed: crate::vault::Sealed,
}

/// Returns the name that the seal of a row is bound to.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn bound_to(table: usize, name: &str) -> String {
    match table {
        2 => format!("outbox/{name}"),
        3 => format!("ticket/{name}"),
        // Tokens, revocations, secrets.
        _ => name.to_owned(),
    }
}

/// A row with its new seal.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) struct ResealedRow {
    pub(super) row: SealedRow,
    pub(super) new: crate::vault::Sealed,
}

/// Seals those rows of a batch again that are not sealed under the current key, and returns the
/// next position. `tables` is the number of tables.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn reseal(
    vault: &dyn crate::vault::Envelope,
    (position, tables): (&ResealPosition, usize),
    rows: Vec<SealedRow>,
    limit: usize,
) -> (Resealed, Vec<ResealedRow>) {
    let table = position.table;
    let next = match rows.last() {
        Some(last) if rows.len() >= limit => {
            Some(ResealPosition { table, name: last.name.clone(), id: last.id })
        }
        _ if table + 1 < tables => Some(ResealPosition { table: table + 1, ..Default::default() }),
        _ => None,
    };
    let mut done = Resealed { next, ..Resealed::default() };
    let mut all = Vec::new();
    for row in rows {
        if vault.is_current(&row.sealed) {
            continue;
        }
        let bound_to = bound_to(table, &row.name);
        let opened = vault.open(&row.sealed, &bound_to);
        match opened.and_then(|plain| vault.seal(&plain, &bound_to)) {
            Ok(new) => all.push(ResealedRow { row, new }),
            Err(error) => {
                tracing::warn!(table, %error, "a secret cannot be sealed again; it is left as it is");
                done.unreadable += 1;
            }
        }
    }
    (done, all)
}
