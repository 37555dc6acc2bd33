//! Endpoints for operators: health and metrics, at a separate address.
//!
//! | path | response |
//! |---|---|
//! | `/healthz` | 200 while the process runs |
//! | `/readyz` | 200 while the store responds, else 503 |
//! | `/metrics` | metrics in Prometheus format |

use super::web;
use axum::{Router, extract::State, response::Response, routing::get};
use http::StatusCode;
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use px_core::Clock;
use px_items::store::Store;
use std::{sync::Arc, time::Duration};

/// The interval of upkeep between scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Time limit of the store's response before it counts as unreachable.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
const TEXT: &str = "text/plain; charset=utf-8";

/// The metrics of this process.
#[derive(Clone, Debug)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Installs the metrics recorder of this process. Can be called once in a process.
    ///
    /// # Errors
    /// If a recorder is installed already.
    pub fn install() -> Result<Self, BuildError> {
        // In seconds. Histograms of several machines can be added up because they share their
        // buckets.
        PrometheusBuilder::new()
            .set_buckets(&[
                0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
            ])
            .and_then(PrometheusBuilder::install_recorder)
            .map(Self)
            .inspect(|_| {
                px_server::metrics::describe();
                px_items::metrics::describe();
            })
    }

    /// Runs the recorder's upkeep for as long as the future is polled.
    pub async fn run_upkeep(&self, clock: &dyn Clock) {
        loop {
            clock.sleep(UPKEEP_INTERVAL).await;
            self.0.run_upkeep();
        }
    }
}

/// The state of the endpoints for operators.
#[derive(Clone)]
struct Ops {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    metrics: Option<Metrics>,
}

/// Returns the endpoints for operators.
pub(super) fn router(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    metrics: Option<Metrics>,
) -> Router {
    Router::new()
        .route("/healthz", get(async || web::response(StatusCode::OK, TEXT, "ok\n")))
        .route("/readyz", get(ready))
        .route("/metrics", get(rendered))
        .with_state(Ops { store, clock, metrics })
}

async fn ready(State(ops): State<Ops>) -> Response {
    // Reads one row. Counts would read the whole store for each probe.
    let read = ops.store.list(None, 1);
    let result = tokio::select! {
        result = read => result.map(drop).map_err(|error| error.to_string()),
        () = ops.clock.sleep(STORE_TIMEOUT) => Err("the store does not respond".to_owned()),
    };
    match result {
        Ok(()) => web::response(StatusCode::OK, TEXT, "ready\n"),
        Err(why) => {
            tracing::warn!(why, "not ready");
            web::response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the store is unreachable\n")
        }
    }
}

async fn rendered(State(ops): State<Ops>) -> Response {
    match &ops.metrics {
        Some(metrics) => web::response(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            metrics.0.render(),
        ),
        None => web::response(StatusCode::NOT_FOUND, TEXT, "this process collects no metrics\n"),
    }
}
