//! The content of a link token.

use px_items::store::ApplicationUser;
use px_types::{ApplicationId, ClientId, InstitutionId, ItemId, UserId};
use serde::{Deserialize, Serialize};

/// The content of a link token. It is stored sealed until the page is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkRequest {
    /// The client that created the token.
    pub(crate) client: ClientId,
    /// The application to connect.
    pub(crate) application: ApplicationId,
    /// The products that it requests.
    pub(crate) products: Vec<String>,
    /// The application's webhook URL.
    pub(crate) webhook: Option<String>,
    /// The redirect URI to which the page returns.
    pub(crate) redirect_uri: Option<String>,
    /// The user of the Item, as named in the webhook to the application.
    #[serde(default, rename = "whose")]
    pub(crate) item_user: ApplicationUser,
    /// The purpose of the visit.
    pub(crate) purpose: Purpose,
}

/// The purpose of a visit to the Link page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// The user connects a bank of their choice.
    Connect,
    /// The user signs in again at the bank of an Item that lost its authorization.
    Repair {
        /// The bank.
        institution: InstitutionId,
        /// The user at the bank.
        user: UserId,
    },
    /// A bank's user connects an application without signing in again (section 10).
    CrossApp {
        /// The bank.
        institution: InstitutionId,
        /// The Item.
        item: ItemId,
        /// The user at the bank.
        user: UserId,
    },
}
