//! The layers of settings: built-in, file, environment, flags. The later one wins.

use super::{
    Config, Database, Profile, Tls,
    parties::{ApplicationEntry, InstitutionEntry},
};
use clap::Args;
use px_types::webhook::Environment;
use serde::Deserialize;
use std::{fmt, io, path::Path, path::PathBuf};

/// The built-in configuration.
pub(super) const DEMO: &str = include_str!("demo.toml");

/// The URLs of the demo's parties in it.
const DEMO_BANK: &str = "http://127.0.0.1:8080";
const DEMO_PLAID: &str = "http://127.0.0.1:9000";
const DEMO_APP: &str = "http://127.0.0.1:9200";

/// A lookup of environment variables.
pub type Environ<'e> = dyn Fn(&str) -> Option<String> + 'e;

/// An error of reading the configuration. Contains no secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    pub(super) fn file(file: &Path, error: &io::Error) -> Self {
        Self(format!("{}: {error}", file.display()))
    }
}

/// The settings of one layer. `None` leaves a setting to the layer before.
///
/// The names are the same in the file, as flags, and after `PX_PLAID_` in the environment.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overrides {
    /// Purpose of the service: `production` refuses settings that are suitable for a demo only.
    #[arg(long, env = "PX_PLAID_PROFILE")]
    pub profile: Option<Profile>,
    /// Address of the API and the Link page; port 0 lets the system choose.
    #[arg(long, env = "PX_PLAID_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Public URL for browsers and clients [default: http://ADDRESS].
    #[arg(long, env = "PX_PLAID_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// Address of the health and metrics endpoints; "" turns them off.
    #[arg(long, env = "PX_PLAID_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<String>,
    /// Address of the example applications; "" turns them off.
    #[arg(long, env = "PX_PLAID_APP_LISTEN", value_name = "ADDRESS")]
    pub app_listen: Option<String>,
    /// Database: memory:, sqlite:FILE or postgres://USER:PASSWORD@HOST/NAME.
    #[arg(long, env = "PX_PLAID_DATABASE", hide_env_values = true, value_name = "URL")]
    pub database: Option<String>,
    /// File of the key that seals tokens [default: beside the SQLite database].
    #[arg(long, env = "PX_PLAID_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// File of the key that signs webhooks [default: beside the SQLite database].
    #[arg(long, env = "PX_PLAID_WEBHOOK_KEY_FILE", value_name = "FILE")]
    pub webhook_key_file: Option<PathBuf>,
    /// Certificate chain, leaf first, PEM.
    #[arg(long, env = "PX_PLAID_TLS_CERTIFICATE", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// Private key of the certificate, PEM.
    #[arg(long, env = "PX_PLAID_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// A proxy in front of this program serves TLS.
    #[arg(long, env = "PX_PLAID_TLS_PROXY", num_args = 0..=1, default_missing_value = "true")]
    pub tls_proxy: Option<bool>,
    /// Allow webhooks to this machine, over plain http.
    #[arg(long, env = "PX_PLAID_LOCAL_WEBHOOKS", num_args = 0..=1, default_missing_value = "true")]
    pub local_webhooks: Option<bool>,
    /// Allow webhooks to any private address, over plain http; needs `allow_insecure`.
    #[arg(long, env = "PX_PLAID_PRIVATE_WEBHOOKS", num_args = 0..=1, default_missing_value = "true")]
    pub private_webhooks: Option<bool>,
    /// Start even if others can reach what is suitable for a demo only.
    #[arg(long, env = "PX_PLAID_ALLOW_INSECURE", num_args = 0..=1, default_missing_value = "true")]
    pub allow_insecure: Option<bool>,
    /// Environment that tokens and webhooks name.
    #[arg(long, env = "PX_PLAID_ENVIRONMENT", value_name = "NAME")]
    pub environment: Option<String>,
    /// Number of Items that are processed concurrently.
    #[arg(long, env = "PX_PLAID_WORKERS", value_name = "COUNT")]
    pub workers: Option<usize>,
    /// Requests per second of each client; 0 for no limit.
    #[arg(long, env = "PX_PLAID_RATE_LIMIT", value_name = "CALLS")]
    pub rate_limit: Option<u32>,
}

