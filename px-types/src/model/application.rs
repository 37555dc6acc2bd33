//! Connected applications.
//!
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
            /// The id. It never changes.
            application_id: ApplicationId,
            /// The registered name.
            name: String,
            /// The time at which the user connected the application.
            created_at: Timestamp,
        }
        optional {
            /// The name to display, if it differs from `name`.
            display_name: String,
            /// The URL of the logo.
            logo_url: String,
            /// The URL of the application.
            application_url: String,
            /// The reason for access, as stated by the application.
            reason_for_access: String,
            /// The data that the application may access.
            scopes: Scopes,
        }
    }
}
