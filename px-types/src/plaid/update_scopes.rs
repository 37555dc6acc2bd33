use super::{Acknowledged, plaid_endpoint};
use crate::{
    message::message,
    model::scopes::Scopes,
    primitive::{
        id::{ApplicationId, ClientId},
        open_enum::open_enum,
        secret::{AuthorizationState, ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /item/application/scopes/update`: what one application may see from now on.
    ///
    /// Contract: `px.md` section 6.
    pub struct UpdateScopes {
        required {
            /// The Item's token.
            access_token: ItemAccessToken,
            /// The application.
            application_id: ApplicationId,
            /// What it may see.
            scopes: Scopes,
            /// Where the user decided it.
            context: ScopesContext,
        }
        optional {
            /// The `state` of the sign-in, when the user decided during one.
            state: AuthorizationState,
            /// The caller's id, when it authenticates in the body and not in headers.
            client_id: ClientId,
            /// The caller's secret, when it authenticates in the body and not in headers.
            secret: ClientSecret,
        }
    }
}

plaid_endpoint!(
    UpdateScopes,
    "update_scopes",
    "/item/application/scopes/update",
    "Sets what one application may see",
    Acknowledged
);

open_enum! {
    /// Where a user decided what an application may see.
    pub enum ScopesContext {
        /// While connecting the application.
        Enrollment = "ENROLLMENT",
        /// Later, in the partner's portal.
        Portal = "PORTAL",
    }
}
