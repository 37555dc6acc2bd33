//! Helpers of the checks: a bank, users, applications, and a calendar.

use crate::{
    changes::ItemChanges,
    connection::Connection,
    item::State,
    merge::{
        AccountStanding, AccountWrite, Change, KnownAccount, MergedTransactions, TransactionWrite,
    },
    store::{
        AccessDigest, AccountsWrite, ActivityAuthor, AuditRecord, ChangeQuery, ChangeRow, Commit,
        Destination, ItemRecord, LeaseOutcome, Linked, NewHolder, NewLink, NotificationRequest,
        NotifyBatch, NotifyOutcome, PartnerNotification, QueuedWebhook, Store, StoreErrorKind,
        TransactionQuery,
    },
    sync_state::History,
};
use chrono::{DateTime, TimeDelta, Utc};
use px_client::{Window, oauth::TokenSet};
use px_types::{
    AccessToken, AccountId, ActivityId, ApplicationId, Date, InstitutionId, ItemId, NotificationId,
    RefreshToken, TransactionId, UserId,
    model::{
        account::Account, activity::Activity, application_details::Application, product::Product,
        transaction::Transaction,
    },
    partner::NewApplicationLinkNotification,
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A store, with methods for the steps of checks.
#[derive(Clone)]
pub(super) struct World(pub(super) Arc<dyn Store>);

/// Returns a time: minutes after noon of the day of the checks.
pub(super) fn at(minute: i64) -> DateTime<Utc> {
    let noon = Date::from_ymd(2026, 1, 10).unwrap().naive().and_hms_opt(12, 0, 0).unwrap();
    noon.and_utc() + TimeDelta::minutes(minute)
}

pub(super) fn day(text: &str) -> Date {
    text.parse().unwrap()
}

pub(super) fn window(start: &str, end: &str) -> Window {
    Window::new(day(start), day(end)).unwrap()
}

pub(super) fn always() -> Window {
    window("2000-01-01", "2099-12-31")
}

pub(super) fn bank() -> InstitutionId {
    InstitutionId::new("bank").unwrap()
}

pub(super) fn item(name: &str) -> ItemId {
    ItemId::new(name).unwrap()
}

pub(super) fn app(name: &str) -> ApplicationId {
    ApplicationId::new(name).unwrap()
}

pub(super) fn account_id(name: &str) -> AccountId {
    AccountId::new(name).unwrap()
}

pub(super) fn id(name: &str) -> TransactionId {
    TransactionId::new(name).unwrap()
}

/// Returns the digest of an access token. Any text can be used as a token.
pub(super) fn digest(token: &str) -> AccessDigest {
    let mut bytes = [0; 32];
    bytes[..token.len()].copy_from_slice(token.as_bytes());
    AccessDigest(bytes)
}

pub(super) fn tokens(name: &str) -> TokenSet {
    let mut tokens = TokenSet::new(AccessToken::new(format!("access-{name}")), at(0));
    tokens.refresh_token = Some(RefreshToken::new(format!("refresh-{name}")));
    tokens
}

/// Returns a connection with transactions and a webhook.
pub(super) fn connection(name: &str) -> Connection {
    let mut connection = Connection::new(app(name), [Product::Transactions], at(0));
    connection.webhook = Some(format!("https://{name}.example/hook"));
    connection
}

/// Returns a connection that only needs accounts.
pub(super) fn accounts_only(name: &str) -> Connection {
    Connection { products: [Product::Auth.as_str().to_owned()].into(), ..connection(name) }
}

/// Returns a transaction of the account `giro` that settled on that date.
pub(super) fn posted(id: &str, date: &str) -> Transaction {
    row(id, "giro", date, Some(date), "10.50")
}

pub(super) fn pending(id: &str, date: &str) -> Transaction {
    row(id, "giro", date, None, "10.50")
}

pub(super) fn row(
    id: &str,
    account: &str,
    made: &str,
    settled: Option<&str>,
    amount: &str,
) -> Transaction {
    let text = serde_json::json!({
        "id": id, "account_id": account, "amount": amount, "currency": "EUR",
        "transacted_at": made, "settled_at": settled, "type": "depository",
        "description": format!("about {id}"),
    });
    px_types::decode(text.to_string().as_bytes()).unwrap()
}

pub(super) fn account(id: &str, balance: &str) -> Account {
    let text = serde_json::json!({
        "id": id, "name": format!("account {id}"), "type": "depository", "subtype": "checking",
        "status": "active", "owner_identity_ids": ["i-1"], "current_balance": balance,
        "currency": "EUR",
    });
    px_types::decode(text.to_string().as_bytes()).unwrap()
}

/// Returns a new account of the Item.
pub(super) fn opened(id: &str) -> AccountWrite {
    let account = account(id, "1.00");
    let partner_id = account.id.clone();
    AccountWrite::new(KnownAccount::new(account, partner_id, AccountStanding::Listed), true)
}

pub(super) fn opening(ids: &[&str]) -> AccountsWrite {
    let accounts = ids.iter().map(|id| opened(id)).collect();
    AccountsWrite { accounts, ..AccountsWrite::default() }
}

pub(super) fn write(row: Transaction) -> TransactionWrite {
    TransactionWrite::new(row.id.clone(), row, Change::Added, at(0))
}

pub(super) fn writing(rows: impl IntoIterator<Item = Transaction>) -> MergedTransactions {
    MergedTransactions {
        writes: rows.into_iter().map(write).collect(),
        ..MergedTransactions::default()
    }
}

pub(super) fn removing(ids: &[&str]) -> MergedTransactions {
    MergedTransactions {
        removed: ids.iter().map(|name| (account_id("giro"), id(name))).collect(),
        ..MergedTransactions::default()
    }
}

/// Returns events for every connection with transactions and a webhook.
pub(super) fn new_transactions() -> ItemChanges {
    ItemChanges {
        added: [(account_id("giro"), 1)].into(),
        initial_complete: true,
        historical_complete: true,
        ..ItemChanges::default()
    }
}

/// Releases the lease of a unit of work that saw all notifications of its claim.
pub(super) fn release(record: &ItemRecord, due_minute: i64) -> LeaseOutcome {
    LeaseOutcome::Release { due_at: Some(at(due_minute)), not_before: None, seen: record.notified }
}

/// Returns a commit that finishes a unit of work successfully.
pub(super) fn finish(record: &ItemRecord, due_minute: i64) -> Commit {
    Commit::new(record, State::Idle, at(0), release(record, due_minute))
}

/// Returns the receivers and codes of webhooks, in order.
pub(super) fn receivers(webhooks: &[QueuedWebhook]) -> Vec<String> {
    let describe = |webhook: &QueuedWebhook| {
        let body: serde_json::Value = serde_json::from_str(&webhook.body).unwrap();
        format!("{} {}", webhook.application_id, body["webhook_code"].as_str().unwrap())
    };
    webhooks.iter().map(describe).collect()
}

/// Returns a link of an application to the Item `name`, with an audit entry and a notification of
/// the partner.
pub(super) fn audited_link(name: &str, holder: Connection, minute: i64) -> NewLink {
    let token = digest(&format!("{name}/{}", holder.application_id));
    let user = (bank(), UserId::new(name).unwrap());
    let audit = audit(holder.application_id.as_str(), Some(holder.application_id.as_str()));
    let holder = NewHolder::Application(holder);
    let mut new = NewLink::new(user, item(name), tokens(name), holder, token, at(minute));
    new.audit = audit;
    new
}

/// Returns an audit entry and, for `application`, a notification of the partner. Each call uses new
/// ids.
pub(super) fn audit(initiator: &str, application: Option<&str>) -> AuditRecord {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let id = ActivityId::new(format!("act-{number}")).unwrap();
    let mut audit = AuditRecord::of(ActivityAuthor::new(id, initiator));
    audit.notice = application.map(|name| {
        let mut application = Application::new(app(name), format!("The {name}"));
        application.reason_for_access = Some("to help".to_owned());
        PartnerNotification::new(
            NotificationId::new(format!("note-{number}")).unwrap(),
            application,
        )
    });
    audit
}

impl World {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// Links an application to the Item of the user `name`. The Item has the same id.
    pub(super) async fn link(&self, name: &str, holder: Connection, minute: i64) -> Linked {
        let token = format!("{name}/{}", holder.application_id);
        self.link_with(name, NewHolder::Application(holder), tokens(name), &token, minute).await
    }

    pub(super) async fn link_with(
        &self,
        name: &str,
        holder: NewHolder,
        tokens: TokenSet,
        token: &str,
        minute: i64,
    ) -> Linked {
        let user = (bank(), UserId::new(name).unwrap());
        let new = NewLink::new(user, item(name), tokens, holder, digest(token), at(minute));
        self.0.link(new).await.unwrap()
    }

    /// Creates an Item with one application, a complete history, and this due time.
    pub(super) async fn settled(&self, name: &str, due_minute: i64) {
        self.link(name, connection("app"), 0).await;
        let record = self.claim_by_name(name).await;
        let mut commit = finish(&record, due_minute);
        commit.sync_state.history = History::Complete;
        self.0.commit(commit).await.unwrap();
    }

    /// Claims an Item for an hour.
    pub(super) async fn claim_by_name(&self, name: &str) -> ItemRecord {
        self.0.claim_one(&item(name), at(0), at(60)).await.unwrap().unwrap()
    }

    /// Claims an Item, stores transactions, and releases the lease.
    pub(super) async fn store(&self, name: &str, transactions: MergedTransactions) {
        let record = self.claim_by_name(name).await;
        let mut commit = finish(&record, 1000);
        commit.transactions = transactions;
        self.0.commit(commit).await.unwrap();
    }

    pub(super) async fn item(&self, name: &str) -> ItemRecord {
        self.0.item(&item(name)).await.unwrap().unwrap()
    }

    /// Returns the ids of the Items that a claim at that minute returns. The lease is ten minutes.
    pub(super) async fn claim(&self, minute: i64, limit: usize) -> Vec<String> {
        let claimed = self.0.claim(at(minute), at(minute + 10), limit).await.unwrap();
        claimed.iter().map(|record| record.id.to_string()).collect()
    }

    /// Notifies with the access token of the application `app`.
    pub(super) async fn notify(&self, name: &str, request: NotificationRequest, minute: i64) {
        let token = digest(&format!("{name}/app"));
        let batch = NotifyBatch::new(bank(), vec![(token, request)], at(minute));
        assert_eq!(self.0.notify(&batch).await.unwrap(), NotifyOutcome::Applied);
    }

    /// Returns the ids of all transactions, newest first.
    pub(super) async fn ids(&self, name: &str) -> Vec<String> {
        let query = TransactionQuery::new(always(), 1000);
        let page = self.0.transactions(&item(name), &query).await.unwrap();
        page.rows.iter().map(|row| row.id.to_string()).collect()
    }

    /// Returns the changes since a number: `+` added, `~` modified, `-` removed.
    pub(super) async fn changes(&self, name: &str, base: i64) -> Vec<String> {
        let page = self.0.changes(&item(name), &ChangeQuery::new(base, 1000)).await.unwrap();
        page.changes.iter().map(show).collect()
    }

    /// Claims all webhooks that are due at that minute.
    pub(super) async fn webhooks(&self, minute: i64) -> Vec<QueuedWebhook> {
        self.0.claim_webhooks(at(minute), at(minute + 1), 1000).await.unwrap()
    }

    /// Claims and completes all due webhooks. Returns their receivers and codes.
    pub(super) async fn deliver(&self, minute: i64) -> Vec<String> {
        let webhooks = self.webhooks(minute).await;
        for webhook in &webhooks {
            self.0.settle_webhook(webhook, None).await.unwrap();
        }
        receivers(&webhooks)
    }

    /// Links an application, with its audit entry.
    pub(super) async fn connect(&self, new: NewLink) -> Linked {
        self.0.link(new).await.unwrap()
    }

    /// Returns the types, initiators and applications of the log's entries, newest first.
    pub(super) async fn log(&self, name: &str) -> Vec<String> {
        let all = self.0.activities(&item(name), None, 100).await.unwrap().unwrap();
        let line = |entry: &Activity| {
            let target = entry.target_application_id.as_ref().map_or("-", ApplicationId::as_str);
            format!("{} by {} of {target}", entry.activity, entry.initiator)
        };
        all.iter().map(line).collect()
    }

    /// Claims and completes all due webhooks. Returns the notifications of partners among them.
    pub(super) async fn partner_notifications(
        &self,
        minute: i64,
    ) -> Vec<NewApplicationLinkNotification> {
        let mut all = Vec::new();
        for webhook in self.webhooks(minute).await {
            self.0.settle_webhook(&webhook, None).await.unwrap();
            if webhook.to == Destination::Partner(bank()) {
                all.push(px_types::decode(webhook.body.as_bytes()).unwrap());
            }
        }
        all
    }

    /// Returns the error kind of a refused commit.
    pub(super) async fn refused(&self, commit: Commit) -> StoreErrorKind {
        self.0.commit(commit).await.unwrap_err().kind()
    }
}

pub(super) fn show(change: &ChangeRow) -> String {
    match change {
        ChangeRow::Added(row) => format!("+{}", row.id),
        ChangeRow::Modified(row) => format!("~{}", row.id),
        ChangeRow::Removed(_, id) => format!("-{id}"),
    }
}
