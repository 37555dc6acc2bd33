//! Shutdown signals.

use std::io;

/// Returns a future that completes when the process receives SIGINT (Ctrl-C) or SIGTERM. Signals
/// are caught from this call on.
///
/// # Errors
/// If the signal handlers cannot be installed.
pub fn shutdown_requested() -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    #[cfg(unix)]
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    })
}
