//! The command line and its `--help` texts.

use clap::{ArgGroup, Args, Parser, Subcommand};
use px_types::{
    AccountId, ApplicationId, Date, InstitutionId, ItemId, UserId, model::product::Product,
    webhook::Environment,
};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

const EXAMPLES: &str = "\
Examples:
  px link --institution first-bank --redirect-uri http://127.0.0.1:9000/back
  px run --workers 4
  px items
  px item 5YkZ3 --transactions --from 2026-01-01
  px items --json | jq -r 'select(.error) | .id'

Files:
  px.db            the database, unless --database names another one
  px.key           seals the tokens in it; keep a copy in a safe place
  px.webhook.pem   signs webhooks, and notifications to institutions
  px.partners.json the institutions: a list of objects with institution_id, base_url,
                   client_id, and client_secret_file or client_secret_env. Optional members:
                   issuer, scope, per_second, at_once, revocation_ends_grant. For a bank
                   with its own identity provider: discover (true: the issuer publishes its
                   endpoints), or authorization_endpoint, token_endpoint,
                   revocation_endpoint, client_secret_in_body

`px run` notifies institutions of connected and disconnected applications
(POST /applications/notify). `px keys` prints the key with which they verify the notifications.

Secrets are not accepted on the command line, because every user of the machine could see them.
Set a database's password in PX_DATABASE, PGPASSWORD or ~/.pgpass.

Exit codes:
  0  success
  1  failure; one line on standard error states the cause and what to do next
  2  the command line or the partners file is wrong
  3  an Item failed, in `px sync` or `px run --until-idle`
  4  unknown Item, application or institution
  130, 143  ended immediately by a second SIGINT or SIGTERM; no data is lost";

/// Keeps Items up to date: users' accounts and transactions at institutions.
#[derive(Debug, Parser)]
#[command(name = "px", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The options of every command.
#[derive(Args, Debug)]
pub(crate) struct Common {
    /// The database of the Items: sqlite:FILE or postgres://USER@HOST/NAME
    #[arg(long, global = true, value_name = "URL", env = "PX_DATABASE", hide_env_values = true)]
    #[arg(default_value = "sqlite:px.db")]
    pub(crate) database: String,
    /// The file with the key that seals tokens [default: px.key beside an SQLite database]
    #[arg(long, global = true, value_name = "FILE", env = "PX_KEY_FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// The file that lists the institutions
    #[arg(long, global = true, value_name = "FILE", env = "PX_PARTNERS")]
    #[arg(default_value = "px.partners.json")]
    pub(crate) partners: PathBuf,
    /// Print JSON, one object per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The environment that webhooks name
    #[arg(long, global = true, value_name = "NAME", value_parser = environment)]
    #[arg(env = "PX_ENVIRONMENT", default_value = "development")]
    pub(crate) environment: Environment,
    /// Call institutions over plain http on other machines too; anyone on the network path can read it
    #[arg(long, global = true)]
    pub(crate) allow_plain_http: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Connect an application to a user's accounts at an institution
    Link(Link),
    /// List the Items
    Items,
    /// Show one Item
    Item(Show),
    /// Update one Item now
    Sync {
        /// The Item
        #[arg(value_name = "ITEM", allow_hyphen_values = true)]
        item: ItemId,
    },
    /// Keep all Items up to date until stopped
    Run(Run),
    /// Disconnect an application from an Item; the last one removes the Item
    Unlink(Unlink),
    /// List data on hold that awaits a decision, and decisions that can be undone
    Review(Review),
    /// Decide that data on hold is new, and that the old data no longer exists
    Accept(Decide),
    /// Decide that data on hold is the Item's existing data under new ids of the institution
    Remap {
        #[command(flatten)]
        decide: Decide,
        #[command(flatten)]
        onto: Account,
    },
    /// Create missing keys; print the public key with which receivers verify webhooks
    Keys(Keys),
}

const LINK_EXAMPLES: &str = "\
Examples:
  The user signs in at the institution, in a browser on this machine. The institution must
  know the redirect URI:
    px link --institution first-bank --redirect-uri http://127.0.0.1:9000/back

  With tokens from elsewhere: an object with access_token and issued_at, and optionally
  refresh_token, expires_at, scope and user_id:
    px link --institution first-bank --tokens - < tokens.json

  For two applications; the second sees only one account:
    px link --institution first-bank --application budget --redirect-uri http://127.0.0.1:9000/back
    px link --institution first-bank --application loans --product auth --account checking-1 \\
        --redirect-uri http://127.0.0.1:9000/back";

