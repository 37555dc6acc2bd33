//! The lifecycle of the server for tests.

use px_items::testing::postgres::{Durability, Server, database};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, postgres::PgConnectOptions};
use std::{
    env,
    io::{self, BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};
use url::Url;

/// Set for a copy of this program that starts a server and waits to be killed.
const VICTIM: &str = "PX_TEST_POSTGRES_VICTIM";

async fn connect(url: &Url) -> Result<sqlx::PgConnection, sqlx::Error> {
    PgConnectOptions::from_url(url)?.connect().await
}

async fn folder(connection: &mut sqlx::PgConnection) -> PathBuf {
    let row = sqlx::query("SHOW data_directory").fetch_one(connection).await.unwrap();
    let data = PathBuf::from(row.get::<String, _>(0));
    data.parent().unwrap().to_owned()
}

#[tokio::test]
async fn each_database_is_new() {
    let (Some(one), Some(other)) = (database().await, database().await) else { return };
    assert_eq!(one.port(), other.port());
    let mut connection = connect(&one).await.unwrap();
    sqlx::raw_sql("CREATE TABLE t ()").execute(&mut connection).await.unwrap();
    let mut connection = connect(&other).await.unwrap();
    let row = sqlx::query("SELECT to_regclass('t') IS NULL").fetch_one(&mut connection);
    assert!(row.await.unwrap().get::<bool, _>(0));
}

#[tokio::test]
async fn a_stranger_without_the_password_is_refused() {
    let Some(mut url) = database().await else { return };
    url.set_password(Some("guessed")).unwrap();
    let refused = connect(&url).await.unwrap_err();
    assert_eq!(refused.into_database_error().unwrap().code().as_deref(), Some("28P01"));
}

#[tokio::test]
async fn a_server_that_is_dropped_leaves_nothing() {
    let server = match Server::start(Durability::Off) {
        Err(error) if error.missing() => return,
        server => server.unwrap(),
    };
    let url = server.url().clone();
    let mut connection = connect(&url).await.unwrap();
    let folder = folder(&mut connection).await;
    assert!(folder.exists());
    connection.close().await.unwrap();
    drop(server);
    assert!(!folder.exists());
    assert!(connect(&url).await.is_err());
}

/// Not a test, but the process that [`a_server_ends_with_a_process_that_is_killed`] kills.
#[test]
fn victim() {
    if env::var_os(VICTIM).is_some() {
        let server = Server::start(Durability::Off).unwrap();
        writeln!(io::stdout(), "\nurl={}", server.url()).unwrap();
        // Waits until it is killed: the other end of the input is not closed before.
        io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
    }
}

#[tokio::test]
async fn a_server_ends_with_a_process_that_is_killed() {
    if database().await.is_none() {
        return;
    }
    let mut victim = Command::new(env::current_exe().unwrap())
        .args(["--exact", "postgres::server::victim", "--nocapture"])
        .env(VICTIM, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines().map(Result::unwrap);
    let url = lines.find_map(|line| line.strip_prefix("url=").map(str::to_owned)).unwrap();
    let url = Url::parse(&url).unwrap();
    let mut connection = connect(&url).await.unwrap();
    let folder = folder(&mut connection).await;
    victim.kill().unwrap();
    victim.wait().unwrap();
    // The statement would take an hour; it ends with the server.
    let ended = sqlx::query("SELECT pg_sleep(3600)").execute(&mut connection).await;
    assert!(ended.is_err());
    assert!(connect(&url).await.is_err());
    // The folder is deleted last, a moment later.
    let deleted = async {
        while folder.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), deleted).await.unwrap();
}
