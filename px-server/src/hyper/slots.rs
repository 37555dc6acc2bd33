//! The open connections by address, and the eviction of idle ones when a limit is reached.

use super::connection::Activity;
use crate::{guard::AddressBlock, throttle::Throttle};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// The connection slots of a server.
#[derive(Debug)]
pub(super) struct Slots {
    limit: usize,
    limit_per_address: usize,
    table: Mutex<SlotTable>,
    /// Notified when a connection ends, or becomes idle.
    changed: Arc<Notify>,
    log: Throttle,
}

#[derive(Debug, Default)]
struct SlotTable {
    last_id: u64,
    open: HashMap<u64, Entry>,
    by_block: HashMap<AddressBlock, usize>,
}

#[derive(Debug)]
struct Entry {
    block: Option<AddressBlock>,
    activity: Arc<Activity>,
    closed: Arc<Notify>,
}

/// The slot of one connection, which is released on drop.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    id: u64,
    pub(super) activity: Arc<Activity>,
    /// Notified when the connection must close.
    pub(super) closed: Arc<Notify>,
}

enum Admission {
    Admitted(Slot),
    AddressFull,
    Full,
}

impl Slots {
    pub(super) fn new(limit: usize, limit_per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            limit_per_address,
            table: Mutex::default(),
            changed: Arc::default(),
            log: Throttle::default(),
        })
    }

    /// Returns a slot for a connection from an address. Returns `None` if the address is at its
    /// limit and none of its connections is idle.
    ///
    /// Evicts the longest-idle connection: of the same address if that is at its limit, of any
    /// address if the server is full. If no connection is idle and the server is full, it waits.
    pub(super) async fn admit(self: &Arc<Self>, block: Option<AddressBlock>) -> Option<Slot> {
        loop {
            match self.try_admit(block) {
                Admission::Admitted(slot) => return Some(slot),
                Admission::AddressFull => {
                    metrics::counter!("px_server_connections_refused_total", "reason" => "address_full")
                        .increment(1);
                    if self.log.is_due() {
                        tracing::warn!(
                            address = ?block,
                            connections = self.limit_per_address,
                            "a connection was refused: its address is at its limit, and none is idle; \
                            declare the address with `Server::proxies` if it is your load balancer"
                        );
                    }
                    return None;
                }
                Admission::Full => {
                    if self.log.is_due() {
                        tracing::warn!(
                            connections = self.limit,
                            "the connection limit is reached and no connection is idle; new connections wait"
                        );
                    }
                    self.changed.notified().await;
                }
            }
        }
    }

    fn try_admit(self: &Arc<Self>, block: Option<AddressBlock>) -> Admission {
        let mut table = self.table();
        if let Some(block) = block {
            let of_block = table.by_block.get(&block).copied().unwrap_or(0);
            if of_block >= self.limit_per_address && !self.evict_idle(&mut table, Some(block)) {
                return Admission::AddressFull;
            }
        }
        if table.open.len() >= self.limit && !self.evict_idle(&mut table, None) {
            return Admission::Full;
        }
        table.last_id += 1;
        let id = table.last_id;
        let activity = Arc::new(Activity::new(Arc::clone(&self.changed)));
        let closed = Arc::new(Notify::new());
        let entry = Entry { block, activity: Arc::clone(&activity), closed: Arc::clone(&closed) };
        table.open.insert(id, entry);
        if let Some(block) = block {
            *table.by_block.entry(block).or_default() += 1;
        }
        metrics::gauge!("px_server_connections").increment(1);
        Admission::Admitted(Slot { slots: Arc::clone(self), id, activity, closed })
    }

    /// Closes the connection that has been idle for longest, of an address or of all.
    fn evict_idle(&self, table: &mut SlotTable, block: Option<AddressBlock>) -> bool {
        let candidates = table.open.iter().filter(|(_, entry)| match block {
            Some(_) => entry.block == block,
            None => true,
        });
        let longest = candidates
            .filter_map(|(id, entry)| Some((entry.activity.idleness()?, *id)))
            .min_by_key(|(idleness, _)| *idleness);
        let Some((_, id)) = longest else { return false };
        if let Some(entry) = table.remove(id) {
            entry.closed.notify_one();
        }
        let reason = if block.is_some() { "address_full" } else { "server_full" };
        metrics::counter!("px_server_connections_closed_total", "reason" => reason).increment(1);
        if self.log.is_due() {
            tracing::warn!(
                reason,
                connections = self.limit,
                connections_per_address = self.limit_per_address,
                address = ?block,
                "the connection limit is reached; the longest-idle connection was closed"
            );
        }
        true
    }

    fn table(&self) -> MutexGuard<'_, SlotTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotTable {
    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.open.remove(&id)?;
        if let Some(block) = entry.block
            && let Some(count) = self.by_block.get_mut(&block)
        {
            *count -= 1;
            if *count == 0 {
                self.by_block.remove(&block);
            }
        }
        metrics::gauge!("px_server_connections").decrement(1);
        Some(entry)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.table().remove(self.id);
        self.slots.changed.notify_one();
    }
}
