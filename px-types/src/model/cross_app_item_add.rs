//! The request to connect a further application to an Item.

use crate::{message::message, primitive::secret::TargetApplicationToken};

message! {
    /// An application that the user is asked to connect to an existing Item.
    ///
    /// Contract: `px.md` section 10.
    pub struct CrossAppItemAdd {
        required {
            /// The token that names the application. The partner receives it from Plaid.
            target_application_token: TargetApplicationToken,
        }
        optional {
            /// The id of the user at the application.
            foreign_id: String,
        }
    }
}
