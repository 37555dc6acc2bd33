//! The schema: bringing it up to date, and working beside another version of this program.
//!
//! From 0.1.0 on a migration either adds (the previous version goes on working) or takes away what
//! the previous version no longer uses. The table `compatibility` names the newest migration that
//! a program must know; a program that is older says so and stops.

use super::failure::Failure;
use crate::store::{Result, StoreError, StoreErrorKind};
use px_types::webhook::Environment;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, Row as _,
    migrate::{MigrateError, Migrator},
    postgres::PgConnectOptions,
};
use std::sync::LazyLock;

/// The migrations. Those of later versions are not missed.
pub(crate) static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("migrations/postgres");
    migrator.set_ignore_missing(true);
    migrator
});

/// Brings the schema up to date, on a connection of its own, and checks whose database it is.
pub(super) async fn migrate(options: &PgConnectOptions, environment: &Environment) -> Result<()> {
    let mut db = options.connect().await.map_err(Failure::from)?;
    MIGRATOR.run(&mut db).await.map_err(refused)?;
    let row = sqlx::query("SELECT oldest FROM compatibility").fetch_one(&mut db).await;
    let oldest: i64 = row.and_then(|row| row.try_get("oldest")).map_err(Failure::from)?;
    let known = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default();
    if known < oldest {
        return Err(StoreError::newer_schema(known, oldest));
    }
    let owner = owner(&mut db, environment).await.map_err(Failure::from)?;
    // What the server still says does not matter.
    let _ = db.close().await;
    StoreError::check_environment(&owner, environment)
}

/// The environment that the database belongs to. Of two programs that open it at once for the
/// first time, one decides.
async fn owner(db: &mut PgConnection, environment: &Environment) -> sqlx::Result<String> {
    let sql = "UPDATE compatibility SET environment = $1 WHERE environment IS NULL";
    sqlx::query(sql).bind(environment.as_str()).execute(&mut *db).await?;
    sqlx::query_scalar("SELECT environment FROM compatibility").fetch_one(db).await
}

fn refused(error: MigrateError) -> StoreError {
    match error {
        MigrateError::VersionMismatch(version) => StoreError::other_schema(version),
        MigrateError::Execute(error) => Failure::from(error).into(),
        error => {
            let what = "the schema of the database cannot be brought up to date";
            StoreError::new(StoreErrorKind::Unavailable, what).caused_by(error)
        }
    }
}
