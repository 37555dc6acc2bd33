//! When an Item was last updated.

use super::item_health::ItemHealth;
use crate::{message::message, primitive::date::Timestamp};

message! {
    /// When an Item was last updated.
    ///
    /// Contract: `px.md` section 6.
    pub struct ItemStatus {
        optional {
            /// Holdings.
            investments: UpdateStatus,
            /// Transactions.
            transactions: UpdateStatus,
            /// The last webhook.
            last_webhook: LastWebhook,
            /// Whether the data is complete and current, and if not, why.
            health: ItemHealth,
        }
    }
}

message! {
    /// When one kind of data was last updated.
    pub struct UpdateStatus {
        optional {
            /// When it last worked.
            last_successful_update: Timestamp,
            /// When it last failed.
            last_failed_update: Timestamp,
        }
    }
}

message! {
    /// The last webhook of an Item.
    pub struct LastWebhook {
        optional {
            /// When it was sent.
            sent_at: Timestamp,
            /// Its code.
            code_sent: String,
        }
    }
}
