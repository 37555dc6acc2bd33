//! The settings that both builders share.

use super::{Core, Dialect};
use crate::{error::Error, retry::RetryPolicy};
use px_core::{Clock, HttpLimits, HttpTransport, Random, SystemClock, SystemRandom};
use std::sync::Arc;
use url::Url;

/// What a builder collects for a [`Core`].
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

    /// Checks the address and makes the core.
    pub(crate) fn build(self, dialect: Dialect) -> Result<Core, Error> {
        let refuse = |what: &str| Error::build("base URL", what);
        let url = Url::parse(&self.base_url)
            .map_err(|e| refuse("not a URL").caused_by(e))
            .map_err(|e| e.advice(dialect.example_of_a_base_url()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("neither https nor http"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("must not hold a name or a password"));
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

/// The setters of a builder whose field `setup` is a [`Setup`].
macro_rules! shared_settings {
    () => {
        /// Sets how often and for how long a failed request is repeated.
        pub fn retry(mut self, policy: $crate::RetryPolicy) -> Self {
            self.setup.retry = policy;
            self
        }

        /// Sets the limits of a response.
        pub fn limits(mut self, limits: px_core::HttpLimits) -> Self {
            self.setup.limits = limits;
            self
        }

        /// Sets the clock; the machine's by default.
        pub fn clock(mut self, clock: std::sync::Arc<dyn px_core::Clock>) -> Self {
            self.setup.clock = clock;
            self
        }

        /// Sets the randomness of delays, request ids, `state` and code verifiers; the operating
        /// system's by default.
        pub fn random(mut self, random: std::sync::Arc<dyn px_core::Random>) -> Self {
            self.setup.random = random;
            self
        }
    };
}

pub(crate) use shared_settings;
