//! Requests and responses of the developer endpoints.

use px_items::items::{self, RemovedTransaction, SyncPage};
use px_types::{
    AccountId, Amount, Date, IdentityId, ItemAccessToken, TransactionId,
    model::{
        account::Account, identity::Identity, item::Item, security::Security,
        transaction::Transaction,
    },
    primitive::currency::Unit,
};
use serde::{Deserialize, Serialize};

/// The request of most endpoints.
#[derive(Debug, Deserialize)]
pub(super) struct ReadRequest {
    pub(super) access_token: ItemAccessToken,
    pub(super) options: Option<Options>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Options {
    pub(super) account_ids: Option<Vec<AccountId>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TransactionsGetRequest {
    pub(super) access_token: ItemAccessToken,
    pub(super) start_date: Date,
    pub(super) end_date: Date,
    pub(super) options: Option<TransactionsOptions>,
}

/// The options of `/transactions/get`. Pages use a cursor instead of an offset, so that new
/// transactions shift no row.
#[derive(Debug, Default, Deserialize)]
pub(super) struct TransactionsOptions {
    pub(super) account_ids: Option<Vec<AccountId>>,
    pub(super) count: Option<usize>,
    pub(super) cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct SyncRequest {
    pub(super) access_token: ItemAccessToken,
    pub(super) cursor: Option<String>,
    pub(super) count: Option<usize>,
}

/// A response with the id of its request.
#[derive(Serialize)]
pub(super) struct WithRequestId<'r, T> {
    #[serde(flatten)]
    pub(super) response: T,
    pub(super) request_id: &'r str,
}

#[derive(Serialize)]
pub(super) struct AccountsResponse {
    pub(super) accounts: Vec<Account>,
    pub(super) item: Item,
}

#[derive(Serialize)]
pub(super) struct BalancesResponse {
    pub(super) accounts: Vec<Balance>,
    pub(super) item: Item,
}

/// The balances of an account, with the field names of an account.
#[derive(Serialize)]
pub(super) struct Balance {
    id: AccountId,
    current_balance: Amount,
    #[serde(skip_serializing_if = "Option::is_none")]
    available_balance: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credit_limit: Option<Amount>,
    #[serde(flatten)]
    unit: Unit,
}

#[derive(Serialize)]
pub(super) struct IdentityResponse {
    pub(super) accounts: Vec<Account>,
    pub(super) identities: Vec<Identity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_identity_id: Option<IdentityId>,
    pub(super) item: Item,
}

#[derive(Serialize)]
pub(super) struct HoldingsResponse {
    pub(super) accounts: Vec<Account>,
    pub(super) securities: Vec<Security>,
    pub(super) item: Item,
}

#[derive(Serialize)]
pub(super) struct TransactionsResponse {
    pub(super) accounts: Vec<Account>,
    pub(super) transactions: Vec<Transaction>,
    pub(super) securities: Vec<Security>,
    pub(super) total_transactions: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_cursor: Option<String>,
    pub(super) item: Item,
}

#[derive(Serialize)]
pub(super) struct SyncResponse {
    added: Vec<Transaction>,
    modified: Vec<Transaction>,
    removed: Vec<Removed>,
    securities: Vec<Security>,
    next_cursor: String,
    has_more: bool,
    transactions_update_status: &'static str,
}

#[derive(Serialize)]
struct Removed {
    transaction_id: TransactionId,
    account_id: AccountId,
}

impl From<items::Balance> for Balance {
    fn from(balance: items::Balance) -> Self {
        Self {
            id: balance.account_id,
            current_balance: balance.current,
            available_balance: balance.available,
            credit_limit: balance.limit,
            unit: balance.unit,
        }
    }
}

impl From<SyncPage> for SyncResponse {
    fn from(page: SyncPage) -> Self {
        let removed = |row: RemovedTransaction| Removed {
            transaction_id: row.transaction_id,
            account_id: row.account_id,
        };
        Self {
            added: page.added,
            modified: page.modified,
            removed: page.removed.into_iter().map(removed).collect(),
            securities: page.securities,
            next_cursor: page.next_cursor,
            has_more: page.has_more,
            transactions_update_status: page.history.as_str(),
        }
    }
}
