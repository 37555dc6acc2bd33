//! Metrics for Prometheus, at an address of their own.

use crate::{
    failure::{Failure, Result},
    http::{serve, text},
};
use http::StatusCode;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use px_core::Clock;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpListener;

/// Delay between two clean-ups of recorded values.
const UPKEEP: Duration = Duration::from_secs(5);

/// The metrics of this process, served over HTTP.
#[derive(Debug)]
pub(crate) struct Metrics {
    listener: TcpListener,
    handle: PrometheusHandle,
}

impl Metrics {
    /// Listens, and records from now on.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|e| Failure::because(format!("cannot serve metrics at {address}"), &e))?;
        // In seconds. Histograms of many machines can be added up if they share their buckets.
        let handle = PrometheusBuilder::new()
            .set_buckets(&[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0])
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|e| Failure::because("cannot collect metrics", &e))?;
        px_items::metrics::describe();
        Ok(Self { listener, handle })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Answers until it is dropped.
    pub(crate) async fn serve(self, clock: Arc<dyn Clock>) {
        let rendered = self.handle.clone();
        let upkeep = async {
            loop {
                clock.sleep(UPKEEP).await;
                self.handle.run_upkeep();
            }
        };
        let answer = move |path: &str, _: Option<&str>| match path {
            "/metrics" => text(StatusCode::OK, rendered.render()),
            _ => text(StatusCode::NOT_FOUND, "the metrics are under /metrics\n"),
        };
        tokio::join!(serve(self.listener, answer), upkeep);
    }
}
