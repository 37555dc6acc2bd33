//! How a [`PartnerService`] is put together.

use super::{Inner, PartnerService, ResponseCheck, windows::Windows};
use crate::{
    Partner,
    call::{Guards, Limits},
    clients::Clients,
    credentials::Credentials,
    guard::{FailureLimit, RateLimit, open_calls::OpenCalls},
    oauth::{AuthorizePages, OAuth},
    router::{Operation, Router},
    verify::TokenVerifier,
    webhook::Verifier,
};
use px_core::{Clock, Random, SystemClock, SystemRandom};
use std::{fmt, sync::Arc};

/// Puts a [`PartnerService`] together. All but a way to check tokens is optional.
pub struct PartnerServiceBuilder {
    partner: Arc<dyn Partner>,
    verifier: Option<Arc<dyn TokenVerifier>>,
    oauth: Option<OAuth>,
    pages: Option<Arc<dyn AuthorizePages>>,
    credentials: Option<Arc<dyn Credentials>>,
    clients: Option<Arc<dyn Clients>>,
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

/// Why a service cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Nothing says whose token a token is.
    #[error("tokens cannot be checked: give the builder `tokens(…)` or `oauth(…)`")]
    NoVerifier,
    /// Pages were given, and nothing to hand out codes.
    #[error("pages need an OAuth kit: give the builder `oauth(…)` too")]
    PagesWithoutOAuth,
    /// Credentials mode was given, and nobody to authenticate its clients.
    #[error(
        "credentials mode needs to know its clients: give the builder `clients(…)` or `oauth(…)`"
    )]
    CredentialsWithoutClients,
    /// A limit is zero.
    #[error("a limit of zero refuses every request")]
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
            notifications: None,
            rate_limit: None,
            limits: Limits::default(),
            guards: Guards::default(),
            check: ResponseCheck::default(),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
        }
    }

    /// Checks tokens this way. Without it, the tokens of [`oauth`](Self::oauth) are checked.
    #[must_use]
    pub fn tokens(mut self, verifier: Arc<dyn TokenVerifier>) -> Self {
        self.verifier = Some(verifier);
        self
    }

    /// Serves the token, revocation and metadata endpoints.
    #[must_use]
    pub fn oauth(mut self, oauth: OAuth) -> Self {
        self.oauth = Some(oauth);
        self
    }

    /// Serves the authorization endpoint, with the bank's own login and consent pages.
    #[must_use]
    pub fn pages(mut self, pages: Arc<dyn AuthorizePages>) -> Self {
        self.pages = Some(pages);
        self
    }

    /// Offers credentials mode (`px.md` section 5).
    #[must_use]
    pub fn credentials(mut self, credentials: Arc<dyn Credentials>) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// The clients of credentials mode. Without it, those of [`oauth`](Self::oauth).
    #[must_use]
    pub fn clients(mut self, clients: Arc<dyn Clients>) -> Self {
        self.clients = Some(clients);
        self
    }

    /// Serves `POST /applications/notify`: what this verifier finds signed by Plaid is handed to
    /// [`Partner::application_linked`]. Without it there is nothing at that path.
    ///
    /// Give the verifier the [institution](Verifier::institution) that the bank is at Plaid.
    ///
    /// A notification is handed on once, by its `notification_id`, and again only if that failed;
    /// while it is being handed on, a copy is refused with 503. The memory is this process's and
    /// bounded, so the bank's own record of notifications must tell them apart too.
    ///
    /// ```
    /// use px_server::{PartnerServiceBuilder, webhook::{AskedKeys, Verifier}};
    /// use std::sync::Arc;
    /// # use px_types::{KeyId, model::verification_key::VerificationKey};
    /// # #[derive(Clone)] struct Plaid;
    /// # impl Plaid {
    /// #     async fn key(&self, _: KeyId) -> Result<Option<VerificationKey>, std::io::Error> { Ok(None) }
    /// # }
    ///
    /// fn with_notifications(builder: PartnerServiceBuilder, plaid: Plaid) -> PartnerServiceBuilder {
    ///     let keys = AskedKeys::new(move |kid| {
    ///         let plaid = plaid.clone();
    ///         async move { plaid.key(kid).await }
    ///     });
    ///     let institution = "ins_1".parse().expect("an id");
    ///     builder.notifications(Arc::new(Verifier::new(Arc::new(keys)).institution(institution)))
    /// }
    /// ```
    #[must_use]
    pub fn notifications(mut self, verifier: Arc<Verifier>) -> Self {
        self.notifications = Some(verifier);
        self
    }

    /// Limits the requests per client and user.
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// Limits how many requests of one address may fail to authenticate; 100 in a minute by
    /// default. The addresses are those of [`CallerAddr`](crate::guard::CallerAddr).
    #[must_use]
    pub fn failure_limit(mut self, limit: FailureLimit) -> Self {
        self.guards.failures = limit;
        self
    }

    /// Maximum number of calls that are worked on at once; 1,024 by default, a quarter of which
    /// one address may use. Further ones are refused with 503.
    #[must_use]
    pub fn max_open_calls(mut self, calls: usize) -> Self {
        self.guards.open_calls = OpenCalls::new(calls);
        self
    }

    /// The most bytes that a body may have; 1 MiB by default.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.limits.body = bytes;
        self
    }

    /// The most bytes and fields that headers may have; 32 KiB and 100 by default.
    #[must_use]
    pub fn max_headers(mut self, bytes: usize, fields: usize) -> Self {
        (self.limits.header_bytes, self.limits.header_fields) = (bytes, fields);
        self
    }

    /// What happens to answers of the partner's code that break the contract.
    #[must_use]
    pub fn response_check(mut self, check: ResponseCheck) -> Self {
        self.check = check;
        self
    }

    /// What time it is; the machine's clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where request ids come from; the operating system's generator by default.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Puts it together.
    ///
    /// # Errors
    /// When parts that belong together are missing; see [`BuildError`].
    pub fn build(self) -> Result<PartnerService, BuildError> {
        let Self { partner, verifier, oauth, pages, credentials, clients, .. } = self;
        let verifier = verifier.or_else(|| oauth.as_ref().map(OAuth::verifier));
        let verifier = verifier.ok_or(BuildError::NoVerifier)?;
        let clients = clients.or_else(|| oauth.as_ref().map(OAuth::clients));
        if pages.is_some() && oauth.is_none() {
            return Err(BuildError::PagesWithoutOAuth);
        }
        if credentials.is_some() && clients.is_none() {
            return Err(BuildError::CredentialsWithoutClients);
        }
        let limits = self.limits;
        if limits.has_zero() {
            return Err(BuildError::ZeroLimit);
        }
        let router = Router::new(|operation| match operation {
            Operation::user | Operation::transactions | Operation::current_user => true,
            Operation::token | Operation::revoke | Operation::metadata => oauth.is_some(),
            Operation::authorize => pages.is_some(),
            Operation::auth_token | Operation::send_otp | Operation::two_factor => {
                credentials.is_some()
            }
            Operation::application_linked => self.notifications.is_some(),
        });
        Ok(PartnerService(Arc::new(Inner {
            partner,
            verifier,
            oauth,
            pages,
            credentials,
            clients,
            notifications: self.notifications,
            notified: super::notified::Notified::new(),
            rate_limit: self.rate_limit,
            router,
            limits,
            guards: self.guards,
            windows: Windows::new(Arc::clone(&self.clock)),
            check: self.check,
            clock: self.clock,
            random: self.random,
        })))
    }
}
