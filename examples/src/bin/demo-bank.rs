//! `demo-bank`: serves the demo bank, imports a ledger, advances the bank's clock.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints to its user")]

use clap::{Args, CommandFactory as _, Parser, Subcommand, error::ErrorKind};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use demo_bank::{
    Bank, BankConfig, OpenError,
    ledger::{Database, Ledger, fill::FillOptions, import::Progress},
    listen::is_loopback,
    password::PASSWORD,
    plaid_side::{Offer, PlaidSide},
    scenario::{Factor, QUESTIONS, SCENARIOS, TOTP_SECRET},
    signal,
    text::log_writer,
};
use indicatif::{ProgressBar, ProgressStyle};
use px_core::{Clock as _, ReqwestTransport, SystemClock, text};
use px_server::{clients::MIN_SECRET_BYTES, hyper::Server};
use px_types::{
    ApplicationId, ClientId, ClientSecret, Date, InstitutionId, TargetApplicationToken,
};
use std::{
    error::Error,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::net::TcpListener;

const EXAMPLES: &str = "\
Examples:
  head -c 24 /dev/urandom | base64 > secret.txt
  demo-bank serve --listen 127.0.0.1:8080 --database bank.sqlite \\
      --client-id plaid --client-secret-file secret.txt \\
      --redirect-uri http://127.0.0.1:9000/back
  demo-bank advance 14d --database bank.sqlite
  demo-bank import ledger.ndjson.gz --database bank.sqlite

Exit codes: 0 success, 1 failure, 2 usage error.";

/// A demo bank that serves Plaid Exchange, with generated customers.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the bank: API, OAuth and pages. A new bank gets generated customers.
    #[command(after_help = EXAMPLES)]
    Serve(Box<Serve>),
    /// Import a ledger (NDJSON, plain or gzip). Its users sign in with `pass_good`.
    ///
    /// Each line is an object with exactly one key of user, identity, account, security and
    /// transaction. If a line is invalid, all invalid lines are listed and nothing is imported.
    #[command(after_help = EXAMPLES)]
    Import {
        /// The ledger.
        file: PathBuf,
        /// The bank's database; created if it does not exist.
        #[arg(long)]
        database: PathBuf,
        /// The date at which the clock of a new bank starts, instead of today.
        #[arg(long, hide = true)]
        start_date: Option<Date>,
    },
    /// Advance the bank's clock. The bank may be running.
    #[command(after_help = EXAMPLES)]
    Advance {
        /// Days (14d) or weeks (2w), at most 3650 days.
        #[arg(value_parser = days)]
        by: i64,
        /// The bank's database.
        #[arg(long)]
        database: PathBuf,
    },
}

#[derive(Args)]
struct Serve {
    /// Address to listen on; port 0 lets the system choose.
    #[arg(long, default_value = "127.0.0.1:8080", value_parser = address)]
    listen: String,
    /// Allow addresses that others can reach, although the customers' passwords are published.
    #[arg(long)]
    allow_insecure: bool,
    /// The bank's database, created if it does not exist; `:memory:` stores nothing.
    #[arg(long)]
    database: PathBuf,
    /// The id of the bank's client, which is Plaid's id.
    #[arg(long)]
    client_id: ClientId,
    /// File with the client's secret of at least 16 characters; a trailing newline is ignored.
    #[arg(long)]
    client_secret_file: PathBuf,
    /// The client's name, shown to users.
    #[arg(long, default_value = demo_bank::PLAID_NAME)]
    client_name: String,
    /// Redirect URIs of the client; one or more.
    #[arg(long, required = true, num_args = 1..)]
    redirect_uri: Vec<String>,
    /// The bank's public URL [default: http://ADDR].
    #[arg(long)]
    issuer: Option<String>,
    /// Requests per second of each client and user [default: no limit].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate_limit: Option<u32>,
    #[command(flatten)]
    plaid: PlaidFlags,
    /// Seed of the generated customers of a new bank.
    #[arg(long, default_value_t = FillOptions::default().seed)]
    seed: u64,
    /// Number of customers of a new bank, beside the scenario users.
    #[arg(long, default_value_t = FillOptions::default().users, value_parser = clap::value_parser!(u32).range(..=10_000))]
    users: u32,
    /// The date at which the clock of a new bank starts, instead of today.
    #[arg(long, hide = true)]
    start_date: Option<Date>,
}

