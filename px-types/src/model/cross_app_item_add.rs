//! The request to connect a further application to an Item.

use crate::{message::message, primitive::secret::TargetApplicationToken};

message! {
    /// The application that a user is asked to connect to an Item that exists.
    ///
    /// Contract: `px.md` section 10.
    pub struct CrossAppItemAdd {
        required {
            /// Names the application; Plaid gives it to the partner.
            target_application_token: TargetApplicationToken,
        }
        optional {
            /// The id by which the application knows the user.
            foreign_id: String,
        }
    }
}
