//! Webhooks that Plaid sends: the messages and the claims of their signatures.
//!
//! Signing and verification need a key and a clock and are therefore in other crates.

mod signature;

pub use signature::{Audience, SIGNATURE_ALGORITHM, SIGNATURE_MAX_AGE_SECONDS, SignatureClaims};

use crate::{
    message::message,
    model::plaid_error::PlaidError,
    primitive::{
        id::{AccountId, ItemId, TransactionId},
        open_enum::open_enum,
        secret::PublicToken,
    },
    wire,
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use std::fmt;

/// The name of the header with the signature of a webhook, a JWT.
pub const VERIFICATION_HEADER: &str = "plaid-verification";

message! {
    /// A webhook: a notification about an Item to an application or a partner.
    ///
    /// Webhooks are delivered at least once and in any order. Treat a webhook as a trigger to read the
    /// current data, never as the data itself.
    ///
    /// Contract: `px.md` section 9.
    ///
    /// ```
    /// use px_types::webhook::{Webhook, WebhookEvent};
    /// let body = br#"{"webhook_type":"TRANSACTIONS","webhook_code":"DEFAULT_UPDATE",
    ///     "item_id":"i1","environment":"production","new_transactions":3}"#;
    /// let webhook: Webhook = px_types::decode(body).unwrap();
    /// assert!(matches!(webhook.event, WebhookEvent::DefaultUpdate(update) if update.new_transactions == 3));
    /// ```
    pub struct Webhook {
        required {
            /// The id of the Item.
            item_id: ItemId,
            /// The environment.
            environment: Environment,
        }
        flat {
            /// The event.
            event: WebhookEvent,
        }
    }
}

open_enum! {
    /// An environment of Plaid.
    pub enum Environment {
        Development = "development",
        Sandbox = "sandbox",
        Production = "production",
    }
}

open_enum! {
    /// The type of a webhook.
    pub enum WebhookType {
        Transactions = "TRANSACTIONS",
        Item = "ITEM",
        Link = "LINK",
    }
}

open_enum! {
    /// The code of a webhook.
    pub enum WebhookCode {
        InitialUpdate = "INITIAL_UPDATE",
        HistoricalUpdate = "HISTORICAL_UPDATE",
        DefaultUpdate = "DEFAULT_UPDATE",
        TransactionsRemoved = "TRANSACTIONS_REMOVED",
        SyncUpdatesAvailable = "SYNC_UPDATES_AVAILABLE",
        Error = "ERROR",
        LoginRepaired = "LOGIN_REPAIRED",
        NewAccountsAvailable = "NEW_ACCOUNTS_AVAILABLE",
        WebhookUpdateAcknowledged = "WEBHOOK_UPDATE_ACKNOWLEDGED",
        UserPermissionRevoked = "USER_PERMISSION_REVOKED",
        UserAccountRevoked = "USER_ACCOUNT_REVOKED",
        ItemAddResult = "ITEM_ADD_RESULT",
    }
}

/// The event of a webhook: its type and code, with the fields of this event.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum WebhookEvent {
    /// `TRANSACTIONS: INITIAL_UPDATE`: the first transactions are available.
    InitialUpdate(NewTransactions),
    /// `TRANSACTIONS: HISTORICAL_UPDATE`: the complete history is available.
    HistoricalUpdate(NewTransactions),
    /// `TRANSACTIONS: DEFAULT_UPDATE`: there are new transactions.
    DefaultUpdate(NewTransactions),
    /// `TRANSACTIONS: TRANSACTIONS_REMOVED`: transactions were removed.
    TransactionsRemoved(RemovedTransactions),
    /// `TRANSACTIONS: SYNC_UPDATES_AVAILABLE`: there are changes to read.
    SyncUpdatesAvailable(SyncUpdates),
    /// `ITEM: ERROR`: the Item cannot be updated.
    Error(ItemFault),
    /// `ITEM: LOGIN_REPAIRED`: the Item can be updated again.
    LoginRepaired,
    /// `ITEM: NEW_ACCOUNTS_AVAILABLE`: the user has a new account.
    NewAccountsAvailable,
    /// `ITEM: WEBHOOK_UPDATE_ACKNOWLEDGED`: the webhook URL was changed.
    WebhookUpdateAcknowledged(NewWebhook),
    /// `ITEM: USER_PERMISSION_REVOKED`: the user revoked the consent.
    UserPermissionRevoked(RevokedPermission),
    /// `ITEM: USER_ACCOUNT_REVOKED`: the user revoked the consent for one account.
    UserAccountRevoked(RevokedAccount),
    /// `LINK: ITEM_ADD_RESULT`: a user connected this application (`px.md` section 10).
    ItemAddResult(AddedItem),
    /// An event that this version does not know, with all its fields.
    Unknown(UnknownEvent),
}

