//! The allow-list as a layer: the response of a refusal.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use px_server::guard::{AllowList, PeerAddr, Proxies};
use px_types::ErrorResponse;
use std::convert::Infallible;
use tower::{Layer as _, ServiceExt as _, service_fn};

async fn send(list: &AllowList, request: Request<Empty<Bytes>>) -> Response<Full<Bytes>> {
    let inner = service_fn(async |_: Request<Empty<Bytes>>| {
        Ok::<_, Infallible>(Response::new(Full::from("let in")))
    });
    list.layer(inner).oneshot(request).await.unwrap()
}

fn request(peer: Option<&str>, headers: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let mut request = Request::get("/users/u");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Empty::new()).unwrap();
    if let Some(peer) = peer {
        let peer = PeerAddr(peer.parse().unwrap());
        request.extensions_mut().insert(peer);
    }
    request
}

#[tokio::test]
async fn a_stranger_is_refused_with_a_request_id() {
    let list = AllowList::plaid_production();
    let stranger = request(Some("198.51.100.7:4000"), &[("x-request-id", "mine-1")]);
    let response = send(&list, stranger).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(response.headers()["x-request-id"], "mine-1");
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: ErrorResponse = px_types::decode(&body).unwrap();
    assert_eq!(body.error.id, "forbidden");
    assert_eq!(body.request_id.as_deref(), Some("mine-1"));
    assert!(!body.error.message.contains("198.51"));
}

#[tokio::test]
async fn a_bad_request_id_is_replaced() {
    let list = AllowList::plaid_production();
    let mut seen = Vec::new();
    for id in ["has space", "", "x/y"] {
        let response = send(&list, request(None, &[("x-request-id", id)])).await;
        let generated = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(generated.len(), 32);
        assert!(!seen.contains(&generated));
        seen.push(generated);
    }
}

#[tokio::test]
async fn who_has_no_address_is_refused() {
    let list = AllowList::new().allow("0.0.0.0/0").unwrap();
    let list = list.allow("::/0").unwrap();
    assert_eq!(send(&list, request(None, &[])).await.status(), 403);
    let any_request = request(Some("[2001:db8::1]:1"), &[]);
    assert_eq!(send(&list, any_request).await.status(), 200);
}

#[tokio::test]
async fn xff_spoof() {
    let direct = AllowList::plaid_production();
    let behind_one = AllowList::plaid_production().proxies(Proxies::new(1));
    let forged = [("x-forwarded-for", "18.214.218.91")];
    let appended = [("x-forwarded-for", "18.214.218.91, 198.51.100.7")];
    let two_lines = [("x-forwarded-for", "18.214.218.91"), ("x-forwarded-for", "198.51.100.7")];
    for (list, headers, status) in [
        (&direct, &forged[..], 403),
        (&behind_one, &appended[..], 403),
        (&behind_one, &two_lines[..], 403),
        (&behind_one, &[][..], 403),
        (&behind_one, &forged[..], 200),
    ] {
        let response = send(list, request(Some("10.0.0.1:1"), headers)).await;
        assert_eq!(response.status(), status, "{headers:?}");
    }
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn axum_s_own_peer_address_is_read() {
    let mut request = request(None, &[]);
    let peer: std::net::SocketAddr = "18.214.218.91:1".parse().unwrap();
    request.extensions_mut().insert(axum::extract::ConnectInfo(peer));
    let response = send(&AllowList::plaid_production(), request).await;
    assert_eq!(response.status(), 200);
}
