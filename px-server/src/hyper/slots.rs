//! The connections that are open, by address, and which one makes way when there are too many.

use super::connection::Activity;
use crate::{guard::AddressBlock, throttle::Throttle};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// The slots of a server.
#[derive(Debug)]
pub(super) struct Slots {
    limit: usize,
    limit_per_address: usize,
    table: Mutex<Table>,
    /// A connection ended, or may make way from now on.
    changed: Arc<Notify>,
    log: Throttle,
}

#[derive(Debug, Default)]
struct Table {
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

/// The slot of one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    id: u64,
    pub(super) activity: Arc<Activity>,
    /// Notified when the connection must make way.
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

    /// A slot for a connection from an address; `None` if the address has all of its share in use.
    ///
    /// The connection that is idle for longest makes way: one of the same address when its share
    /// is used up, any one when the server is full. While every connection is at work, it waits.
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
                            "a connection was refused: all that its address may have are at work; \
                             declare the address with `Server::proxies` if it is your load balancer"
                        );
                    }
                    return None;
                }
                Admission::Full => {
                    if self.log.is_due() {
                        tracing::warn!(
                            connections = self.limit,
                            "the server is full: all connections are at work, further ones wait"
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
            if of_block >= self.limit_per_address && !self.make_way(&mut table, Some(block)) {
                return Admission::AddressFull;
            }
        }
        if table.open.len() >= self.limit && !self.make_way(&mut table, None) {
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

    /// Closes the connection that is idle for longest, among those of an address or among all.
    fn make_way(&self, table: &mut Table, block: Option<AddressBlock>) -> bool {
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
                "connections have run out: the one that is idle for longest was closed"
            );
        }
        true
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
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