/// The content of a configuration file.
struct File {
    settings: Overrides,
    institutions: Option<Vec<InstitutionEntry>>,
    applications: Option<Vec<ApplicationEntry>>,
    /// The folder of the configuration file, to which file names are relative.
    folder: PathBuf,
}

impl Config {
    /// Reads the settings of the file, if one is given, of the environment and of the flags.
    ///
    /// Banks or applications in a file replace those of the demo. The profile `production` never
    /// contains those of the demo. [`problems`](Self::problems) validates the result.
    ///
    /// # Errors
    /// If a file cannot be read or parsed, a required setting or a secret is missing, or a setting
    /// is invalid.
    pub fn read(
        file: Option<&Path>,
        over: Overrides,
        environ: &Environ<'_>,
    ) -> Result<Self, ConfigError> {
        let built_in = File::parse(DEMO, Path::new(""), "the built-in configuration")?;
        let file = match file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| ConfigError::file(path, &error))?;
                let folder = path.parent().unwrap_or(Path::new(""));
                Some(File::parse(&text, folder, &path.display().to_string())?)
            }
            None => None,
        };
        Self::complete(built_in, file, over, environ)
    }

    /// Returns the configuration of a demo with one bank and two applications, on this machine and
    /// in memory.
    ///
    /// # Errors
    /// Only if the built-in configuration is broken.
    pub fn demo() -> Result<Self, ConfigError> {
        Self::demo_at(DEMO_BANK, DEMO_PLAID, DEMO_APP)
    }

    /// Returns the configuration of the demo with other addresses of the bank, the service and the
    /// example applications.
    ///
    /// # Errors
    /// Only if the built-in configuration is broken with these addresses.
    pub fn demo_at(bank: &str, public_url: &str, app: &str) -> Result<Self, ConfigError> {
        let text =
            DEMO.replace(DEMO_BANK, bank).replace(DEMO_PLAID, public_url).replace(DEMO_APP, app);
        let file = File::parse(&text, Path::new(""), "the built-in configuration")?;
        Self::complete(file, None, Overrides::default(), &|_| None)
    }

    /// Returns the built-in configuration as the text of an example file.
    #[must_use]
    pub fn example() -> &'static str {
        DEMO
    }

    fn complete(
        built_in: File,
        file: Option<File>,
        over: Overrides,
        environ: &Environ<'_>,
    ) -> Result<Self, ConfigError> {
        let (folder, own, mut institutions, mut applications) = match file {
            Some(file) => (file.folder, file.settings, file.institutions, file.applications),
            None => (PathBuf::new(), Overrides::default(), None, None),
        };
        let own = own.in_folder(&folder);
        let profile = over.profile.or(own.profile).unwrap_or_default();
        let names_itself = over.public_url.is_some() || own.public_url.is_some();
        let listens_elsewhere = over.listen.is_some() || own.listen.is_some();
        let mut base = built_in.settings;
        if profile == Profile::Production {
            // Production inherits nothing from the demo.
            base.local_webhooks = None;
            base.private_webhooks = None;
            base.app_listen = None;
            base.database = None;
            base.environment = Some(Environment::Production.as_str().to_owned());
        } else {
            institutions = institutions.or(built_in.institutions);
            applications = applications.or(built_in.applications);
        }
        let all = over.or(own).or(base);
        let listen = all.listen.unwrap_or_default();
        let public_url = match all.public_url {
            Some(url) if names_itself || !listens_elsewhere => url,
            _ => format!("http://{listen}"),
        };
        let somewhere = |text: Option<String>| text.filter(|text| !text.is_empty());
        let database = all.database.ok_or_else(|| {
            ConfigError::new("the database is missing: set --database sqlite:FILE or postgres://…")
        })?;
        Ok(Self {
            profile,
            listen,
            public_url: public_url.trim_end_matches('/').to_owned(),
            metrics_listen: somewhere(all.metrics_listen),
            app_listen: somewhere(all.app_listen),
            database: database.parse()?,
            key_file: all.key_file,
            webhook_key_file: all.webhook_key_file,
            tls: tls(all.tls_certificate, all.tls_key, all.tls_proxy)?,
            local_webhooks: all.local_webhooks.unwrap_or(false),
            private_webhooks: all.private_webhooks.unwrap_or(false),
            allow_insecure: all.allow_insecure.unwrap_or(false),
            environment: Environment::from(all.environment.as_deref().unwrap_or("sandbox")),
            workers: all.workers.unwrap_or(8),
            rate_limit: all.rate_limit.filter(|calls| *calls > 0),
            institutions: institutions
                .into_iter()
                .flatten()
                .map(|entry| entry.complete(&folder, environ))
                .collect::<Result<_, _>>()?,
            applications: applications
                .into_iter()
                .flatten()
                .map(|entry| entry.complete(&folder, environ))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Overrides {
    /// Returns these settings, completed by those of `other`.
    fn or(self, other: Self) -> Self {
        Self {
            profile: self.profile.or(other.profile),
            listen: self.listen.or(other.listen),
            public_url: self.public_url.or(other.public_url),
            metrics_listen: self.metrics_listen.or(other.metrics_listen),
            app_listen: self.app_listen.or(other.app_listen),
            database: self.database.or(other.database),
            key_file: self.key_file.or(other.key_file),
            webhook_key_file: self.webhook_key_file.or(other.webhook_key_file),
            tls_certificate: self.tls_certificate.or(other.tls_certificate),
            tls_key: self.tls_key.or(other.tls_key),
            tls_proxy: self.tls_proxy.or(other.tls_proxy),
            local_webhooks: self.local_webhooks.or(other.local_webhooks),
            private_webhooks: self.private_webhooks.or(other.private_webhooks),
            allow_insecure: self.allow_insecure.or(other.allow_insecure),
            environment: self.environment.or(other.environment),
            workers: self.workers.or(other.workers),
            rate_limit: self.rate_limit.or(other.rate_limit),
        }
    }

    /// Makes file names relative to the folder of the configuration file.
    fn in_folder(mut self, folder: &Path) -> Self {
        let files = [
            &mut self.key_file,
            &mut self.webhook_key_file,
            &mut self.tls_certificate,
            &mut self.tls_key,
        ];
        for file in files.into_iter().flatten() {
            *file = folder.join(&*file);
        }
        if let Some(file) = self.database.as_deref().and_then(|text| text.strip_prefix("sqlite:")) {
            self.database = Some(format!("sqlite:{}", folder.join(file).display()));
        }
        self
    }
}

impl File {
    fn parse(text: &str, folder: &Path, name: &str) -> Result<Self, ConfigError> {
        // Uses only the message of the parser, because its excerpt of the line may contain a
        // secret.
        let wrong = |error: toml::de::Error| {
            let line = error
                .span()
                .map(|span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
            let line = line.map_or_else(String::new, |line| format!(", line {line}"));
            ConfigError(format!("{name}{line}: {}", error.message()))
        };
        let mut table: toml::Table = toml::from_str(text).map_err(wrong)?;
        let lists = (table.remove("institutions"), table.remove("applications"));
        let plain = |error: toml::de::Error| ConfigError(format!("{name}: {}", error.message()));
        let settings = Overrides::deserialize(table).map_err(plain)?;
        let entries = |key: &str, error: toml::de::Error| {
            ConfigError(format!("{name}: [[{key}]]: {}", error.message()))
        };
        let institutions = lists.0.map(Vec::<InstitutionEntry>::deserialize).transpose();
        let applications = lists.1.map(Vec::<ApplicationEntry>::deserialize).transpose();
        Ok(Self {
            settings,
            institutions: institutions.map_err(|error| entries("institutions", error))?,
            applications: applications.map_err(|error| entries("applications", error))?,
            folder: folder.to_owned(),
        })
    }
}

fn tls(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    proxy: Option<bool>,
) -> Result<Tls, ConfigError> {
    match (certificate, key, proxy.unwrap_or(false)) {
        (None, None, false) => Ok(Tls::None),
        (None, None, true) => Ok(Tls::Proxy),
        (Some(certificate), Some(key), false) => Ok(Tls::Files { certificate, key }),
        (Some(_), Some(_), true) => Err(ConfigError::new(
            "tls_proxy means that a proxy serves TLS, tls_certificate that this program does: set only one of them",
        )),
        _ => Err(ConfigError::new("tls_certificate and tls_key must be set together")),
    }
}

impl std::str::FromStr for Database {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        if text == "memory:" {
            return Ok(Self::Memory);
        }
        if let Some(file) = text.strip_prefix("sqlite:").filter(|file| !file.is_empty()) {
            return Ok(Self::Sqlite(PathBuf::from(file)));
        }
        // The error does not repeat the text, which may contain a password.
        match url::Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "postgres" | "postgresql") => Ok(Self::Postgres(url)),
            _ => Err(ConfigError::new(
                "the database must be memory:, sqlite:FILE or postgres://USER:PASSWORD@HOST/NAME",
            )),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({self})")
    }
}

/// Formats the database without its password.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
            Self::Postgres(url) => {
                let mut shown = url.clone();
                shown.set_query(None);
                if shown.password().is_some() {
                    // Fails only for URLs without a host, which have no password.
                    let _ = shown.set_password(Some("***"));
                }
                f.write_str(shown.as_str())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, over: Overrides) -> Result<Config, ConfigError> {
        let built_in = File::parse(DEMO, Path::new(""), "built-in")?;
        let file = File::parse(text, Path::new("/etc/plaid"), "plaid.toml")?;
        Config::complete(built_in, Some(file), over, &|_| None)
    }

    #[test]
    fn the_later_layer_wins() {
        let demo = Config::demo().unwrap();
        assert_eq!((demo.listen.as_str(), demo.workers), ("127.0.0.1:9000", 8));
        let text = "listen = '127.0.0.1:1'\nworkers = 3\ndatabase = 'sqlite:x.sqlite'";
        let file = read(text, Overrides::default()).unwrap();
        assert_eq!((file.listen.as_str(), file.workers), ("127.0.0.1:1", 3));
        assert_eq!(file.public_url, "http://127.0.0.1:1", "not the demo's");
        assert_eq!(file.database.to_string(), "sqlite:/etc/plaid/x.sqlite");
        let over = Overrides { workers: Some(4), ..Overrides::default() };
        let flags = read(text, over).unwrap();
        assert_eq!((flags.listen.as_str(), flags.workers), ("127.0.0.1:1", 4));
    }

    #[test]
    fn a_file_without_parties_has_those_of_the_demo_but_not_in_production() {
        assert_eq!(read("", Overrides::default()).unwrap().applications.len(), 2);
        let over = Overrides { profile: Some(Profile::Production), ..Overrides::default() };
        let none = read("database = 'sqlite:x'", over.clone()).unwrap();
        assert!(none.applications.is_empty() && none.institutions.is_empty());
        assert!(!none.private_webhooks && !none.local_webhooks && none.app_listen.is_none());
        assert!(read("", over).unwrap_err().to_string().contains("the database is missing"));
    }

    #[test]
    fn a_fault_names_its_place_and_shows_no_secret() {
        let error = read("listen = 5", Overrides::default()).unwrap_err().to_string();
        assert!(error.contains("plaid.toml"), "{error}");
        let error = read("lisen = ''", Overrides::default()).unwrap_err().to_string();
        assert!(error.contains("lisen"), "{error}");
        let text = "[[applications]]\nid = 'a'\nsecret = \"hunter2\nname = 'x'";
        let error = read(text, Overrides::default()).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        let error = "postgres//u:hunter2@h/d".parse::<Database>().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        let shown = "postgres://u:hunter2@h/d?password=hunter2".parse::<Database>().unwrap();
        assert_eq!(shown.to_string(), "postgres://u:***@h/d");
        assert!(!format!("{shown:?}").contains("hunter2"));
    }
}
