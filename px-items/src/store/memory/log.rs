//! The activity log, read times, and tickets.

use super::MemoryState;
use crate::store::{AccessDigest, DataRead, PublicGrant, Ticket, TicketDigest, TicketKind};
use chrono::{DateTime, Utc};
use px_types::{ActivityId, ApplicationId, ItemId, model::activity::Activity};

impl MemoryState {
    pub(super) fn activities(
        &self,
        item: &ItemId,
        after: Option<&ActivityId>,
        limit: usize,
    ) -> Option<Vec<Activity>> {
        let all = self.items.get(item).map(|entry| entry.activities.as_slice()).unwrap_or_default();
        let end = match after {
            None => all.len(),
            Some(after) => all.iter().position(|activity| activity.id == *after)?,
        };
        Some(all[..end].iter().rev().take(limit).cloned().collect())
    }

    pub(super) fn record_reads(&mut self, reads: &[DataRead]) {
        for read in reads {
            let Some(entry) = self.items.get_mut(&read.item_id) else { continue };
            let last = entry.reads.entry((read.application_id.clone(), read.kind));
            let last = last.or_insert(read.at);
            *last = read.at.max(*last);
        }
    }

    pub(super) fn last_reads(&self, item: &ItemId) -> Vec<DataRead> {
        let reads = self.items.get(item).into_iter().flat_map(|entry| &entry.reads);
        reads
            .map(|((application, kind), at)| DataRead {
                item_id: item.clone(),
                application_id: application.clone(),
                kind: *kind,
                at: *at,
            })
            .collect()
    }

    pub(super) fn ticket(
        &self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Option<Ticket> {
        let ticket = self.tickets.get(digest)?;
        (ticket.kind == kind && now < ticket.expires_at).then(|| ticket.clone())
    }

    pub(super) fn take_ticket(
        &mut self,
        digest: &TicketDigest,
        kind: TicketKind,
        now: DateTime<Utc>,
    ) -> Option<Ticket> {
        let ticket = self.ticket(digest, kind, now)?;
        self.tickets.remove(digest);
        Some(ticket)
    }

    pub(super) fn exchange(
        &mut self,
        digest: &TicketDigest,
        application: &ApplicationId,
        new: AccessDigest,
        now: DateTime<Utc>,
    ) -> Option<ItemId> {
        let ticket = self.ticket(digest, TicketKind::Public, now)?;
        let grant: PublicGrant = serde_json::from_slice(&ticket.payload).ok()?;
        if grant.application_id != *application {
            return None;
        }
        if !self.set_access(&grant.item_id, Some(application), new) {
            return None;
        }
        self.tickets.remove(digest);
        Some(grant.item_id)
    }

    pub(super) fn purge_tickets(&mut self, now: DateTime<Utc>, limit: usize) -> u64 {
        let expired = self.tickets.values().filter(|ticket| ticket.expires_at <= now);
        let expired: Vec<_> = expired.map(|ticket| ticket.digest).take(limit).collect();
        for digest in &expired {
            self.tickets.remove(digest);
        }
        u64::try_from(expired.len()).unwrap_or(u64::MAX)
    }
}
