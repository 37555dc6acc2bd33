//! Schema migrations, and compatibility with other versions of this program.
//!
//! From 0.1.0 on a migration either adds something, so that the previous version continues to work,
//! or removes something that the previous version no longer uses. The table `compatibility` names
//! the newest migration that a program must know. An older program refuses to start with an error.

use super::failure::Failure;
use crate::store::{Result, StoreError, StoreErrorKind};
use px_types::webhook::Environment;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, Row as _,
    migrate::{MigrateError, Migrator},
    postgres::PgConnectOptions,
};
use std::sync::LazyLock;

/// The migrations. Applied migrations of later versions are ignored.
pub(crate) static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("migrations/postgres");
    migrator.set_ignore_missing(true);
    migrator
});

/// Migrates the schema on a separate connection, and checks the environment of the database.
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
    // Errors while closing do not matter.
    let _ = db.close().await;
    StoreError::check_environment(&owner, environment)
}

/// Returns the environment that the database belongs to. If two programs open it for the first time
/// at the same time, one of them decides.
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
            let what = "the schema of the database cannot be migrated";
            StoreError::new(StoreErrorKind::Unavailable, what).caused_by(error)
        }
    }
}
