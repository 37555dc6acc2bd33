//! Callers: a client may only use its own tokens. Tokens of other owners are unknown to it.

use super::{Items, ItemsError, token};
use crate::store::Access;
use px_types::{ApplicationId, InstitutionId, ItemAccessToken};

/// Owner of access tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TokenOwner {
    /// An application, connected to Items.
    Application(ApplicationId),
    /// A partner, which may name the Items of its own institution.
    Partner(InstitutionId),
}

impl TokenOwner {
    fn holds(&self, access: &Access) -> bool {
        match self {
            Self::Application(id) => access.application_id.as_ref() == Some(id),
            Self::Partner(id) => access.application_id.is_none() && access.institution_id == *id,
        }
    }
}

/// Items of a service with several clients.
///
/// It has no operations of its own, so that no call can omit the owner of its tokens:
///
/// ```
/// # use px_items::{items::{TokenOwner, Items, ItemsErrorKind}, store::MemoryStore};
/// # use px_types::{ItemAccessToken, webhook::Environment};
/// # use std::sync::Arc;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let items = Items::builder(Arc::new(MemoryStore::new(Environment::Sandbox))).build_shared();
/// // The authenticated client belongs to an application.
/// let caller = TokenOwner::Application("budget-app".parse()?);
/// let refused = items.by(caller).accounts(&ItemAccessToken::new("of-another")).await.unwrap_err();
/// assert_eq!(refused.kind(), ItemsErrorKind::InvalidAccessToken);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SharedItems(Items);

impl SharedItems {
    pub(super) fn new(items: Items) -> Self {
        Self(items)
    }

    /// Returns the Items for a caller. Tokens of other owners are treated as unknown.
    #[must_use]
    pub fn by(&self, caller: TokenOwner) -> Items {
        self.0.by(caller)
    }

    /// Returns the Items for Plaid's own operators and pages: tokens of all owners are accepted.
    /// Not for requests of a client.
    #[must_use]
    pub fn for_any_owner(&self) -> &Items {
        &self.0
    }
}

impl Items {
    /// Returns the Items for one caller. Tokens of other owners are treated as unknown.
    #[must_use]
    pub fn by(&self, caller: TokenOwner) -> Self {
        Self { caller: Some(caller), ..self.clone() }
    }

    /// Returns the access of a token, if it belongs to the caller.
    pub(super) async fn access(&self, token: &ItemAccessToken) -> Result<Access, ItemsError> {
        let access = self.store.access(&token::digest(token)).await?;
        access
            .filter(|access| self.caller.as_ref().is_none_or(|caller| caller.holds(access)))
            .ok_or_else(ItemsError::invalid_access_token)
    }

    /// Returns the access of a partner's token. A token of an application is treated as unknown.
    pub(super) async fn partner_access(
        &self,
        token: &ItemAccessToken,
    ) -> Result<Access, ItemsError> {
        let access = self.access(token).await?;
        match access.application_id {
            None => Ok(access),
            Some(_) => Err(ItemsError::invalid_access_token()),
        }
    }

    /// Returns whether the caller may act as that owner.
    pub(super) fn is_caller(&self, holder: &TokenOwner) -> bool {
        self.caller.as_ref().is_none_or(|caller| caller == holder)
    }
}