#[derive(Args, Debug)]
#[command(after_help = LINK_EXAMPLES)]
#[command(group(ArgGroup::new("authorization").required(true).args(["redirect_uri", "tokens", "resume"])))]
pub(crate) struct Link {
    /// The institution's id in the partners file
    #[arg(long, value_name = "ID")]
    pub(crate) institution: InstitutionId,
    /// The application to connect
    #[arg(long, value_name = "ID", default_value = "px")]
    pub(crate) application: ApplicationId,
    /// The application's name, which the institution shows to the user
    #[arg(long, value_name = "NAME")]
    pub(crate) application_name: Option<String>,
    /// A product that the application uses; may be given several times
    #[arg(long, value_name = "NAME", value_parser = product, default_value = "transactions")]
    pub(crate) product: Vec<Product>,
    /// An account that the application may see; may be given several times [default: all allowed]
    #[arg(long, value_name = "ID")]
    pub(crate) account: Vec<AccountId>,
    /// Do not share accounts that the user opens later
    #[arg(long)]
    pub(crate) no_new_accounts: bool,
    /// The address for the application's webhooks
    #[arg(long, value_name = "URL", value_parser = web_address)]
    pub(crate) webhook: Option<String>,
    /// Sign the user in with a browser; the institution redirects to this address
    #[arg(long, value_name = "URL", value_parser = loopback)]
    pub(crate) redirect_uri: Option<url::Url>,
    /// A file with the user's tokens; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
    /// Continue a failed link with its stored tokens; its error printed this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) resume: Option<String>,
    /// The user, if the tokens do not name one; without either, the institution is queried
    #[arg(long, value_name = "ID")]
    pub(crate) user_id: Option<UserId>,
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// The Item
    #[arg(value_name = "ITEM", allow_hyphen_values = true)]
    pub(crate) item: ItemId,
    /// Show the accounts with their balances
    #[arg(long)]
    pub(crate) accounts: bool,
    /// Show the transactions
    #[arg(long)]
    pub(crate) transactions: bool,
    /// The first date of transactions
    #[arg(long, value_name = "DATE", requires = "transactions")]
    pub(crate) from: Option<Date>,
    /// The last date of transactions
    #[arg(long, value_name = "DATE", requires = "transactions")]
    pub(crate) to: Option<Date>,
}

const RUN_EXAMPLES: &str = "\
Examples:
  px run --workers 4
  px run --workers 8 --database postgres://px@db/px --key-file /etc/px/key \\
      --webhook-key /etc/px/webhook.pem --metrics 127.0.0.1:9100
  px run --until-idle --json > events.ndjson
  px run --after-restore      refresh tokens slowly; check `px items` for Items that need a sign-in

On a terminal it shows the Items and the progress of initial fetches. Otherwise, and with --json,
it prints one line for each event. SIGINT (Ctrl-C) or SIGTERM ends it after running updates are
finished or handed back. A second signal ends it immediately; no data is lost.";

#[derive(Args, Debug)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct Run {
    /// Number of Items that are updated concurrently
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: u16,
    /// End when no Item is due or being updated
    #[arg(long)]
    pub(crate) until_idle: bool,
    /// Time after which the Item of a worker that no longer responds is taken over
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "20s")]
    pub(crate) lease: Duration,
    /// After a restore of the database, or a fail-over that lost commits: use stored access tokens as
    /// long as they are valid, and refresh the tokens of one Item every TIME. Run this on one machine only
    #[arg(long, value_name = "TIME", value_parser = time, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "10s")]
    pub(crate) after_restore: Option<Duration>,
    /// Serve metrics for Prometheus at this address, under /metrics
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) webhook_key: WebhookKey,
    /// Send webhooks to private addresses and over plain http too, for development on one machine
    #[arg(long)]
    pub(crate) allow_private_webhooks: bool,
}

const KEYS_EXAMPLES: &str = "\
Examples:
  px keys
  px keys --usage
  px keys --usage --json | jq -r 'select(.in_file | not) | .key_id'
  px keys --reseal

To change the key that seals tokens:
  1. Add a line `NAME BASE64` with 32 random bytes to the key file of every machine.
     The old key still seals. A file with several keys has a line `seal-with NAME`.
  2. Once every machine has the new key, change that line on every machine, and start the
     programs again.
  3. px keys --reseal
  4. Once `px keys --usage` shows no secret under the old key, remove its line.

Both can run while other programs run. --reseal can be stopped at any time and started again.
Exit code 1 means that secrets cannot be opened: their key is not in the file, or they are damaged.";

#[derive(Args, Debug)]
#[command(after_help = KEYS_EXAMPLES)]
pub(crate) struct Keys {
    #[command(flatten)]
    pub(crate) webhook_key: WebhookKey,
    /// Count the stored secrets under each key that seals tokens; create and print no key
    #[arg(long, conflicts_with = "reseal")]
    pub(crate) usage: bool,
    /// Seal stored secrets again that are not under the current sealing key; create and print no key
    #[arg(long)]
    pub(crate) reseal: bool,
}

#[derive(Args, Debug)]
pub(crate) struct WebhookKey {
    /// The key that signs webhooks (PKCS#8, PEM) [default: px.webhook.pem beside an SQLite database]
    #[arg(long, value_name = "FILE", env = "PX_WEBHOOK_KEY")]
    pub(crate) webhook_key: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("who").required(true).args(["application", "all"])))]
