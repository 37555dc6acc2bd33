//! When the program is asked to end: once for an orderly end, twice for one at once.

use std::io;

/// SIGINT (Ctrl-C) and SIGTERM, from the moment this is made.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

/// The exit code of a program that SIGINT ended.
const BY_INTERRUPT: u8 = 128 + 2;
/// The exit code of a program that SIGTERM ended.
#[cfg(unix)]
const BY_TERMINATE: u8 = 128 + 15;

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let interrupt = signal(SignalKind::interrupt())?;
            let terminate = signal(SignalKind::terminate())?;
            Ok(Self { interrupt, terminate })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// The next one, as the exit code that a program ended by it has.
    pub(crate) async fn next(&mut self) -> u8 {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => BY_INTERRUPT,
            _ = self.terminate.recv() => BY_TERMINATE,
        }
        #[cfg(not(unix))]
        {
            let _ = tokio::signal::ctrl_c().await;
            BY_INTERRUPT
        }
    }
}
