//! Side-by-side benchmarks. Prints one table of ratios, each within this run.
//!
//! `just bench`, or `cargo run --release -p px-bench`. The server runs as a process of its
//! own on one core and the load on another, where the machine has two and `taskset`.
//! "/s" means requests per second of the server's processor time: what the core gives if it
//! does nothing else. The two sides of a line take turns and their medians are compared, so
//! that a machine which is busy in one minute and idle in the next does not decide.

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

/// Whatever goes wrong ends the run or one line of it, as text.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Compares PX with what one would write without it, and with peers.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to run; all of it by default.
    #[command(subcommand)]
    command: Option<Command>,
    /// Only the lines of which the name contains this.
    #[arg(long)]
    only: Option<String>,
    /// How often the two sides of a line take turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long one turn takes, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    turn_ms: u64,
    /// Connections of the load generator.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Transactions of the long history.
    #[arg(long, default_value_t = 24_000)]
    history: usize,
    /// Transactions that the client streams while its memory is watched.
    #[arg(long, default_value_t = 100_000)]
    stream: usize,
    /// Items in the store, for what must not depend on how many there are.
    #[arg(long, default_value_t = 1_000_000)]
    items: usize,
    /// Items that are updated one after the other.
    #[arg(long, default_value_t = 2000)]
    updates: usize,
    /// Leaves out the peers from other languages, which are installed from their registries.
    #[arg(long)]
    no_peers: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves; started by the benchmark itself.
    #[command(hide = true)]
    Serve {
        /// Which server.
        kind: serve::Kind,
        /// How many transactions the user has.
        transactions: usize,
    },
    /// Serves Plaid's API; started by the benchmark itself.
    #[command(hide = true)]
    ServePlaid {
        /// Which server.
        kind: plaid::Kind,
        /// Where Items are kept.
        database: String,
        /// The key that seals tokens.
        key: std::path::PathBuf,
    },
    /// Streams a history and prints its memory; started by the benchmark itself.
    #[command(hide = true)]
    Stream {
        /// Where the server is.
        address: std::net::SocketAddr,
        /// The bearer token.
        token: String,
    },
    /// Fetches an Item and prints its memory; started by the benchmark itself.
    #[command(hide = true)]
    Fetch {
        /// Where the server is.
        address: std::net::SocketAddr,
        /// The bearer token.
        token: String,
    },
}

/// What every line needs.
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
