//! Conformance of the SQLite store, and its guarantees as a file.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use px_client::oauth::TokenSet;
use px_core::{Clock as _, ManualClock, SystemClock, SystemRandom};
use px_items::{
    connection::Connection,
    item::State,
    items::Items,
    store::{
        AccessDigest, ApplicationUser, Commit, ItemRecord, LeaseOutcome, NewHolder, NewLink,
        SqliteStore, Store as _, StoreErrorKind, StoreOptions,
        conformance::{Fixture, LosableKeys, RawSql, SharedCalendar, StepClock},
    },
    vault::FileKeys,
};
use px_types::{
    AccessToken, ApplicationId, InstitutionId, ItemId, RefreshToken, UserId,
    model::product::Product, webhook::Environment,
};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use std::{any::Any, collections::BTreeSet, path::Path, sync::Arc, time::Duration};

fn with_keys(keys: FileKeys) -> StoreOptions {
    StoreOptions::new(Environment::Sandbox, Arc::new(keys))
}

fn options() -> StoreOptions {
    with_keys(FileKeys::generate("tests", Arc::new(SystemRandom)).unwrap())
}

/// Direct access to a database file.
struct Shell(SqlitePool);

#[async_trait]
impl RawSql for Shell {
    async fn execute(&self, sql: &str) {
        self.0.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    }

    async fn text(&self, sql: &str) -> Option<String> {
        self.0.fetch_one(AssertSqlSafe(sql.to_owned())).await.unwrap().get(0)
    }

    async fn block(&self) -> Box<dyn Any + Send> {
        Box::new(self.0.begin_with("BEGIN IMMEDIATE").await.unwrap())
    }
}

px_items::conformance!(in_a_file, async {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("items.sqlite");
    let keys = Arc::new(LosableKeys::default());
    let clock = StepClock::default();
    let mut options = StoreOptions::new(Environment::Sandbox, keys.clone());
    options.clock = Arc::new(clock.clone());
    let calendar = SharedCalendar::default();
    options.shared_clock = Some(Arc::new(calendar.clone()));
    let store = SqliteStore::open(&file, options).await.unwrap();
    let sql = SqlitePool::connect_lazy(&format!("sqlite:{}", file.display())).unwrap();
    let sql = Arc::new(Shell(sql));
    Some(
        Fixture::new(Arc::new(store))
            .keys(keys)
            .clock(clock)
            .calendar(calendar)
            .sql(sql)
            .keeping(folder),
    )
});

px_items::conformance!(in_memory, async {
    Some(Fixture::new(Arc::new(SqliteStore::in_memory(options()).await.unwrap())))
});

fn now() -> DateTime<Utc> {
    "2026-01-10T12:00:00Z".parse().unwrap()
}

fn later(minutes: i64) -> DateTime<Utc> {
    now() + chrono::TimeDelta::minutes(minutes)
}

fn item(name: &str) -> ItemId {
    ItemId::new(name).unwrap()
}

/// Returns a link of a user to an Item with the same id, with recognizable tokens.
fn link(name: &str, secret: &str) -> NewLink {
    let mut tokens = TokenSet::new(AccessToken::new(format!("access-{secret}")), now());
    tokens.refresh_token = Some(RefreshToken::new(format!("refresh-{secret}")));
    let application = ApplicationId::new("app").unwrap();
    let connection = Connection::new(application, [Product::Transactions], now());
    let user = (InstitutionId::new("bank").unwrap(), UserId::new(name).unwrap());
    let mut digest = [0; 32];
    digest[..name.len()].copy_from_slice(name.as_bytes());
    let holder = NewHolder::Application(connection);
    NewLink::new(user, item(name), tokens, holder, AccessDigest(digest), now())
}

fn finish(record: &ItemRecord) -> Commit {
    let then =
        LeaseOutcome::Release { due_at: Some(later(60)), not_before: None, seen: record.notified };
    Commit::new(record, State::Idle, now(), then)
}

