//! Conformance of the PostgreSQL store, and its own guarantees.

use async_trait::async_trait;
use px_items::{
    store::{
        PostgresStore, Store as _, StoreErrorKind, StoreOptions,
        conformance::{Fixture, LosableKeys, RawSql, SharedCalendar, StepClock},
    },
    testing::postgres::{Durability, Server, database},
    vault::{Envelope, Sealed, VaultError},
};
use px_types::webhook::Environment;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool, Row as _};
use std::{any::Any, sync::Arc};
use url::Url;
use zeroize::Zeroizing;

/// Does not encrypt, but binds values to their rows.
#[derive(Debug)]
struct Glass;

impl Envelope for Glass {
    fn seal(&self, plain: &[u8], row: &str) -> Result<Sealed, VaultError> {
        let bytes = [row.as_bytes(), b"\n", plain].concat();
        Ok(Sealed::new("glass".to_owned(), bytes))
    }

    fn open(&self, sealed: &Sealed, row: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let head = [row.as_bytes(), b"\n"].concat();
        let plain = sealed.bytes.strip_prefix(&head[..]).ok_or(VaultError::Damaged)?;
        Ok(Zeroizing::new(plain.to_vec()))
    }
}

/// Returns a store with a pool of connections, like one machine.
pub(super) async fn store(url: &Url, connections: u32) -> PostgresStore {
    let options = StoreOptions::new(Environment::Sandbox, Arc::new(Glass));
    PostgresStore::connect(url, connections, options).await.unwrap()
}

/// Direct access to a database.
struct Psql(PgPool);

#[async_trait]
impl RawSql for Psql {
    async fn execute(&self, sql: &str) {
        self.0.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    }

    async fn text(&self, sql: &str) -> Option<String> {
        let row = self.0.fetch_one(AssertSqlSafe(sql.to_owned())).await.unwrap();
        row.get(0)
    }

    async fn block(&self) -> Box<dyn Any + Send> {
        let mut tx = self.0.begin().await.unwrap();
        tx.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE").await.unwrap();
        Box::new(tx)
    }
}

px_items::conformance!(conformance, async {
    let url = database().await?;
    let keys = Arc::new(LosableKeys::default());
    let clock = StepClock::default();
    let mut options = StoreOptions::new(Environment::Sandbox, keys.clone());
    options.clock = Arc::new(clock.clone());
    let calendar = SharedCalendar::default();
    options.shared_clock = Some(Arc::new(calendar.clone()));
    let store = PostgresStore::connect(&url, 8, options).await.unwrap();
    let sql = Psql(PgPool::connect_lazy(url.as_str()).unwrap());
    Some(
        Fixture::new(Arc::new(store)).keys(keys).clock(clock).calendar(calendar).sql(Arc::new(sql)),
    )
});

#[tokio::test]
async fn nothing_of_the_password_is_in_debug() {
    let Some(url) = database().await else { return };
    let text = format!("{:?}", store(&url, 1).await);
    assert!(!text.contains(url.password().unwrap()), "{text}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_said_to_be_out_of_reach() {
    let Some(mut url) = database().await else { return };
    url.set_path("no_such_database");
    let options = StoreOptions::new(Environment::Sandbox, Arc::new(Glass));
    let error = PostgresStore::connect(&url, 1, options).await.unwrap_err();
    assert_eq!(error.to_string(), "the database refused a statement: SQLSTATE 3D000");
}

#[tokio::test]
async fn two_versions_work_beside_each_other_until_a_later_one_forbids_it() {
    let Some(url) = database().await else { return };
    let first = store(&url, 1).await;
    let sql = PgPool::connect_lazy(url.as_str()).unwrap();
    sql.execute(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'of the future', true, '\\x00', 0)",
    )
    .await
    .unwrap();
    store(&url, 1).await.close().await;
    sql.execute("UPDATE compatibility SET oldest = 9999").await.unwrap();
    let options = StoreOptions::new(Environment::Sandbox, Arc::new(Glass));
    let error = PostgresStore::connect(&url, 1, options).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Schema);
    assert!(error.to_string().contains("newer version"), "{error}");
    first.overview(chrono::DateTime::UNIX_EPOCH).await.unwrap();
}

