//! What a link token stands for.

use px_items::store::Whose;
use px_types::{ApplicationId, ClientId, InstitutionId, ItemId, UserId};
use serde::{Deserialize, Serialize};

/// What a link token stands for: kept sealed until the page is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The client that made it.
    pub(crate) client: ClientId,
    /// The application that is to be connected.
    pub(crate) application: ApplicationId,
    /// What it asks for.
    pub(crate) products: Vec<String>,
    /// Where its webhooks go.
    pub(crate) webhook: Option<String>,
    /// Where the page returns to.
    pub(crate) redirect_uri: Option<String>,
    /// Whose Item it will be, as the application is told it.
    #[serde(default)]
    pub(crate) whose: Whose,
    /// What is done.
    pub(crate) purpose: Purpose,
}

/// What is done on the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// The user connects a bank of their choice.
    Connect,
    /// The user signs in again at the bank of an Item that lost its authorization.
    Repair {
        /// The bank.
        institution: InstitutionId,
        /// The user there.
        user: UserId,
    },
    /// A bank's user lets an application in, without signing in again (section 10).
    CrossApp {
        /// The bank.
        institution: InstitutionId,
        /// The Item.
        item: ItemId,
        /// The user at the bank.
        user: UserId,
    },
}
