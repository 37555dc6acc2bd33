//! The programs under attack, each in a separate process, and their memory.

use super::wire::request;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use std::{
    io::{BufRead as _, BufReader},
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
};

const SECRET_AT_BANK: &str = "secret-of-the-attacked-plaid-at-the-bank";
/// The bank's secret in the built-in configuration of `demo-plaid`.
const SECRET_AT_PLAID: &str = "demo-secret-of-larkfield-bank";

/// A program that runs until it is dropped.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Program {
    /// Starts a program, and waits until it prints its address.
    fn start(name: &'static str, mut command: Command, folder: tempfile::TempDir) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.find(|line| line.starts_with("Listening on ")).unwrap();
        let port = line.rsplit(':').next().unwrap().trim().parse().unwrap();
        // Later output must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { name, port, process, _folder: folder }
    }

    /// Returns the resident memory of the program, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn plaid() -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo-plaid"));
    command.env_clear().args(["serve", "--listen", "127.0.0.1:0", "--database", "memory:"]);
    command.args(["--app-listen", "", "--metrics-listen", ""]);
    Program::start("demo-plaid", command, tempfile::tempdir().unwrap())
}

/// Starts a bank that calls this Plaid.
pub(crate) fn bank(plaid: &Program) -> Program {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (own, theirs) = (file("own", SECRET_AT_BANK), file("theirs", SECRET_AT_PLAID));
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo-bank"));
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--users", "0", "--client-id", "plaid"])
        .args(["--redirect-uri", "http://127.0.0.1:9/back"])
        .arg("--database")
        .arg(folder.path().join("bank.sqlite"))
        .arg("--client-secret-file")
        .arg(own)
        .args(["--plaid-url", &format!("http://127.0.0.1:{}", plaid.port)])
        .args(["--plaid-client-id", "larkfield-bank"])
        .arg("--plaid-secret-file")
        .arg(theirs);
    Program::start("demo-bank", command, folder)
}

/// Returns a token of a user, by credentials mode.
pub(crate) async fn token(bank: &Program, from: Ipv4Addr) -> String {
    let basic = BASE64_STANDARD.encode(format!("plaid:{SECRET_AT_BANK}"));
    let basic = format!("Basic {basic}");
    let headers = [("authorization", &*basic), ("content-type", "application/json")];
    let body = r#"{"username": "user_good", "password": "pass_good"}"#;
    let response =
        request(from, bank.port, "POST", "/users/auth_token", &headers, body).await.unwrap();
    let response: serde_json::Value = serde_json::from_str(&response.body).unwrap();
    response["auth_token"].as_str().unwrap().to_owned()
}
