//! A temporary PostgreSQL server for tests.
//!
//! It runs from the machine's own binaries, in a new folder, as an ordinary user, on loopback and a
//! free port, behind a password. A guard process starts the server, waits until the test process
//! has ended in any way, and then stops the server and deletes the folder. The next start removes
//! folders that even the guard could not delete.
//!
//! The store itself is in [`crate::store`].

mod folder;
mod machine;

use crate::store::MIGRATOR;
use folder::Folder;
use machine::Machine;
use px_core::{Random as _, SystemRandom};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};
use tokio::sync::OnceCell;
use url::Url;

/// Starts the server, waits for the end of its input, stops the server, deletes the folder. The
/// server is a child of this script, so its process id stays valid until the script has waited for
/// it.
const GUARD: &str = r#"
folder=$1
shift
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
exec 2>/dev/null
read -r _ <&3
kill -QUIT "$server"
wait "$server"
cd / && rm -rf "$folder"
"#;

/// Name of the only role.
const ROLE: &str = "px";

/// Database that the others are copied from.
const TEMPLATE: &str = "items_template";

/// Maximum number of attempts to use a free port. Another program can take it before the start.
const ATTEMPTS: usize = 3;

/// Durability of commits in a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// No `fsync`: for tests that need no durability. Measurements with it are not comparable to
    /// those of a real server.
    Off,
    /// Production settings, with memory for a million Items: for measurements.
    On,
}

/// Returns a new database on a server that all tests of this process share, with the store's schema
/// and without rows.
///
/// Returns `None` if the machine has no PostgreSQL. The first such call prints a note to standard
/// error.
///
/// # Panics
/// If the server cannot be started. With `CI=true` in the environment also if the machine has no
/// PostgreSQL: a skipped test would go unnoticed there.
pub async fn database() -> Option<Url> {
    match shared()?.database().await {
        Ok(url) => Some(url),
        Err(error) => panic!("no database for a test: {error}"),
    }
}

/// Returns the server that all tests of this process share.
fn shared() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER
        .get_or_init(|| match Server::start(Durability::Off) {
            Ok(server) => Some(server),
            Err(error) if error.missing() && !in_ci() => {
                // `eprintln!` is hidden for a test that passes.
                let _ = writeln!(io::stderr(), "tests on PostgreSQL are skipped: {error}");
                None
            }
            Err(error) => panic!("no PostgreSQL for tests: {error}"),
        })
        .as_ref()
}

fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// A server that is stopped when this is dropped, or with the process.
#[derive(Debug)]
pub struct Server {
    url: Url,
    template: OnceCell<()>,
    databases: AtomicU64,
    // Dropped in this order: the guard must be gone before the folder is deleted.
    _guard: ServerGuard,
    _folder: Folder,
}

