//! Items: the connections of users at institutions.
//!
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
            /// The id. It never changes.
            item_id: ItemId,
        }
        optional {
            /// The id of the institution.
            institution_id: InstitutionId,
            /// The name of the institution.
            institution_name: String,
            /// The time at which the Item was created.
            created_at: Timestamp,
            /// The URL that receives the webhooks of the Item.
            webhook: String,
            /// The error that prevents updates; `None` if the Item can be updated.
            error: PlaidError,
            /// The time at which the user's consent ends.
            consent_expiration_time: Timestamp,
            /// The update type.
            update_type: ItemUpdateType,
        }
        lists {
            /// The products that can be added.
            available_products: Product,
            /// The products that are billed.
            billed_products: Product,
            /// The products of the Item.
            products: Product,
            /// The products to which the user consented.
            consented_products: Product,
        }
    }
}

open_enum! {
    /// The update type of an Item.
    pub enum ItemUpdateType {
        /// Updates do not need the user.
        Background = "background",
        /// Updates need the user to be present.
        UserPresentRequired = "user_present_required",
    }
}