pub(crate) struct Unlink {
    /// The Item
    #[arg(value_name = "ITEM", allow_hyphen_values = true)]
    pub(crate) item: ItemId,
    /// The application
    #[arg(long, value_name = "ID")]
    pub(crate) application: Option<ApplicationId>,
    /// All applications: the Item's data is deleted and its tokens are revoked
    #[arg(long)]
    pub(crate) all: bool,
}

const REVIEW_EXAMPLES: &str = "\
Examples:
  px review
  px review --institution first-bank --json
  px remap --institution first-bank     the bank changed its ids; the data is the same
  px accept 5YkZ3 --account savings-2   this account on hold is new
  px review --undo 5YkZ3

Data is put on hold if known transactions or accounts arrive under new ids, or if a response may
belong to another customer. New transactions are imported meanwhile. If only one Item has data on
hold, the program decides after a day. If many Items of an institution have, an operator decides.";

/// The scope of a decision.
#[derive(Args, Debug)]
pub(crate) struct Scope {
    /// The Item
    #[arg(value_name = "ITEM", allow_hyphen_values = true, conflicts_with = "institution")]
    pub(crate) item: Option<ItemId>,
    /// All Items of an institution, including those found within the next 30 days
    #[arg(long, value_name = "ID")]
    pub(crate) institution: Option<InstitutionId>,
}

#[derive(Args, Debug)]
#[command(after_help = REVIEW_EXAMPLES)]
pub(crate) struct Review {
    #[command(flatten)]
    pub(crate) scope: Scope,
    /// Undo the last decision; possible until the next deep resync
    #[arg(long)]
    pub(crate) undo: bool,
    /// The operator's name, for the record of decisions
    #[arg(long, value_name = "NAME", env = "PX_OPERATOR", default_value = "operator")]
    pub(crate) by: String,
}

#[derive(Args, Debug)]
#[command(after_help = REVIEW_EXAMPLES)]
pub(crate) struct Decide {
    #[command(flatten)]
    pub(crate) scope: Scope,
    /// One account on hold instead of all data on hold
    #[arg(long, value_name = "ID", requires = "item")]
    pub(crate) account: Option<AccountId>,
    /// The operator's name, for the record of decisions
    #[arg(long, value_name = "NAME", env = "PX_OPERATOR", default_value = "operator")]
    pub(crate) by: String,
}

#[derive(Args, Debug)]
pub(crate) struct Account {
    /// The existing account that it corresponds to, if not the one that it resembles
    #[arg(long, value_name = "ID", requires = "account")]
    pub(crate) onto: Option<AccountId>,
}

fn environment(text: &str) -> Result<Environment, String> {
    let environment = Environment::from(text);
    environment
        .is_known()
        .then_some(environment)
        .ok_or_else(|| one_of(Environment::ALL.iter().map(Environment::as_str)))
}

fn product(text: &str) -> Result<Product, String> {
    let product = Product::from(text);
    product
        .is_known()
        .then_some(product)
        .ok_or_else(|| one_of(Product::ALL.iter().map(Product::as_str)))
}

fn one_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    format!("it is one of {}", names.collect::<Vec<_>>().join(", "))
}

fn web_address(text: &str) -> Result<String, String> {
    match url::Url::parse(text) {
        Ok(url) if url.has_host() && matches!(url.scheme(), "http" | "https") => {
            Ok(text.to_owned())
        }
        _ => Err("not an absolute URL such as https://app.example/hooks".to_owned()),
    }
}

/// Parses a redirect URI at which this program can listen.
fn loopback(text: &str) -> Result<url::Url, String> {
    let wrong = "it must lead to this machine, such as http://127.0.0.1:9000/back";
    let url = url::Url::parse(text).map_err(|_| wrong.to_owned())?;
    let here = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    let fits = url.scheme() == "http" && here && url.port().is_some() && url.query().is_none();
    fits.then_some(url).ok_or_else(|| wrong.to_owned())
}

/// Parses a time such as `500ms`, `60s` or `5m`.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "not a time such as 500ms, 60s or 5m, at most an hour".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u32 = number.parse().map_err(|_| wrong())?;
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        _ => return Err(wrong()),
    };
    let time = unit.checked_mul(number).ok_or_else(wrong)?;
    let sound = (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&time);
    sound.then_some(time).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_have_a_unit_and_a_limit() {
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(time("5m"), Ok(Duration::from_secs(300)));
        for text in ["", "5", "ms", "-1s", "1h", "99ms", "61m", "4294967295m", "1.5s"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_redirect_leads_to_this_machine() {
        assert!(loopback("http://127.0.0.1:9000/back").is_ok());
        assert!(loopback("http://[::1]:9000/").is_ok());
        for text in [
            "https://127.0.0.1:9/",
            "http://10.0.0.1:9/",
            "http://127.0.0.1/",
            "x",
            "http://127.0.0.1:9/?a=1",
        ] {
            assert!(loopback(text).is_err(), "{text}");
        }
    }
}
