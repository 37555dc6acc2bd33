//! Processes of the benchmark, and the cores that they run on.

use crate::{Failure, serve::Kind};
use clap::ValueEnum as _;
use std::{net::SocketAddr, path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// The core of the servers, and the core of the load.
const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// A bearer token that the server accepts; empty if it accepts all.
    pub(crate) token: String,
}

/// Pins the load to another core than the servers', if there are two cores and `taskset`.
pub(crate) fn pin_load() {
    let id = std::process::id().to_string();
    let pinned = std::process::Command::new("taskset")
        .args(["-cp", LOAD_CORE, &id])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !pinned.is_ok_and(|status| status.success()) {
        eprintln!("(no second core or no `taskset`: server and load share the cores)");
    }
}

/// Returns a command that runs on the servers' core.
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

    /// Starts the demo Plaid, or handlers over the same store.
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

    /// Starts a server that prints its address and then its token in its first line of output.
    pub(crate) async fn from_command(mut command: Command) -> Result<Self, Failure> {
        let mut child = command.spawn()?;
        let output = child.stdout.take().ok_or("no standard output")?;
        let mut lines = BufReader::new(output).lines();
        let line = lines.next_line().await?.ok_or("the server ended at once")?;
        let (address, token) = line.split_once(' ').unwrap_or((&line, ""));
        let (address, token) = (address.parse()?, token.to_owned());
        // Reads further output, so that the server does not block.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, address, token })
    }

    /// Returns the processor time that the server has used so far, in seconds.
    ///
    /// Requests per second of processor time are the rate of a core that the server has alone, so
    /// other programs on the machine do not affect the comparison.
    pub(crate) fn cpu_seconds(&self) -> Result<f64, Failure> {
        let id = self.child.id().ok_or("the server has ended")?;
        let text = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        // The name, in parentheses, may contain anything. User and system time are the twelfth and
        // thirteenth field after it, in hundredths of a second.
        let (_, fields) = text.rsplit_once(')').ok_or("unexpected format of /proc/…/stat")?;
        let mut times = fields.split_whitespace().skip(11);
        let mut next = || {
            times
                .next()
                .ok_or("unexpected format of /proc/…/stat")?
                .parse::<u32>()
                .map_err(Failure::from)
        };
        Ok(f64::from(next()? + next()?) / 100.0)
    }
}
