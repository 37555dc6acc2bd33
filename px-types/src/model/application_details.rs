//! Applications as registered with Plaid.
//!
use crate::{
    message::message,
    primitive::{date::Date, id::ApplicationId},
};

message! {
    /// An application as registered with Plaid.
    ///
    /// Contract: `px.md` section 6.
    pub struct Application {
        required {
            /// The id. It never changes.
            application_id: ApplicationId,
            /// The registered name.
            name: String,
        }
        optional {
            /// The name to display, if it differs from `name`.
            display_name: String,
            /// The date of registration.
            join_date: Date,
            /// The URL of the logo.
            logo_url: String,
            /// The URL of the application.
            application_url: String,
            /// The reason for access, as stated by the application.
            reason_for_access: String,
            /// The purpose of the application.
            use_case: String,
            /// The legal name of the company.
            company_legal_name: String,
            /// The city of the company.
            city: String,
            /// The region or state of the company.
            region: String,
            /// The postal code of the company.
            postal_code: String,
            /// The country of the company, ISO 3166-1 alpha-2.
            country_code: String,
        }
    }
}
