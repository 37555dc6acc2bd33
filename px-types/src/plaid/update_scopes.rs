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
    /// `POST /item/application/scopes/update`: sets the data that one application may access.
    ///
    /// Contract: `px.md` section 6.
    pub struct UpdateScopes {
        required {
            /// The access token of the Item.
            access_token: ItemAccessToken,
            /// The id of the application.
            application_id: ApplicationId,
            /// The new access of the application.
            scopes: Scopes,
            /// The context of the user's decision.
            context: ScopesContext,
        }
        optional {
            /// The `state` of the sign-in, if the user decided during a sign-in.
            state: AuthorizationState,
            /// The id of the client, if it authenticates in the body instead of headers.
            client_id: ClientId,
            /// The secret of the client, if it authenticates in the body instead of headers.
            secret: ClientSecret,
        }
    }
}

plaid_endpoint!(
    UpdateScopes,
    "update_scopes",
    "/item/application/scopes/update",
    "Sets the data that one application may access",
    Acknowledged
);

open_enum! {
    /// The context in which a user decided about the access of an application.
    pub enum ScopesContext {
        /// While connecting the application.
        Enrollment = "ENROLLMENT",
        /// Later, in the partner's portal.
        Portal = "PORTAL",
    }
}
