//! What is broken on purpose, to see that the simulation finds it. All of it is done from outside,
//! between the store and its callers: the program that is tested has no part in it.

use px_items::{
    merge::KnownTransaction,
    news::News,
    store::{Commit, NewLink, Result, Revocation, Store},
};
use px_types::TransactionId;
use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Of how many commits with news the outbox loses those of one.
const LOSES_ONE_OF: u64 = 4;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Rows that vanished at a bank are not noticed.
    Merge,
    /// Commits of an earlier claim are accepted.
    Fencing,
    /// The webhooks of some commits are lost.
    Outbox,
    /// A link does not take back the revocation of the token that it brings.
    Revocation,
    /// Elements that cannot be read are taken for gone: see [`Damage`](crate::damage::Damage).
    SetAside,
}

impl Sabotage {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::Merge, Self::Fencing, Self::Outbox, Self::Revocation, Self::SetAside];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Fencing => "fencing",
            Self::Outbox => "outbox",
            Self::Revocation => "revocation",
            Self::SetAside => "set-aside",
        }
    }
}

/// Breaks a store.
#[derive(Debug)]
pub(crate) struct Saboteur {
    what: Sabotage,
    commits: AtomicU64,
    revocations: Mutex<Vec<Revocation>>,
}

impl Saboteur {
    pub(crate) fn new(what: Sabotage) -> Self {
        Self { what, commits: AtomicU64::new(0), revocations: Mutex::default() }
    }

    /// Rows that were not read are unknown, so that nobody misses them.
    pub(crate) fn known(
        &self,
        mut known: Vec<KnownTransaction>,
        ids: &[TransactionId],
    ) -> Vec<KnownTransaction> {
        if self.what == Sabotage::Merge {
            let read: HashSet<_> = ids.iter().collect();
            known.retain(|known| read.contains(&known.partner_id));
        }
        known
    }

    pub(crate) async fn commit(&self, store: &dyn Store, commit: &mut Commit) -> Result<()> {
        match self.what {
            Sabotage::Fencing => {
                if let Some(present) = store.item(&commit.item_id).await? {
                    commit.fence = present.fence;
                }
            }
            Sabotage::Outbox if commit.news != News::default() => {
                let number = self.commits.fetch_add(1, Ordering::Relaxed);
                if number % LOSES_ONE_OF == LOSES_ONE_OF - 1 {
                    commit.news = News::default();
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes what waits to be revoked, so that the link does not find it; it is sent all the same.
    pub(crate) async fn before_link(&self, store: &dyn Store, new: &NewLink) -> Result<()> {
        if self.what == Sabotage::Revocation && new.tokens.is_some() {
            // No revocation is due later than that, and none comes back before it.
            let (late, later) =
                (new.now + chrono::TimeDelta::days(60), new.now + chrono::TimeDelta::days(90));
            let waiting = store.claim_revocations(late, later, 100).await?;
            self.waiting().extend(waiting);
        }
        Ok(())
    }

    pub(crate) fn revocations(&self, claimed: &mut Vec<Revocation>) {
        claimed.append(&mut self.waiting());
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Revocation>> {
        self.revocations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
