//! The signals that end the program: the first in an orderly way, the second immediately.

use std::io;

/// SIGINT (Ctrl-C) and SIGTERM, received from the creation of this value on.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

/// The exit code after SIGINT.
const BY_INTERRUPT: u8 = 128 + 2;
/// The exit code after SIGTERM.
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

    /// Waits for the next signal. Returns its exit code.
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