message! {
    /// The fields of the events about new transactions.
    pub struct NewTransactions {
        required {
            /// The number of new transactions.
            new_transactions: u64,
        }
        optional {
            /// The error that may have made the event incomplete.
            error: PlaidError,
        }
    }
}

message! {
    /// The fields of `TRANSACTIONS_REMOVED`.
    pub struct RemovedTransactions {
        required {
            /// The ids of the removed transactions.
            removed_transactions: Vec<TransactionId>,
        }
        optional {
            /// The error that may have made the event incomplete.
            error: PlaidError,
        }
    }
}

message! {
    /// The fields of `SYNC_UPDATES_AVAILABLE`: the progress of the initial fetch.
    pub struct SyncUpdates {
        required {
            /// Whether the first transactions are available.
            initial_update_complete: bool,
            /// Whether the complete history is available.
            historical_update_complete: bool,
        }
    }
}

message! {
    /// The fields of `ERROR`.
    pub struct ItemFault {
        required {
            /// The error that prevents updates of the Item.
            error: PlaidError,
        }
    }
}

message! {
    /// The fields of `WEBHOOK_UPDATE_ACKNOWLEDGED`.
    pub struct NewWebhook {
        required {
            /// The new webhook URL.
            new_webhook_url: String,
        }
        optional {
            /// The error of the Item at that time.
            error: PlaidError,
        }
    }
}

message! {
    /// The fields of `USER_PERMISSION_REVOKED`.
    pub struct RevokedPermission {
        optional {
            /// The error of the Item after the revocation.
            error: PlaidError,
        }
    }
}

message! {
    /// The fields of `USER_ACCOUNT_REVOKED`.
    pub struct RevokedAccount {
        required {
            /// The id of the account.
            account_id: AccountId,
        }
    }
}

message! {
    /// The fields of `ITEM_ADD_RESULT`.
    pub struct AddedItem {
        required {
            /// The public token, to be exchanged once, within 30 minutes, for the application's access token.
            public_token: PublicToken,
        }
        optional {
            /// The id of the user at the application, as given by the partner
            /// (`cross_app_item_add.foreign_id`).
            foreign_id: String,
            /// The id of the user at the application, as given by the application itself
            /// (`user.client_user_id` of its link token).
            client_user_id: String,
        }
    }
}

/// A webhook event with a type or a code that this version does not know.
///
/// `Debug` shows only type and code, because any other field may be a token.
#[derive(Clone, PartialEq)]
pub struct UnknownEvent {
    webhook_type: WebhookType,
    webhook_code: WebhookCode,
    fields: Map<String, Value>,
}

impl UnknownEvent {
    /// Returns the fields as they were read, without those that all webhooks have.
    #[must_use]
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }
}

impl fmt::Debug for UnknownEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnknownEvent")
            .field("webhook_type", &self.webhook_type)
            .field("webhook_code", &self.webhook_code)
            .finish_non_exhaustive()
    }
}

