//! `px`: links Items, keeps them up to date, and shows their state.
//!
//! Each command is a module of [`command`].

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
        .with_writer(|| output::LogWriter)
        .init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::because("cannot start", &error).report(),
    };
    let done = runtime.block_on(command::run(&cli));
    // Slow calls to the system, such as a name lookup, must not delay the end of the program.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Parses the command line. If it is wrong, the program ends with 2.
fn parse() -> Cli {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let typed = matches.value_source("database") == Some(ValueSource::CommandLine);
    if typed && database::has_password(&cli.common.database) {
        let text = "--database contains a password, which every user of this machine can see; \
                    set it in PX_DATABASE, PGPASSWORD or ~/.pgpass";
        Cli::command().error(ErrorKind::ValueValidation, text).exit();
    }
    cli
}
