//! Whose tokens are taken: a client acts with its own, and any other is unknown to it.

use super::{Items, ItemsError, token};
use crate::store::Access;
use px_types::{ApplicationId, InstitutionId, ItemAccessToken};

/// Who holds access tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Holder {
    /// An application, connected to Items.
    Application(ApplicationId),
    /// A partner, which may name the Items of its own institution.
    Partner(InstitutionId),
}

impl Holder {
    fn holds(&self, access: &Access) -> bool {
        match self {
            Self::Application(id) => access.application_id.as_ref() == Some(id),
            Self::Partner(id) => access.application_id.is_none() && access.institution_id == *id,
        }
    }
}

/// Items of a service with several clients.
///
/// It does nothing by itself, so that no call can forget whose tokens it takes:
///
/// ```
/// # use px_items::{items::{Holder, Items, ItemsErrorKind}, store::MemoryStore};
/// # use px_types::{ItemAccessToken, webhook::Environment};
/// # use std::sync::Arc;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let items = Items::builder(Arc::new(MemoryStore::new(Environment::Sandbox))).build_shared();
/// // The client that was authenticated is that of an application.
/// let caller = Holder::Application("budget-app".parse()?);
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

    /// The Items as a caller meets them: a token of another holder is answered as one that never
    /// was.
    #[must_use]
    pub fn by(&self, caller: Holder) -> Items {
        self.0.by(caller)
    }

    /// The Items as Plaid's own people and pages meet them: anyone's tokens are taken. Not for
    /// what a client asked.
    #[must_use]
    pub fn by_anyone(&self) -> &Items {
        &self.0
    }
}

impl Items {
    /// The same for one caller: a token of another holder is answered as one that never was.
    #[must_use]
    pub fn by(&self, caller: Holder) -> Self {
        Self { caller: Some(caller), ..self.clone() }
    }

    /// Whose token it is; the caller's, where there is one.
    pub(super) async fn access(&self, token: &ItemAccessToken) -> Result<Access, ItemsError> {
        let access = self.store.access(&token::digest(token)).await?;
        access
            .filter(|access| self.caller.as_ref().is_none_or(|caller| caller.holds(access)))
            .ok_or_else(ItemsError::invalid_access_token)
    }

    /// The access of a partner's token. An application's is unknown here.
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

    /// Whether the caller may act as that holder.
    pub(super) fn is_caller(&self, holder: &Holder) -> bool {
        self.caller.as_ref().is_none_or(|caller| caller == holder)
    }
}
