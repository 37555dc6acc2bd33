//! An application as it registered with Plaid.

use crate::{
    message::message,
    primitive::{date::Date, id::ApplicationId},
};

message! {
    /// An application as it registered with Plaid.
    ///
    /// Contract: `px.md` section 6.
    pub struct Application {
        required {
            /// Stable for the life of the application.
            application_id: ApplicationId,
            /// The name under which it registered.
            name: String,
        }
        optional {
            /// The name to show, where it differs.
            display_name: String,
            /// When it registered.
            join_date: Date,
            /// Where its logo is.
            logo_url: String,
            /// Where it is.
            application_url: String,
            /// Why it wants access, in its own words.
            reason_for_access: String,
            /// What it is for.
            use_case: String,
            /// The name of the company behind it.
            company_legal_name: String,
            /// City of the company.
            city: String,
            /// Region or state of the company.
            region: String,
            /// Postal code of the company.
            postal_code: String,
            /// Country of the company, ISO 3166-1, two letters.
            country_code: String,
        }
    }
}
