//! A configuration as it may be shown: every setting, no secret.

use super::{Config, Tls};
use serde_json::{Value, json};
use std::fmt;

impl Config {
    /// The settings without their secrets, for programs that read them.
    #[must_use]
    pub fn redacted(&self) -> Value {
        let text = |id: &dyn fmt::Display| Value::String(id.to_string());
        let file = |file: &Option<std::path::PathBuf>| {
            file.as_ref().map(|file| file.display().to_string())
        };
        let banks = self.institutions.iter().map(|bank| {
            json!({
                "id": text(&bank.id), "name": bank.name, "base_url": bank.base_url,
                "issuer": bank.issuer(), "color": bank.color, "mode": format!("{:?}", bank.mode).to_lowercase(),
                "own_client_id": text(&bank.own_client_id), "own_secret": "***",
                "client_id": text(&bank.client_id), "secret": "***",
                "redirect_uris": bank.redirect_uris,
                "targets": bank.targets.iter().map(|target| {
                    json!({ "application_id": text(&target.application_id), "token": "***" })
                }).collect::<Vec<_>>(),
            })
        });
        let apps = self.applications.iter().map(|app| {
            json!({
                "id": text(&app.id), "client_id": text(&app.client_id), "secret": "***",
                "name": app.name, "url": app.url, "reason": app.reason, "use_case": app.use_case,
                "company": app.company, "color": app.color, "icon": format!("{:?}", app.icon).to_lowercase(),
                "products": app.products.iter().map(|product| product.as_str()).collect::<Vec<_>>(),
                "redirect_uris": app.redirect_uris,
                // A path or a query may hold a token of the application's own.
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
            "public_url": self.public_url,
            "metrics_listen": self.metrics_listen,
            "app_listen": self.app_listen,
            "database": self.database.to_string(),
            "key_file": file(&self.key_file),
            "webhook_key_file": file(&self.webhook_key_file),
            "tls_certificate": certificate,
            "tls_key": key,
            "tls_proxy": proxy,
            "private_webhooks": self.private_webhooks,
            "environment": self.environment.as_str(),
            "workers": self.workers,
            "rate_limit": self.rate_limit,
            "institutions": banks.collect::<Vec<_>>(),
            "applications": apps.collect::<Vec<_>>(),
        })
    }

    /// The same, one setting a line.
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
        let shown = format!("{}\n{}\n{config:?}", config.lines().join("\n"), config.redacted());
        for secret in ["hunter2", "demo-secret", "target-sandbox"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        assert!(!config.lines().join("\n").contains("hunter3"));
        assert!(shown.contains("applications.budget-app.name = Budget App"));
        assert!(shown.contains("postgres://px:***@db.example/px"));
    }
}
