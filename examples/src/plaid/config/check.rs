//! Validation of a configuration. Performs no I/O.

use super::{Config, Database, Profile, Tls, layer::DEMO};
use crate::listen::is_loopback;
use px_items::webhook::{UrlPolicy, check_url};
use px_types::webhook::Environment;
use std::{collections::BTreeSet, fmt};
use url::Url;

/// Minimum length of a secret in production, in bytes.
const MIN_SECRET_BYTES: usize = 24;

/// A problem that prevents the program from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting.
    pub setting: String,
    /// The problem, and its solution.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.what)
    }
}

impl Config {
    /// Returns all problems that prevent the program from starting.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Findings::default();
        self.check_addresses(&mut found);
        self.check_parties(&mut found);
        match self.profile {
            Profile::Production => self.check_production(&mut found),
            Profile::Demo if !self.allow_insecure => self.check_demo(&mut found),
            Profile::Demo => {}
        }
        found.0
    }

    /// Returns the addresses that webhooks may have.
    #[must_use]
    pub fn allow(&self) -> UrlPolicy {
        match (self.private_webhooks, self.local_webhooks) {
            (true, _) => UrlPolicy::Anywhere,
            (false, true) => UrlPolicy::LoopbackOrPublic,
            (false, false) => UrlPolicy::Public,
        }
    }

    /// Checks that only this machine can reach a demo: its secrets are published and it has no TLS.
    fn check_demo(&self, found: &mut Findings) {
        let listeners = [
            ("listen", Some(&self.listen)),
            ("metrics_listen", self.metrics_listen.as_ref()),
            ("app_listen", self.app_listen.as_ref()),
        ];
        for (setting, address) in listeners {
            let Some(address) = address.filter(|address| !is_loopback(address)) else { continue };
            let what = format!(
                "others can reach {address}, and the secrets of the profile demo are published: listen on \
                 127.0.0.1, use the profile production, or set allow_insecure"
            );
            found.add(setting, what);
        }
        if self.private_webhooks {
            let what = "webhooks could be sent into the network of this machine, 169.254.169.254 \
                        included: use local_webhooks for a demo, or set allow_insecure";
            found.add("private_webhooks", what);
        }
    }

    fn check_addresses(&self, found: &mut Findings) {
        found.origin("public_url", &self.public_url);
        let known = [Environment::Sandbox, Environment::Development, Environment::Production];
        if !known.contains(&self.environment) {
            found.add("environment", "must be sandbox, development or production");
        }
        if self.workers == 0 {
            found.add("workers", "must be 1 or more");
        }
        if matches!(self.tls, Tls::Files { .. }) && !self.public_url.starts_with("https:") {
            found.add("public_url", "must be https, because this program serves TLS");
        }
        let keys = [("key_file", &self.key_file), ("webhook_key_file", &self.webhook_key_file)];
        for (name, file) in keys {
            if matches!(self.database, Database::Postgres(_)) && file.is_none() {
                found
                    .add(name, "is missing: all machines that share a database need the same file");
            }
        }
    }

    fn check_parties(&self, found: &mut Findings) {
        let mut clients = BTreeSet::new();
        for (id, secret) in self.clients() {
            if !clients.insert(id) {
                found.add("client_id", format!("{id} is listed twice"));
            }
            if secret.expose().is_empty() {
                found.add(format!("secret of {id}"), "is empty");
            }
        }
        let mut institutions = BTreeSet::new();
        for bank in &self.institutions {
            let name = |setting: &str| format!("institutions.{}.{setting}", bank.id);
            if !institutions.insert(&bank.id) {
                found.add(name("id"), "is listed twice");
            }
            found.url(name("base_url"), &bank.base_url);
            if let Some(issuer) = &bank.issuer {
                found.url(name("issuer"), issuer);
            }
            for uri in &bank.redirect_uris {
                found.url(name("redirect_uris"), uri);
            }
            if bank.color.as_deref().is_some_and(|color| !is_color(color)) {
                found.add(name("color"), "must be #rrggbb");
            }
            for target in &bank.targets {
                if self.application(&target.application_id).is_none() {
                    let what = format!("there is no application {}", target.application_id);
                    found.add(name("targets"), what);
                }
            }
        }
        let mut applications = BTreeSet::new();
        for app in &self.applications {
            let name = |setting: &str| format!("applications.{}.{setting}", app.id);
            if !applications.insert(&app.id) {
                found.add(name("id"), "is listed twice");
            }
            if app.products.is_empty() {
                found.add(name("products"), "must name one product or more");
            }
            if let Some(page) = &app.url {
                found.url(name("url"), page);
            }
            for uri in &app.redirect_uris {
                found.url(name("redirect_uris"), uri);
            }
            if let Some(webhook) = &app.webhook
                && let Err(error) = check_url(webhook, self.allow())
            {
                found.add(name("webhook"), error.to_string());
            }
            if app.color.as_deref().is_some_and(|color| !is_color(color)) {
                found.add(name("color"), "must be #rrggbb");
            }
        }
    }

    fn check_production(&self, found: &mut Findings) {
        if !self.public_url.starts_with("https://") {
            found.add("public_url", "must be https in production");
        }
        if self.tls == Tls::None {
            let what = "is required in production: set tls_certificate and tls_key, or tls_proxy if a \
                        proxy serves TLS";
            found.add("tls", what);
        }
        if self.environment != Environment::Production {
            let what =
                "must be production in the profile production, because tokens and webhooks name it";
            found.add("environment", what);
        }
        for (name, given) in
            [("private_webhooks", self.private_webhooks), ("local_webhooks", self.local_webhooks)]
        {
            if given {
                found.add(
                    name,
                    "is for a demo only: production sends no webhooks to private addresses",
                );
            }
        }
        if self.allow_insecure {
            found.add("allow_insecure", "is for a demo only: production refuses insecure settings");
        }
        if self.database == Database::Memory {
            found.add(
                "database",
                "must not be in memory: all data would be lost at the end of the program",
            );
        }
        if self.app_listen.is_some() {
            found.add("app_listen", "is for a demo only: it serves the example application");
        }
        for (name, empty) in [
            ("institutions", self.institutions.is_empty()),
            ("applications", self.applications.is_empty()),
        ] {
            if empty {
                found.add(name, "is empty: list them in the configuration file");
            }
        }
        let own = self.institutions.iter().map(|bank| (&bank.own_client_id, &bank.own_secret));
        for (id, secret) in self.clients().chain(own) {
            let text = secret.expose();
            let known = DEMO.contains(&format!("\"{text}\""));
            if known || text.len() < MIN_SECRET_BYTES {
                let why = if known { "is the demo's" } else { "has fewer than 24 characters" };
                found.add(format!("secret of {id}"), format!("{why}: generate a long random one"));
            }
        }
        for bank in &self.institutions {
            if !bank.base_url.starts_with("https://") {
                found.add(format!("institutions.{}.base_url", bank.id), "must be https");
            }
            for target in &bank.targets {
                if DEMO.contains(&format!("\"{}\"", target.token.expose())) {
                    let name = format!("institutions.{}.targets", bank.id);
                    found.add(name, "has a token of the demo: generate a long random one");
                }
            }
            for uri in &bank.redirect_uris {
                if !uri.starts_with("https://") {
                    found.add(format!("institutions.{}.redirect_uris", bank.id), "must be https");
                }
            }
        }
        for app in &self.applications {
            if app.redirect_uris.iter().any(|uri| !uri.starts_with("https://")) {
                found.add(format!("applications.{}.redirect_uris", app.id), "must be https");
            }
        }
    }
}

