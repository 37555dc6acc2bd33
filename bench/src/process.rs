//! Processes of the benchmark, and the cores they run on.

use crate::{Failure, serve::Kind};
use clap::ValueEnum as _;
use std::{net::SocketAddr, path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// The core of the servers, and that of the load.
const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// A bearer token that it takes; empty where it takes all.
    pub(crate) token: String,
}

/// Keeps the load away from the servers' core, where there are two cores and `taskset`.
pub(crate) fn pin_load() {
    let id = std::process::id().to_string();
    let pinned = std::process::Command::new("taskset")
        .args(["-cp", LOAD_CORE, &id])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !pinned.is_ok_and(|status| status.success()) {
        eprintln!("(no second core or no `taskset`: server and load share what there is)");
    }
}

/// A command that runs on the servers' core.
pub(crate) fn on_server_core(program: &str) -> Command {
    let taskset = std::process::Command::new("taskset")
        .args(["-c", SERVER_CORE, "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let mut command = if taskset.is_ok_and(|status| status.success()) {
        let mut command = Command::new("taskset");
        command.args(["-c", SERVER_CORE, program]);
        command
    } else {
        Command::new(program)
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

impl Server {
    /// Starts one of this program's servers.
    pub(crate) async fn start(kind: Kind, transactions: usize) -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let program = program.to_str().ok_or("the program's path is not UTF-8")?;
        let name = kind.to_possible_value().ok_or("a kind without a name")?;
        let mut command = on_server_core(program);
        command.args(["serve", name.get_name(), &transactions.to_string()]);
        Self::from_command(command).await
    }

    /// Starts Plaid, or a handler over the same store.
    pub(crate) async fn start_plaid(
        kind: crate::plaid::Kind,
        database: &str,
        key: &Path,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let program = program.to_str().ok_or("the program's path is not UTF-8")?;
        let name = kind.to_possible_value().ok_or("a kind without a name")?;
        let mut command = on_server_core(program);
        command.args(["serve-plaid", name.get_name(), database]).arg(key);
        Self::from_command(command).await
    }

    /// Starts a server whose first line on standard output is its address, then its token.
    pub(crate) async fn from_command(mut command: Command) -> Result<Self, Failure> {
        let mut child = command.spawn()?;
        let output = child.stdout.take().ok_or("no standard output")?;
        let mut lines = BufReader::new(output).lines();
        let line = lines.next_line().await?.ok_or("the server ended at once")?;
        let (address, token) = line.split_once(' ').unwrap_or((&line, ""));
        let (address, token) = (address.parse()?, token.to_owned());
        // A server that goes on printing must find a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, address, token })
    }

    /// The processor time that the server has used so far, in seconds.
    ///
    /// Requests per second of it are what a core would give if the server had it alone, so
    /// that other programs on the machine do not count against whoever's turn it is.
    pub(crate) fn cpu_seconds(&self) -> Result<f64, Failure> {
        let id = self.child.id().ok_or("the server has ended")?;
        let text = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        // The name, in parentheses, may hold anything; user and system time are the twelfth
        // and thirteenth field behind it, in hundredths of a second.
        let (_, fields) = text.rsplit_once(')').ok_or("an odd /proc/…/stat")?;
        let mut times = fields.split_whitespace().skip(11);
        let mut next =
            || times.next().ok_or("an odd /proc/…/stat")?.parse::<u32>().map_err(Failure::from);
        Ok(f64::from(next()? + next()?) / 100.0)
    }
}