#[tokio::test]
async fn a_database_belongs_to_the_environment_that_it_was_opened_for_first() {
    let Some(url) = database().await else { return };
    let open = async |environment: Environment| {
        let options = StoreOptions::new(environment, Arc::new(Glass));
        PostgresStore::connect(&url, 1, options).await
    };
    // If several open it at the same time, those of one environment succeed.
    let (sandbox, production) =
        tokio::join!(open(Environment::Sandbox), open(Environment::Production));
    assert_ne!(sandbox.is_ok(), production.is_ok());
    let (owner, other) = match sandbox.is_ok() {
        true => (Environment::Sandbox, Environment::Production),
        false => (Environment::Production, Environment::Sandbox),
    };
    let error = open(other).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Environment);
    assert!(error.to_string().contains(owner.as_str()), "{error}");
    assert_eq!(*open(owner.clone()).await.unwrap().environment(), owner);
}

/// The statements of version 0.1.0, stored as text. That version may run at the same time as this
/// one, so the present schema must contain everything that they name. They are replaced when the
/// next version is released.
#[tokio::test]
async fn the_statements_of_version_0_1_0_fit_the_present_schema() {
    let Some(url) = database().await else { return };
    store(&url, 1).await.close().await;
    let sql = PgPool::connect_lazy(url.as_str()).unwrap();
    let mut connection = sql.acquire().await.unwrap();
    let statements = include_str!("statements-0.1.0.sql").split("\n---\n");
    for (number, statement) in statements.enumerate() {
        let (types, statement) = types_of(statement);
        let prepare = format!("PREPARE statement_{number} {types} AS {statement}");
        let prepared = connection.execute(AssertSqlSafe(prepare)).await;
        assert!(prepared.is_ok(), "{statement}\n{prepared:?}");
    }
}

/// Splits off the parameter types. They precede a statement for which PostgreSQL cannot infer them:
/// `-- types: text, bigint`.
fn types_of(statement: &str) -> (String, &str) {
    let line = statement.strip_prefix("-- types: ").and_then(|rest| rest.split_once('\n'));
    line.map_or((String::new(), statement), |(types, rest)| (format!("({types})"), rest))
}

/// The settings do not depend on those of the database or the role.
#[tokio::test]
async fn the_settings_of_a_session_are_pinned() {
    let Some(url) = database().await else { return };
    let sql = PgPool::connect_lazy(url.as_str()).unwrap();
    let name = url.path().trim_start_matches('/');
    for setting in [
        "default_transaction_isolation = 'serializable'",
        "synchronous_commit = off",
        "statement_timeout = 0",
        "jit = on",
    ] {
        let sql_text = format!("ALTER DATABASE {name} SET {setting}");
        sql.execute(AssertSqlSafe(sql_text)).await.unwrap();
    }
    let store = store(&url, 1).await;
    store.overview(chrono::DateTime::UNIX_EPOCH).await.unwrap();
    let shown = store.settings().await.unwrap();
    assert_eq!(shown, ["read committed", "on", "11s", "1min", "off"]);
}

/// `openssl x509 -req` writes certificates of X.509 version 1, which rustls does not read.
#[tokio::test]
async fn a_certificate_of_version_1_is_named_with_the_setting_to_change() {
    let server = match Server::start(Durability::Off) {
        Err(error) if error.missing() => return,
        server => server.unwrap(),
    };
    let url = server.database().await.unwrap();
    let mut connection = PgConnection::connect(url.as_str()).await.unwrap();
    for (file, pem) in [
        ("server.crt", include_str!("../../fixtures/x509-v1.crt")),
        ("server.key", include_str!("../../fixtures/x509-v1.key")),
    ] {
        let lines: Vec<_> = pem.lines().map(|line| format!("('{line}')")).collect();
        let write = format!("TO PROGRAM 'umask 077 && cat > {file}'");
        let sql = format!("COPY (VALUES {}) {write}", lines.join(","));
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    connection.execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    connection.execute("SELECT pg_reload_conf()").await.unwrap();
    // The server reads its settings a moment later.
    for _ in 0..100 {
        let options = StoreOptions::new(Environment::Sandbox, Arc::new(Glass));
        let Err(error) = PostgresStore::connect(&url, 1, options).await else {
            connection.execute("SELECT pg_sleep(0.1)").await.unwrap();
            continue;
        };
        let text = error.to_string();
        assert!(text.contains("sslmode=disable") && text.contains("ssl_cert_file"), "{text}");
        return;
    }
    panic!("the server did not turn TLS on");
}
