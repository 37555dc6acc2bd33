//! Plaid's API, which Plaid serves and a partner calls. One module per endpoint.
//!
//! Every request is the JSON body of a `POST`, so the message itself implements
//! [`Endpoint`](crate::Endpoint).
//!
//! Contract: `px.md` section 6.

use crate::{endpoint::codec::json_responses, message::message, primitive::bounded::Bounded};

mod application;
mod create_link_token;
mod exchange_public_token;
mod import;
mod invalidate_token;
mod item;
mod list_activity;
mod list_applications;
mod notify_accounts;
mod notify_tokens;
mod notify_transactions;
mod remove_item;
mod unlink_application;
mod update_scopes;
mod update_webhook;
mod verification_key;

pub use application::{GetApplication, GetApplicationResponse};
pub use create_link_token::{CreateLinkToken, CreateLinkTokenResponse};
pub use exchange_public_token::{ExchangePublicToken, ExchangePublicTokenResponse};
pub use import::{ImportItem, ImportItemOptions, ImportItemResponse, UserAuth};
pub use invalidate_token::{InvalidateToken, InvalidateTokenResponse};
pub use item::{GetItem, GetItemResponse};
pub use list_activity::{ListActivity, ListActivityResponse, MAX_ACTIVITY_COUNT};
pub use list_applications::{ListApplications, ListApplicationsResponse};
pub use notify_accounts::{AccountEvent, AccountsNotification, AccountsNotificationEntry};
pub use notify_tokens::{TokenAction, TokensNotification, TokensNotificationEntry};
pub use notify_transactions::{NewTransactionsNotification, TransactionsNotificationEntry};
pub use remove_item::RemoveItem;
pub use unlink_application::UnlinkApplication;
pub use update_scopes::{ScopesContext, UpdateScopes};
pub use update_webhook::{UpdateWebhook, UpdateWebhookResponse};
pub use verification_key::{GetVerificationKey, GetVerificationKeyResponse};

/// The entries of a notification, 1–2000.
pub type Batch<T> = Bounded<T, 1, 2000>;

message! {
    /// The response of an endpoint that returns no data.
    pub struct Acknowledged {
        required {
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
    }
}

json_responses!(Acknowledged);

/// Implements [`Endpoint`](crate::Endpoint) for a message of Plaid's API.
macro_rules! plaid_endpoint {
    ($request:ty, $id:literal, $path:literal, $summary:literal, $response:ty) => {
        impl $crate::endpoint::Endpoint for $request {
            const META: $crate::endpoint::Meta = $crate::endpoint::Meta::post($id, $path)
                .auth($crate::endpoint::Auth::PlaidClient)
                .summary($summary);
            type Path = ();
            type Query = ();
            type Body = $crate::endpoint::codec::Json<Self>;
            type Response = $response;

            fn into_parts(self) -> ((), (), Self::Body) {
                ((), (), $crate::endpoint::codec::Json(self))
            }
            fn from_parts(
                (): (),
                (): (),
                $crate::endpoint::codec::Json(request): Self::Body,
            ) -> Self {
                request
            }
        }
    };
}

use plaid_endpoint;