impl WebhookEvent {
    /// Returns the type of the webhook.
    #[must_use]
    pub fn webhook_type(&self) -> WebhookType {
        match self {
            Self::InitialUpdate(_)
            | Self::HistoricalUpdate(_)
            | Self::DefaultUpdate(_)
            | Self::TransactionsRemoved(_)
            | Self::SyncUpdatesAvailable(_) => WebhookType::Transactions,
            Self::Error(_)
            | Self::LoginRepaired
            | Self::NewAccountsAvailable
            | Self::WebhookUpdateAcknowledged(_)
            | Self::UserPermissionRevoked(_)
            | Self::UserAccountRevoked(_) => WebhookType::Item,
            Self::ItemAddResult(_) => WebhookType::Link,
            Self::Unknown(event) => event.webhook_type.clone(),
        }
    }

    /// Returns the code of the webhook.
    #[must_use]
    pub fn webhook_code(&self) -> WebhookCode {
        match self {
            Self::InitialUpdate(_) => WebhookCode::InitialUpdate,
            Self::HistoricalUpdate(_) => WebhookCode::HistoricalUpdate,
            Self::DefaultUpdate(_) => WebhookCode::DefaultUpdate,
            Self::TransactionsRemoved(_) => WebhookCode::TransactionsRemoved,
            Self::SyncUpdatesAvailable(_) => WebhookCode::SyncUpdatesAvailable,
            Self::Error(_) => WebhookCode::Error,
            Self::LoginRepaired => WebhookCode::LoginRepaired,
            Self::NewAccountsAvailable => WebhookCode::NewAccountsAvailable,
            Self::WebhookUpdateAcknowledged(_) => WebhookCode::WebhookUpdateAcknowledged,
            Self::UserPermissionRevoked(_) => WebhookCode::UserPermissionRevoked,
            Self::UserAccountRevoked(_) => WebhookCode::UserAccountRevoked,
            Self::ItemAddResult(_) => WebhookCode::ItemAddResult,
            Self::Unknown(event) => event.webhook_code.clone(),
        }
    }
}

impl Serialize for WebhookEvent {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Tagged<'a, T> {
            webhook_type: WebhookType,
            webhook_code: WebhookCode,
            #[serde(flatten)]
            fields: &'a T,
        }
        fn tagged<S: Serializer, T: Serialize>(
            event: &WebhookEvent,
            fields: &T,
            s: S,
        ) -> Result<S::Ok, S::Error> {
            let (webhook_type, webhook_code) = (event.webhook_type(), event.webhook_code());
            Tagged { webhook_type, webhook_code, fields }.serialize(s)
        }
        match self {
            Self::InitialUpdate(fields)
            | Self::HistoricalUpdate(fields)
            | Self::DefaultUpdate(fields) => tagged(self, fields, s),
            Self::TransactionsRemoved(fields) => tagged(self, fields, s),
            Self::SyncUpdatesAvailable(fields) => tagged(self, fields, s),
            Self::Error(fields) => tagged(self, fields, s),
            Self::LoginRepaired | Self::NewAccountsAvailable => tagged(self, &Map::new(), s),
            Self::WebhookUpdateAcknowledged(fields) => tagged(self, fields, s),
            Self::UserPermissionRevoked(fields) => tagged(self, fields, s),
            Self::UserAccountRevoked(fields) => tagged(self, fields, s),
            Self::ItemAddResult(fields) => tagged(self, fields, s),
            Self::Unknown(event) => tagged(self, &event.fields, s),
        }
    }
}

