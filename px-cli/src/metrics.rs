//! Metrics for Prometheus, served at their own address.

use crate::{
    failure::{Failure, Result},
    http::{serve, text},
};
use http::StatusCode;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use px_core::Clock;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpListener;

/// Interval of the cleanup of recorded values.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The metrics of this process, served over HTTP.
#[derive(Debug)]
pub(crate) struct Metrics {
    listener: TcpListener,
    handle: PrometheusHandle,
}

impl Metrics {
    /// Listens at an address and starts recording.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|e| Failure::because(format!("cannot serve metrics at {address}"), &e))?;
        // Bucket limits in seconds. Histograms of several machines can be added only if they share them.
        let handle = PrometheusBuilder::new()
            .set_buckets(&[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0])
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|e| Failure::because("cannot collect metrics", &e))?;
        px_items::metrics::describe();
        Ok(Self { listener, handle })
    }

    /// Returns the address at which it listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Serves the metrics until it is dropped.
    pub(crate) async fn serve(self, clock: Arc<dyn Clock>) {
        let rendered = self.handle.clone();
        let upkeep = async {
            loop {
                clock.sleep(UPKEEP_INTERVAL).await;
                self.handle.run_upkeep();
            }
        };
        let respond = move |path: &str, _: Option<&str>| match path {
            "/metrics" => text(StatusCode::OK, rendered.render()),
            _ => text(StatusCode::NOT_FOUND, "the metrics are under /metrics\n"),
        };
        tokio::join!(serve(self.listener, respond), upkeep);
    }
}