/// Returns all bytes of the database: the file and its log.
fn bytes_of(file: &Path) -> Vec<u8> {
    let log = file.with_extension("sqlite-wal");
    [file, &log].into_iter().flat_map(|file| std::fs::read(file).unwrap_or_default()).collect()
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[tokio::test]
async fn case_48_no_token_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("items.sqlite");
    let store = SqliteStore::open(&file, options()).await.unwrap();
    store.link(link("anna", "first-secret")).await.unwrap();
    let (mut tokens, version) = store.tokens(&item("anna")).await.unwrap().unwrap();
    tokens.access_token = AccessToken::new("access-second-secret");
    assert!(store.save_tokens(&item("anna"), version, &tokens).await.unwrap());
    // Tokens that are queued for revocation are equally secret.
    store.link(link("bert", "third-secret")).await.unwrap();
    let application = ApplicationId::new("app").unwrap();
    store.unlink(&item("bert"), Some(&application), now()).await.unwrap();
    let while_open = bytes_of(&file);
    store.close().await;
    for bytes in [while_open, bytes_of(&file)] {
        assert!(has(&bytes, "anna"), "the bytes are those of the database");
        for secret in ["first-secret", "second-secret", "third-secret", "access-", "refresh-"] {
            assert!(!has(&bytes, secret), "{secret} is in the file");
        }
    }
}

/// Link tokens, public tokens and their payloads are sealed; so is a public token in a queued
/// webhook.
#[tokio::test]
async fn no_ticket_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("items.sqlite");
    let store = Arc::new(SqliteStore::open(&file, options()).await.unwrap());
    let items = Items::builder(store.clone()).build();
    let user = (InstitutionId::new("bank").unwrap(), UserId::new("anna").unwrap());
    let connect = |name: &str| {
        let application = ApplicationId::new(name).unwrap();
        let mut connection = Connection::new(application, [Product::Auth], now());
        connection.webhook = Some(format!("https://{name}.example/hook"));
        connection
    };
    let tokens = TokenSet::new(AccessToken::new("first-secret"), now());
    let linked =
        items.link_for_exchange(&user.0, &user.1, tokens, connect("one"), None).await.unwrap();
    items.join(&linked.item_id, connect("two"), ApplicationUser::default()).await.unwrap();
    let tickets = items.tickets();
    let sync_state = chrono::TimeDelta::hours(4);
    tickets.mint_link(&"second-secret", sync_state).await.unwrap();
    tickets.mint_session(&"third-secret", sync_state).await.unwrap();
    tickets.mint_public(&linked.item_id, &"one".parse().unwrap()).await.unwrap();
    let queued = store.overview(now()).await.unwrap().webhooks;
    assert_eq!(queued, 1, "the webhook with the public token");
    let while_open = bytes_of(&file);
    store.close().await;
    for bytes in [while_open, bytes_of(&file)] {
        assert!(has(&bytes, "two.example"), "the bytes are those of the database");
        for secret in ["-secret", "link-sandbox-", "public-sandbox-", "session-sandbox-"] {
            assert!(!has(&bytes, secret), "{secret} is in the file");
        }
    }
}

#[tokio::test]
async fn a_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("items.sqlite");
    let keys = FileKeys::generate("k", Arc::new(SystemRandom)).unwrap();
    let store = SqliteStore::open(&file, with_keys(keys.clone())).await.unwrap();
    store.link(link("anna", "1")).await.unwrap();
    store.claim(now(), later(10), 1).await.unwrap();
    let before = store.item(&item("anna")).await.unwrap();
    // Without closing the first store, as after a kill.
    drop(store);
    let store = SqliteStore::open(&file, with_keys(keys.clone())).await.unwrap();
    assert_eq!(store.item(&item("anna")).await.unwrap(), before);
    let tokens = store.tokens(&item("anna")).await.unwrap().unwrap().0;
    assert_eq!(Some(tokens), link("anna", "1").tokens);
    store.close().await;

    // With another key, everything except tokens can be read.
    let store = SqliteStore::open(&file, options()).await.unwrap();
    assert_eq!(store.item(&item("anna")).await.unwrap(), before);
    let error = store.tokens(&item("anna")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("unknown key \"k\""), "{cause}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn programs_that_make_a_file_at_once_all_open_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = options();
    for round in 0..10 {
        let file = folder.path().join(format!("{round}.sqlite"));
        let opening = (0..8).map(|_| {
            let (file, options) = (file.clone(), options.clone());
            tokio::spawn(async move { SqliteStore::open(&file, options).await })
        });
        for opened in futures_util::future::join_all(opening).await {
            opened.unwrap().unwrap().close().await;
        }
    }
}

