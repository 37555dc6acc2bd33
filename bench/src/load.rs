//! The load generator: connections that send one request after another and read each response
//! completely.

use crate::{Failure, Plan, process::Server, report::median};
use futures_util::future::try_join_all;
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Returns a `GET` request as bytes.
pub(crate) fn request(server: &Server, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: bank.test\r\nauthorization: Bearer {}\r\n\r\n",
        server.token
    )
    .into_bytes()
}

/// Returns a `POST` request to Plaid with a JSON body and client credentials, as bytes.
pub(crate) fn post(path: &str, (id, secret): (&str, &str), body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: plaid.test\r\nplaid-client-id: {id}\r\nplaid-secret: {secret}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Returns the requests per second of processor time of both servers, measured in turns, the median
/// of each.
pub(crate) async fn compare(
    plan: Plan,
    path: &str,
    left: &Server,
    right: &Server,
) -> Result<(f64, f64), Failure> {
    let (request_left, request_right) = (request(left, path), request(right, path));
    compare_requests(plan, (left, &request_left), (right, &request_right)).await
}

/// Like [`compare`], for requests given as bytes.
pub(crate) async fn compare_requests(
    plan: Plan,
    left: (&Server, &[u8]),
    right: (&Server, &[u8]),
) -> Result<(f64, f64), Failure> {
    let (mut lefts, mut rights) = (Vec::new(), Vec::new());
    // The first turn warms up both servers and is not counted.
    for turn in 0..=plan.rounds {
        let (l, r) = (drive(plan, left).await?, drive(plan, right).await?);
        if turn > 0 {
            lefts.push(l);
            rights.push(r);
        }
    }
    Ok((median(lefts), median(rights)))
}

/// Returns the requests per second of the server's processor time over one turn.
async fn drive(plan: Plan, (server, request): (&Server, &[u8])) -> Result<f64, Failure> {
    let connections = connect(server, plan.connections).await?;
    let used = server.cpu_seconds()?;
    let begun = Instant::now();
    let counts = try_join_all(connections.into_iter().map(|mut stream| async move {
        let (mut count, mut buffer) = (0_u32, Vec::new());
        while begun.elapsed() < plan.turn {
            stream.write_all(request).await?;
            read_response(&mut stream, &mut buffer).await?;
            count += 1;
        }
        Ok::<_, Failure>(count)
    }));
    let count: u32 = counts.await?.iter().sum();
    Ok(f64::from(count) / (server.cpu_seconds()? - used))
}

/// Returns the milliseconds of each request of a list, sent over several connections, and the total
/// seconds.
pub(crate) async fn time_each(
    server: &Server,
    connections: usize,
    requests: &[Vec<u8>],
) -> Result<(Vec<f64>, f64), Failure> {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    let times = try_join_all(connect(server, connections).await?.into_iter().map(|mut stream| {
        let next = &next;
        async move {
            let (mut times, mut buffer) = (Vec::new(), Vec::new());
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let sent = Instant::now();
                stream.write_all(request).await?;
                read_response(&mut stream, &mut buffer).await?;
                times.push(sent.elapsed().as_secs_f64() * 1000.0);
            }
            Ok::<_, Failure>(times)
        }
    }));
    Ok((times.await?.concat(), begun.elapsed().as_secs_f64()))
}

async fn connect(server: &Server, count: usize) -> Result<Vec<TcpStream>, Failure> {
    let mut connections = Vec::new();
    for _ in 0..count {
        let stream = TcpStream::connect(server.address).await?;
        stream.set_nodelay(true)?;
        connections.push(stream);
    }
    Ok(connections)
}

/// Reads one response and checks that it is a 200 with a body.
async fn read_response(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<(), Failure> {
    buffer.clear();
    let head = loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err("the server closed the connection".into());
        }
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = std::str::from_utf8(&buffer[..head])?;
    if !text.starts_with("HTTP/1.1 200") {
        return Err(format!("not a 200: {}", text.lines().next().unwrap_or_default()).into());
    }
    let length = text
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .ok_or("a response without a length")?
        .1
        .parse::<usize>()?;
    if length < 20 {
        return Err("the response is too short".into());
    }
    let mut rest = (head + length).saturating_sub(buffer.len());
    // The body is discarded, so one buffer is reused.
    buffer.resize(64 * 1024, 0);
    while rest > 0 {
        let most = rest.min(buffer.len());
        let read = stream.read(&mut buffer[..most]).await?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        rest -= read;
    }
    Ok(())
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
