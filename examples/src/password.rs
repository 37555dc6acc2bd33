//! Passwords: one, which all users of this bank have, kept as PBKDF2.
//!
//! A real bank would salt each user's. Here the salted hash is kept once and every check
//! runs against it, so that an unknown name costs what a wrong password costs.

use crate::ledger::{Ledger, Result};
use aws_lc_rs::pbkdf2;
use px_core::{Random, SystemRandom};
use sqlx::SqliteConnection;
use std::num::NonZeroU32;

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

impl Ledger {
    /// Whether a password is right. Takes the same time for any that is wrong.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn check_password(&self, password: &str) -> Result<bool> {
        let sql = "SELECT salt, rounds, hash FROM passwords ORDER BY n LIMIT 1";
        let found: Option<(Vec<u8>, i64, Vec<u8>)> =
            sqlx::query_as(sql).fetch_optional(self.pool()).await?;
        let Some((salt, rounds, hash)) = found else {
            return Ok(false);
        };
        let rounds = u32::try_from(rounds).ok().and_then(NonZeroU32::new).unwrap_or(ROUNDS);
        let password = password.to_owned();
        // Some milliseconds of arithmetic, which must not hold up other calls.
        let right = tokio::task::spawn_blocking(move || {
            let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
            pbkdf2::verify(algorithm, rounds, &salt, password.as_bytes(), &hash).is_ok()
        });
        Ok(right.await.unwrap_or(false))
    }
}