/// SQLite fails at once, without waiting, when a new file is switched to a write-ahead log while
/// another program is about to write to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_file_that_another_program_writes_is_opened_when_it_has_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("items.sqlite");
    let connect = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    let mut other = connect.journal_mode(SqliteJournalMode::Delete).connect().await.unwrap();
    other.execute("CREATE TABLE other (id INTEGER); BEGIN IMMEDIATE").await.unwrap();

    let opening = tokio::spawn(async move { SqliteStore::open(&file, options()).await });
    SystemClock::new().sleep(Duration::from_millis(100)).await;
    assert!(!opening.is_finished(), "it waits for the other program");
    other.execute("COMMIT").await.unwrap();
    opening.await.unwrap().unwrap().close().await;
}

/// Two programs on one file are two stores.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_programs_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("items.sqlite");
    let options = options();
    // Both open a new file.
    let (one, other) = tokio::join!(
        SqliteStore::open(&file, options.clone()),
        SqliteStore::open(&file, options.clone())
    );
    let stores = [one.unwrap(), other.unwrap()];
    const ITEMS: usize = 40;
    for number in 0..ITEMS {
        let name = format!("item-{number}");
        stores[number % 2].link(link(&name, &name)).await.unwrap();
    }
    let work = |store: SqliteStore| {
        tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claimed = store.claim(now(), later(10), 3).await.unwrap();
                if claimed.is_empty() {
                    return mine;
                }
                for record in claimed {
                    store.commit(finish(&record)).await.unwrap();
                    mine.push(record.id);
                }
            }
        })
    };
    let (one, other) = (work(stores[0].clone()), work(stores[1].clone()));
    let done: Vec<ItemId> = [one.await.unwrap(), other.await.unwrap()].concat();
    assert_eq!(done.len(), ITEMS, "an Item was claimed twice");
    assert_eq!(done.iter().collect::<BTreeSet<_>>().len(), ITEMS, "an Item was not claimed");

    // A program cannot commit what the other one took over.
    let late = stores[0].claim(later(60), later(70), 1).await.unwrap().remove(0);
    let present = stores[1].claim_one(&late.id, later(70), later(80)).await.unwrap().unwrap();
    assert_eq!(stores[0].commit(finish(&late)).await.unwrap_err().kind(), StoreErrorKind::Fenced);
    stores[1].commit(finish(&present)).await.unwrap();
    assert_eq!(stores[0].item(&late.id).await.unwrap().unwrap().state, State::Idle);
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("letter.txt");
    std::fs::write(&file, "Dear Anna, this is no database. ".repeat(100)).unwrap();
    let error = SqliteStore::open(&file, options()).await.unwrap_err();
    assert!(!format!("{error:?} {error}").contains("Anna"), "{error:?}");
    assert!(
        std::fs::read_to_string(&file).unwrap().starts_with("Dear Anna"),
        "the file was changed"
    );
    let nowhere = folder.path().join("no/such/folder/items.sqlite");
    assert_eq!(
        SqliteStore::open(&nowhere, options()).await.unwrap_err().kind(),
        StoreErrorKind::Unavailable
    );
}

/// Changes a file like a later version with a migration that a program must know.
async fn migrate_later(file: &Path, oldest: i64) {
    let url = format!("sqlite:{}", file.display());
    let mut connection = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    let sql = "INSERT OR IGNORE INTO _sqlx_migrations (version, description, success, checksum, \
               execution_time) VALUES (9999, 'of the future', true, x'00', 0)";
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    let sql = "UPDATE compatibility SET oldest = ?1";
    sqlx::query(sql).bind(oldest).execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
}

