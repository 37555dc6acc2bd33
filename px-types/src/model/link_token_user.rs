//! For whom Plaid's page is opened.

use crate::message::message;

message! {
    /// For whom Plaid's page is opened.
    ///
    /// Contract: `px.md` section 6.
    pub struct LinkTokenUser {
        required {
            /// The caller's own stable id of the person. Not an address or a name.
            client_user_id: String,
        }
    }
}
