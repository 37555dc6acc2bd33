//! The settings that both builders share.

use super::{Core, Dialect};
use crate::{error::Error, retry::RetryPolicy};
use px_core::{Clock, HttpLimits, HttpTransport, Random, SystemClock, SystemRandom};
use std::sync::Arc;
use url::Url;

/// The collected settings of a [`Core`].
pub(crate) struct Setup {
    pub(crate) base_url: String,
    pub(crate) transport: Arc<dyn HttpTransport>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retry: RetryPolicy,
    pub(crate) limits: HttpLimits,
    pub(crate) random: Arc<dyn Random>,
}

impl Setup {
    pub(crate) fn new(base_url: String, transport: Arc<dyn HttpTransport>) -> Self {
        Self {
            base_url,
            transport,
            clock: Arc::new(SystemClock::new()),
            retry: RetryPolicy::default(),
            limits: HttpLimits::default(),
            random: Arc::new(SystemRandom),
        }
    }

    /// Checks the base URL and builds the core.
    pub(crate) fn build(self, dialect: Dialect) -> Result<Core, Error> {
        let refuse = |what: &str| Error::build("base URL", what);
        let url = Url::parse(&self.base_url)
            .map_err(|e| refuse("is not a URL").with_source(e))
            .map_err(|e| e.with_advice(dialect.example_of_a_base_url()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("is neither https nor http"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("must not contain a user name or a password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("must not have a query or a fragment"));
        }
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => return Err(refuse("has no host")),
        };
        Ok(Core {
            base: url.as_str().trim_end_matches('/').to_owned(),
            host,
            transport: self.transport,
            clock: self.clock,
            retry: self.retry,
            limits: self.limits,
            random: self.random,
            dialect,
        })
    }
}

/// The setters of a builder with a field `setup` of type [`Setup`].
macro_rules! shared_settings {
    () => {
        /// Sets the retry policy.
        pub fn retry(mut self, policy: $crate::RetryPolicy) -> Self {
            self.setup.retry = policy;
            self
        }

        /// Sets the limits of responses: their size, nesting and time.
        pub fn limits(mut self, limits: px_core::HttpLimits) -> Self {
            self.setup.limits = limits;
            self
        }

        /// Sets the clock. Default: the system's clock.
        pub fn clock(mut self, clock: std::sync::Arc<dyn px_core::Clock>) -> Self {
            self.setup.clock = clock;
            self
        }

        /// Sets the randomness of delays, request ids, `state` and code verifiers.
        ///
        /// Default: that of the operating system.
        pub fn random(mut self, random: std::sync::Arc<dyn px_core::Random>) -> Self {
            self.setup.random = random;
            self
        }
    };
}

pub(crate) use shared_settings;
