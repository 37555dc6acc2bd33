//! Passwords: one, which all users of this bank have, kept as PBKDF2.
//!
//! A real bank would salt each user's. Here the salted hash is kept once and every check
//! runs against it, so that an unknown name costs what a wrong password costs.

use crate::ledger::{Ledger, Result};
use aws_lc_rs::pbkdf2;
use px_core::{Random, SystemRandom};
use sqlx::SqliteConnection;
use std::{fmt, num::NonZeroU32};

/// The password of every user of the demo bank.
pub const PASSWORD: &str = "pass_good";
/// About 20 ms on a machine of today.
const ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();

/// Stores the hash unless there is one.
pub(crate) async fn store(connection: &mut SqliteConnection) -> Result<()> {
    let known: i64 =
        sqlx::query_scalar("SELECT count(*) FROM passwords").fetch_one(&mut *connection).await?;
    if known > 0 {
        return Ok(());
    }
    let mut salt = [0; 16];
    SystemRandom.fill(&mut salt);
    let mut hash = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, &salt, PASSWORD.as_bytes(), &mut hash);
    let query = sqlx::query("INSERT INTO passwords (salt, rounds, hash) VALUES (?, ?, ?)")
        .bind(salt.to_vec())
        .bind(i64::from(ROUNDS.get()))
        .bind(hash.to_vec());
    query.execute(connection).await?;
    Ok(())
}

/// A stored hash.
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
    /// Whether a password is right. Takes some milliseconds of a processor, and the same time for
    /// any that is wrong.
    #[must_use]
    pub fn matches(&self, password: &str) -> bool {
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        let password = password.as_bytes();
        pbkdf2::verify(algorithm, self.rounds, &self.salt, password, &self.hash).is_ok()
    }
}

impl Ledger {
    /// The hash of the customers' password. Returns `None` for books that have none.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn password_hash(&self) -> Result<Option<PasswordHash>> {
        let sql = "SELECT salt, rounds, hash FROM passwords ORDER BY n LIMIT 1";
        let found: Option<(Vec<u8>, i64, Vec<u8>)> =
            sqlx::query_as(sql).fetch_optional(self.pool()).await?;
        Ok(found.map(|(salt, rounds, hash)| {
            let rounds = u32::try_from(rounds).ok().and_then(NonZeroU32::new).unwrap_or(ROUNDS);
            PasswordHash { salt, rounds, hash }
        }))
    }
}
