//! `px`: links Items, keeps them in sync, shows how they are.
//!
//! Each command is a module of [`command`]; what they share stands beside it.

mod cli;
mod command;
mod context;
mod database;
mod display;
mod events;
mod failure;
mod http;
mod metrics;
mod output;
mod partners;
mod secret_file;
mod signal;
mod view;
mod webhook_key;

use clap::{CommandFactory as _, FromArgMatches as _, error::ErrorKind, parser::ValueSource};
use cli::Cli;
use failure::Failure;
use std::{io::IsTerminal as _, process::ExitCode};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = parse();
    let filter = EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(|| output::Log)
        .init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::because("cannot start", &error).report(),
    };
    let done = runtime.block_on(command::run(&cli));
    // What the system is slow to answer must not hold the program up.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Reads the command line. What is wrong with it ends the program with 2.
fn parse() -> Cli {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let typed = matches.value_source("database") == Some(ValueSource::CommandLine);
    if typed && database::has_password(&cli.common.database) {
        let text = "--database has a password in it, which every user of this machine can see; \
                    give it by PX_DATABASE, PGPASSWORD or ~/.pgpass";
        Cli::command().error(ErrorKind::ValueValidation, text).exit();
    }
    cli
}
