//! The user of a link token.
//!
use crate::message::message;

message! {
    /// The user for whom the Link page is opened.
    ///
    /// Contract: `px.md` section 6.
    pub struct LinkTokenUser {
        required {
            /// A stable id of the user at the client. Must not be an email address or a name.
            client_user_id: String,
        }
    }
}
