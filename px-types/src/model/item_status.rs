//! The status of an Item's updates.
//!
use super::item_health::ItemHealth;
use crate::{message::message, primitive::date::Timestamp};

message! {
    /// The status of an Item's updates.
    ///
    /// Contract: `px.md` section 6.
    pub struct ItemStatus {
        optional {
            /// The updates of holdings.
            investments: UpdateStatus,
            /// The updates of transactions.
            transactions: UpdateStatus,
            /// The last webhook.
            last_webhook: LastWebhook,
            /// The health of the Item.
            health: ItemHealth,
        }
    }
}

message! {
    /// The last updates of one kind of data.
    pub struct UpdateStatus {
        optional {
            /// The time of the last successful update.
            last_successful_update: Timestamp,
            /// The time of the last failed update.
            last_failed_update: Timestamp,
        }
    }
}

message! {
    /// The last webhook of an Item.
    pub struct LastWebhook {
        optional {
            /// The time at which it was sent.
            sent_at: Timestamp,
            /// The webhook code.
            code_sent: String,
        }
    }
}
