//! What a demo Plaid is set up with: where it listens, what it keeps, who its clients are.
//!
//! `layer` reads the settings (file, then environment, then flags: the later one wins), `parties`
//! names banks and applications, `check` says what is refused, `files` what is wrong with the files
//! that are named, `show` prints it without secrets. Nothing here listens, or makes anything.

mod check;
mod files;
mod layer;
mod parties;
mod show;

pub use self::{
    check::Problem,
    layer::{ConfigError, Environ, Overrides},
    parties::{Application, Icon, Institution, SignInMode, Target},
};

use px_types::{ApplicationId, ClientId, ClientSecret, InstitutionId, webhook::Environment};
use std::path::PathBuf;

/// What the program is run for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// To look at: comes with example clients whose secrets everybody knows.
    #[default]
    Demo,
    /// To be reached by others: refuses to start with anything that is only fit for a demo.
    Production,
}

impl Profile {
    /// Its name in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Production => "production",
        }
    }
}

/// How TLS is spoken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Not at all: this machine only.
    #[default]
    None,
    /// By this program, with a certificate chain and its key, both PEM.
    Files {
        /// The chain, leaf first.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// By a proxy in front of this program, which says so.
    Proxy,
}

/// Where Items are kept.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// In memory, for as long as the program runs.
    Memory,
    /// One SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL server; the address may hold a password.
    Postgres(url::Url),
}

/// The settings, complete.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it is run for.
    pub profile: Profile,
    /// Where API and Link page listen; port 0 lets the system choose.
    pub listen: String,
    /// The address that browsers and clients know it by, without a slash at the end.
    pub public_url: String,
    /// Where health and metrics listen; nowhere when `None`.
    pub metrics_listen: Option<String>,
    /// Where the example application listens; nowhere when `None`.
    pub app_listen: Option<String>,
    /// Where Items are kept.
    pub database: Database,
    /// The key that seals tokens; beside an SQLite database when `None`.
    pub key_file: Option<PathBuf>,
    /// The key that signs webhooks; beside an SQLite database when `None`.
    pub webhook_key_file: Option<PathBuf>,
    /// How TLS is spoken.
    pub tls: Tls,
    /// Whether webhooks may go to this machine, over plain http.
    pub local_webhooks: bool,
    /// Whether webhooks may go to any private address, over plain http.
    pub private_webhooks: bool,
    /// Whether the program starts although others can reach what is fit for a demo only.
    pub allow_insecure: bool,
    /// The environment that tokens and webhooks name.
    pub environment: Environment,
    /// Items that are worked on at once.
    pub workers: usize,
    /// Calls per second for each client; no limit when `None`.
    pub rate_limit: Option<u32>,
    /// The banks.
    pub institutions: Vec<Institution>,
    /// The applications.
    pub applications: Vec<Application>,
}

impl Config {
    /// The bank of an id.
    #[must_use]
    pub fn institution(&self, id: &InstitutionId) -> Option<&Institution> {
        self.institutions.iter().find(|institution| institution.id == *id)
    }

    /// The application of an id.
    #[must_use]
    pub fn application(&self, id: &ApplicationId) -> Option<&Application> {
        self.applications.iter().find(|application| application.id == *id)
    }

    /// Every client of this service with its secret: banks, then applications.
    pub fn clients(&self) -> impl Iterator<Item = (&ClientId, &ClientSecret)> {
        let banks = self.institutions.iter().map(|bank| (&bank.client_id, &bank.secret));
        banks.chain(self.applications.iter().map(|app| (&app.client_id, &app.secret)))
    }
}
