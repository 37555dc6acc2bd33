//! Side-by-side benchmarks. Prints one table of ratios, each within this run.
//!
//! `just bench`, or `cargo run --release -p px-bench`. The server runs as a separate process on one
//! core and the load on another, if the machine has two cores and `taskset`. "/s" means requests
//! per second of the server's processor time: the rate of a core that does nothing else. The two
//! sides of a line alternate and their medians are compared, so that changes of the machine's load
//! do not affect the result.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints a table")]
#![allow(clippy::float_arithmetic, reason = "ratios of times, no money")]

mod bank;
mod data;
mod decode;
mod history;
mod items;
mod jwt;
mod load;
mod memory;
mod peers;
mod plaid;
mod plain;
mod process;
mod report;
mod serve;
mod serving;

use clap::{Parser, Subcommand};
use report::Report;
use std::time::Duration;

/// An error that ends the run or one line of it, as text.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Compares PX with handwritten code without it, and with peers.
#[derive(Debug, Parser)]
struct Arguments {
    /// Command; by default all benchmarks run.
    #[command(subcommand)]
    command: Option<Command>,
    /// Run only lines with this text in their name.
    #[arg(long)]
    only: Option<String>,
    /// Number of turns of each side of a line.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Duration of one turn, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    turn_ms: u64,
    /// Connections of the load generator.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Number of transactions of the long history.
    #[arg(long, default_value_t = 24_000)]
    history: usize,
    /// Number of transactions that the client streams while its memory is measured.
    #[arg(long, default_value_t = 100_000)]
    stream: usize,
    /// Number of Items in the store, for measurements that must not depend on it.
    #[arg(long, default_value_t = 1_000_000)]
    items: usize,
    /// Number of Items to update.
    #[arg(long, default_value_t = 2000)]
    updates: usize,
    /// Skip the peers in other languages, which are installed from their registries.
    #[arg(long)]
    no_peers: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a bank; started by the benchmark itself.
    #[command(hide = true)]
    Serve {
        /// Kind of server.
        kind: serve::Kind,
        /// Number of transactions of the user.
        transactions: usize,
    },
    /// Serve Plaid's API; started by the benchmark itself.
    #[command(hide = true)]
    ServePlaid {
        /// Kind of server.
        kind: plaid::Kind,
        /// Database of the Items.
        database: String,
        /// File of the key that seals tokens.
        key: std::path::PathBuf,
    },
    /// Stream a history and print the memory; started by the benchmark itself.
    #[command(hide = true)]
    Stream {
        /// Address of the server.
        address: std::net::SocketAddr,
        /// The bearer token.
        token: String,
    },
    /// Fetch an Item and print the memory; started by the benchmark itself.
    #[command(hide = true)]
    Fetch {
        /// Address of the server.
        address: std::net::SocketAddr,
        /// The bearer token.
        token: String,
    },
}

/// The common settings of all lines.
#[derive(Clone, Copy, Debug)]
struct Plan {
    rounds: usize,
    turn: Duration,
    connections: usize,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments.command {
        Some(Command::Serve { kind, transactions }) => {
            runtime.block_on(serve::run(kind, transactions))
        }
        Some(Command::ServePlaid { kind, database, key }) => {
            runtime.block_on(plaid::serve(kind, database, key))
        }
        Some(Command::Stream { address, token }) => {
            runtime.block_on(memory::stream(address, &token))
        }
        Some(Command::Fetch { address, token }) => runtime.block_on(items::fetch(address, &token)),
        None => runtime.block_on(measure(&arguments)),
    }
}

async fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let plan = Plan {
        rounds: arguments.rounds.max(1),
        turn: Duration::from_millis(arguments.turn_ms.max(1)),
        connections: arguments.connections.max(1),
    };
    let mut report = Report::new(arguments.only.clone());
    items::measure(&mut report, arguments.items, arguments.updates, arguments.stream).await;
    plaid::measure(&mut report, plan, arguments.items).await;
    process::pin_load();
    decode::measure(&mut report, plan);
    decode::measure_tolerant(&mut report, plan);
    serving::measure(&mut report, plan).await;
    if !arguments.no_peers {
        peers::measure(&mut report, plan).await;
    }
    history::measure(&mut report, arguments.history).await;
    memory::measure(&mut report, arguments.stream).await;
    report.print();
    Ok(())
}
