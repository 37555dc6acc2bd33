//! Who calls, and what the user allowed: the grant behind a token.

use crate::guard::{CallerAddr, ClientCertificate};
use chrono::{DateTime, Utc};
use px_types::{AccountId, ApplicationId, ClientId, ScopeSet, UserId};
use std::{collections::BTreeSet, sync::Arc};

/// What a user allowed: principal, application, scopes and accounts.
///
/// A verifier makes it from a token; the service shows the token nothing beyond it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TokenGrant {
    /// The person whose data it is.
    pub principal: UserId,
    /// What the token may do.
    pub scopes: ScopeSet,
    /// The accounts that it may see.
    pub accounts: PermittedAccounts,
    /// The OAuth client that holds the token.
    pub client_id: Option<ClientId>,
    /// The application for which the user was asked.
    pub application_id: Option<ApplicationId>,
    /// Names the grant, to end its tokens together and to bind cursors to it.
    pub grant_id: Option<String>,
    /// When the token ends; a cached verification ends no later.
    pub expires_at: Option<DateTime<Utc>>,
    /// The SHA-256 of the certificate that the token is bound to, `cnf.x5t#S256` of RFC 8705. The
    /// service holds each call to it.
    pub certificate_thumbprint: Option<[u8; 32]>,
}

impl TokenGrant {
    /// A grant of scopes over all accounts of a principal.
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
    /// All accounts of the principal, those opened later too.
    All,
    /// Those that the user picked, and no later ones.
    Only(BTreeSet<AccountId>),
}

impl PermittedAccounts {
    /// Whether the grant covers an account.
    #[must_use]
    pub fn allows(&self, account: &AccountId) -> bool {
        match self {
            Self::All => true,
            Self::Only(accounts) => accounts.contains(account),
        }
    }
}

/// Who calls: the grant of the token and the id of the request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Caller {
    /// What the user allowed.
    pub grant: Arc<TokenGrant>,
    /// The id of the request, for the partner's own log.
    pub request_id: Arc<str>,
    /// The certificate that the peer showed in the TLS handshake, if it showed one.
    pub certificate: Option<ClientCertificate>,
    /// The address of the caller, where the server says it.
    pub address: Option<CallerAddr>,
}

impl Caller {
    /// The person whose data is asked for; the service has checked that the path names the same.
    #[must_use]
    pub fn principal(&self) -> &UserId {
        &self.grant.principal
    }

    /// The accounts that the caller may see.
    #[must_use]
    pub fn accounts(&self) -> &PermittedAccounts {
        &self.grant.accounts
    }
}