/// The Plaid that the bank calls, for the connected apps on its site and for notifications.
#[derive(Args)]
struct PlaidFlags {
    /// Base URL of Plaid's API; without it the bank calls no Plaid.
    #[arg(long, value_name = "URL", requires_all = ["plaid_client_id", "plaid_secret_file"])]
    plaid_url: Option<String>,
    /// The bank's id at Plaid.
    #[arg(long, value_name = "ID", requires = "plaid_url")]
    plaid_client_id: Option<ClientId>,
    /// File with the bank's secret at Plaid; a trailing newline is ignored.
    #[arg(long, value_name = "FILE", requires = "plaid_url")]
    plaid_secret_file: Option<PathBuf>,
    /// The bank's institution id at Plaid; notifications for another institution are refused.
    #[arg(long, value_name = "ID", requires = "plaid_url")]
    plaid_institution_id: Option<InstitutionId>,
    /// Plaid's page for customers, which takes a link token [default: URL/link].
    #[arg(long, value_name = "URL", requires = "plaid_url")]
    plaid_link_page: Option<String>,
    /// Application that customers can connect from the bank's site: its id at Plaid, the bank's
    /// token for it, and its name; one or more.
    #[arg(long, value_name = "ID=TOKEN=NAME", num_args = 1.., value_parser = offer, requires = "plaid_url")]
    plaid_app: Vec<Offer>,
}

impl PlaidFlags {
    fn side(self) -> Result<Option<PlaidSide>, Box<dyn Error>> {
        let (Some(url), Some(id), Some(file)) =
            (self.plaid_url, self.plaid_client_id, self.plaid_secret_file)
        else {
            return Ok(None);
        };
        let transport = Arc::new(ReqwestTransport::new()?);
        let mut side = PlaidSide::new(url, id, secret(&file)?, transport);
        side.link_page = self.plaid_link_page.unwrap_or(side.link_page);
        side.offers = self.plaid_app;
        side.institution_id = self.plaid_institution_id;
        Ok(Some(side))
    }
}

fn offer(text: &str) -> Result<Offer, String> {
    let mut parts = text.splitn(3, '=');
    let part =
        |part: Option<&str>| part.map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned);
    let (id, token, name) = (part(parts.next()), part(parts.next()), part(parts.next()));
    let (Some(id), Some(token), Some(name)) = (id, token, name) else {
        return Err("not an id, a token and a name such as budget-app=target-1=Budget App".into());
    };
    let application_id = ApplicationId::new(id).map_err(|error| error.to_string())?;
    let target = TargetApplicationToken::new(token);
    Ok(Offer { name, application_id: Some(application_id), target })
}

/// Reads a secret from a file.
fn secret(file: &Path) -> Result<ClientSecret, String> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(format!("{}: the secret is empty", file.display())),
        secret if secret.len() < MIN_SECRET_BYTES => {
            let error = format!(
                "{}: the secret has fewer than {MIN_SECRET_BYTES} characters and can be guessed; generate a random one",
                file.display()
            );
            Cli::command().error(ErrorKind::ValueValidation, error).exit()
        }
        secret => Ok(ClientSecret::new(secret)),
    }
}

