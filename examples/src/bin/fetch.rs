//! Reads a user's accounts and transactions from any partner and prints them as NDJSON.

use clap::{ArgGroup, Parser};
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use px_client::{HistoryEvent, PartnerClient, credentials::SignInStep};
use px_core::{Clock as _, ReqwestTransport, SystemClock, text};
use px_types::{
    AccessToken, ClientId, ClientSecret, Date, Fault, KbaAnswer, OneTimeCode, Password, UserId,
    Username,
};
use serde::Serialize;
use std::{
    error::Error as StdError,
    fmt,
    io::{self, BufWriter, IsTerminal as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// The number of days that are read by default.
const DEFAULT_DAYS: u64 = 730;
/// Time limit of an answer to a challenge; challenges expire after the same time.
const PROMPT_TIMEOUT: Duration = Duration::from_secs(300);

/// Reads a user's accounts and transactions from any Plaid Exchange partner.
///
/// Prints NDJSON: one line {"user": …} with the accounts response, then one line {"transaction": …}
/// per transaction in the order received. If the partner violates the contract, everything readable
/// is read, and a line {"fault": …} names the place and the rule; it is printed on standard error
/// too. Progress goes to standard error.
#[derive(Parser)]
#[command(
    name = "fetch",
    version,
    after_help = "\
Examples:
  With an access token of the user:
    fetch --base-url https://bank.example/px --user-id u-1 --token-file token.txt

  One month of it:
    fetch --base-url https://bank.example/px --user-id u-1 --token-file token.txt \\
          --start-date 2024-01-01 --end-date 2024-01-31

  With name and password (credentials mode); challenges are prompted on the terminal:
    fetch --base-url https://bank.example/px --username ann --password-file pw.txt \\
          --client-id plaid --client-secret-file secret.txt

Exit codes:
  0  everything readable was read, and it was consistent
  1  failure; one line on standard error names the error and what to do next;
     or, with --strict, there was a fault
  2  usage error",
    group(ArgGroup::new("mode").required(true).args(["token_file", "username"]))
)]
struct Arguments {
    /// Base URL of the partner's API, including a path prefix
    #[arg(long, value_name = "URL", value_parser = base_url)]
    base_url: String,
    /// The user's id [default: requested from the partner]
    #[arg(long, value_name = "ID")]
    user_id: Option<UserId>,
    /// File with the user's access token
    #[arg(long, value_name = "FILE", conflicts_with_all = ["username", "password_file"])]
    token_file: Option<PathBuf>,
    /// The user's name for sign-in
    #[arg(long, value_name = "NAME", requires_all = ["password_file", "client_id", "client_secret_file"])]
    username: Option<String>,
    /// File with the user's password
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
    /// This client's id at the partner
    #[arg(long, value_name = "ID")]
    client_id: Option<ClientId>,
    /// File with this client's secret
    #[arg(long, value_name = "FILE")]
    client_secret_file: Option<PathBuf>,
    /// First date to read [default: 730 days before the last]
    #[arg(long, value_name = "DATE")]
    start_date: Option<Date>,
    /// Last date to read [default: today, UTC]
    #[arg(long, value_name = "DATE")]
    end_date: Option<Date>,
    /// End with exit code 1 if the partner violates the contract anywhere
    #[arg(long)]
    strict: bool,
    /// Allow plain http to other machines, where anyone on the network path can read the token
    #[arg(long)]
    allow_plain_http: bool,
}

