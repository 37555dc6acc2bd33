//! Output of a configuration: every setting, no secret.

use super::{Config, Tls};
use serde_json::{Value, json};
use std::fmt;

impl Config {
    /// Returns the settings without their secrets, as JSON.
    #[must_use]
    pub fn redacted(&self) -> Value {
        let text = |id: &dyn fmt::Display| Value::String(id.to_string());
        let file = |file: &Option<std::path::PathBuf>| {
            file.as_ref().map(|file| file.display().to_string())
        };
        let banks = self.institutions.iter().map(|bank| {
            json!({
                "id": text(&bank.id), "name": bank.name, "base_url": without_credentials(&bank.base_url),
                "issuer": without_credentials(bank.issuer()), "color": bank.color, "mode": format!("{:?}", bank.mode).to_lowercase(),
                "own_client_id": text(&bank.own_client_id), "own_secret": "***",
                "client_id": text(&bank.client_id), "secret": "***",
                "redirect_uris": all_without_credentials(&bank.redirect_uris),
                "targets": bank.targets.iter().map(|target| {
                    json!({ "application_id": text(&target.application_id), "token": "***" })
                }).collect::<Vec<_>>(),
            })
        });
        let apps = self.applications.iter().map(|app| {
            json!({
                "id": text(&app.id), "client_id": text(&app.client_id), "secret": "***",
                "name": app.name, "url": app.url.as_deref().map(without_credentials), "reason": app.reason, "use_case": app.use_case,
                "company": app.company, "color": app.color, "icon": format!("{:?}", app.icon).to_lowercase(),
                "products": app.products.iter().map(|product| product.as_str()).collect::<Vec<_>>(),
                "redirect_uris": all_without_credentials(&app.redirect_uris),
                // The path or the query may contain a token of the application.
                "webhook": app.webhook.as_deref().map(origin),
            })
        });
        let (certificate, key, proxy) = match &self.tls {
            Tls::None => (None, None, false),
            Tls::Files { certificate, key } => {
                (Some(certificate.display().to_string()), Some(key.display().to_string()), false)
            }
            Tls::Proxy => (None, None, true),
        };
        json!({
            "profile": self.profile.as_str(),
            "listen": self.listen,
            "public_url": without_credentials(&self.public_url),
            "metrics_listen": self.metrics_listen,
            "app_listen": self.app_listen,
            "database": self.database.to_string(),
            "key_file": file(&self.key_file),
            "webhook_key_file": file(&self.webhook_key_file),
            "tls_certificate": certificate,
            "tls_key": key,
            "tls_proxy": proxy,
            "local_webhooks": self.local_webhooks,
            "private_webhooks": self.private_webhooks,
            "allow_insecure": self.allow_insecure,
            "environment": self.environment.as_str(),
            "workers": self.workers,
            "rate_limit": self.rate_limit,
            "institutions": banks.collect::<Vec<_>>(),
            "applications": apps.collect::<Vec<_>>(),
        })
    }

    /// Returns the settings without their secrets, one per line.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        flatten("", &self.redacted(), &mut lines);
        lines
    }
}

fn flatten(path: &str, value: &Value, lines: &mut Vec<String>) {
    let under = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(&under(name), value, lines);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (n, item) in items.iter().enumerate() {
                let name = ["id", "application_id"].iter().find_map(|key| item[key].as_str());
                flatten(&under(name.unwrap_or(&n.to_string())), item, lines);
            }
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
            lines.push(format!("{path} = {}", items.join(", ")));
        }
        Value::Null => {}
        Value::String(text) => lines.push(format!("{path} = {text}")),
        other => lines.push(format!("{path} = {other}")),
    }
}

/// Removes the user name and the password from a URL. Validation refuses such a URL, but the output
/// contains it.
fn without_credentials(text: &str) -> String {
    match url::Url::parse(text) {
        Ok(url) if url.username().is_empty() && url.password().is_none() => text.to_owned(),
        Ok(mut url) => {
            // Fails only for URLs without a host, which have neither.
            let _ = url.set_username("***").and_then(|()| url.set_password(None));
            url.into()
        }
        // The text may contain credentials.
        Err(_) if text.contains('@') => "(no URL)".to_owned(),
        Err(_) => text.to_owned(),
    }
}

fn all_without_credentials(all: &[String]) -> Vec<String> {
    all.iter().map(|text| without_credentials(text)).collect()
}

fn origin(url: &str) -> String {
    url::Url::parse(url).map_or_else(
        |_| "(no URL)".to_owned(),
        |url| format!("{}/…", url.origin().ascii_serialization()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let mut config = Config::demo().unwrap();
        config.database = "postgres://px:hunter2@db.example/px".parse().unwrap();
        config.applications[0].webhook = Some("https://app.example/hook?key=hunter3".into());
        let with_password = |path: &str| format!("https://hunter4:hunter5@bank.example{path}");
        config.public_url = with_password("");
        config.applications[0].url = Some(with_password("/app"));
        config.applications[0].redirect_uris =
            vec![with_password("/back"), "https//a:hunter6@b".into()];
        config.institutions[0].base_url = with_password("/api");
        config.institutions[0].redirect_uris = vec![with_password("/apps")];
        config.institutions[0].issuer = Some(with_password("/issuer"));
        let shown = format!("{}\n{}\n{config:?}", config.lines().join("\n"), config.redacted());
        for secret in ["hunter2", "demo-secret", "target-sandbox"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        let lines = config.lines().join("\n");
        for secret in ["hunter3", "hunter4", "hunter5", "hunter6"] {
            assert!(!lines.contains(secret), "{secret} in {lines}");
        }
        assert!(lines.contains("issuer = https://***@bank.example/issuer"), "{lines}");
        assert!(shown.contains("applications.budget-app.name = Budget App"));
        assert!(shown.contains("postgres://px:***@db.example/px"));
    }
}
