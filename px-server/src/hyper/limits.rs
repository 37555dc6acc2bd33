//! Limits of a connection: the duration of each phase, and the size of its buffers.

use crate::budget;
use std::time::Duration;

/// The limits of a server. [`Server`](super::Server) documents each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) handshake: Duration,
    pub(super) header: Duration,
    pub(super) body: Duration,
    pub(super) write: Duration,
    pub(super) request: Duration,
    pub(super) idle: Duration,
    pub(super) shutdown: Duration,
    pub(super) connections: usize,
    /// `None` means a quarter of `connections`.
    pub(super) connections_per_address: Option<usize>,
    pub(super) buffered_bytes: usize,
    pub(super) buffered_bytes_per_connection: usize,
    pub(super) streams: u32,
    pub(super) header_bytes: u32,
    pub(super) header_fields: usize,
}

impl Limits {
    /// Returns the shortest time limit of a phase of a connection, between requests or within one.
    pub(super) fn shortest_phase(&self) -> Duration {
        self.header.min(self.idle).min(self.request)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(10),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            request: Duration::from_secs(300),
            idle: Duration::from_secs(75),
            shutdown: Duration::from_secs(30),
            connections: 1024,
            connections_per_address: None,
            buffered_bytes: budget::DEFAULT_SERVER_BYTES,
            buffered_bytes_per_connection: budget::DEFAULT_CONNECTION_BYTES,
            streams: 100,
            header_bytes: 64 * 1024,
            header_fields: 200,
        }
    }
}
