//! Every endpoint responds with its golden vector, on every adapter.

use super::{
    CLIENT, REQUEST_ID, RecordedCall, Scripted, post, send, service, vector, with_headers,
};
use bytes::Bytes;
use http::Request;
#[cfg(any(feature = "axum", feature = "hyper"))]
use http_body_util::BodyExt as _;
use http_body_util::Full;
#[cfg(feature = "hyper")]
use px_server::plaid::PlaidService;
use px_types::{Meta, endpoint::list};
#[cfg(any(feature = "axum", feature = "hyper"))]
use serde_json::Value;

fn request(meta: &Meta) -> Request<Full<Bytes>> {
    let body = vector(meta.id, "request").to_string();
    with_headers(post(meta.path, body), &[("x-request-id", REQUEST_ID)])
}

/// Checks the calls of the methods, in the order of the list of endpoints.
fn all_were_called(plaid: &Scripted) {
    let expected = list::plaid().into_iter().map(|meta| RecordedCall {
        endpoint: meta.id,
        client_id: CLIENT.into(),
        request_id: REQUEST_ID.into(),
        request: vector(meta.id, "request"),
    });
    assert_eq!(plaid.calls(), expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn every_endpoint_answers_with_its_golden_vector() {
    let (service, plaid) = service();
    for meta in list::plaid() {
        let (response, body) = send(&service, request(&meta)).await;
        assert_eq!((response.status().as_u16(), &body), (200, &vector(meta.id, "response")));
    }
    all_were_called(&plaid);
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn every_endpoint_answers_on_axum() {
    use axum::{body::Body, routing};
    use tower::ServiceExt as _;

    let (service, plaid) = service();
    let own = axum::Router::new().route("/health", routing::get(async || "well"));
    let router = own.merge(px_server::axum::router(service));
    for meta in list::plaid() {
        let request = request(&meta).map(Body::new);
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{}", meta.id);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body, vector(meta.id, "response"));
    }
    all_were_called(&plaid);
    for (path, status) in [("/health", 200), ("/nothing", 404)] {
        let request = Request::get(path).header("host", "plaid.example");
        let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
    }
}

#[cfg(feature = "hyper")]
#[tokio::test]
async fn every_endpoint_answers_on_hyper() {
    use hyper_util::rt::TokioIo;
    use tokio::net::{TcpListener, TcpStream};

    async fn serve(listener: TcpListener, service: PlaidService) {
        px_server::hyper::serve(listener, service).await.unwrap();
    }
    let (service, plaid) = service();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, service));
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    for meta in list::plaid() {
        let response = sender.send_request(request(&meta)).await.unwrap();
        assert_eq!(response.status(), 200, "{}", meta.id);
        assert_eq!(response.headers()["x-request-id"], REQUEST_ID);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body, vector(meta.id, "response"));
    }
    all_were_called(&plaid);
    server.abort();
}
