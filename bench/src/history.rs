//! A long history over a slow link: with the client's parallel reads, and page after page.

use crate::{Failure, bank, data, process::Server, report::Report, serve::Kind};
use futures_util::StreamExt as _;
use px_client::{PageEvent, PartnerClient, Window};
use px_core::ReqwestTransport;
use px_types::AccessToken;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::mpsc,
};

/// Half of the round-trip time.
const ONE_WAY: Duration = Duration::from_millis(20);

pub(crate) async fn measure(report: &mut Report, transactions: usize) {
    let name = format!("history of {transactions} over 40 ms, client / page after page");
    if !report.wants(&name) {
        return;
    }
    match compare(transactions).await {
        Ok((client, pages)) => {
            let measured = format!("{client:.2} s, {pages:.2} s");
            report.at_least(&name, measured, pages / client, 5.0);
        }
        Err(error) => report.not_run(&name, &error.to_string()),
    }
}

pub(crate) fn client(address: SocketAddr, token: &str) -> Result<PartnerClient, Failure> {
    let client = PartnerClient::builder(format!("http://{address}"), ReqwestTransport::new()?);
    Ok(client.token(AccessToken::new(token)).build()?)
}

/// Returns the seconds of either method, each the better of two turns.
async fn compare(transactions: usize) -> Result<(f64, f64), Failure> {
    let server = Server::start(Kind::Hyper, transactions).await?;
    let far = slow_link(server.address).await?;
    let user = bank::USER.parse()?;
    let (mut client_best, mut pages_best) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..2 {
        let begun = Instant::now();
        let mut rows = client(far, &server.token)?.transactions(&user, data::start(), data::end());
        let mut count = 0;
        while let Some(row) = rows.next().await {
            row?;
            count += 1;
        }
        expect(count, transactions)?;
        client_best = client_best.min(begun.elapsed().as_secs_f64());

        let begun = Instant::now();
        let window = Window::new(data::start(), data::end()).ok_or("no window")?;
        let mut pages = client(far, &server.token)?.pages(&user, window);
        let mut count = 0;
        while let Some(event) = pages.next().await {
            if let PageEvent::Page(page) = event? {
                count += page.transactions.len();
            }
        }
        expect(count, transactions)?;
        pages_best = pages_best.min(begun.elapsed().as_secs_f64());
    }
    Ok((client_best, pages_best))
}

fn expect(count: usize, transactions: usize) -> Result<(), Failure> {
    if count == transactions {
        Ok(())
    } else {
        Err(format!("received {count} of {transactions} transactions").into())
    }
}

/// Starts a proxy to the server that delays everything by 20 ms in each direction.
async fn slow_link(server: SocketAddr) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(far) = TcpStream::connect(server).await else {
                    return;
                };
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                // Opening a connection takes one round trip.
                tokio::time::sleep(ONE_WAY * 2).await;
                let (from_near, to_near) = near.into_split();
                let (from_far, to_far) = far.into_split();
                tokio::join!(delay(from_near, to_far), delay(from_far, to_near));
            });
        }
    });
    Ok(address)
}

/// Forwards bytes with a delay of 20 ms. Any number of them may be in transit.
async fn delay(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let reading = async move {
        let mut buffer = vec![0; 256 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let due = tokio::time::Instant::now() + ONE_WAY;
            if sender.send((due, buffer[..read].to_vec())).is_err() {
                break;
            }
        }
    };
    let writing = async move {
        while let Some((due, bytes)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
