//! A bank and a reader of it, at work: what Plaid Exchange is, told by a program.
//!
//! Starts the demo bank on loopback and plays Plaid. Everything goes over HTTP, as it would
//! between two companies; the user's browser is played by [`browser`].

mod browser;
mod plaid;
mod report;
mod update;

use clap::Parser;
use demo_bank::{Bank, BankConfig, ledger::import::Progress, password::PASSWORD};
use indicatif::{ProgressBar, ProgressStyle};
use plaid::Plaid;
use px_server::{
    clock::{Random as _, SystemRandom},
    hyper::Server,
};
use px_types::{ClientId, ClientSecret};
use report::{say, step};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};
use tokio::net::TcpListener;

/// Shows Plaid Exchange at work: starts a bank on this machine, signs a user in by OAuth,
/// reads accounts and two years of transactions, lets two weeks pass and reads again.
#[derive(Debug, Parser)]
#[command(
    name = "demo",
    version,
    after_help = "EXAMPLES:\n  demo\n  demo --user user_busy\n  demo --ledger books.ndjson.gz --user user2\n  demo --serve\n\n\
                  EXIT CODES:\n  0  everything went as it should\n  1  something failed; one line says what\n  2  wrong usage"
)]
struct Arguments {
    /// Run on another bank's books: NDJSON, optionally gzip (see `demo-bank import --help`)
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Sign in as this user; with a ledger the first one in it, else user_good
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Leave the bank up and print its addresses; Ctrl-C ends it
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
            let _ = writeln!(std::io::stderr(), "demo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    step(1, "A bank opens on this machine");
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let issuer = format!("http://{}", listener.local_addr()?);
    let secret = random_secret()?;
    let bank = open_bank(&issuer, &secret, arguments.ledger.as_deref()).await?;
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

    story(&bank, &issuer, secret, &username, &names).await?;

    if arguments.serve {
        say!("\nThe bank stays up. Ctrl-C ends it.");
        say!("   the API            {issuer}/users/{{user_id}}");
        say!("   OAuth metadata     {issuer}/.well-known/oauth-authorization-server");
        say!("   users sign in with the password {PASSWORD}");
        demo_bank::signal::asked_to_end()?.await;
    }
    let _ = stop.send(());
    server.await??;
    Ok(())
}

/// What Plaid does with a bank, from the first consent to the first update.
async fn story(
    bank: &Bank,
    issuer: &str,
    secret: ClientSecret,
    username: &str,
    names: &[String],
) -> Result<(), Failure> {
    step(2, "A user connects an application");
    let plaid = Plaid::new(issuer, secret)?;
    let mut item = plaid.connect(issuer, username, PASSWORD).await?;

    step(3, "Plaid reads the accounts");
    let user = item.user().await?;
    report::accounts(&user);

    step(4, "Plaid reads two years of transactions");
    let connected_on = bank.today().await?;
    item.read_history(connected_on).await?;
    say!(
        "   {} transactions, {} of them pending; the latest:",
        item.transactions.len(),
        item.pending()
    );
    report::transactions(item.latest(10), &user);

    step(5, "Nobody reads what is not theirs");
    if let Some(other) = names.iter().find(|name| *name != username) {
        let other = bank.ledger().user_by_name(other).await?.ok_or("a user without an entry")?;
        say!("   Plaid asks for {} with the token of {}:", other.user_id, item.user_id);
        say!("   {}", item.try_another(&other.user_id).await?);
    }

    step(6, "Two weeks pass at the bank");
    bank.advance(14).await?;
    let today = bank.today().await?;
    let (start, changes) = item.update(connected_on, today).await?;
    say!("   The bank's date is {today}. An update asks for {start} to {today}:");
    let mut balances = item.user().await?;
    plaid::tell(&changes, &balances);
    balances.accounts.retain(|account| {
        user.accounts
            .iter()
            .any(|old| old.id == account.id && old.current_balance != account.current_balance)
    });
    if !balances.accounts.is_empty() {
        say!("   Balances that changed:");
        report::accounts(&balances);
    }
    Ok(())
}

async fn open_bank(
    issuer: &str,
    secret: &ClientSecret,
    books: Option<&Path>,
) -> Result<Bank, Failure> {
    let client_id = ClientId::new(plaid::CLIENT_ID)?;
    let redirect = [plaid::REDIRECT_URI.to_owned()];
    let mut config = BankConfig::new(issuer, client_id, secret.clone(), redirect);
    if books.is_some() {
        config.filling = None;
    }
    let bank = Bank::open(config).await?;
    if let Some(file) = books {
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
    }
    Ok(bank)
}

/// Plaid's secret at the bank, made anew for each run.
fn random_secret() -> Result<ClientSecret, Failure> {
    let mut bytes = [0; 32];
    SystemRandom.fill(&mut bytes)?;
    Ok(ClientSecret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}
