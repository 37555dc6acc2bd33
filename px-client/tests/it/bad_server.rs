//! A partner on loopback that responds byte by byte, as a script specifies.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// A request, as the script receives it.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Number of earlier requests.
    pub(crate) number: usize,
    pub(crate) target: String,
    /// Head and body, as they were sent.
    pub(crate) text: String,
}

impl Seen {
    /// Returns the value of a query parameter.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// A response in pieces, with a pause after each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) pieces: Vec<Vec<u8>>,
    pub(crate) pause: Duration,
}

impl Script {
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { pieces: vec![bytes.into()], pause: Duration::ZERO }
    }

    pub(crate) fn response(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut bytes = format!(
            "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        Self::raw(bytes)
    }

    pub(crate) fn json(status: u16, body: impl AsRef<[u8]>) -> Self {
        Self::response(status, "Content-Type: application/json\r\n", body)
    }

    pub(crate) fn error(status: u16, headers: &str, id: &str) -> Self {
        let headers = format!("Content-Type: application/json\r\n{headers}");
        let body = format!(r#"{{"error":{{"id":"{id}","message":"a test message"}}}}"#);
        Self::response(status, &headers, body)
    }
}

/// The server, which stops when it is dropped.
pub(crate) struct BadServer {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
}

impl BadServer {
    pub(crate) fn start(script: impl Fn(&Seen) -> Script + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(AtomicUsize::new(0));
        let (script, stopped, counted) = (Arc::new(script), stop.clone(), requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (script, counted) = (script.clone(), counted.clone());
                if let Ok(stream) = stream {
                    thread::spawn(move || serve(stream, &*script, &counted));
                }
            }
        });
        Self { address, stop, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the number of requests.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for BadServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener, so that it stops.
        let _ = TcpStream::connect(self.address);
    }
}

/// Serves one request per connection.
fn serve(mut stream: TcpStream, script: &dyn Fn(&Seen) -> Script, counted: &AtomicUsize) {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    let head_end = loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => text.extend_from_slice(&buffer[..n]),
        }
        if let Some(at) = text.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8_lossy(&text[..head_end]).to_lowercase();
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
        .unwrap_or(0);
    while text.len() < head_end + length {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => text.extend_from_slice(&buffer[..n]),
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut first = text.split(' ').skip(1);
    let seen = Seen {
        number: counted.fetch_add(1, Ordering::SeqCst),
        target: first.next().unwrap_or_default().to_owned(),
        text: text.clone(),
    };
    let script = script(&seen);
    for piece in &script.pieces {
        if stream.write_all(piece).is_err() || stream.flush().is_err() {
            return;
        }
        if !script.pause.is_zero() {
            #[allow(clippy::disallowed_methods, reason = "this thread is the slow sender")]
            thread::sleep(script.pause);
        }
    }
}

/// A user response without accounts.
pub(crate) const USER: &str = r#"{"user_identity_id":"i","identities":[{"id":"i","name":"Ann"}],"securities":[],"accounts":[]}"#;

/// Returns a page of transactions.
pub(crate) fn page(total: u64, ids: &[&str], cursor: Option<&str>) -> String {
    let rows: Vec<_> = ids
        .iter()
        .map(|id| {
            format!(
                r#"{{"id":"{id}","account_id":"a","amount":"100.950000","currency":"USD","description":null,"settled_at":"2024-01-02","transacted_at":"2024-01-01","type":"depository"}}"#
            )
        })
        .collect();
    let cursor = cursor.map_or(String::new(), |c| format!(r#","next_cursor":"{c}""#));
    format!(r#"{{"total":{total},"transactions":[{}]{cursor}}}"#, rows.join(","))
}
