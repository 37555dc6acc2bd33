//! The caller of a request, and the grant behind its token.

use crate::guard::{CallerAddr, ClientCertificate};
use chrono::{DateTime, Utc};
use px_types::{AccountId, ApplicationId, ClientId, ScopeSet, UserId};
use std::{collections::BTreeSet, sync::Arc};

/// The permissions of a token: principal, application, scopes and accounts.
///
/// A token verifier returns it; the service removes everything beyond it from responses.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TokenGrant {
    /// The user who owns the data.
    pub principal: UserId,
    /// The scopes of the token.
    pub scopes: ScopeSet,
    /// The accounts that the token may read.
    pub accounts: PermittedAccounts,
    /// The OAuth client that the token was issued to.
    pub client_id: Option<ClientId>,
    /// The application for which the user gave consent.
    pub application_id: Option<ApplicationId>,
    /// Identifies the grant, to revoke its tokens together and to bind cursors to it.
    pub grant_id: Option<String>,
    /// Expiry time of the token. A cached verification ends no later.
    pub expires_at: Option<DateTime<Utc>>,
    /// SHA-256 of the certificate that the token is bound to (`cnf.x5t#S256` of RFC 8705). The
    /// service requires each call to present that certificate.
    pub certificate_thumbprint: Option<[u8; 32]>,
}

impl TokenGrant {
    /// Creates a grant of scopes over all accounts of a principal.
    #[must_use]
    pub fn new(principal: UserId, scopes: ScopeSet) -> Self {
        Self {
            principal,
            scopes,
            accounts: PermittedAccounts::All,
            client_id: None,
            application_id: None,
            grant_id: None,
            expires_at: None,
            certificate_thumbprint: None,
        }
    }
}

/// The accounts that a grant covers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PermittedAccounts {
    /// All accounts of the principal, including those opened later.
    All,
    /// The accounts that the user selected, and no others.
    Only(BTreeSet<AccountId>),
}

impl PermittedAccounts {
    /// Returns whether the grant covers an account.
    #[must_use]
    pub fn allows(&self, account: &AccountId) -> bool {
        match self {
            Self::All => true,
            Self::Only(accounts) => accounts.contains(account),
        }
    }
}

/// The caller of a request: the grant of its token, and the id of the request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Caller {
    /// The permissions of the token.
    pub grant: Arc<TokenGrant>,
    /// The id of the request, for the partner's own log.
    pub request_id: Arc<str>,
    /// The certificate that the peer presented in the TLS handshake, if any.
    pub certificate: Option<ClientCertificate>,
    /// The address of the caller, if the server provides it.
    pub address: Option<CallerAddr>,
}

impl Caller {
    /// Returns the user who owns the requested data. The service has checked that the path
    /// names the same user.
    #[must_use]
    pub fn principal(&self) -> &UserId {
        &self.grant.principal
    }

    /// Returns the accounts that the caller may read.
    #[must_use]
    pub fn accounts(&self) -> &PermittedAccounts {
        &self.grant.accounts
    }
}
