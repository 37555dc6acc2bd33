//! The stream of a connection: replays the bytes that were read to detect the HTTP version, records
//! when a request's head begins, and fails if the peer accepts no data for too long.

use super::{connection::Activity, timer};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// The first bytes of an HTTP/2 connection (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first bytes of a connection without ALPN, which identify its HTTP version.
#[derive(Debug, Default)]
pub(super) struct ConnectionPrefix {
    bytes: [u8; PREFACE.len()],
    filled: usize,
}

impl ConnectionPrefix {
    /// Reads until the version is determined.
    pub(super) async fn read(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut prefix = Self::default();
        while prefix.filled < PREFACE.len() && prefix.may_be_http2() {
            match io.read(&mut prefix.bytes[prefix.filled..]).await? {
                0 => break,
                read => prefix.filled += read,
            }
        }
        Ok(prefix)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    pub(super) fn is_http2(&self) -> bool {
        self.bytes == *PREFACE
    }

    fn may_be_http2(&self) -> bool {
        PREFACE.starts_with(&self.bytes[..self.filled])
    }
}

/// The stream that hyper uses.
#[derive(Debug)]
pub(super) struct Stream<I> {
    io: I,
    prefix: ConnectionPrefix,
    replayed: usize,
    activity: Arc<Activity>,
    write_limit: Duration,
    /// Runs while the peer accepts no data.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<I> Stream<I> {
    pub(super) fn new(
        io: I,
        prefix: ConnectionPrefix,
        activity: Arc<Activity>,
        write_limit: Duration,
    ) -> Self {
        Self { io, prefix, replayed: 0, activity, write_limit, stalled: None }
    }

    fn limit_stall<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.write_limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(timer::sleep(limit)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Stream<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.prefix.bytes[self.replayed..self.prefix.filled];
        if !rest.is_empty() {
            let count = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..count]);
            self.replayed += count;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.on_read();
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Stream<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.limit_stall(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.limit_stall(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(cx);
        self.limit_stall(cx, shut)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.limit_stall(cx, written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_version_is_recognized_by_the_first_bytes() {
        for (bytes, http2) in [
            (&PREFACE[..], true),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore", true),
            (b"GET / HTTP/1.1\r\n\r\n", false),
            (b"POST / HTTP/1.1\r\n\r\n", false),
            (b"PRI * HTTP/2.0\r\n", false),
            (b"", false),
        ] {
            let prefix = ConnectionPrefix::read(&mut &bytes[..]).await.unwrap();
            assert_eq!(prefix.is_http2(), http2, "{bytes:?}");
            assert_eq!(prefix.is_empty(), bytes.is_empty());
        }
    }
}
