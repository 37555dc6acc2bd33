//! Bodies over HTTP/2 that never end, written frame by frame (RFC 9113).

use super::wire::connect;
use demo_bank::clock::pause;
use px_core::{Clock as _, SystemClock};
use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const INITIAL_WINDOW_SIZE: u16 = 4;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// The largest frame that every server accepts.
const FRAME: usize = 16 << 10;
/// Time limit of sending.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection with unfinished bodies, which stay pinned until it is dropped.
pub(crate) struct Pinned {
    pub(crate) sent: u64,
    _connection: Option<TcpStream>,
}

/// Flow-control windows that the server granted.
struct Windows {
    connection: i64,
    initial: i64,
    /// The windows of the open streams.
    streams: BTreeMap<u32, i64>,
    over: bool,
}

/// Opens streams with bodies and sends as much of them as the server accepts.
pub(crate) async fn pin(from: Ipv4Addr, port: u16, path: &str, streams: u32) -> Pinned {
    let Ok(mut connection) = connect(from, port).await else {
        return Pinned { sent: 0, _connection: None };
    };
    let sent = send(&mut connection, port, path, streams).await;
    Pinned { sent, _connection: Some(connection) }
}

async fn send(connection: &mut TcpStream, port: u16, path: &str, streams: u32) -> u64 {
    let mut windows =
        Windows { connection: 65_535, initial: 65_535, streams: BTreeMap::new(), over: false };
    let mut opening = PREFACE.to_vec();
    opening.extend(frame(SETTINGS, 0, 0, &[]));
    if connection.write_all(&opening).await.is_err() {
        return 0;
    }
    let mut unread = Vec::new();
    read(connection, &mut windows, &mut unread).await;
    for stream in (0..streams).map(|n| 2 * n + 1) {
        let head = headers(port, path);
        if connection.write_all(&frame(HEADERS, END_HEADERS, stream, &head)).await.is_err() {
            return 0;
        }
        windows.streams.insert(stream, windows.initial);
    }
    let (mut sent, begun) = (0, SystemClock::new());
    let filler = [b'a'; FRAME];
    while begun.elapsed() < SEND_TIMEOUT && !windows.over {
        read(connection, &mut windows, &mut unread).await;
        let (all, mut wrote) = (&mut windows, false);
        for (stream, window) in &mut all.streams {
            let length = (*window).min(all.connection).min(FRAME as i64);
            if length <= 0 {
                continue;
            }
            let bytes = &filler[..usize::try_from(length).unwrap_or_default()];
            let data = frame(DATA, 0, *stream, bytes);
            let write = connection.write_all(&data);
            match tokio::time::timeout(Duration::from_secs(1), write).await {
                Ok(Ok(())) => {}
                _ => return sent,
            }
            (*window, all.connection) = (*window - length, all.connection - length);
            sent += bytes.len() as u64;
            wrote = true;
        }
        if !wrote {
            // The windows are full.
            pause(Duration::from_millis(50)).await;
        }
    }
    sent
}

/// Returns the header block of a request, without compression beyond the static table (RFC 7541).
fn headers(port: u16, path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86]; // :method POST, :scheme http
    let literal = |block: &mut Vec<u8>, name: &[u8], value: &str| {
        block.extend(name);
        block.push(u8::try_from(value.len()).unwrap());
        block.extend(value.as_bytes());
    };
    literal(&mut block, &[0x04], path);
    literal(&mut block, &[0x01], &format!("127.0.0.1:{port}"));
    // content-type is number 31 of the static table.
    literal(&mut block, &[0x0f, 0x10], "application/x-www-form-urlencoded");
    block
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Reads the received frames, and updates the windows.
async fn read(connection: &mut TcpStream, windows: &mut Windows, unread: &mut Vec<u8>) {
    let mut buffer = [0; 16 << 10];
    loop {
        let read = connection.read(&mut buffer);
        match tokio::time::timeout(Duration::from_millis(30), read).await {
            Ok(Ok(0) | Err(_)) => windows.over = true,
            Ok(Ok(length)) => {
                unread.extend(&buffer[..length]);
                continue;
            }
            Err(_) => {}
        }
        break;
    }
    while unread.len() >= 9 {
        let number = |at: usize| {
            u32::from_be_bytes([unread[at], unread[at + 1], unread[at + 2], unread[at + 3]])
        };
        let length = u32::from_be_bytes([0, unread[0], unread[1], unread[2]]) as usize;
        let (kind, flags, stream) = (unread[3], unread[4], number(5) & (u32::MAX >> 1));
        if unread.len() < 9 + length {
            break;
        }
        let payload: Vec<u8> = unread[9..9 + length].to_vec();
        unread.drain(..9 + length);
        let word = |at: usize| {
            payload
                .get(at..at + 4)
                .map_or(0, |b| u32::from_be_bytes(b.try_into().unwrap_or_default()))
        };
        match kind {
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    let value = u32::from_be_bytes(setting[2..].try_into().unwrap_or_default());
                    if u16::from_be_bytes([setting[0], setting[1]]) == INITIAL_WINDOW_SIZE {
                        windows.initial = i64::from(value);
                    }
                }
                if connection.write_all(&frame(SETTINGS, ACK, 0, &[])).await.is_err() {
                    windows.over = true;
                }
            }
            WINDOW_UPDATE if stream == 0 => windows.connection += i64::from(word(0)),
            WINDOW_UPDATE => {
                if let Some(window) = windows.streams.get_mut(&stream) {
                    *window += i64::from(word(0));
                }
            }
            RST_STREAM => drop(windows.streams.remove(&stream)),
            // A response before the end of the body means that the server wants no more of it.
            HEADERS => drop(windows.streams.remove(&stream)),
            GOAWAY => windows.over = true,
            _ => {}
        }
    }
}
