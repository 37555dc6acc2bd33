//! Registered applications, as partners and users see them.

use async_trait::async_trait;
use px_types::{ApplicationId, model::application_details::Application};
use std::{collections::BTreeMap, fmt};

/// A directory of applications.
#[async_trait]
pub trait Applications: Send + Sync + fmt::Debug {
    /// Returns an application, or `None` if it is not registered or cannot be found now. It is then
    /// shown by its id.
    async fn application(&self, id: &ApplicationId) -> Option<Application>;
}

/// A fixed set of applications.
#[derive(Clone, Debug, Default)]
pub struct FixedApplications(BTreeMap<ApplicationId, Application>);

impl FixedApplications {
    /// Creates an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an application.
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