#[tokio::test]
async fn two_versions_work_beside_each_other_until_a_later_one_forbids_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("items.sqlite");
    let store = SqliteStore::open(&file, options()).await.unwrap();
    store.link(link("anna", "1")).await.unwrap();
    store.close().await;
    // The migration only added to the schema.
    migrate_later(&file, 1).await;
    let store = SqliteStore::open(&file, options()).await.unwrap();
    assert!(store.item(&item("anna")).await.unwrap().is_some());
    store.close().await;
    // The migration removed something that this version uses.
    migrate_later(&file, 9999).await;
    let error = SqliteStore::open(&file, options()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Schema);
    assert!(error.to_string().contains("newer version"), "{error}");
    assert!(error.to_string().contains("9999"), "{error}");
}

#[tokio::test]
async fn a_file_belongs_to_the_environment_that_it_was_opened_for_first() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("items.sqlite");
    let open = async |environment: Environment| {
        let keys = FileKeys::generate("tests", Arc::new(SystemRandom)).unwrap();
        SqliteStore::open(&file, StoreOptions::new(environment, Arc::new(keys))).await
    };
    open(Environment::Production).await.unwrap().close().await;
    for other in [Environment::Sandbox, Environment::Development] {
        let error = open(other).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Environment);
        assert!(error.to_string().contains("belongs to the environment `production`"), "{error}");
    }
    let store = open(Environment::Production).await.unwrap();
    assert_eq!(*store.environment(), Environment::Production);
}

#[tokio::test]
async fn a_file_of_another_build_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("items.sqlite");
    SqliteStore::open(&file, options()).await.unwrap().close().await;
    let url = format!("sqlite:{}", file.display());
    let mut connection = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    let sql = "UPDATE _sqlx_migrations SET checksum = x'00'";
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let error = SqliteStore::open(&file, options()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Schema);
    assert!(error.to_string().contains("another build"), "{error}");
}

/// The machine's clock was days ahead when a worker claimed an Item. The worker no longer runs, and
/// the clock is correct.
#[tokio::test]
async fn opening_ends_leases_that_run_for_longer_than_any_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("items.sqlite");
    let keys = FileKeys::generate("k", Arc::new(SystemRandom)).unwrap();
    let open = async |at: DateTime<Utc>| {
        let mut options = with_keys(keys.clone());
        options.clock = Arc::new(ManualClock::new(at));
        SqliteStore::open(&file, options).await.unwrap()
    };
    let days_ahead = later(3 * 24 * 60);
    let store = open(days_ahead).await;
    store.link(link("anna", "1")).await.unwrap();
    let until = days_ahead + chrono::TimeDelta::minutes(10);
    assert_eq!(store.claim(days_ahead, until, 1).await.unwrap().len(), 1);
    drop(store);
    let store = open(later(1)).await;
    assert_eq!(store.claim(later(2), later(12), 1).await.unwrap().len(), 1);
    drop(store);
    // A lease that may still be in use stays.
    let store = open(later(3)).await;
    assert_eq!(store.claim(later(3), later(13), 1).await.unwrap().len(), 0);
}

/// The statements of version 0.1.0, stored as text. That version may use the file at the same time
/// as this one, so the present schema must contain everything that they name.
#[tokio::test]
async fn the_statements_of_version_0_1_0_fit_the_present_schema() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("items.sqlite");
    SqliteStore::open(&file, options()).await.unwrap().close().await;
    let sql = SqlitePool::connect_lazy(&format!("sqlite:{}", file.display())).unwrap();
    for statement in include_str!("statements-0.1.0.sql").split("\n---\n") {
        let explained = sql.execute(AssertSqlSafe(format!("EXPLAIN {statement}"))).await;
        assert!(explained.is_ok(), "{statement}\n{explained:?}");
    }
}
