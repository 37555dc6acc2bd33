//! The clients of a demo Plaid: banks and applications.
//!
//! A secret is in the configuration file (`secret`), in a separate file (`secret_file`), or in the
//! environment, which wins.

use super::layer::{ConfigError, Environ};
use px_types::{
    ApplicationId, ClientId, ClientSecret, InstitutionId, TargetApplicationToken,
    model::product::Product,
};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The way in which users sign in at a bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignInMode {
    /// On the bank's own pages (`px.md` section 4).
    #[default]
    Oauth,
    /// On the Link page, with name, password and challenges (`px.md` section 5).
    Credentials,
}

/// The icon of a logo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Icon {
    /// The first letter of the name.
    #[default]
    Letter,
    /// A chart.
    Chart,
    /// A receipt.
    Receipt,
    /// A bank.
    Bank,
}

/// A bank: a partner, and a client of this service.
#[derive(Clone, Debug)]
pub struct Institution {
    /// The id.
    pub id: InstitutionId,
    /// The name that users see.
    pub name: String,
    /// The base URL of its API.
    pub base_url: String,
    /// The OAuth issuer. `None` means the base URL.
    pub issuer: Option<String>,
    /// The color of its logo, `#rrggbb`.
    pub color: Option<String>,
    /// The sign-in mode.
    pub mode: SignInMode,
    /// The client id of this service at the bank.
    pub own_client_id: ClientId,
    /// The secret of this service at the bank.
    pub own_secret: ClientSecret,
    /// The client id of the bank at this service.
    pub client_id: ClientId,
    /// The secret of the bank at this service.
    pub secret: ClientSecret,
    /// The registered redirect URIs; compared byte by byte.
    pub redirect_uris: Vec<String>,
    /// The applications that it may offer to its users.
    pub targets: Vec<Target>,
}

/// An application that a bank may offer to its users, and the bank's token for it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The id of the application.
    pub application_id: ApplicationId,
    /// The token that this service gave to the bank.
    pub token: TargetApplicationToken,
}

/// An application of a developer: a client of this service.
#[derive(Clone, Debug)]
pub struct Application {
    /// The id.
    pub id: ApplicationId,
    /// The client id at this service.
    pub client_id: ClientId,
    /// The client secret at this service.
    pub secret: ClientSecret,
    /// The name that users see.
    pub name: String,
    /// The URL of its website.
    pub url: Option<String>,
    /// Its reason for access, shown to users.
    pub reason: Option<String>,
    /// Its use case, shown to users.
    pub use_case: Option<String>,
    /// The legal name of its company.
    pub company: Option<String>,
    /// The color of its logo, `#rrggbb`.
    pub color: Option<String>,
    /// The icon of its logo [default: its first letter].
    pub icon: Icon,
    /// The products that it may request.
    pub products: Vec<Product>,
    /// The registered redirect URIs; compared byte by byte.
    pub redirect_uris: Vec<String>,
    /// Its webhook URL.
    pub webhook: Option<String>,
}

/// A bank in a configuration file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InstitutionEntry {
    id: InstitutionId,
    name: String,
    base_url: String,
    issuer: Option<String>,
    color: Option<String>,
    #[serde(default)]
    mode: SignInMode,
    own_client_id: ClientId,
    own_secret: Option<ClientSecret>,
    own_secret_file: Option<PathBuf>,
    client_id: ClientId,
    secret: Option<ClientSecret>,
    secret_file: Option<PathBuf>,
    #[serde(default)]
    redirect_uris: Vec<String>,
    #[serde(default)]
    targets: Vec<Target>,
}

/// An application in a configuration file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApplicationEntry {
    id: ApplicationId,
    client_id: ClientId,
    secret: Option<ClientSecret>,
    secret_file: Option<PathBuf>,
    name: String,
    url: Option<String>,
    reason: Option<String>,
    use_case: Option<String>,
    company: Option<String>,
    color: Option<String>,
    #[serde(default)]
    icon: Icon,
    products: Vec<Product>,
    #[serde(default)]
    redirect_uris: Vec<String>,
    webhook: Option<String>,
}

impl InstitutionEntry {
    pub(super) fn complete(
        self,
        folder: &Path,
        environ: &Environ<'_>,
    ) -> Result<Institution, ConfigError> {
        let own = format!("PX_PLAID_BANK_SECRET_{}", env_name(self.id.as_str()));
        let own_secret = secret(&own, self.own_secret, self.own_secret_file, folder, environ)?;
        let theirs = format!("PX_PLAID_SECRET_{}", env_name(self.client_id.as_str()));
        let secret = secret(&theirs, self.secret, self.secret_file, folder, environ)?;
        Ok(Institution {
            id: self.id,
            name: self.name,
            base_url: self.base_url.trim_end_matches('/').to_owned(),
            issuer: self.issuer,
            color: self.color,
            mode: self.mode,
            own_client_id: self.own_client_id,
            own_secret,
            client_id: self.client_id,
            secret,
            redirect_uris: self.redirect_uris,
            targets: self.targets,
        })
    }
}

impl ApplicationEntry {
    pub(super) fn complete(
        self,
        folder: &Path,
        environ: &Environ<'_>,
    ) -> Result<Application, ConfigError> {
        let theirs = format!("PX_PLAID_SECRET_{}", env_name(self.client_id.as_str()));
        let secret = secret(&theirs, self.secret, self.secret_file, folder, environ)?;
        Ok(Application {
            id: self.id,
            client_id: self.client_id,
            secret,
            name: self.name,
            url: self.url,
            reason: self.reason,
            use_case: self.use_case,
            company: self.company,
            color: self.color,
            icon: self.icon,
            products: self.products,
            redirect_uris: self.redirect_uris,
            webhook: self.webhook,
        })
    }
}

impl Institution {
    /// Returns the OAuth issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.issuer.as_deref().unwrap_or(&self.base_url)
    }
}

/// Reads a secret from the environment, the configuration or its file. The environment wins.
fn secret(
    variable: &str,
    written: Option<ClientSecret>,
    file: Option<PathBuf>,
    folder: &Path,
    environ: &Environ<'_>,
) -> Result<ClientSecret, ConfigError> {
    if let Some(text) = environ(variable) {
        return Ok(ClientSecret::new(text));
    }
    match (written, file) {
        (Some(secret), None) => Ok(secret),
        (None, Some(file)) => {
            let file = folder.join(file);
            let text =
                std::fs::read_to_string(&file).map_err(|error| ConfigError::file(&file, &error))?;
            Ok(ClientSecret::new(text.trim_end_matches(['\r', '\n'])))
        }
        _ => Err(ConfigError::new(format!(
            "a secret is missing: set {variable} in the environment, or either the secret or \
             its file in the configuration"
        ))),
    }
}

/// Converts an id to a part of an environment variable's name.
fn env_name(id: &str) -> String {
    id.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: Option<&str>, environ: Option<&str>) -> Result<String, ConfigError> {
        let found = |_: &str| environ.map(str::to_owned);
        let given = given.map(ClientSecret::new);
        secret("PX_PLAID_SECRET_APP", given, None, Path::new(""), &found)
            .map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn the_environment_wins_and_none_is_an_error_that_says_what_to_set() {
        assert_eq!(read(Some("file"), None).unwrap(), "file");
        assert_eq!(read(Some("file"), Some("environment")).unwrap(), "environment");
        let error = read(None, None).unwrap_err().to_string();
        assert!(error.contains("PX_PLAID_SECRET_APP"), "{error}");
        assert_eq!(env_name("budget-app.2"), "BUDGET_APP_2");
    }
}