impl Server {
    /// Creates and starts a server. Returns when it accepts connections.
    ///
    /// Blocks for about a second.
    ///
    /// # Errors
    /// Returns an error if the machine has no PostgreSQL ([`StartError::missing`]), or the server
    /// does not start.
    pub fn start(durability: Durability) -> Result<Self, StartError> {
        let machine = Machine::find().ok_or_else(StartError::no_binaries)?;
        folder::delete_abandoned();
        let password = secret();
        let folder = Folder::make()?;
        folder.fill(&machine, ROLE, &password)?;
        let mut attempt = 1;
        let (guard, port) = loop {
            let port = free_port()?;
            match ServerGuard::start(&machine, &folder, port, durability) {
                Ok(guard) => break (guard, port),
                Err(_) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        };
        let url = format!("postgres://{ROLE}:{password}@127.0.0.1:{port}/postgres");
        let url = Url::parse(&url).map_err(|error| StartError::new(error.to_string()))?;
        Ok(Self {
            url,
            template: OnceCell::new(),
            databases: AtomicU64::new(0),
            _guard: guard,
            _folder: folder,
        })
    }

    /// Creates a new database on the server, with the store's schema and without rows.
    ///
    /// # Errors
    /// Returns an error if the server does not respond.
    pub async fn database(&self) -> Result<Url, sqlx::Error> {
        self.template.get_or_try_init(|| self.make_template()).await?;
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.create(&format!("{name} TEMPLATE {TEMPLATE}")).await?;
        Ok(self.url_of(&name))
    }

    /// Creates the database with the schema, which is then copied.
    async fn make_template(&self) -> Result<(), sqlx::Error> {
        self.create(TEMPLATE).await?;
        let mut connection = connect(&self.url_of(TEMPLATE)).await?;
        let migrated = MIGRATOR.run(&mut connection).await;
        connection.close().await?;
        migrated.map_err(sqlx::Error::from)
    }

    /// Creates a database. The names are defined in this file.
    async fn create(&self, database: &str) -> Result<(), sqlx::Error> {
        let mut connection = connect(&self.url).await?;
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {database}"))).await?;
        connection.close().await
    }

    fn url_of(&self, database: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(database);
        url
    }

    /// Returns the URL of the server's own database, for a connection that inspects the others.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }
}

async fn connect(url: &Url) -> Result<sqlx::PgConnection, sqlx::Error> {
    sqlx::postgres::PgConnectOptions::from_url(url)?.connect().await
}

/// Process that stops the server.
#[derive(Debug)]
struct ServerGuard(Child);

impl ServerGuard {
    fn start(
        machine: &Machine,
        folder: &Folder,
        port: u16,
        durability: Durability,
    ) -> Result<Self, StartError> {
        let mut command = folder.command(Path::new("/bin/sh"));
        command.args(["-c", GUARD, "px-postgres-guard"]).arg(folder.path());
        command.arg(machine.program("postgres")).arg("-D").arg(folder.data());
        for setting in settings(port, durability) {
            command.arg("-c").arg(setting);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Separate from the process group that the terminal or a test runner ends.
        command.process_group(0);
        Self(command.spawn()?).wait_until_ready()
    }

    /// Reads the server's log until it is ready, then drains it in the background.
    fn wait_until_ready(mut self) -> Result<Self, StartError> {
        let Some(log) = self.0.stderr.take() else {
            return Err(StartError::new("the server has no log"));
        };
        let mut lines = BufReader::new(log).lines();
        let mut output = String::new();
        for line in lines.by_ref().map_while(Result::ok) {
            if line.contains("ready to accept connections") {
                // A log that is not read would block the server.
                thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
                return Ok(self);
            }
            output.push_str(&line);
            output.push('\n');
        }
        Err(StartError::new(format!("the server ended at once:\n{output}")))
    }
}

impl Drop for ServerGuard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn settings(port: u16, durability: Durability) -> Vec<String> {
    let mut settings = vec![
        format!("port={port}"),
        "listen_addresses=127.0.0.1".to_owned(),
        "unix_socket_directories=".to_owned(),
        "max_connections=200".to_owned(),
        "log_min_messages=log".to_owned(),
        "lc_messages=C".to_owned(),
    ];
    let more: &[&str] = match durability {
        Durability::Off => &["fsync=off", "synchronous_commit=off", "full_page_writes=off"],
        // All other defaults are those of a small machine.
        Durability::On => &["shared_buffers=1GB", "max_wal_size=4GB", "wal_compression=on"],
    };
    settings.extend(more.iter().map(|setting| (*setting).to_owned()));
    settings
}

fn free_port() -> Result<u16, StartError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// Returns an unguessable password or name.
fn secret() -> String {
    let mut bytes = [0; 16];
    SystemRandom.fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reason why a server could not be started.
#[derive(Debug)]
pub struct StartError {
    what: String,
    missing: bool,
}

impl StartError {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), missing: false }
    }

    fn no_binaries() -> Self {
        let what = "no `initdb` and `postgres` in PATH or /usr/lib/postgresql/*/bin; \
                    install PostgreSQL (Debian: apt-get install postgresql)";
        Self { what: what.to_owned(), missing: true }
    }

    /// Returns whether the machine has no PostgreSQL.
    #[must_use]
    pub fn missing(&self) -> bool {
        self.missing
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::new(error.to_string())
    }
}