/// Checks for an absolute `http` or `https` URL. The client checks the rest.
fn base_url(text: &str) -> Result<String, String> {
    match text.parse::<http::Uri>() {
        Ok(uri) if uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")) => {
            Ok(text.to_owned())
        }
        _ => Err("not an absolute URL such as https://bank.example/px".to_owned()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::because("cannot start", &error)),
    };
    let strict = arguments.strict;
    let result = runtime.block_on(run(arguments));
    // An unanswered prompt must not delay the exit.
    runtime.shutdown_background();
    match result {
        Ok(faults) if strict && faults > 0 => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(failure) if failure.stdout_closed => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

/// Reads and prints everything. Returns the number of faults.
async fn run(arguments: Arguments) -> Result<u64, Failure> {
    let clock = SystemClock::new();
    let end = arguments.end_date.unwrap_or_else(|| Date::from(clock.now().date_naive()));
    let start = arguments.start_date.unwrap_or_else(|| end.minus_days(DEFAULT_DAYS));
    if start > end {
        use clap::{CommandFactory as _, error::ErrorKind};
        let text = "--start-date is later than --end-date";
        Arguments::command().error(ErrorKind::ValueValidation, text).exit();
    }
    let mut transport = ReqwestTransport::builder();
    if arguments.allow_plain_http {
        transport = transport.allow_plain_http();
    }
    let transport =
        transport.build().map_err(|e| Failure::because("cannot set up the network", &e))?;
    let mut client = PartnerClient::builder(&arguments.base_url, transport);
    if let (Some(id), Some(file)) = (&arguments.client_id, &arguments.client_secret_file) {
        client = client.client(id.clone(), ClientSecret::new(read_secret(file)?));
    }
    let client = client.build()?;
    let (client, user_id) = sign_in(&arguments, client).await?;

    let mut output = Output::new();
    let user = client.user(&user_id).await?;
    output.write(&OutputLine::User(&user))?;
    let mut faults = Faults::default();
    for fault in user.faults() {
        faults.report(fault, &mut output)?;
    }
    output.flush()?;

    let mut progress = Progress::new();
    let mut events = client.transactions(&user_id, start, end).into_events();
    let mut count = 0;
    while let Some(event) = events.next().await {
        let transaction = match event {
            Ok(HistoryEvent::Transaction(transaction)) => transaction,
            Ok(HistoryEvent::Fault(fault)) => {
                faults.report(&fault, &mut output)?;
                continue;
            }
            // An event of a later version of the client.
            Ok(_) => continue,
            Err(error) => {
                progress.clear();
                // All printed transactions came from completely read windows.
                output.flush()?;
                return Err(error.into());
            }
        };
        if count == 0 {
            progress.total(events.total());
        }
        output.write(&OutputLine::Transaction(&*transaction))?;
        count += 1;
        progress.at(count);
    }
    output.flush()?;
    progress.done(user.accounts.len(), count);
    faults.done();
    Ok(faults.count)
}

/// Returns the client with the user's token, and the user.
async fn sign_in(
    arguments: &Arguments,
    client: PartnerClient,
) -> Result<(PartnerClient, UserId), Failure> {
    if let Some(file) = &arguments.token_file {
        let client = client.with_token(AccessToken::new(read_secret(file)?));
        let user_id = match &arguments.user_id {
            Some(user_id) => user_id.clone(),
            None => client.current_user().await?.user_id,
        };
        return Ok((client, user_id));
    }
    let (Some(username), Some(file)) = (&arguments.username, &arguments.password_file) else {
        return Err(Failure::new("give --token-file, or --username and --password-file"));
    };
    let password = Password::new(read_secret(file)?);
    let mut step = client.sign_in(Username::new(username.as_str()), password).await?;
    loop {
        step = match step {
            SignInStep::Done(token) => {
                return Ok((client.with_token(token.auth_token), token.user_id));
            }
            SignInStep::Otp(otp) => {
                let mut text = String::from("A one-time code will be sent. Where to?\n");
                for (i, delivery) in otp.deliveries().iter().enumerate() {
                    let (method, mask) = (delivery.method.as_str(), &delivery.mask);
                    text += &format!("  {} {} {}\n", i + 1, printable(method), printable(mask));
                }
                let choice = match otp.deliveries() {
                    [] => return Err(Failure::new("the partner offers no way to send a code")),
                    [_] => 1,
                    several => choose(text, several.len()).await?,
                };
                let delivery = otp.deliveries()[choice - 1].id.clone();
                let sent = otp.send(&delivery).await?;
                let code = prompt("Code that was sent: ".into()).await?;
                sent.answer(OneTimeCode::new(code)).await?
            }
            SignInStep::Totp(totp) => {
                let code = prompt("Code of your authenticator: ".into()).await?;
                totp.answer(OneTimeCode::new(code)).await?
            }
            SignInStep::Kba(kba) => {
                let mut answers = Vec::new();
                for question in kba.questions() {
                    let mut text = printable(&question.text);
                    for choice in &question.choices {
                        text += &format!("\n  {}", printable(choice));
                    }
                    let answer = prompt(format!("{text}\nAnswer: ")).await?;
                    answers.push((question.id.clone(), KbaAnswer::new(answer)));
                }
                kba.answer(answers).await?
            }
            _ => {
                return Err(Failure::new(
                    "the partner requires a challenge that this program does not support; update the program",
                ));
            }
        };
    }
}

/// Prompts for one of several choices.
async fn choose(text: String, several: usize) -> Result<usize, Failure> {
    let answer = prompt(format!("{text}Number: ")).await?;
    match answer.parse() {
        Ok(choice) if (1..=several).contains(&choice) => Ok(choice),
        _ => Err(Failure::new(format!("the answer must be a number from 1 to {several}"))),
    }
}

/// Prompts on standard error and reads a line of standard input.
async fn prompt(text: String) -> Result<String, Failure> {
    let mut errors = io::stderr();
    let _ = errors.write_all(text.as_bytes());
    let _ = errors.flush();
    let reading = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|bytes| (bytes, line))
    });
    let read = tokio::time::timeout(PROMPT_TIMEOUT, reading).await;
    if !io::stdin().is_terminal() {
        // The input contained no echoed newline, so the next output needs one.
        let _ = errors.write_all(b"\n");
    }
    match read {
        Err(_) => Err(Failure::new("no answer to the challenge within 5 minutes; start again")),
        Ok(Ok(Ok((0, _)))) => Err(Failure::new(
            "the partner requires a challenge and standard input has no answer; \
             run it on a terminal, or give one line per question",
        )),
        Ok(Ok(Ok((_, line)))) => Ok(line.trim().to_owned()),
        Ok(Ok(Err(e))) => Err(Failure::because("cannot read standard input", &e)),
        Ok(Err(e)) => Err(Failure::because("cannot read standard input", &e)),
    }
}

