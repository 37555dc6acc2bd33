//! A demonstration of Plaid Exchange: the lifecycle of an Item.
//!
//! Starts the demo bank on loopback, and simulates Plaid and two applications. Everything goes over
//! HTTP, as it would between companies. [`browser`] simulates the user's browser.

mod application;
mod browser;
mod clock;
mod plaid;
mod report;
mod story;

use clap::Parser;
use demo_bank::{
    Bank, BankConfig,
    ledger::{fill::FillOptions, import::Progress},
    password::PASSWORD,
    plaid::ops::Metrics,
    setup::{Addresses, DemoSetup},
};
use indicatif::{ProgressBar, ProgressStyle};
use plaid::Plaid;
use px_core::{Random as _, SystemRandom};
use px_server::hyper::Server;
use px_types::{ClientId, ClientSecret};
use report::{say, step};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};
use story::Scene;
use tokio::net::TcpListener;

/// Demonstrates Plaid Exchange: starts a bank on this machine and runs through the lifecycle of an
/// Item.
///
/// A user connects an application, Plaid fetches two years, a second application joins, two weeks
/// pass and the bank notifies, an authorization is revoked and renewed, all applications leave.
/// Webhooks are signed, sent and verified.
#[derive(Debug, Parser)]
#[command(
    name = "demo",
    version,
    after_help = "EXAMPLES:\n  demo\n  demo --user user_busy\n  demo --ledger books.ndjson.gz --user user2\n  demo --serve\n\n\
                  EXIT CODES:\n  0  success\n  1  failure; one line names the error\n  2  usage error"
)]
struct Arguments {
    /// Use another bank's ledger: NDJSON, optionally gzip (see `demo-bank import --help`)
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Sign in as this user [default: user_good, or the first user of the ledger]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Serve the bank, Plaid and two applications for a browser instead; Ctrl-C ends them
    #[arg(long)]
    serve: bool,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let line = px_core::text::printable(&error.to_string(), usize::MAX);
            let _ = writeln!(std::io::stderr(), "demo: {line}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    if arguments.serve {
        return serve(arguments.ledger.as_deref()).await;
    }
    step(1, "A bank opens on this machine");
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let issuer = format!("http://{}", listener.local_addr()?);
    let secret = random_secret()?;
    // The data of `user_busy` would take most of the time.
    let busy = arguments.user.as_deref() == Some("user_busy");
    let fill_options =
        arguments.ledger.is_none().then(|| FillOptions { busy, ..FillOptions::default() });
    let bank = open_bank(&issuer, &secret, fill_options, arguments.ledger.as_deref()).await?;
    let names = bank.ledger().usernames().await?;
    let username = match (&arguments.user, &arguments.ledger) {
        (Some(name), _) => name.clone(),
        (None, Some(_)) => names.first().ok_or("the ledger has no users")?.clone(),
        (None, None) => "user_good".to_owned(),
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let until = async { drop(stopped.await) };
    let router = bank.router();
    let server =
        tokio::spawn(async move { Server::new().serve_until(listener, router, until).await });
    say!("   {} users at {issuer}; its date is {}", names.len(), bank.today().await?);

    let plaid = Plaid::new(&issuer, secret).await?;
    let scene = Scene { bank: &bank, issuer: &issuer, username: &username, names: &names };
    story::run(&scene, &plaid).await?;

    let _ = stop.send(());
    server.await??;
    Ok(())
}

/// Serves everything, to be used in a browser.
async fn serve(ledger: Option<&Path>) -> Result<(), Failure> {
    // Signals are caught before anything opens, because that takes a while.
    let stop = demo_bank::signal::shutdown_requested()?;
    let metrics = Metrics::install()?;
    let setup = DemoSetup::open(Some(metrics), |bank, _| {
        if ledger.is_some() {
            bank.fill_options = None;
        }
    })
    .await?;
    if let Some(file) = ledger {
        import(&setup.bank, file).await?;
    }
    let names = setup.bank.ledger().usernames().await?;
    let user = match names.iter().find(|name| *name == "user_good") {
        Some(name) => name,
        None => names.first().ok_or("the ledger has no users")?,
    };
    let Addresses { bank, plaid, ops, applications } = &setup.addresses;
    say!("   the bank's site    {bank}/");
    say!("   the Link page      {applications}/  (an application that opens {plaid}/link)");
    say!("                      whose household signs in with {}", setup.plaid.app_password());
    say!("   the metrics        {ops}/metrics");
    say!("   sign in as {user} with the password {PASSWORD}; Ctrl-C ends everything");
    setup.serve(stop).await
}

async fn open_bank(
    issuer: &str,
    secret: &ClientSecret,
    fill_options: Option<FillOptions>,
    ledger: Option<&Path>,
) -> Result<Bank, Failure> {
    let client_id = ClientId::new(plaid::CLIENT_ID)?;
    let redirect = [plaid::REDIRECT_URI.to_owned()];
    let mut config = BankConfig::new(issuer, client_id, secret.clone(), redirect);
    config.fill_options = fill_options;
    let bank = Bank::open(config).await?;
    if let Some(file) = ledger {
        import(&bank, file).await?;
    }
    Ok(bank)
}

/// Imports another bank's ledger.
async fn import(bank: &Bank, file: &Path) -> Result<(), Failure> {
    let bar = ProgressBar::new(std::fs::metadata(file)?.len())
        .with_style(ProgressStyle::with_template("   {bar:40} {percent}% {msg}")?);
    let progress = |progress| match progress {
        Progress::Reading(bytes) => {
            bar.set_message("of the ledger read");
            bar.set_position(bytes);
        }
        Progress::Writing(done, all) => {
            bar.set_message("of the transactions written");
            bar.set_length(all);
            bar.set_position(done);
        }
        _ => {}
    };
    let imported = bank.ledger().import(file, progress).await?;
    bar.finish_and_clear();
    say!(
        "   The ledger has {} users, {} accounts and {} transactions",
        imported.users,
        imported.accounts,
        imported.transactions
    );
    Ok(())
}

/// Generates Plaid's secret at the bank for one run.
fn random_secret() -> Result<ClientSecret, Failure> {
    let mut bytes = [0; 32];
    SystemRandom.fill(&mut bytes);
    Ok(ClientSecret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}
