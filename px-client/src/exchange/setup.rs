//! The settings that both builders share.

use super::{Core, Dialect};
use crate::{
    clock::{Clock, TokioClock},
    error::Error,
    retry::RetryPolicy,
    transport::{HttpTransport, Limits},
};
use rand::{SeedableRng as _, rngs::StdRng};
use std::sync::{Arc, Mutex};
use url::Url;

/// What a builder collects for a [`Core`].
pub(crate) struct Setup {
    pub(crate) base_url: String,
    pub(crate) transport: Arc<dyn HttpTransport>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) retry: RetryPolicy,
    pub(crate) limits: Limits,
    pub(crate) seed: Option<u64>,
}

impl Setup {
    pub(crate) fn new(base_url: String, transport: Arc<dyn HttpTransport>) -> Self {
        Self {
            base_url,
            transport,
            clock: Arc::new(TokioClock::new()),
            retry: RetryPolicy::default(),
            limits: Limits::default(),
            seed: None,
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
        let rng = match self.seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => rand::make_rng(),
        };
        Ok(Core {
            base: url.as_str().trim_end_matches('/').to_owned(),
            host,
            transport: self.transport,
            clock: self.clock,
            retry: self.retry,
            limits: self.limits,
            rng: Mutex::new(rng),
            dialect,
        })
    }
}

/// The setters of a builder whose field `setup` is a [`Setup`].
macro_rules! shared_settings {
    () => {
        /// How often and how long a call is tried.
        pub fn retry(mut self, policy: $crate::RetryPolicy) -> Self {
            self.setup.retry = policy;
            self
        }

        /// What an answer may cost.
        pub fn limits(mut self, limits: $crate::Limits) -> Self {
            self.setup.limits = limits;
            self
        }

        /// What time it is.
        pub fn clock(mut self, clock: std::sync::Arc<dyn $crate::clock::Clock>) -> Self {
            self.setup.clock = clock;
            self
        }

        /// Makes waits and request ids the same in every run: for tests.
        pub fn seed(mut self, seed: u64) -> Self {
            self.setup.seed = Some(seed);
            self
        }
    };
}

pub(crate) use shared_settings;
