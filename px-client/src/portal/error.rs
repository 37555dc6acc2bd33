//! The error of the portal.

use crate::error::{Error as CallError, Source};
use std::{error::Error as StdError, fmt};

/// The kind of a [`PortalError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PortalErrorKind {
    /// The user has no such application: it belongs to another user, was unlinked, or does not exist.
    UnknownApplication,
    /// The application is being disconnected, so its scopes cannot be set.
    Disconnecting,
    /// The user shares nothing with Plaid, so the bank makes no token.
    NotShared,
    /// The scopes name no account. To end all access, disconnect the application.
    NoAccount,
    /// Plaid refused, failed or is out of reach; see [`PortalError::plaid`].
    Plaid,
    /// The bank's own records are out of reach.
    Store,
    /// The bank could not make a token for the user.
    Mint,
}

/// The error of the portal.
///
/// `Display` is one line without secrets and customers' data.
pub struct PortalError {
    kind: PortalErrorKind,
    cause: Cause,
}

enum Cause {
    None,
    Call(CallError),
    Other(Source),
}

impl PortalError {
    pub(super) fn new(kind: PortalErrorKind) -> Self {
        Self { kind, cause: Cause::None }
    }

    pub(super) fn store(source: Source) -> Self {
        Self { kind: PortalErrorKind::Store, cause: Cause::Other(source) }
    }

    pub(super) fn mint(source: Source) -> Self {
        Self { kind: PortalErrorKind::Mint, cause: Cause::Other(source) }
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> PortalErrorKind {
        self.kind
    }

    /// Returns the error of the call to Plaid that failed.
    #[must_use]
    pub fn plaid(&self) -> Option<&CallError> {
        match &self.cause {
            Cause::Call(error) => Some(error),
            Cause::None | Cause::Other(_) => None,
        }
    }
}

impl From<CallError> for PortalError {
    fn from(error: CallError) -> Self {
        Self { kind: PortalErrorKind::Plaid, cause: Cause::Call(error) }
    }
}

impl fmt::Display for PortalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            PortalErrorKind::UnknownApplication => "the user has no such application",
            PortalErrorKind::Disconnecting => "the application is being disconnected",
            PortalErrorKind::NotShared => "the user shares nothing with Plaid",
            PortalErrorKind::NoAccount => "the scopes name no account",
            PortalErrorKind::Plaid => "the call to Plaid failed",
            PortalErrorKind::Store => "the bank's records are out of reach",
            PortalErrorKind::Mint => "the bank could not make a token for the user",
        })
    }
}

impl fmt::Debug for PortalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortalError")
            .field("kind", &self.kind)
            .field("source", &StdError::source(self))
            .finish()
    }
}

impl StdError for PortalError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.cause {
            Cause::None => None,
            Cause::Call(error) => Some(error),
            Cause::Other(source) => Some(&**source as _),
        }
    }
}
