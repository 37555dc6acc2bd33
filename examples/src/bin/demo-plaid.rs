//! `demo-plaid`: serves the demo Plaid, and checks its configuration.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints to its user")]

use clap::{Args, Parser, Subcommand};
use demo_bank::{
    plaid::{
        Config, DemoPlaid, OpenError, Parts,
        config::{Overrides, Problem, Tls},
        ops::Metrics,
    },
    signal,
    text::log_writer,
};
use px_core::text::printable;
use px_server::hyper::{Server, Tls as ServerTls};
use serde_json::json;
use std::{error::Error, io::Write as _, path::PathBuf, process::ExitCode};
use tokio::{net::TcpListener, sync::watch};

const EXAMPLES: &str = "\
Examples:
  demo-plaid serve                                  a demo beside `demo-bank serve`, in memory
  demo-plaid serve --database sqlite:plaid.sqlite --listen 127.0.0.1:9000
  demo-plaid config example > plaid.toml            a file to begin with
  demo-plaid config check --config plaid.toml       every setting, without secrets
  PX_PLAID_SECRET_BUDGET_APP=… demo-plaid serve --config plaid.toml --profile production

Settings come from the file, then from PX_PLAID_… in the environment, then from flags: the later one wins.
In the environment, PX_PLAID_SECRET_<CLIENT ID> is the secret of a client, and
PX_PLAID_BANK_SECRET_<INSTITUTION ID> is the secret of this service at a bank.

Exit codes: 0 success, 1 failure, 2 usage error or invalid configuration.";

/// A demo Plaid that serves Plaid Exchange: API, Link page, webhooks.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API, the Link page, metrics and the example applications, and update Items.
    #[command(after_help = EXAMPLES)]
    Serve(Box<Settings>),
    /// Check the configuration, or print an example.
    #[command(subcommand, after_help = EXAMPLES)]
    Config(ConfigCommand),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Print every setting without secrets, and the problems that prevent a start.
    #[command(after_help = EXAMPLES)]
    Check(Box<Settings>),
    /// Print the built-in configuration, as a file to start from.
    Example,
}

#[derive(Args)]
struct Settings {
    /// Configuration file, TOML.
    #[arg(long, env = "PX_PLAID_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON, one document per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    over: Overrides,
}

/// The failure of the program.
enum Failure {
    /// Wrong usage or an invalid configuration.
    Usage(String),
    /// Any other error.
    Failed(Box<dyn Error>),
}

impl<E: Into<Box<dyn Error>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(log_writer).init();
    let done = match Cli::parse().command {
        Command::Serve(settings) => serve(*settings).await,
        Command::Config(ConfigCommand::Check(settings)) => check(*settings),
        Command::Config(ConfigCommand::Example) => {
            say(Config::example().trim_end());
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(what)) => {
            for line in what.lines() {
                eprintln!("error: {}", printable(line, usize::MAX));
            }
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) => {
            eprintln!("error: {}", printable(&error.to_string(), usize::MAX));
            ExitCode::FAILURE
        }
    }
}

fn read(settings: Settings) -> Result<Config, Failure> {
    let environ = |name: &str| std::env::var(name).ok();
    Config::read(settings.config.as_deref(), settings.over, &environ)
        .map_err(|error| Failure::Usage(error.to_string()))
}

fn check(settings: Settings) -> Result<(), Failure> {
    let as_json = settings.json;
    let config = read(settings)?;
    let mut problems = config.problems();
    problems.extend(config.file_problems());
    if as_json {
        let found: Vec<_> = problems
            .iter()
            .map(|problem| json!({ "setting": problem.setting, "problem": problem.what }))
            .collect();
        say(&json!({ "settings": config.redacted(), "problems": found }).to_string());
    } else {
        for line in config.lines() {
            say(&line);
        }
    }
    if problems.is_empty() {
        if !as_json {
            say("No problems found.");
        }
        return Ok(());
    }
    Err(invalid(&problems))
}

fn invalid(problems: &[Problem]) -> Failure {
    Failure::Usage(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

async fn serve(settings: Settings) -> Result<(), Failure> {
    let as_json = settings.json;
    let mut config = read(settings)?;
    // Reports all unusable files at once, with their settings.
    if let problems @ [_, ..] = &*config.file_problems() {
        return Err(invalid(problems));
    }
    // Signals are caught before anything opens.
    let stop = signal::shutdown_requested()?;
    let listener = bind("listen", &config.listen).await?;
    let address = listener.local_addr()?;
    if config.listen.ends_with(":0") && config.public_url == format!("http://{}", config.listen) {
        config.public_url = format!("http://{address}");
    }
    let metrics = match &config.metrics_listen {
        Some(address) => Some(bind("metrics_listen", address).await?),
        None => None,
    };
    let app = match &config.app_listen {
        Some(address) => Some(bind("app_listen", address).await?),
        None => None,
    };
    let mut server = Server::new();
    if let Tls::Files { certificate, key } = &config.tls {
        let read = |file: &PathBuf| {
            std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))
        };
        server = server.tls(ServerTls::from_pem(&read(certificate)?, &read(key)?)?);
    }
    let mut parts = Parts::system(&config)?;
    if metrics.is_some() {
        parts.metrics = Some(Metrics::install()?);
    }
    let plaid = match DemoPlaid::open(config, parts).await {
        Ok(plaid) => plaid,
        Err(error @ (OpenError::Config(_) | OpenError::RedirectUri(_))) => {
            return Err(Failure::Usage(error.to_string()));
        }
        Err(error) => return Err(error.into()),
    };

    let at = |listener: &Option<TcpListener>| {
        listener.as_ref().and_then(|listener| listener.local_addr().ok())
    };
    let (metrics_at, app_at) = (at(&metrics), at(&app));
    if as_json {
        say(&json!({
            "listening": address.to_string(), "public_url": plaid.config().public_url,
            "metrics": metrics_at.map(|at| format!("http://{at}/metrics")),
            "application": app_at.map(|at| format!("http://{at}")),
            "application_password": app_at.map(|_| plaid.app_password()),
        })
        .to_string());
    } else {
        say(&format!("Plaid is {}", plaid.config().public_url));
        if let Some(at) = metrics_at {
            say(&format!("Health and metrics: http://{at}/healthz, http://{at}/metrics"));
        }
        if let Some(at) = app_at {
            say(&format!("Example application: http://{at}, password {}", plaid.app_password()));
        }
        say(&format!("Listening on {address}"));
    }

    let (stopping, stopped) = watch::channel(false);
    let until = || {
        let mut stopped = stopped.clone();
        async move {
            // The sender lives as long as this call.
            let _ = stopped.wait_for(|stop| *stop).await;
        }
    };
    let signal = async {
        stop.await;
        stopping.send_replace(true);
    };
    let plain = Server::new();
    let side = async |listener: Option<TcpListener>, router| match listener {
        Some(listener) => plain.serve_until(listener, router, until()).await.map(drop),
        None => Ok(()),
    };
    let (served, metrics_served, app_served, (), ()) = tokio::join!(
        server.serve_until(listener, plaid.router(), until()),
        side(metrics, plaid.ops_router()),
        side(app, plaid.app_router()?),
        plaid.work(until()),
        signal,
    );
    served?;
    metrics_served?;
    app_served?;
    if !as_json {
        say("Stopped.");
    }
    Ok(())
}

async fn bind(setting: &str, address: &str) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| Failure::from(format!("{setting} {address}: {error}")))
}

/// Prints a line and flushes it, because another program may read the pipe.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The service continues if its output is closed.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
