//! For operators: health and figures, at an address of their own.
//!
//! | path | what |
//! |---|---|
//! | `/healthz` | 200 while the process runs |
//! | `/readyz` | 200 while the store answers, else 503 |
//! | `/metrics` | figures for Prometheus |

use super::web;
use axum::{Router, extract::State, response::Response, routing::get};
use http::StatusCode;
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use px_core::Clock;
use px_items::store::Store;
use std::{sync::Arc, time::Duration};

/// How often figures that nobody asked for are tidied up.
const UPKEEP: Duration = Duration::from_secs(5);
/// How long the store may take to answer before it counts as out of reach.
const PATIENCE: Duration = Duration::from_secs(5);
const TEXT: &str = "text/plain; charset=utf-8";

/// Figures of this process.
#[derive(Clone, Debug)]
pub struct Figures(PrometheusHandle);

impl Figures {
    /// Takes in the figures of this process from now on. Once in a process.
    ///
    /// # Errors
    /// When someone takes them in already.
    pub fn install() -> Result<Self, BuildError> {
        // In seconds. Figures of many machines can be added up when they share their steps.
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

    /// Tidies up, for as long as it is polled.
    pub async fn keep_up(&self, clock: &dyn Clock) {
        loop {
            clock.sleep(UPKEEP).await;
            self.0.run_upkeep();
        }
    }
}

/// What operators are answered from.
#[derive(Clone)]
struct Ops {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    figures: Option<Figures>,
}

/// The pages for operators.
pub(super) fn router(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    figures: Option<Figures>,
) -> Router {
    Router::new()
        .route("/healthz", get(async || web::answer(StatusCode::OK, TEXT, "ok\n")))
        .route("/readyz", get(ready))
        .route("/metrics", get(rendered))
        .with_state(Ops { store, clock, figures })
}

async fn ready(State(ops): State<Ops>) -> Response {
    // One row: figures over everything would have each probe read the whole store.
    let asked = ops.store.list(None, 1);
    let answers = tokio::select! {
        answer = asked => answer.map(drop).map_err(|error| error.to_string()),
        () = ops.clock.sleep(PATIENCE) => Err("the store does not answer".to_owned()),
    };
    match answers {
        Ok(()) => web::answer(StatusCode::OK, TEXT, "ready\n"),
        Err(why) => {
            tracing::warn!(why, "not ready");
            web::answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the store is out of reach\n")
        }
    }
}

async fn rendered(State(ops): State<Ops>) -> Response {
    match &ops.figures {
        Some(figures) => web::answer(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            figures.0.render(),
        ),
        None => web::answer(StatusCode::NOT_FOUND, TEXT, "this process collects no figures\n"),
    }
}
