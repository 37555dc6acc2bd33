//! The builder of a [`PartnerService`].

#[cfg(feature = "jwt")]
use super::notifications::Notifications;
use super::{PartnerService, ResponseCheck, ServiceState, window_cache::WindowCache};
#[cfg(feature = "jwt")]
use crate::webhook::Verifier;
use crate::{
    Partner,
    call::{Guards, Limits},
    clients::Clients,
    credentials::Credentials,
    guard::{FailureLimit, RateLimit, open_calls::OpenCalls},
    oauth::{AuthorizePages, OAuth},
    router::{Operation, Router},
    verify::TokenVerifier,
};
use px_core::{Clock, Random, SystemClock, SystemRandom};
use std::{fmt, sync::Arc};

/// Builder of a [`PartnerService`]. Everything but a way to check tokens is optional.
pub struct PartnerServiceBuilder {
    partner: Arc<dyn Partner>,
    verifier: Option<Arc<dyn TokenVerifier>>,
    oauth: Option<OAuth>,
    pages: Option<Arc<dyn AuthorizePages>>,
    credentials: Option<Arc<dyn Credentials>>,
    clients: Option<Arc<dyn Clients>>,
    #[cfg(feature = "jwt")]
    notifications: Option<Arc<Verifier>>,
    rate_limit: Option<RateLimit>,
    limits: Limits,
    guards: Guards,
    check: ResponseCheck,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl fmt::Debug for PartnerServiceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartnerServiceBuilder")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Error of [`PartnerServiceBuilder::build`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartnerServiceBuildError {
    /// No token verifier is set.
    #[error("no token verifier is set: call `tokens(…)` or `oauth(…)` on the builder")]
    NoVerifier,
    /// Pages are set without an OAuth kit, which issues the authorization codes.
    #[error("the pages need an OAuth kit: call `oauth(…)` on the builder too")]
    PagesWithoutOAuth,
    /// Credentials mode is set without a registry of clients.
    #[error(
        "credentials mode needs a client registry: call `clients(…)` or `oauth(…)` on the builder"
    )]
    CredentialsWithoutClients,
    /// A limit is zero, so every request would be refused.
    #[error("a limit is zero, so every request would be refused")]
    ZeroLimit,
}

impl PartnerServiceBuilder {
    pub(super) fn new(partner: Arc<dyn Partner>) -> Self {
        Self {
            partner,
            verifier: None,
            oauth: None,
            pages: None,
            credentials: None,
            clients: None,
            #[cfg(feature = "jwt")]
            notifications: None,
            rate_limit: None,
            limits: Limits::default(),
            guards: Guards::default(),
            check: ResponseCheck::default(),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
        }
    }

    /// Sets the token verifier. By default, the service accepts the tokens of
    /// [`oauth`](Self::oauth).
    #[must_use]
    pub fn tokens(mut self, verifier: Arc<dyn TokenVerifier>) -> Self {
        self.verifier = Some(verifier);
        self
    }

    /// Enables the token, revocation and metadata endpoints.
    #[must_use]
    pub fn oauth(mut self, oauth: OAuth) -> Self {
        self.oauth = Some(oauth);
        self
    }

    /// Enables the authorization endpoint, with the bank's own login and consent pages.
    #[must_use]
    pub fn pages(mut self, pages: Arc<dyn AuthorizePages>) -> Self {
        self.pages = Some(pages);
        self
    }

    /// Enables credentials mode (`px.md` section 5).
    #[must_use]
    pub fn credentials(mut self, credentials: Arc<dyn Credentials>) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Sets the clients of credentials mode; those of [`oauth`](Self::oauth) by default.
    #[must_use]
    pub fn clients(mut self, clients: Arc<dyn Clients>) -> Self {
        self.clients = Some(clients);
        self
    }

    /// Enables `POST /applications/notify`. A notification with a signature that the verifier
    /// accepts is passed to [`Partner::application_linked`]. Without a verifier, the path is 404.
    ///
    /// Set the [institution](Verifier::institution) that the bank is at Plaid on the verifier.
    ///
    /// A notification is delivered once, by its `notification_id`, and again only if the
    /// delivery failed. While it is being delivered, a copy is refused with 503. The ids are
    /// remembered by this process, in bounded memory, so the bank must also ignore duplicates
    /// in its own records.
    ///
    /// ```
    /// use px_server::{PartnerServiceBuilder, webhook::{KeySourceFn, Verifier}};
    /// use std::sync::Arc;
    /// # use px_types::{KeyId, model::verification_key::VerificationKey};
    /// # #[derive(Clone)] struct Plaid;
    /// # impl Plaid {
    /// #     async fn key(&self, _: KeyId) -> Result<Option<VerificationKey>, std::io::Error> { Ok(None) }
    /// # }
    ///
    /// fn with_notifications(builder: PartnerServiceBuilder, plaid: Plaid) -> PartnerServiceBuilder {
    ///     let keys = KeySourceFn::new(move |kid| {
    ///         let plaid = plaid.clone();
    ///         async move { plaid.key(kid).await }
    ///     });
    ///     let institution = "ins_1".parse().expect("an id");
    ///     builder.notifications(Arc::new(Verifier::new(Arc::new(keys)).institution(institution)))
    /// }
    /// ```
    #[cfg(feature = "jwt")]
    #[must_use]
    pub fn notifications(mut self, verifier: Arc<Verifier>) -> Self {
        self.notifications = Some(verifier);
        self
    }