#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    fn add(&mut self, setting: impl Into<String>, what: impl Into<String>) {
        self.0.push(Problem { setting: setting.into(), what: what.into() });
    }

    /// Checks for an http or https URL in ASCII, without a fragment and without a user name or a
    /// password, because public URLs must not contain secrets.
    fn url(&mut self, setting: impl Into<String>, text: &str) {
        let url = Url::parse(text).ok();
        if url.as_ref().is_some_and(|url| !url.username().is_empty() || url.password().is_some()) {
            return self.add(setting, "has a user name or a password: remove them");
        }
        let web = url.is_some_and(|url| matches!(url.scheme(), "http" | "https"));
        if !web || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            self.add(setting, "must be an http or https URL in ASCII without a fragment");
        }
    }

    /// Checks for a URL of scheme, host and port only.
    fn origin(&mut self, setting: &str, text: &str) {
        let is_origin =
            Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text);
        if !is_origin || !text.starts_with("http") {
            self.add(
                setting,
                "must have scheme, host and port only, such as https://plaid.example",
            );
        }
    }
}

fn is_color(text: &str) -> bool {
    let hex = text.strip_prefix('#').unwrap_or_default();
    hex.len() == 6 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use px_types::ClientSecret;

    fn settings(config: &Config) -> Vec<String> {
        config.problems().into_iter().map(|problem| problem.setting).collect()
    }

    /// Returns a valid production configuration.
    fn production() -> Config {
        let (bank, plaid, app) =
            ("https://bank.example", "https://plaid.example", "https://app.example");
        let mut config = Config::demo_at(bank, plaid, app).unwrap();
        config.profile = Profile::Production;
        config.database = Database::Sqlite("plaid.sqlite".into());
        config.app_listen = None;
        config.local_webhooks = false;
        config.tls = Tls::Proxy;
        config.environment = Environment::Production;
        let long = |name: &str| ClientSecret::new(format!("{name}-0123456789abcdefghijklmnop"));
        for bank in &mut config.institutions {
            bank.own_secret = long("own");
            bank.secret = long("bank");
            bank.targets.clear();
        }
        for app in &mut config.applications {
            app.secret = long(app.id.as_str());
        }
        config
    }

    #[test]
    fn the_demo_starts_and_so_does_a_sound_production() {
        assert_eq!(Config::demo().unwrap().problems(), []);
        assert_eq!(production().problems(), []);
    }

    #[test]
    fn production_refuses_what_is_fit_for_a_demo_only() {
        let mut all = Config::demo().unwrap();
        all.profile = Profile::Production;
        let found = settings(&all);
        for setting in [
            "public_url",
            "tls",
            "local_webhooks",
            "environment",
            "database",
            "app_listen",
            "secret of larkfield-bank",
            "secret of budget-app",
            "secret of plaid",
            "institutions.ins_larkfield.base_url",
            "institutions.ins_larkfield.targets",
            "applications.tax-app.redirect_uris",
        ] {
            assert!(found.iter().any(|one| one == setting), "{setting} of {found:?}");
        }
    }

    #[test]
    fn a_demo_that_others_can_reach_is_refused_unless_its_operator_insists() {
        type Change = fn(&mut Config);
        let changes: [(&str, Change); 4] = [
            ("listen", |config| config.listen = "0.0.0.0:9000".into()),
            ("metrics_listen", |config| config.metrics_listen = Some("[::]:9100".into())),
            ("app_listen", |config| config.app_listen = Some("192.168.1.5:9200".into())),
            ("private_webhooks", |config| config.private_webhooks = true),
        ];
        for (setting, change) in changes {
            let mut config = Config::demo().unwrap();
            change(&mut config);
            assert_eq!(settings(&config), [setting]);
            config.allow_insecure = true;
            assert_eq!(settings(&config), [""; 0]);
        }
    }

    #[test]
    fn each_thing_alone_is_refused_in_production() {
        type Change = fn(&mut Config);
        let changes: [(&str, Change); 12] = [
            ("local_webhooks", |config| config.local_webhooks = true),
            ("allow_insecure", |config| config.allow_insecure = true),
            ("environment", |config| config.environment = Environment::Sandbox),
            ("institutions.ins_larkfield.issuer", |config| {
                config.institutions[0].issuer = Some("https://user:hunter2@bank.example".into());
            }),
            ("tls", |config| config.tls = Tls::None),
            ("private_webhooks", |config| config.private_webhooks = true),
            ("public_url", |config| config.public_url = "http://plaid.example".into()),
            ("database", |config| config.database = Database::Memory),
            ("app_listen", |config| config.app_listen = Some("127.0.0.1:1".into())),
            ("applications", |config| config.applications.clear()),
            ("secret of budget-app", |config| {
                config.applications[0].secret = ClientSecret::new("demo-secret-of-budget-app");
            }),
            ("secret of larkfield-bank", |config| {
                config.institutions[0].secret = ClientSecret::new("short");
            }),
        ];
        for (setting, change) in changes {
            let mut config = production();
            change(&mut config);
            assert_eq!(settings(&config), [setting]);
        }
    }

    #[test]
    fn parties_must_be_sound_in_any_profile() {
        let mut config = Config::demo().unwrap();
        config.applications[1].client_id = config.applications[0].client_id.clone();
        config.applications[0].redirect_uris = vec!["javascript:alert(1)".into()];
        config.applications[0].color = Some("red;}".into());
        config.local_webhooks = false;
        config.public_url = "http://127.0.0.1:9000/path".into();
        config.environment = Environment::from("sandbx");
        config.applications[0].url = Some("javascript:alert(1)".into());
        config.institutions[0].base_url = "http://user:hunter2@127.0.0.1:8080".into();
        config.institutions[0].redirect_uris = vec!["http://hunter2@127.0.0.1:8080/".into()];
        let found = settings(&config);
        for setting in [
            "client_id",
            "applications.budget-app.redirect_uris",
            "applications.budget-app.color",
            "applications.budget-app.webhook",
            "applications.budget-app.url",
            "institutions.ins_larkfield.base_url",
            "institutions.ins_larkfield.redirect_uris",
            "environment",
            "public_url",
        ] {
            assert!(found.iter().any(|one| one == setting), "{setting} of {found:?}");
        }
        assert!(!format!("{:?}", config.problems()).contains("hunter2"));
    }
}
