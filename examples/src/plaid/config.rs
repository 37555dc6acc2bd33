//! The configuration of a demo Plaid: addresses, database, keys and clients.
//!
//! `layer` reads the settings from the file, the environment and the flags; the later source wins.
//! `parties` has the banks and applications, `check` the validation, `files` the check of the named
//! files, `show` the output without secrets. Nothing here listens or creates files.

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

/// The purpose for which the program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// A demonstration, with example clients and published secrets.
    #[default]
    Demo,
    /// A public service. Refuses settings that are suitable for a demo only.
    Production,
}

impl Profile {
    /// Returns the name of the profile in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Production => "production",
        }
    }
}

/// The TLS setup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// No TLS: this machine only.
    #[default]
    None,
    /// TLS by this program, with a certificate chain and its key, both PEM.
    Files {
        /// The chain, leaf first.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// TLS by a proxy in front of this program.
    Proxy,
}

/// The database of the Items.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// In memory, until the program ends.
    Memory,
    /// One SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL server. The URL may contain a password.
    Postgres(url::Url),
}

/// The complete settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The profile.
    pub profile: Profile,
    /// The address at which the API and the Link page listen. Port 0 lets the system choose.
    pub listen: String,
    /// The public URL for browsers and clients, without a slash at the end.
    pub public_url: String,
    /// The address of the health and metrics endpoints. `None` turns them off.
    pub metrics_listen: Option<String>,
    /// The address of the example applications. `None` turns them off.
    pub app_listen: Option<String>,
    /// The database of the Items.
    pub database: Database,
    /// The file of the key that seals tokens. With `None`, it is beside the SQLite database.
    pub key_file: Option<PathBuf>,
    /// The file of the key that signs webhooks. With `None`, it is beside the SQLite database.
    pub webhook_key_file: Option<PathBuf>,
    /// The TLS setup.
    pub tls: Tls,
    /// Whether webhooks may go to this machine, over plain http.
    pub local_webhooks: bool,
    /// Whether webhooks may go to any private address, over plain http.
    pub private_webhooks: bool,
    /// Whether the program starts if others can reach what is suitable for a demo only.
    pub allow_insecure: bool,
    /// The environment that tokens and webhooks name.
    pub environment: Environment,
    /// The number of Items that are processed concurrently.
    pub workers: usize,
    /// The rate limit of each client, in requests per second. `None` means no limit.
    pub rate_limit: Option<u32>,
    /// The banks.
    pub institutions: Vec<Institution>,
    /// The applications.
    pub applications: Vec<Application>,
}

impl Config {
    /// Returns the bank of an id.
    #[must_use]
    pub fn institution(&self, id: &InstitutionId) -> Option<&Institution> {
        self.institutions.iter().find(|institution| institution.id == *id)
    }

    /// Returns the application of an id.
    #[must_use]
    pub fn application(&self, id: &ApplicationId) -> Option<&Application> {
        self.applications.iter().find(|application| application.id == *id)
    }

    /// Returns every client of this service with its secret: banks, then applications.
    pub fn clients(&self) -> impl Iterator<Item = (&ClientId, &ClientSecret)> {
        let banks = self.institutions.iter().map(|bank| (&bank.client_id, &bank.secret));
        banks.chain(self.applications.iter().map(|app| (&app.client_id, &app.secret)))
    }
}
