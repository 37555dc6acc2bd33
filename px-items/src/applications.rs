//! The applications that are registered at this side: what partners and users are shown of them.

use async_trait::async_trait;
use px_types::{ApplicationId, model::application_details::Application};
use std::{collections::BTreeMap, fmt};

/// Finds applications.
#[async_trait]
pub trait Applications: Send + Sync + fmt::Debug {
    /// The application of that id; `None` when it is not registered, or cannot be found now. It is
    /// shown by its id then.
    async fn application(&self, id: &ApplicationId) -> Option<Application>;
}

/// Applications that are known from the start.
#[derive(Clone, Debug, Default)]
pub struct FixedApplications(BTreeMap<ApplicationId, Application>);

impl FixedApplications {
    /// No application.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    #[must_use]
    pub fn with(mut self, application: Application) -> Self {
        self.0.insert(application.application_id.clone(), application);
        self
    }
}

#[async_trait]
impl Applications for FixedApplications {
    async fn application(&self, id: &ApplicationId) -> Option<Application> {
        self.0.get(id).cloned()
    }
}
