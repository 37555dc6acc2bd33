//! Data on hold, and decisions about it.

use super::{ItemEntry, MemoryState};
use crate::{
    review::Evidence,
    store::{
        Commit, Moves, Review, UpdateCount,
        review::{HOURS_OF_A_DAY, UPDATE_HOURS},
    },
};
use chrono::{DateTime, Utc};
use px_types::{InstitutionId, ItemId, TransactionId, model::activity::Activity};

/// The review data of a commit, taken out of it.
pub(super) struct ReviewWrite {
    reviews: Option<Vec<Review>>,
    moved: Vec<(TransactionId, TransactionId)>,
    moves: Moves,
    activities: Vec<Activity>,
}

impl ReviewWrite {
    pub(super) fn of(commit: &mut Commit) -> Self {
        Self {
            reviews: commit.reviews.take(),
            moved: std::mem::take(&mut commit.moved),
            moves: commit.moves,
            activities: std::mem::take(&mut commit.activities),
        }
    }
}

impl ItemEntry {
    pub(super) fn write_review(&mut self, write: ReviewWrite) {
        if let Some(reviews) = write.reviews {
            self.reviews = reviews;
        }
        match write.moves {
            Moves::Keep => {}
            Moves::Forget => self.moved.clear(),
            Moves::Restore => {
                for (own, partner_id) in std::mem::take(&mut self.moved) {
                    if let Some(row) = self.transactions.get_mut(&own) {
                        row.known.partner_id = partner_id;
                    }
                }
            }
        }
        for (own, partner_id) in write.moved {
            self.moved.entry(own).or_insert(partner_id);
        }
        self.activities.extend(write.activities);
    }
}

impl MemoryState {
    pub(super) fn reviews(
        &self,
        institution: Option<&InstitutionId>,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Vec<Review> {
        let of_items = self.items.iter().filter(|(item, entry)| {
            after.is_none_or(|after| *item > after)
                && institution.is_none_or(|id| entry.institution_id == *id)
                && !entry.reviews.is_empty()
        });
        of_items.take(limit).flat_map(|(_, entry)| entry.reviews.iter().cloned()).collect()
    }

    pub(super) fn evidence(&self, institution: &InstitutionId, since: DateTime<Utc>) -> Evidence {
        let of_bank = self.items.values().filter(|entry| entry.institution_id == *institution);
        let on_hold = of_bank.filter(|entry| entry.reviews.iter().any(Review::is_evidence)).count();
        let hour = UpdateCount::hour_of(since);
        let updates = |from: i64, to: i64| {
            let counts =
                self.updates.range((institution.clone(), from)..=(institution.clone(), to));
            counts.map(|(_, updates)| updates).sum()
        };
        let before = updates(hour - HOURS_OF_A_DAY + 1, hour);
        Evidence::new(on_hold as u64, updates(hour + 1, i64::MAX), before)
    }

    pub(super) fn count_updates(&mut self, counts: &[UpdateCount]) {
        for count in counts {
            let key = (count.institution_id.clone(), count.hour);
            *self.updates.entry(key).or_default() += count.updates;
            let (bank, oldest) = (&count.institution_id, count.hour - UPDATE_HOURS);
            self.updates.retain(|(id, hour), _| id != bank || *hour >= oldest);
        }
    }
}