impl<'de> Deserialize<'de> for WebhookEvent {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(d)?;
        let mut text = |name: &'static str| match fields.remove(name) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(wire::error_at(name, "expected a string")),
            None => Err(serde::de::Error::missing_field(name)),
        };
        let webhook_type = WebhookType::from(text("webhook_type")?.as_str());
        let webhook_code = WebhookCode::from(text("webhook_code")?.as_str());
        use {WebhookCode as Code, WebhookType as Type};
        Ok(match (&webhook_type, &webhook_code) {
            (Type::Transactions, Code::InitialUpdate) => {
                Self::InitialUpdate(wire::from_buffered(&fields)?)
            }
            (Type::Transactions, Code::HistoricalUpdate) => {
                Self::HistoricalUpdate(wire::from_buffered(&fields)?)
            }
            (Type::Transactions, Code::DefaultUpdate) => {
                Self::DefaultUpdate(wire::from_buffered(&fields)?)
            }
            (Type::Transactions, Code::TransactionsRemoved) => {
                Self::TransactionsRemoved(wire::from_buffered(&fields)?)
            }
            (Type::Transactions, Code::SyncUpdatesAvailable) => {
                Self::SyncUpdatesAvailable(wire::from_buffered(&fields)?)
            }
            (Type::Item, Code::Error) => Self::Error(wire::from_buffered(&fields)?),
            (Type::Item, Code::LoginRepaired) => Self::LoginRepaired,
            (Type::Item, Code::NewAccountsAvailable) => Self::NewAccountsAvailable,
            (Type::Item, Code::WebhookUpdateAcknowledged) => {
                Self::WebhookUpdateAcknowledged(wire::from_buffered(&fields)?)
            }
            (Type::Item, Code::UserPermissionRevoked) => {
                Self::UserPermissionRevoked(wire::from_buffered(&fields)?)
            }
            (Type::Item, Code::UserAccountRevoked) => {
                Self::UserAccountRevoked(wire::from_buffered(&fields)?)
            }
            (Type::Link, Code::ItemAddResult) => Self::ItemAddResult(wire::from_buffered(&fields)?),
            _ => Self::Unknown(UnknownEvent { webhook_type, webhook_code, fields }),
        })
    }
}

#[cfg(feature = "openapi")]
impl schemars::JsonSchema for WebhookEvent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WebhookEvent".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let webhook_type = generator.subschema_for::<WebhookType>();
        let webhook_code = generator.subschema_for::<WebhookCode>();
        let fields = [
            generator.subschema_for::<NewTransactions>(),
            generator.subschema_for::<RemovedTransactions>(),
            generator.subschema_for::<SyncUpdates>(),
            generator.subschema_for::<ItemFault>(),
            generator.subschema_for::<NewWebhook>(),
            generator.subschema_for::<RevokedAccount>(),
            generator.subschema_for::<AddedItem>(),
            schemars::json_schema!({ "type": "object" }),
        ];
        schemars::json_schema!({
            "type": "object",
            "properties": { "webhook_type": webhook_type, "webhook_code": webhook_code },
            "required": ["webhook_type", "webhook_code"],
            "anyOf": fields,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) -> Webhook {
        let webhook: Webhook = crate::decode(text.as_bytes()).unwrap();
        let written: Value = serde_json::to_value(&webhook).unwrap();
        assert_eq!(written, serde_json::from_str::<Value>(text).unwrap());
        webhook
    }

    #[test]
    fn known_and_unknown_codes_survive() {
        let webhook = round_trip(
            r#"{"webhook_type":"ITEM","webhook_code":"ERROR","item_id":"i","environment":"sandbox",
            "error":{"error_type":"ITEM_ERROR","error_code":"ITEM_LOGIN_REQUIRED","error_message":"m",
            "display_message":null,"status":400}}"#,
        );
        assert!(matches!(webhook.event, WebhookEvent::Error(_)));
        let webhook = round_trip(
            r#"{"webhook_type":"ITEM","webhook_code":"NEWS","item_id":"i","environment":"moon","token":"hunter2"}"#,
        );
        assert!(!format!("{webhook:?}").contains("hunter2"));
        // A known code of another type is another event.
        let webhook = round_trip(
            r#"{"webhook_type":"AUTH","webhook_code":"ERROR","item_id":"i","environment":"sandbox"}"#,
        );
        assert!(matches!(webhook.event, WebhookEvent::Unknown(_)));
    }

    #[test]
    fn a_fault_has_its_path() {
        let error = crate::decode::<Webhook>(
            br#"{"webhook_type":"TRANSACTIONS","webhook_code":"TRANSACTIONS_REMOVED","item_id":"i",
            "environment":"sandbox","removed_transactions":["a",5]}"#,
        )
        .unwrap_err();
        assert_eq!(error.path(), "removed_transactions[1]");
    }
}
