//! Reads of banks and applications at Plaid, against handlers without checks.

use super::Kind;
use crate::{Failure, Plan, bank, items::partner, load, process::Server, report::Report};
use async_trait::async_trait;
use demo_bank::plaid::{Config, DemoPlaid, Parts, config::Database};
use px_client::oauth::TokenSet;
use px_core::{InProcessTransport, SystemRandom};
use px_items::{connection::Connection, vault::FileKeys, webhook::SigningKey};
use px_server::{
    PartnerService, TokenGrant,
    verify::{TokenVerifier, VerifyError},
};
use px_types::{AccessToken, ItemAccessToken, KeyId, ScopeSet, UserId, model::product::Product};
use serde_json::json;
use std::{path::PathBuf, sync::Arc};
use tempfile::TempDir;

const TRANSACTIONS: usize = 2000;
const AIM: f64 = 0.8;

pub(super) async fn measure(report: &mut Report, plan: Plan) {
    let list = "plaid-list: /item/application/list, service / handler without checks";
    let sync = "plaid-sync: 100 of /transactions/sync, service / handler without checks";
    let (wants_list, wants_sync) = (report.wants(list), report.wants(sync));
    if !wants_list && !wants_sync {
        return;
    }
    let linked = match LinkedItem::new().await {
        Ok(linked) => linked,
        Err(error) => return report.not_run(list, &error.to_string()),
    };
    let lines = [
        (wants_list, list, "/item/application/list", linked.by_bank()),
        (wants_sync, sync, "/transactions/sync", linked.by_application()),
    ];
    for (wanted, name, path, request) in lines {
        if !wanted {
            continue;
        }
        let measured = match request {
            Ok((credentials, body)) => compare(plan, &linked, path, credentials, &body).await,
            Err(error) => Err(error),
        };
        match measured {
            Ok((service, bare)) => {
                report.at_least(name, format!("{service:.0}/s, {bare:.0}/s"), service / bare, AIM);
            }
            Err(error) => report.not_run(name, &error.to_string()),
        }
    }
}

async fn compare(
    plan: Plan,
    linked: &LinkedItem,
    path: &str,
    (id, secret): (String, String),
    body: &str,
) -> Result<(f64, f64), Failure> {
    let request = load::post(path, (&id, &secret), body);
    let service = Server::start_plaid(Kind::Demo, &linked.database, &linked.key).await?;
    let bare = Server::start_plaid(Kind::Handwritten, &linked.database, &linked.key).await?;
    load::compare_requests(plan, (&service, &request), (&bare, &request)).await
}

/// A completely fetched Item of two applications, in a file.
struct LinkedItem {
    database: String,
    key: PathBuf,
    config: Config,
    partner_token: ItemAccessToken,
    application_token: ItemAccessToken,
    _folder: TempDir,
}

impl LinkedItem {
    async fn new() -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let (file, key) = (folder.path().join("plaid.sqlite"), folder.path().join("plaid.key"));
        FileKeys::create_file(&key, Arc::new(SystemRandom))?;
        let mut config = Config::demo()?;
        config.database = Database::Sqlite(file.clone());
        config.key_file = Some(key.clone());
        config.webhook_key_file = Some(key.with_extension("pem"));
        let mut parts = Parts::system(&config)?;
        // The bank's transactions are in the past.
        parts.clock = partner::clock()?;
        let now = parts.clock.now();
        let signing = SigningKey::generate(KeyId::new("bench")?, now)?;
        std::fs::write(key.with_extension("pem"), signing.to_pem().as_bytes())?;
        parts.banks = Arc::new(InProcessTransport::new(
            PartnerService::builder(bank::Bank::new(TRANSACTIONS))
                .tokens(Arc::new(AnyToken))
                .build()?,
        ));
        let plaid = DemoPlaid::open(config.clone(), parts).await?;
        let items = plaid.items().for_any_owner();
        let (institution, user) = (&config.institutions[0].id, UserId::new(bank::USER)?);
        let tokens = || TokenSet::new(AccessToken::new("bench"), now);
        let mut application_token = None;
        for application in &config.applications {
            let products = [Product::Transactions, Product::Auth];
            let connection = Connection::new(application.id.clone(), products, now);
            let linked = items.link(institution, &user, tokens(), connection).await?;
            application_token.get_or_insert(linked.access_token);
        }
        let partner_token = items.import(institution, &user, tokens()).await?.access_token;
        let application_token = application_token.ok_or("the demo has no applications")?;
        let ready = async {
            loop {
                if items.transactions_sync(&application_token, None, Some(1)).await.is_ok() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        // Ends as soon as transactions can be read; the rest of the history is not needed.
        plaid.work(ready).await;
        Ok(Self {
            database: format!("sqlite:{}", file.display()),
            key,
            config,
            partner_token,
            application_token,
            _folder: folder,
        })
    }

    fn by_bank(&self) -> Result<((String, String), String), Failure> {
        let bank = self.config.institutions.first().ok_or("no bank")?;
        let credentials = (bank.client_id.as_str().to_owned(), bank.secret.expose().to_owned());
        Ok((credentials, json!({"access_token": self.partner_token.expose()}).to_string()))
    }

    fn by_application(&self) -> Result<((String, String), String), Failure> {
        let application = self.config.applications.first().ok_or("no application")?;
        let (id, secret) = (&application.client_id, &application.secret);
        let credentials = (id.as_str().to_owned(), secret.expose().to_owned());
        let body = json!({"access_token": self.application_token.expose(), "count": 100});
        Ok((credentials, body.to_string()))
    }
}

/// Accepts every token as one of the only user.
struct AnyToken;

#[async_trait]
impl TokenVerifier for AnyToken {
    async fn verify(&self, _: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError> {
        let user = UserId::new(bank::USER).map_err(|_| VerifyError::invalid())?;
        Ok(Arc::new(TokenGrant::new(user, ScopeSet::defaults())))
    }
}
