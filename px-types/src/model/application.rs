//! An application that a user connected.

use crate::{
    message::message,
    model::scopes::Scopes,
    primitive::{date::Timestamp, id::ApplicationId},
};

message! {
    /// An application that a user connected.
    ///
    /// Contract: `px.md` section 6.
    pub struct ConnectedApplication {
        required {
            /// Stable for the life of the application.
            application_id: ApplicationId,
            /// The name under which it registered.
            name: String,
            /// When the user connected it.
            created_at: Timestamp,
        }
        optional {
            /// The name to show, where it differs.
            display_name: String,
            /// Where its logo is.
            logo_url: String,
            /// Where it is.
            application_url: String,
            /// Why it wants access, in its own words.
            reason_for_access: String,
            /// What it may see.
            scopes: Scopes,
        }
    }
}