fn days(text: &str) -> Result<i64, String> {
    let (number, length) = match text.strip_suffix('w') {
        Some(weeks) => (weeks, 7),
        None => (text.strip_suffix('d').unwrap_or(text), 1),
    };
    let number: i64 = number.parse().map_err(|_| "not a number of days such as 14d".to_owned())?;
    match number.checked_mul(length) {
        Some(days @ 1..=3650) => Ok(days),
        _ => Err("the clock can be advanced by 1 to 3650 days at a time".to_owned()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(log_writer).init();
    let done = match Cli::parse().command {
        Command::Serve(options) => serve(*options).await,
        Command::Import { file, database, start_date } => {
            import(&file, &database, start_date).await
        }
        Command::Advance { by, database } => advance(by, &database).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", text::lines(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: Serve) -> Result<(), Box<dyn Error>> {
    if !options.allow_insecure && !is_loopback(&options.listen) {
        let error = format!(
            "--listen {}: others can reach this address, and the password of every customer of this bank is \
             published ({PASSWORD}). Listen on 127.0.0.1, or add --allow-insecure",
            options.listen
        );
        Cli::command().error(ErrorKind::ValueValidation, error).exit();
    }
    let secret = secret(&options.client_secret_file)?;
    let plaid = options.plaid.side()?;
    // Signals are caught before the bank opens, because that takes a while.
    let stop = signal::shutdown_requested()?;
    let listener = TcpListener::bind(&options.listen).await;
    let listener = listener.map_err(|error| format!("--listen {}: {error}", options.listen))?;
    let address = listener.local_addr()?;
    let issuer = options.issuer.unwrap_or_else(|| format!("http://{address}"));
    let mut config =
        BankConfig::new(issuer.clone(), options.client_id, secret, options.redirect_uri);
    config.client_name = options.client_name;
    config.database = Database::from(options.database.as_path());
    config.fill_options =
        Some(FillOptions { seed: options.seed, users: options.users, busy: true });
    config.rate_limit = options.rate_limit;
    config.start_date = options.start_date;
    config.plaid = plaid;
    config.outbox = Arc::new(say);
    tokio::pin!(stop);
    let bank = tokio::select! {
        bank = Bank::open(config) => bank.map_err(wrong_usage)?,
        () = &mut stop => {
            say("Stopped.");
            return Ok(());
        }
    };
    say(&format!("{}\n", users(&bank).await?));
    say(&format!("The bank's date is {}.", bank.today().await?));
    if issuer != format!("http://{address}") {
        say(&format!("The bank's issuer is {issuer}."));
    }
    say(&format!("The customers' site is {issuer}/home"));
    say(&format!("Listening on http://{address}"));
    // The event streams of open pages would delay the shutdown until its time limit.
    let stop = async {
        stop.await;
        bank.close();
    };
    Server::new().serve_until(listener, bank.router(), stop).await?;
    if let Some(notifier) = bank.notifier() {
        // Notifications that Plaid does not accept now are stored, and sent at the next start.
        let left = notifier.shutdown(Duration::from_secs(5)).await?;
        if left > 0 {
            say(&format!("{left} notifications to Plaid are pending."));
        }
    }
    say("Stopped.");
    Ok(())
}

/// Checks for an address with a port, without resolving its name.
fn address(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port));
    match port.map(str::parse::<u16>) {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err("not an address and a port such as 127.0.0.1:8080".to_owned()),
    }
}

/// Exits with code 2 if the error is an invalid setting.
fn wrong_usage(error: OpenError) -> OpenError {
    if matches!(error, OpenError::RedirectUri(_) | OpenError::OAuth(_) | OpenError::PlaidSide(_)) {
        Cli::command().error(ErrorKind::ValueValidation, error).exit();
    }
    error
}

/// Prints a line and flushes it, because another program may read the pipe.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The bank continues if its output is closed.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Returns a table of the scenario users and their credentials.
async fn users(bank: &Bank) -> Result<Table, Box<dyn Error>> {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["username", "signs in with", "what for"]);
    let names = bank.ledger().usernames().await?;
    for scenario in
        SCENARIOS.iter().filter(|scenario| names.iter().any(|name| name == scenario.username))
    {
        let signs_in = match scenario.factor {
            Factor::None => PASSWORD.to_owned(),
            Factor::Otp => format!("{PASSWORD}, then the code that is printed here"),
            Factor::Kba => {
                let answers = QUESTIONS.iter().map(|(id, .., answer)| format!("{id}: {answer}"));
                format!("{PASSWORD}, then {}", answers.collect::<Vec<_>>().join(", "))
            }
            Factor::Totp => format!("{PASSWORD}, then TOTP with {TOTP_SECRET}"),
            Factor::Locked => "nothing".to_owned(),
        };
        table.add_row([scenario.username, &signs_in, scenario.about]);
    }
    let others = names.iter().filter(|name| demo_bank::scenario::of(name).is_none());
    let others: Vec<&String> = others.collect();
    if let (Some(first), Some(last)) = (others.first(), others.last()) {
        let names =
            if others.len() == 1 { (*first).clone() } else { format!("{first} … {last}") };
        table.add_row([names, PASSWORD.to_owned(), format!("{} other users", others.len())]);
    }
    Ok(table)
}

async fn import(file: &Path, database: &Path, start: Option<Date>) -> Result<(), Box<dyn Error>> {
    let size =
        std::fs::metadata(file).map_err(|error| format!("{}: {error}", file.display()))?.len();
    let today = start.unwrap_or_else(|| Date::from(SystemClock::new().now().date_naive()));
    let ledger = Ledger::open(&Database::from(database), today).await?;
    let bar = std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new(size);
        let style = ProgressStyle::with_template("{msg:>8} {wide_bar} {percent:>3}%");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar
    });
    let mut tenths = 0;
    let imported = ledger
        .import(file, |progress| {
            let (what, done, of) = match progress {
                Progress::Reading(bytes) => ("reading", bytes, size),
                Progress::Writing(rows, of) => ("writing", rows, of),
                _ => return,
            };
            match &bar {
                Some(bar) => {
                    bar.set_message(what);
                    bar.set_length(of.max(1));
                    bar.set_position(done);
                }
                None => {
                    let now = (what == "writing", done * 10 / of.max(1));
                    let now = u64::from(now.0) * 11 + now.1;
                    if now > tenths {
                        tenths = now;
                        eprintln!("{what}: {}%", done * 100 / of.max(1));
                    }
                }
            }
        })
        .await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let imported = imported?;
    say(&format!(
        "imported {} users, {} identities, {} accounts, {} securities, {} transactions",
        imported.users,
        imported.identities,
        imported.accounts,
        imported.securities,
        imported.transactions
    ));
    Ok(())
}

async fn advance(days: i64, database: &Path) -> Result<(), Box<dyn Error>> {
    if !database.exists() {
        return Err(format!(
            "{}: no such database; `demo-bank serve` creates one",
            database.display()
        )
        .into());
    }
    if std::fs::metadata(database)?.len() == 0 {
        return Err(format!("{}: not a bank's database: it is empty", database.display()).into());
    }
    let today = Date::from(SystemClock::new().now().date_naive());
    let ledger = Ledger::open(&Database::from(database), today).await?;
    let done = ledger.advance(days).await?;
    say(&format!(
        "from {} to {}: {} new transactions, {} posted or changed, {} gone",
        done.from, done.to, done.new, done.changed, done.gone
    ));
    Ok(())
}
