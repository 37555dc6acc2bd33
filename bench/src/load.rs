//! The load: connections that send one request after another and read each answer whole.

use crate::{Failure, Plan, process::Server, report::median};
use futures_util::future::try_join_all;
use std::time::Instant;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// What is asked for, as bytes.
pub(crate) fn request(server: &Server, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: bank.test\r\nauthorization: Bearer {}\r\n\r\n",
        server.token
    )
    .into_bytes()
}

/// Requests per second of processor time of both servers, in turns, the median of each.
pub(crate) async fn compare(
    plan: Plan,
    path: &str,
    left: &Server,
    right: &Server,
) -> Result<(f64, f64), Failure> {
    let (mut lefts, mut rights) = (Vec::new(), Vec::new());
    // The first turn warms both up and is not counted.
    for turn in 0..=plan.rounds {
        let (l, r) = (drive(plan, path, left).await?, drive(plan, path, right).await?);
        if turn > 0 {
            lefts.push(l);
            rights.push(r);
        }
    }
    Ok((median(lefts), median(rights)))
}

/// Requests per second of the server's processor time over one turn.
async fn drive(plan: Plan, path: &str, server: &Server) -> Result<f64, Failure> {
    let request = request(server, path);
    let mut connections = Vec::new();
    for _ in 0..plan.connections {
        let stream = TcpStream::connect(server.address).await?;
        stream.set_nodelay(true)?;
        connections.push(stream);
    }
    let used = server.cpu_seconds()?;
    let begun = Instant::now();
    let counts = try_join_all(connections.into_iter().map(|mut stream| {
        let request = &request;
        async move {
            let (mut count, mut buffer) = (0_u32, Vec::new());
            while begun.elapsed() < plan.turn {
                stream.write_all(request).await?;
                read_answer(&mut stream, &mut buffer).await?;
                count += 1;
            }
            Ok::<_, Failure>(count)
        }
    }));
    let count: u32 = counts.await?.iter().sum();
    Ok(f64::from(count) / (server.cpu_seconds()? - used))
}

/// Reads one answer and checks that it is a 200 with a body.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<(), Failure> {
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
        .ok_or("an answer without a length")?
        .1
        .parse::<usize>()?;
    if length < 100 {
        return Err("the answer is too short to be one".into());
    }
    let mut rest = (head + length).saturating_sub(buffer.len());
    // The body's bytes are of no use, so they go through one piece of memory again and again.
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
