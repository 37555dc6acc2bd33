//! The memory of the client while it streams a long history, in a separate process.

use crate::{Failure, bank, data, history, process::Server, report::Report, serve::Kind};
use futures_util::StreamExt as _;
use std::{fmt, net::SocketAddr, process::Stdio};
use tokio::process::Command;

/// Memory limit, in MiB.
const MAX_MIB: u64 = 64;

pub(crate) async fn measure(report: &mut Report, transactions: usize) {
    let name = format!("memory of the client while it streams {transactions}");
    if !report.wants(&name) {
        return;
    }
    match watch(transactions).await {
        Ok(seen) => {
            let met = seen.is_flat() && seen.is_below(MAX_MIB);
            report.value(&name, seen.to_string(), &format!("flat, < {MAX_MIB} MiB"), met);
        }
        Err(error) => report.not_run(&name, &error.to_string()),
    }
}

/// Resident memory, in KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    early: u64,
    late: u64,
    peak: u64,
}

impl Memory {
    /// Returns whether the memory at the end is about that soon after the beginning.
    pub(crate) fn is_flat(&self) -> bool {
        self.late <= self.early + self.early / 4 + 2048
    }

    /// Returns whether the peak is below this number of MiB.
    pub(crate) fn is_below(&self, mib: u64) -> bool {
        self.peak < mib * 1024
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |kib: u64| kib.div_ceil(1024);
        let (early, late, peak) = (mib(self.early), mib(self.late), mib(self.peak));
        write!(f, "{early} MiB after a tenth, {late} at the end, {peak} at most")
    }
}

async fn watch(transactions: usize) -> Result<Memory, Failure> {
    let server = Server::start(Kind::Hyper, transactions).await?;
    of_child("stream", &server, transactions).await
}

/// Runs a command of this program that reads everything from a server. Returns the memory that it
/// reports.
pub(crate) async fn of_child(
    command: &str,
    server: &Server,
    transactions: usize,
) -> Result<Memory, Failure> {
    let output = Command::new(std::env::current_exe()?)
        .args([command, &server.address.to_string(), &server.token])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let text = String::from_utf8(output.stdout)?;
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    match numbers[..] {
        [count, early, late, peak] if count == transactions as u64 => {
            Ok(Memory { early, late, peak })
        }
        [count, ..] => Err(format!("received {count} of {transactions} transactions").into()),
        [] => Err(String::from_utf8_lossy(&output.stderr).trim().into()),
    }
}

/// Streams everything. Prints the count and the resident memory after a tenth, at the end, and at
/// its peak.
pub(crate) async fn stream(address: SocketAddr, token: &str) -> Result<(), Failure> {
    let user = bank::USER.parse()?;
    let client = history::client(address, token)?;
    let mut rows = client.transactions(&user, data::start(), data::end());
    let (mut count, mut early) = (0_u64, 0);
    while let Some(row) = rows.next().await {
        row?;
        count += 1;
        if early == 0 && rows.total().is_some_and(|total| count >= total / 10) {
            early = resident("VmRSS:")?;
        }
    }
    println!("{count} {early} {} {}", resident("VmRSS:")?, resident("VmHWM:")?);
    Ok(())
}

pub(crate) fn resident(field: &str) -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.ok_or("no such field in /proc/self/status")?;
    Ok(number.trim().trim_end_matches(" kB").parse()?)
}
