//! Observability of a call: a span, and the HTTP metrics of OpenTelemetry. Neither contains a
//! token, a query value or a user id.

use http::{Method, StatusCode};
use px_types::Meta;
use std::{borrow::Cow, error::Error as StdError, future::Future, sync::Arc};
use tracing::{Instrument as _, Span, field};

/// A call from its start to its response.
pub(crate) struct Call {
    span: Span,
    request_id: Arc<str>,
    began: tokio::time::Instant,
    method: Cow<'static, str>,
    route: std::sync::OnceLock<&'static str>,
}

impl Call {
    pub(crate) fn begin(method: &Method, request_id: &Arc<str>) -> Self {
        let span = tracing::info_span!(
            "px.call",
            operation = field::Empty,
            request_id = &**request_id,
            http.response.status_code = field::Empty,
            duration_ms = field::Empty,
        );
        // OpenTelemetry requires a bounded number of values.
        let method = match *method {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::HEAD => "HEAD",
            Method::PUT => "PUT",
            Method::DELETE => "DELETE",
            Method::OPTIONS => "OPTIONS",
            Method::PATCH => "PATCH",
            _ => "_OTHER",
        };
        metrics::gauge!("http.server.active_requests", "http.request.method" => method)
            .increment(1);
        Self {
            span,
            request_id: Arc::clone(request_id),
            began: tokio::time::Instant::now(),
            method: method.into(),
            route: std::sync::OnceLock::new(),
        }
    }

    /// Records the operation.
    pub(crate) fn operation(&self, meta: &Meta) {
        self.span.record("operation", meta.id);
        let _ = self.route.set(meta.path);
    }

    /// Runs the work within the span.
    pub(crate) fn watch<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        work.instrument(self.span.clone())
    }

    /// Logs that the code behind the endpoint panicked. The panic hook has reported the panic
    /// message itself.
    pub(crate) fn panicked(&self) {
        // A field of the event, because a log filtered to errors has no spans.
        let request_id = &*self.request_id;
        self.span.in_scope(|| tracing::error!(request_id, "the code behind the endpoint panicked"));
    }

    /// Records the outcome.
    pub(crate) fn end(&self, status: StatusCode) {
        let elapsed = self.began.elapsed();
        self.span.record("http.response.status_code", status.as_u16());
        self.span.record("duration_ms", u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        self.span.in_scope(|| tracing::debug!("responded"));
        let status_text: Cow<'static, str> = match status {
            StatusCode::OK => "200".into(),
            other => other.as_u16().to_string().into(),
        };
        metrics::histogram!(
            "http.server.request.duration",
            "http.request.method" => self.method.clone(),
            "http.route" => self.route.get().copied().unwrap_or("none"),
            "http.response.status_code" => status_text,
        )
        .record(elapsed);
    }
}

impl Drop for Call {
    /// Decrements the gauge here and not in `end`, because a caller that disconnects drops the
    /// call early.
    fn drop(&mut self) {
        metrics::gauge!("http.server.active_requests", "http.request.method" => self.method.clone())
            .decrement(1);
    }
}

/// Logs a failure with its causes. Call it once per failure.
pub(crate) fn failed(error: &(dyn StdError + 'static), request_id: &str) {
    let mut causes = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        if !causes.is_empty() {
            causes.push_str(": ");
        }
        causes.push_str(&cause.to_string());
        source = cause.source();
    }
    if causes.is_empty() {
        tracing::debug!(request_id, %error, "the request was refused");
    } else {
        tracing::error!(request_id, %error, causes, "the request failed");
    }
}
