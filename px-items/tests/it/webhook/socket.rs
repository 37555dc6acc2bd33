//! The sender over real sockets.

use super::world::{Reply, World, changes, connection};
use px_core::ReqwestTransport;
use px_items::webhook::SenderSettings;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// Listens on loopback, records every request and returns the same response to each.
async fn listen(response: String) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let noted = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut text, mut buffer) = (String::new(), [0; 4096]);
            // The body is JSON, so it is complete with its last brace.
            while !text.ends_with('}') {
                match stream.read(&mut buffer).await {
                    Ok(read) if read > 0 => {
                        text.push_str(&String::from_utf8_lossy(&buffer[..read]))
                    }
                    _ => break,
                }
            }
            noted.lock().unwrap().push(text);
            stream.write_all(response.as_bytes()).await.unwrap();
        }
    });
    (address, seen)
}

fn response(status: u16, headers: &str) -> String {
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n")
}

/// Sends one webhook to an address. Returns the number of webhooks that are queued then.
async fn send(address: SocketAddr, transport: ReqwestTransport) -> u64 {
    let world = World::new(|_| Reply::Status(200));
    let mut connection = connection("app");
    connection.webhook = Some(format!("http://{address}/hook?token=x"));
    world.link("i1", connection).await;
    world.notify("i1", changes()).await;
    let sender = world.sender_over(Arc::new(transport), SenderSettings::default());
    sender.deliver_due().await;
    world.waiting().await
}

#[tokio::test]
async fn success_delivers_and_a_server_error_does_not() {
    for (status, waits) in [(200, 0), (204, 0), (500, 1)] {
        let (address, seen) = listen(response(status, "")).await;
        assert_eq!(send(address, ReqwestTransport::new().unwrap()).await, waits, "{status}");
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 1);
        let head = seen[0].to_lowercase();
        assert!(head.starts_with("post /hook?token=x http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nplaid-verification: ey") && head.contains("application/json"));
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (target, reached) = listen(response(200, "")).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: http://{target}/other\r\n");
        let (address, seen) = listen(response(status, &location)).await;
        assert_eq!(send(address, ReqwestTransport::new().unwrap()).await, 1, "{status}");
        assert_eq!(seen.lock().unwrap().len(), 1);
    }
    assert!(reached.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_private_address_is_refused_and_nothing_is_sent() {
    let (address, seen) = listen(response(200, "")).await;
    let guarded = ReqwestTransport::builder().allow_plain_http().public_addresses_only();
    assert_eq!(send(address, guarded.build().unwrap()).await, 1);
    assert!(seen.lock().unwrap().is_empty());
}
