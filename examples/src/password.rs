//! The password of the demo bank's users, stored as a PBKDF2 hash.
//!
//! All users share one password. A real bank would salt each user's. Here one salted hash is stored
//! and every check runs against it, so that an unknown name costs what a wrong password costs.

use crate::ledger::{Ledger, Result};
use aws_lc_rs::pbkdf2;
use px_core::{Random, SystemRandom};
use sqlx::SqliteConnection;
use std::{fmt, num::NonZeroU32};

/// The password of every user of the demo bank.
pub const PASSWORD: &str = "pass_good";
/// The number of PBKDF2 rounds; they take about 20 ms on a current machine.
const PBKDF2_ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();

/// Stores the hash if none is stored.
pub(crate) async fn store(connection: &mut SqliteConnection) -> Result<()> {
    let known: i64 =
        sqlx::query_scalar("SELECT count(*) FROM passwords").fetch_one(&mut *connection).await?;
    if known > 0 {
        return Ok(());
    }
    let mut salt = [0; 16];
    SystemRandom.fill(&mut salt);
    let mut hash = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        PBKDF2_ROUNDS,
        &salt,
        PASSWORD.as_bytes(),
        &mut hash,
    );
    let query = sqlx::query("INSERT INTO passwords (salt, rounds, hash) VALUES (?, ?, ?)")
        .bind(salt.to_vec())
        .bind(i64::from(PBKDF2_ROUNDS.get()))
        .bind(hash.to_vec());
    query.execute(connection).await?;
    Ok(())
}

/// A stored password hash.
#[derive(Clone)]
pub struct PasswordHash {
    salt: Vec<u8>,
    rounds: NonZeroU32,
    hash: Vec<u8>,
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(***)")
    }
}

impl PasswordHash {
    /// Returns whether a password is right. Takes some milliseconds of processor time, the same for
    /// every wrong password.
    #[must_use]
    pub fn matches(&self, password: &str) -> bool {
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        let password = password.as_bytes();
        pbkdf2::verify(algorithm, self.rounds, &self.salt, password, &self.hash).is_ok()
    }
}

impl Ledger {
    /// Returns the hash of the customers' password. Returns `None` if none is stored.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn password_hash(&self) -> Result<Option<PasswordHash>> {
        let sql = "SELECT salt, rounds, hash FROM passwords ORDER BY n LIMIT 1";
        let found: Option<(Vec<u8>, i64, Vec<u8>)> =
            sqlx::query_as(sql).fetch_optional(self.pool()).await?;
        Ok(found.map(|(salt, rounds, hash)| {
            let rounds =
                u32::try_from(rounds).ok().and_then(NonZeroU32::new).unwrap_or(PBKDF2_ROUNDS);
            PasswordHash { salt, rounds, hash }
        }))
    }
}