    /// Limits the rate of requests per client and user. Not limited by default.
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// Limits the rate of requests of one address that fail to authenticate; 100 per minute by
    /// default. The addresses are those of [`CallerAddr`](crate::guard::CallerAddr).
    #[must_use]
    pub fn failure_limit(mut self, limit: FailureLimit) -> Self {
        self.guards.failures = limit;
        self
    }

    /// Sets the maximum number of concurrent calls; 1,024 by default. One address may use a
    /// quarter of them. Further calls are refused with 503.
    #[must_use]
    pub fn max_open_calls(mut self, calls: usize) -> Self {
        self.guards.open_calls = OpenCalls::new(calls);
        self
    }

    /// Sets the maximum size of a request body, in bytes; 1 MiB by default.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.limits.body = bytes;
        self
    }

    /// Sets the maximum size of the headers, in bytes, and their maximum number; 32 KiB and 100
    /// by default.
    #[must_use]
    pub fn max_headers(mut self, bytes: usize, fields: usize) -> Self {
        (self.limits.header_bytes, self.limits.header_fields) = (bytes, fields);
        self
    }

    /// Sets the handling of responses that violate the contract. See [`ResponseCheck`] for the
    /// default.
    #[must_use]
    pub fn response_check(mut self, check: ResponseCheck) -> Self {
        self.check = check;
        self
    }

    /// Sets the clock; the system clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the source of request ids; the operating system's random generator by default.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Builds the service.
    ///
    /// # Errors
    /// - [`PartnerServiceBuildError::NoVerifier`] if neither `tokens` nor `oauth` is set.
    /// - [`PartnerServiceBuildError::PagesWithoutOAuth`] if `pages` is set without `oauth`.
    /// - [`PartnerServiceBuildError::CredentialsWithoutClients`] if `credentials` is set without `clients` or
    ///   `oauth`.
    /// - [`PartnerServiceBuildError::ZeroLimit`] if a limit is zero.
    pub fn build(self) -> Result<PartnerService, PartnerServiceBuildError> {
        let Self { partner, verifier, oauth, pages, credentials, clients, .. } = self;
        let verifier = verifier.or_else(|| oauth.as_ref().map(OAuth::verifier));
        let verifier = verifier.ok_or(PartnerServiceBuildError::NoVerifier)?;
        let clients = clients.or_else(|| oauth.as_ref().map(OAuth::clients));
        if pages.is_some() && oauth.is_none() {
            return Err(PartnerServiceBuildError::PagesWithoutOAuth);
        }
        if credentials.is_some() && clients.is_none() {
            return Err(PartnerServiceBuildError::CredentialsWithoutClients);
        }
        let limits = self.limits;
        if limits.has_zero() {
            return Err(PartnerServiceBuildError::ZeroLimit);
        }
        let router = Router::new(|operation| match operation {
            Operation::user | Operation::transactions | Operation::current_user => true,
            Operation::token | Operation::revoke | Operation::metadata => oauth.is_some(),
            Operation::authorize => pages.is_some(),
            Operation::auth_token | Operation::send_otp | Operation::two_factor => {
                credentials.is_some()
            }
            #[cfg(feature = "jwt")]
            Operation::application_linked => self.notifications.is_some(),
            #[cfg(not(feature = "jwt"))]
            Operation::application_linked => false,
        });
        Ok(PartnerService(Arc::new(ServiceState {
            partner,
            verifier,
            oauth,
            pages,
            credentials,
            clients,
            #[cfg(feature = "jwt")]
            notifications: self.notifications.map(Notifications::new),
            rate_limit: self.rate_limit,
            router,
            limits,
            guards: self.guards,
            windows: WindowCache::new(Arc::clone(&self.clock)),
            check: self.check,
            clock: self.clock,
            random: self.random,
        })))
    }
}
