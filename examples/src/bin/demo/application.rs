//! A simulated application: receives webhooks over HTTP, verifies them, and reads its Item.
//!
//! A webhook is only a hint; the application reads the data itself.

use crate::{
    clock::OffsetClock,
    report::{self, say},
};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use px_items::items::{Items, ItemsError, SyncPage};
use px_server::webhook::{FixedKeys, Verifier};
use px_types::{
    ItemAccessToken, TransactionId,
    model::{
        account::Account, plaid_error::PlaidError, transaction::Transaction,
        verification_key::VerificationKey,
    },
    webhook::{VERIFICATION_HEADER, Webhook, WebhookCode, WebhookEvent},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Time limit of waiting for a webhook.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(60);

/// A simulated application.
pub(crate) struct Application {
    pub(crate) name: &'static str,
    pub(crate) webhook_url: String,
    /// The access token for the Item, once connected.
    pub(crate) token: Option<ItemAccessToken>,
    /// A copy of the transactions, updated by following the sync cursor.
    pub(crate) transactions: BTreeMap<TransactionId, Transaction>,
    cursor: String,
    items: Items,
    inbox: mpsc::UnboundedReceiver<Webhook>,
    server: JoinHandle<()>,
}

/// The changes of an application's copy.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) added: Vec<Transaction>,
    pub(crate) modified: Vec<(Option<Transaction>, Transaction)>,
    pub(crate) removed: Vec<Transaction>,
}

#[derive(Clone)]
struct Receiver {
    verifier: Arc<Verifier>,
    accepted: mpsc::UnboundedSender<Webhook>,
}

impl Application {
    /// Starts the application's server on this machine.
    pub(crate) async fn start(
        name: &'static str,
        items: Items,
        keys: Vec<VerificationKey>,
        clock: Arc<OffsetClock>,
    ) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let webhook_url = format!("http://{}/webhooks", listener.local_addr()?);
        let verifier = Arc::new(Verifier::new(Arc::new(FixedKeys::new(keys))).clock(clock));
        let (accepted, inbox) = mpsc::unbounded_channel();
        let receiver = Receiver { verifier, accepted };
        let router = Router::new().route("/webhooks", post(receive)).with_state(receiver);
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "an application stopped listening");
            }
        });
        Ok(Self {
            name,
            webhook_url,
            token: None,
            transactions: BTreeMap::new(),
            cursor: String::new(),
            items,
            inbox,
            server,
        })
    }

    /// Waits for a webhook with this code, and prints each webhook.
    pub(crate) async fn expect(&mut self, code: &WebhookCode) -> Result<(), Failure> {
        loop {
            let webhook = tokio::time::timeout(WEBHOOK_TIMEOUT, self.inbox.recv())
                .await
                .map_err(|_| format!("{} did not receive {code} within 60 seconds", self.name))?
                .ok_or("an application's server has ended")?;
            say!("   {:<10} ← {}", self.name, describe(&webhook));
            if webhook.event.webhook_code() == *code {
                return Ok(());
            }
        }
    }

    /// Returns the accounts that the application sees.
    pub(crate) async fn accounts(&self) -> Result<Vec<Account>, ItemsError> {
        Ok(self.items.accounts(&self.token()).await?.data)
    }

    /// Follows the sync cursor to the end.
    pub(crate) async fn sync(&mut self) -> Result<Changes, ItemsError> {
        let mut changes = Changes::default();
        loop {
            let page = self
                .items
                .transactions_sync(&self.token(), Some(&self.cursor), Some(500))
                .await?
                .data;
            self.cursor.clone_from(&page.next_cursor);
            let more = page.has_more;
            self.apply(page, &mut changes);
            if !more {
                return Ok(changes);
            }
        }
    }

    fn apply(&mut self, page: SyncPage, changes: &mut Changes) {
        for row in page.added {
            self.transactions.insert(row.id.clone(), row.clone());
            changes.added.push(row);
        }
        for row in page.modified {
            let before = self.transactions.insert(row.id.clone(), row.clone());
            changes.modified.push((before, row));
        }
        for gone in page.removed {
            changes.removed.extend(self.transactions.remove(&gone.transaction_id));
        }
    }

    /// Returns the error of a read that must be refused.
    pub(crate) async fn refusal(&self) -> Result<PlaidError, Failure> {
        match self.accounts().await {
            Err(error) => Ok(error.to_plaid_error("demo")),
            Ok(_) => Err(format!("{} could read data that must be refused", self.name).into()),
        }
    }

    /// Prints the latest transactions of the copy.
    pub(crate) fn print_latest(&self, accounts: &[Account], most: usize) {
        let mut rows: Vec<_> = self.transactions.values().collect();
        rows.sort_by(|a, b| b.date().cmp(&a.date()).then_with(|| a.id.cmp(&b.id)));
        rows.truncate(most);
        report::transactions(rows, accounts);
    }

    fn token(&self) -> ItemAccessToken {
        self.token.clone().unwrap_or_else(|| ItemAccessToken::new("none"))
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Responds to a webhook: 200 if it is verified and decoded.
async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = headers.get(VERIFICATION_HEADER).and_then(|value| value.to_str().ok());
    match receiver.verifier.verify(header.unwrap_or_default(), &body, None).await {
        Ok(_) => {}
        Err(error) => {
            return StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
        }
    }
    match px_types::decode::<Webhook>(&body) {
        Ok(webhook) => {
            // This fails only if the demo has ended.
            let _ = receiver.accepted.send(webhook);
            StatusCode::OK
        }
        Err(_) => StatusCode::BAD_REQUEST,
    }
}

fn describe(webhook: &Webhook) -> String {
    let (kind, code) = (webhook.event.webhook_type(), webhook.event.webhook_code());
    let detail = match &webhook.event {
        WebhookEvent::InitialUpdate(new)
        | WebhookEvent::HistoricalUpdate(new)
        | WebhookEvent::DefaultUpdate(new) => format!("{} new", new.new_transactions),
        WebhookEvent::TransactionsRemoved(gone) => {
            format!("{} gone", gone.removed_transactions.len())
        }
        WebhookEvent::Error(fault) => fault.error.error_code.clone(),
        _ => String::new(),
    };
    format!("{kind}: {code}  {detail}").trim_end().to_owned()
}
