//! Which keys stored secrets are sealed under, and sealing them again.

/// Numbers of rows that are sealed under one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyUsage {
    /// Tokens of Items.
    pub tokens: u64,
    /// Tokens that wait to be revoked.
    pub revocations: u64,
    /// Webhooks with a public token.
    pub webhooks: u64,
    /// Link tokens, public tokens and sessions.
    pub tickets: u64,
    /// Keys of the store's own.
    pub secrets: u64,
}

impl KeyUsage {
    /// The sum.
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

/// Where sealing again goes on: after which row of which table. The default is the beginning.
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

/// What came of sealing a batch again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resealed {
    /// Rows that are sealed under the present key now and were not.
    pub resealed: u64,
    /// Rows that do not open: their key is lost, or they are damaged. They are left as they are.
    pub unreadable: u64,
    /// Where to go on; `None` at the end.
    pub next: Option<ResealPosition>,
}

/// A sealed row, and what it is bound to.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) struct SealedRow {
    pub(super) name: String,
    pub(super) id: i64,
    pub(super) sealed: crate::vault::Sealed,
}

/// What the secret of a row is bound to.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn bound_to(table: usize, name: &str) -> String {
    match table {
        2 => format!("outbox/{name}"),
        3 => format!("ticket/{name}"),
        // Tokens, revocations, secrets.
        _ => name.to_owned(),
    }
}

/// A row that is sealed again.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) struct NewlySealed {
    pub(super) row: SealedRow,
    pub(super) new: crate::vault::Sealed,
}

/// Seals those rows of a batch again that are not sealed as they would be now, and says where to
/// go on. `tables` is how many tables there are.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn reseal(
    vault: &dyn crate::vault::Envelope,
    (position, tables): (&ResealPosition, usize),
    rows: Vec<SealedRow>,
    limit: usize,
) -> (Resealed, Vec<NewlySealed>) {
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
            Ok(new) => all.push(NewlySealed { row, new }),
            Err(error) => {
                tracing::warn!(table, %error, "a secret cannot be sealed again");
                done.unreadable += 1;
            }
        }
    }
    (done, all)
}
