//! The clients of a demo Plaid: banks and applications.
//!
//! A secret stands in the file itself (`secret`), in a file of its own (`secret_file`), or in the
//! environment, which wins.

use super::layer::{ConfigError, Environ};
use px_types::{
    ApplicationId, ClientId, ClientSecret, InstitutionId, TargetApplicationToken,
    model::product::Product,
};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// How users sign in at a bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignInMode {
    /// On the bank's own pages (`px.md` section 4).
    #[default]
    Oauth,
    /// On the Link page, with name, password and challenges (`px.md` section 5).
    Credentials,
}

/// The picture of a logo.
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
    /// Its id.
    pub id: InstitutionId,
    /// Its name, shown to users.
    pub name: String,
    /// Where it is called.
    pub base_url: String,
    /// Who its answers come from; its address when `None`.
    pub issuer: Option<String>,
    /// The color of its logo, `#rrggbb`.
    pub color: Option<String>,
    /// How its users sign in.
    pub mode: SignInMode,
    /// Who this service is at the bank.
    pub own_client_id: ClientId,
    /// With what secret.
    pub own_secret: ClientSecret,
    /// Who the bank is at this service.
    pub client_id: ClientId,
    /// With what secret.
    pub secret: ClientSecret,
    /// Where its users may be sent back to; compared byte by byte.
    pub redirect_uris: Vec<String>,
    /// The applications that it may ask its users to connect.
    pub targets: Vec<Target>,
}

/// An application that a bank may ask its users to connect, and what it calls it by.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The application.
    pub application_id: ApplicationId,
    /// What this service gave the bank for it.
    pub token: TargetApplicationToken,
}

/// An application of a developer: a client of this service.
#[derive(Clone, Debug)]
pub struct Application {
    /// Its id.
    pub id: ApplicationId,
    /// Who it is at this service.
    pub client_id: ClientId,
    /// With what secret.
    pub secret: ClientSecret,
    /// Its name, shown to users.
    pub name: String,
    /// Its page.
    pub url: Option<String>,
    /// Why it wants access, in its own words.
    pub reason: Option<String>,
    /// What it is for.
    pub use_case: Option<String>,
    /// The company behind it.
    pub company: Option<String>,
    /// The color of its logo, `#rrggbb`.
    pub color: Option<String>,
    /// The picture of its logo; its first letter unless given.
    pub icon: Icon,
    /// What it may ask for.
    pub products: Vec<Product>,
    /// Where users may be sent back to; compared byte by byte.
    pub redirect_uris: Vec<String>,
    /// Where its webhooks go.
    pub webhook: Option<String>,
}

/// A bank as it stands in a file.
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

/// An application as it stands in a file.
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
        let own = format!("PX_PLAID_BANK_SECRET_{}", shouted(self.id.as_str()));
        let own_secret = secret(&own, self.own_secret, self.own_secret_file, folder, environ)?;
        let theirs = format!("PX_PLAID_SECRET_{}", shouted(self.client_id.as_str()));
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
        let theirs = format!("PX_PLAID_SECRET_{}", shouted(self.client_id.as_str()));
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
    /// Who its answers come from.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.issuer.as_deref().unwrap_or(&self.base_url)
    }
}

/// A secret from where it is kept. What the environment has wins.
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
            "a secret is missing: set {variable} in the environment, or give one of the secret \
             and its file in the configuration"
        ))),
    }
}

/// An id as a part of a variable's name.
fn shouted(id: &str) -> String {
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
        assert_eq!(shouted("budget-app.2"), "BUDGET_APP_2");
    }
}
