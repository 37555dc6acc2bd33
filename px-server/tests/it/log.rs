//! Captures the log of a test as text.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};
use tracing_subscriber::filter::LevelFilter;

/// Everything that was logged, at every level.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Captures the log of this thread until the guard is dropped.
    pub(crate) fn capture() -> (Self, tracing::dispatcher::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = || {
            let writer = writer.clone();
            tracing_subscriber::fmt()
                .with_max_level(LevelFilter::TRACE)
                .with_ansi(false)
                .with_writer(move || writer.clone())
                .finish()
        };
        // With only one subscriber, a callsite that another test reaches first would be cached as
        // disabled.
        let _second = tracing::Dispatch::new(subscriber());
        (log, tracing::subscriber::set_default(subscriber()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
