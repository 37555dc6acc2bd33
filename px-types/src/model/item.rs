//! An Item: one user's connection at one institution.

use crate::{
    message::message,
    model::{plaid_error::PlaidError, product::Product},
    primitive::{
        date::Timestamp,
        id::{InstitutionId, ItemId},
        open_enum::open_enum,
    },
};

message! {
    /// One user's connection at one institution, as an application sees it.
    ///
    /// Contract: `px.md` sections 6 and 7.
    pub struct Item {
        required {
            /// Stable for the life of the Item.
            item_id: ItemId,
        }
        optional {
            /// The institution.
            institution_id: InstitutionId,
            /// The name of the institution.
            institution_name: String,
            /// When it was made.
            created_at: Timestamp,
            /// Where its webhooks go.
            webhook: String,
            /// Why it cannot be updated; `None` while all is well.
            error: PlaidError,
            /// When the user's consent ends.
            consent_expiration_time: Timestamp,
            /// How it is updated.
            update_type: ItemUpdateType,
        }
        lists {
            /// Products that could be added.
            available_products: Product,
            /// Products that are billed.
            billed_products: Product,
            /// Products that it has.
            products: Product,
            /// Products that the user consented to.
            consented_products: Product,
        }
    }
}

open_enum! {
    /// How an Item is updated.
    pub enum ItemUpdateType {
        /// Without the user.
        Background = "background",
        /// Only while the user is present.
        UserPresentRequired = "user_present_required",
    }
}
