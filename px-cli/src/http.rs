//! A small HTTP server for what the program itself serves: a redirect and figures.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many are served at once; more wait.
const AT_ONCE: usize = 32;

/// What is answered.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Answers each `GET` by a function of its path and query. Dropping it ends every connection.
pub(crate) async fn serve(
    listener: TcpListener,
    answer: impl Fn(&str, Option<&str>) -> Answer + Send + Sync + 'static,
) {
    let answer = Arc::new(answer);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        // A client that is gone again, or too many open files: the next one is served.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let answer = Arc::clone(&answer);
        connections.spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = match *request.method() {
                    Method::GET => answer(request.uri().path(), request.uri().query()),
                    _ => text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n"),
                };
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // A client that breaks off has its reasons.
            let _ = connection.await;
            drop(place);
        });
    }
}

/// An answer in plain text that nobody keeps.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
