//! A small HTTP server for OAuth redirects and metrics.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

/// Maximum time for a client to send the request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of concurrent connections. Further ones wait.
const MAX_CONNECTIONS: usize = 32;

/// A response of the server.
pub(crate) type HttpResponse = Response<Full<Bytes>>;

/// Responds to each `GET` with a function of its path and query. Dropping the future closes all connections.
pub(crate) async fn serve(
    listener: TcpListener,
    respond: impl Fn(&str, Option<&str>) -> HttpResponse + Send + Sync + 'static,
) {
    let respond = Arc::new(respond);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        // After an error of one client, or too many open files, the next client is served.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let respond = Arc::clone(&respond);
        connections.spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = match *request.method() {
                    Method::GET => respond(request.uri().path(), request.uri().query()),
                    _ => text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n"),
                };
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // An error means that the client closed the connection.
            let _ = connection.await;
            drop(permit);
        });
    }
}

/// Returns a response in plain text that is not cached.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> HttpResponse {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
