//! Runs `px` in a temporary folder and reads its output.

use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
};

/// A secret that no output of the program may contain.
pub(crate) const CLIENT_SECRET: &str = "cl1ent-s3cret";

/// A folder with a partners file, in which programs run.
pub(crate) struct Px {
    pub(crate) folder: TempDir,
    database: Option<String>,
}

/// The result of a program.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Px {
    /// Returns a folder with one institution, `bank`, at an address.
    pub(crate) fn at(base_url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let px = Self { folder, database: None };
        std::fs::write(px.path("secret"), format!("{CLIENT_SECRET}\n")).unwrap();
        px.partners("px.partners.json", base_url);
        px
    }

    /// Uses another database than the SQLite file in the folder.
    pub(crate) fn on(mut self, database: &str) -> Self {
        self.database = Some(database.to_owned());
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a partners file with one institution.
    pub(crate) fn partners(&self, name: &str, base_url: &str) {
        let entry = serde_json::json!([{
            "institution_id": "bank", "base_url": base_url, "client_id": "plaid",
            "client_secret_file": "secret", "per_second": 10_000
        }]);
        std::fs::write(self.path(name), entry.to_string()).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_px"));
        command.args(arguments).current_dir(&self.folder).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let variables = std::env::vars_os()
            .filter(|(name, _)| !name.to_string_lossy().starts_with("PX_") && name != "RUST_LOG");
        command.env_clear().envs(variables);
        if let Some(database) = &self.database {
            let key = self.path("px.key");
            command.env("PX_DATABASE", database).env("PX_KEY_FILE", key);
            command.env("PX_WEBHOOK_KEY", self.path("px.webhook.pem"));
        }
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.command(arguments).spawn().unwrap()).await
    }

    /// Runs the program and checks that it succeeds.
    pub(crate) async fn ok(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments).await;
        assert_eq!(ended.code, 0, "px {}: {ended:?}", arguments.join(" "));
        ended
    }

    /// Runs the program with a text on standard input.
    pub(crate) async fn feed(&self, arguments: &[&str], input: &str) -> Ended {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        ended(child).await
    }

    /// Links a user of the bank with tokens, and returns the Item's id.
    pub(crate) async fn link(&self, user: &str, more: &[&str]) -> String {
        let mut arguments = vec!["link", "--institution", "bank", "--tokens", "-", "--json"];
        arguments.extend(more);
        let ended = self.feed(&arguments, &tokens(user)).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.json()[0]["item_id"].as_str().unwrap().to_owned()
    }

    /// Returns the transactions of an Item, newest first.
    pub(crate) async fn transactions(&self, item: &str) -> Vec<Value> {
        let arguments = ["item", item, "--json", "--transactions", "--from", "2000-01-01"];
        let lines = self.ok(&arguments).await.json();
        lines
            .into_iter()
            .filter_map(|mut line| line.get_mut("transaction").map(Value::take))
            .collect()
    }

    /// Returns the Items, as `px items --json` prints them.
    pub(crate) async fn items(&self) -> Vec<Value> {
        self.ok(&["items", "--json"]).await.json()
    }
}

/// Returns the tokens of a user, as `px link --tokens` reads them.
pub(crate) fn tokens(user: &str) -> String {
    serde_json::json!({
        "access_token": format!("token-{user}"), "issued_at": "2026-01-01T00:00:00Z", "user_id": user
    })
    .to_string()
}

/// Reads standard error of a program up to the line that contains a word.
pub(crate) async fn heard(child: &mut Child, word: &str) -> String {
    // Byte by byte, so that the text after that line can be read later.
    let stderr = child.stderr.as_mut().unwrap();
    let mut said = String::new();
    loop {
        let byte = tokio::time::timeout(Duration::from_secs(30), stderr.read_u8()).await.unwrap();
        said.push(char::from(byte.unwrap_or_else(|_| panic!("it ended: {said}"))));
        if said.ends_with('\n') && said.contains(word) {
            return said;
        }
    }
}

/// Waits for a program to end, and checks that its output contains no secret.
pub(crate) async fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().await.unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    for secret in [CLIENT_SECRET, "token-", "BEGIN PRIVATE KEY"] {
        assert!(!stdout.contains(secret) && !stderr.contains(secret), "{stdout}\n{stderr}");
    }
    Ended { code: output.status.code().unwrap_or(-1), stdout, stderr }
}

impl Ended {
    /// Returns standard output, with one JSON value per line.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Checks that it failed with this code, and printed one line that contains this text.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, why: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stderr.contains(why), "{self:?}");
        if code != 2 {
            let line = self.stderr.lines().last().unwrap();
            assert!(line.starts_with("px: ") && line.contains(why), "{self:?}");
        }
    }
}

/// Returns whether a file is private to its owner.
pub(crate) fn is_private(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file).unwrap().permissions().mode() & 0o077 == 0
}

/// Waits in real time while the program runs.
#[allow(clippy::disallowed_methods, reason = "the program under test is another process")]
pub(crate) async fn real_pause(time: Duration) {
    tokio::time::sleep(time).await;
}