/// Reads a secret from a file, which may end in a newline.
fn read_secret(file: &Path) -> Result<String, Failure> {
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|e| Failure::because(format!("cannot read {name}"), &e))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(Failure::new(format!("{name} is empty")));
    }
    Ok(text.to_owned())
}

/// Removes characters from a partner's text that could move the cursor or reorder the line.
fn printable(text: &str) -> String {
    text::printable(text, 300)
}

/// A line of the output.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum OutputLine<'a, T: Serialize> {
    User(&'a T),
    Transaction(&'a T),
    Fault(&'a Fault),
}

/// The faults of the partner: all of them on standard output, the first ones on standard error.
#[derive(Default)]
struct Faults {
    count: u64,
}

/// Maximum number of faults that are printed on standard error.
const MAX_PRINTED_FAULTS: u64 = 20;

impl Faults {
    fn report(&mut self, fault: &Fault, output: &mut Output) -> Result<(), Failure> {
        self.count += 1;
        if self.count <= MAX_PRINTED_FAULTS {
            say(format_args!("{fault} [{}]", fault.rule()));
        }
        output.write(&OutputLine::<()>::Fault(fault))
    }

    fn done(&self) {
        if let more @ 1.. = self.count.saturating_sub(MAX_PRINTED_FAULTS) {
            say(format_args!("{more} more faults, all of them on standard output"));
        }
    }
}

/// Standard output, with errors that name it.
struct Output(BufWriter<io::Stdout>);

impl Output {
    fn new() -> Self {
        Self(BufWriter::with_capacity(1 << 16, io::stdout()))
    }

    fn write(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        let json = serde_json::to_string(line).map_err(io::Error::from);
        json.and_then(|json| writeln!(self.0, "{}", text::escape_json(&json)))
            .map_err(|e| Failure::writing(&e))
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush().map_err(|e| Failure::writing(&e))
    }
}

/// The progress: a bar on a terminal, few lines elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    next_line: u64,
}

impl Progress {
    fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            let template = "{spinner} {pos} of {len} transactions {wide_bar} {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, next_line: 10_000 }
    }

    fn total(&mut self, total: Option<u64>) {
        if let (Some(bar), Some(total)) = (&self.bar, total) {
            bar.set_length(total);
        }
    }

    fn at(&mut self, count: u64) {
        if let Some(bar) = &self.bar {
            if count.is_multiple_of(100) {
                bar.set_position(count);
            }
        } else if count >= self.next_line {
            self.next_line *= 2;
            say(format_args!("{count} transactions so far"));
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn done(mut self, accounts: usize, transactions: u64) {
        self.clear();
        say(format_args!("{accounts} accounts, {transactions} transactions"));
    }
}

/// The error that ends the program, as one line.
#[derive(Debug)]
struct Failure {
    line: String,
    /// Whether the reader of standard output closed it, which is no failure.
    stdout_closed: bool,
}

impl Failure {
    fn new(line: impl Into<String>) -> Self {
        Self { line: line.into(), stdout_closed: false }
    }

    fn because(what: impl fmt::Display, cause: &dyn StdError) -> Self {
        let mut line = format!("{what}: {cause}");
        let mut below = cause.source();
        while let Some(cause) = below {
            line += &format!(": {cause}");
            below = cause.source();
        }
        Self::new(line)
    }

    fn writing(error: &io::Error) -> Self {
        Self {
            line: format!("cannot write to standard output: {error}"),
            stdout_closed: error.kind() == io::ErrorKind::BrokenPipe,
        }
    }
}

impl From<px_client::Error> for Failure {
    fn from(error: px_client::Error) -> Self {
        Self::new(error.to_string())
    }
}

fn fail(failure: &Failure) -> ExitCode {
    say(format_args!("{}", failure.line));
    ExitCode::FAILURE
}

/// Prints a line on standard error. Ignores a closed standard error.
fn say(line: fmt::Arguments<'_>) {
    let line = text::printable(&line.to_string(), usize::MAX);
    let _ = writeln!(io::stderr(), "fetch: {line}");
}
