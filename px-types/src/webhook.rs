//! Webhooks that Plaid sends: their payloads, and what is signed of them.
//!
//! Signing and checking a signature is not here: that needs a key and a clock.

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

/// The header that carries a webhook's signature, a JWT.
pub const VERIFICATION_HEADER: &str = "plaid-verification";

message! {
    /// What Plaid tells an application or a partner about an Item.
    ///
    /// Delivered at least once and in any order: take it as a hint to read, never as the
    /// truth itself. Contract: `px.md` section 9.
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
            /// The Item.
            item_id: ItemId,
            /// Where it happened.
            environment: Environment,
        }
        flat {
            /// What happened.
            event: WebhookEvent,
        }
    }
}

open_enum! {
    /// The environment of Plaid that sends a webhook.
    pub enum Environment {
        Development = "development",
        Sandbox = "sandbox",
        Production = "production",
    }
}

open_enum! {
    /// What a webhook is about, in general.
    pub enum WebhookType {
        Transactions = "TRANSACTIONS",
        Item = "ITEM",
        Link = "LINK",
    }
}

open_enum! {
    /// What a webhook is about, exactly.
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

/// What happened: type and code, with the fields that only they have.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum WebhookEvent {
    /// `TRANSACTIONS: INITIAL_UPDATE`: the first transactions are there.
    InitialUpdate(NewTransactions),
    /// `TRANSACTIONS: HISTORICAL_UPDATE`: the whole history is there.
    HistoricalUpdate(NewTransactions),
    /// `TRANSACTIONS: DEFAULT_UPDATE`: there are new transactions.
    DefaultUpdate(NewTransactions),
    /// `TRANSACTIONS: TRANSACTIONS_REMOVED`: transactions are gone.
    TransactionsRemoved(RemovedTransactions),
    /// `TRANSACTIONS: SYNC_UPDATES_AVAILABLE`: there is something to read.
    SyncUpdatesAvailable(SyncUpdates),
    /// `ITEM: ERROR`: the Item cannot be updated.
    Error(ItemFault),
    /// `ITEM: LOGIN_REPAIRED`: it can be updated again.
    LoginRepaired,
    /// `ITEM: NEW_ACCOUNTS_AVAILABLE`: the user has an account that was not there before.
    NewAccountsAvailable,
    /// `ITEM: WEBHOOK_UPDATE_ACKNOWLEDGED`: webhooks go to another address.
    WebhookUpdateAcknowledged(NewWebhook),
    /// `ITEM: USER_PERMISSION_REVOKED`: the user took the consent back.
    UserPermissionRevoked(RevokedPermission),
    /// `ITEM: USER_ACCOUNT_REVOKED`: the user took the consent to one account back.
    UserAccountRevoked(RevokedAccount),
    /// `LINK: ITEM_ADD_RESULT`: a user connected this application (section 10).
    ItemAddResult(AddedItem),
    /// Anything that this version does not know, kept whole.
    Unknown(UnknownEvent),
}

message! {
    /// How many transactions are new.
    pub struct NewTransactions {
        required {
            /// How many.
            new_transactions: u64,
        }
        optional {
            /// Why there may be fewer than there should be.
            error: PlaidError,
        }
    }
}

message! {
    /// Which transactions are gone.
    pub struct RemovedTransactions {
        required {
            /// Their ids.
            removed_transactions: Vec<TransactionId>,
        }
        optional {
            /// Why there may be fewer than there should be.
            error: PlaidError,
        }
    }
}

message! {
    /// How far the history of an Item is there.
    pub struct SyncUpdates {
        required {
            /// Whether the first transactions are there.
            initial_update_complete: bool,
            /// Whether the whole history is there.
            historical_update_complete: bool,
        }
    }
}

message! {
    /// Why an Item cannot be updated.
    pub struct ItemFault {
        required {
            /// Why.
            error: PlaidError,
        }
    }
}

message! {
    /// Where webhooks go from now on.
    pub struct NewWebhook {
        required {
            /// The address.
            new_webhook_url: String,
        }
        optional {
            /// What was wrong with the Item then.
            error: PlaidError,
        }
    }
}

message! {
    /// The consent that a user took back.
    pub struct RevokedPermission {
        optional {
            /// What the Item says from now on.
            error: PlaidError,
        }
    }
}

message! {
    /// The account to which a user took the consent back.
    pub struct RevokedAccount {
        required {
            /// The account.
            account_id: AccountId,
        }
    }
}

message! {
    /// The Item that a user shares with this application from now on.
    pub struct AddedItem {
        required {
            /// To be exchanged for the application's own token, within 30 minutes and once.
            public_token: PublicToken,
        }
        optional {
            /// Whose Item it is, by the id that the partner gave as the application's own
            /// (`cross_app_item_add.foreign_id`).
            foreign_id: String,
            /// Whose Item it is, by the id that the application itself gave
            /// (`user.client_user_id` of its link token).
            client_user_id: String,
        }
    }
}

/// A webhook of a type or a code that this version does not know.
///
/// `Debug` shows type and code alone: any other field may be a token.
#[derive(Clone, PartialEq)]
pub struct UnknownEvent {
    webhook_type: WebhookType,
    webhook_code: WebhookCode,
    fields: Map<String, Value>,
}

impl UnknownEvent {
    /// Every field but those that all webhooks have, as it was read.
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
    /// What it is about, in general.
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

    /// What it is about, exactly.
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
                Self::InitialUpdate(wire::from_held(&fields)?)
            }
            (Type::Transactions, Code::HistoricalUpdate) => {
                Self::HistoricalUpdate(wire::from_held(&fields)?)
            }
            (Type::Transactions, Code::DefaultUpdate) => {
                Self::DefaultUpdate(wire::from_held(&fields)?)
            }
            (Type::Transactions, Code::TransactionsRemoved) => {
                Self::TransactionsRemoved(wire::from_held(&fields)?)
            }
            (Type::Transactions, Code::SyncUpdatesAvailable) => {
                Self::SyncUpdatesAvailable(wire::from_held(&fields)?)
            }
            (Type::Item, Code::Error) => Self::Error(wire::from_held(&fields)?),
            (Type::Item, Code::LoginRepaired) => Self::LoginRepaired,
            (Type::Item, Code::NewAccountsAvailable) => Self::NewAccountsAvailable,
            (Type::Item, Code::WebhookUpdateAcknowledged) => {
                Self::WebhookUpdateAcknowledged(wire::from_held(&fields)?)
            }
            (Type::Item, Code::UserPermissionRevoked) => {
                Self::UserPermissionRevoked(wire::from_held(&fields)?)
            }
            (Type::Item, Code::UserAccountRevoked) => {
                Self::UserAccountRevoked(wire::from_held(&fields)?)
            }
            (Type::Link, Code::ItemAddResult) => Self::ItemAddResult(wire::from_held(&fields)?),
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
