//! A portal's records in memory, for tests and demonstrations.

use super::store::{
    Disconnection, DisconnectionState, Notice, NoticeKind, NoticeOutcome, PortalStore,
};
use crate::error::Source;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use px_types::{
    ApplicationId, ItemAccessToken, NotificationId, UserId,
    model::application::ConnectedApplication,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

/// A store of portal records in memory. It has no limit, and its records are lost when the program ends.
#[derive(Clone, Debug, Default)]
pub struct MemoryPortalStore(Arc<Mutex<Records>>);

#[derive(Debug, Default)]
struct Records {
    tokens: HashMap<UserId, ItemAccessToken>,
    applications: HashMap<UserId, Vec<ConnectedApplication>>,
    disconnections: BTreeMap<(UserId, ApplicationId), Disconnection>,
    notices: HashMap<NotificationId, Notice>,
}

impl MemoryPortalStore {
    fn locked<T>(&self, work: impl FnOnce(&mut Records) -> T) -> Result<T, Source> {
        Ok(work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[async_trait]
impl PortalStore for MemoryPortalStore {
    async fn token(&self, user: &UserId) -> Result<Option<ItemAccessToken>, Source> {
        self.locked(|records| records.tokens.get(user).cloned())
    }

    async fn save_token(
        &self,
        user: &UserId,
        token: &ItemAccessToken,
    ) -> Result<ItemAccessToken, Source> {
        self.locked(|records| {
            records.tokens.entry(user.clone()).or_insert_with(|| token.clone()).clone()
        })
    }

    async fn delete_token(&self, user: &UserId, token: &ItemAccessToken) -> Result<(), Source> {
        self.locked(|records| {
            if records.tokens.get(user) == Some(token) {
                records.tokens.remove(user);
            }
        })
    }

    async fn applications(&self, user: &UserId) -> Result<Vec<ConnectedApplication>, Source> {
        self.locked(|records| records.applications.get(user).cloned().unwrap_or_default())
    }

    async fn save_applications(
        &self,
        user: &UserId,
        applications: &[ConnectedApplication],
    ) -> Result<(), Source> {
        self.locked(|records| {
            records.applications.insert(user.clone(), applications.to_vec());
        })
    }

    async fn disconnections(&self, user: &UserId) -> Result<Vec<Disconnection>, Source> {
        self.locked(|records| {
            let all = records.disconnections.values();
            all.filter(|one| one.user_id == *user).cloned().collect()
        })
    }

    async fn save_disconnection(&self, disconnection: &Disconnection) -> Result<(), Source> {
        let key = (disconnection.user_id.clone(), disconnection.application_id.clone());
        self.locked(|records| {
            records.disconnections.insert(key, disconnection.clone());
        })
    }

    async fn delete_disconnection(
        &self,
        user: &UserId,
        application: &ApplicationId,
    ) -> Result<(), Source> {
        self.locked(|records| {
            records.disconnections.remove(&(user.clone(), application.clone()));
        })
    }

    async fn due_disconnections(
        &self,
        now: DateTime<Utc>,
        at_most: usize,
    ) -> Result<Vec<Disconnection>, Source> {
        let due = |one: &&Disconnection| match one.state {
            DisconnectionState::Pending { next_try, .. } => next_try.utc() <= now,
            DisconnectionState::Done { .. } => false,
        };
        self.locked(|records| {
            records.disconnections.values().filter(due).take(at_most).cloned().collect()
        })
    }

    async fn add_notice(&self, notice: &Notice) -> Result<NoticeOutcome, Source> {
        self.locked(|records| {
            let (notices, ended) = (records.notices.values(), records.disconnections.values());
            let is_latest = notice.is_latest(notices, ended);
            let is_new = !records.notices.contains_key(&notice.notification_id);
            if is_new && is_latest {
                let list = records.applications.entry(notice.user_id.clone()).or_default();
                list.retain(|one| one.application_id != notice.application.application_id);
                if notice.kind == NoticeKind::Linked {
                    list.push(notice.application.clone());
                }
            }
            if is_new {
                records.notices.insert(notice.notification_id.clone(), notice.clone());
            }
            NoticeOutcome { is_new, is_latest }
        })
    }

    async fn notices(&self, user: &UserId, at_most: usize) -> Result<Vec<Notice>, Source> {
        self.locked(|records| {
            let mut mine: Vec<_> =
                records.notices.values().filter(|one| one.user_id == *user).cloned().collect();
            mine.sort_by(|a, b| {
                b.occurred_at.cmp(&a.occurred_at).then(b.notification_id.cmp(&a.notification_id))
            });
            mine.truncate(at_most);
            mine
        })
    }

    async fn mark_notices_read(&self, user: &UserId) -> Result<(), Source> {
        self.locked(|records| {
            for notice in records.notices.values_mut().filter(|one| one.user_id == *user) {
                notice.read = true;
            }
        })
    }
}
