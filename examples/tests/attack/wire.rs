//! Requests over HTTP/1.1, from an address of the test's choice.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

/// Time limit of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    /// Returns the cookies that it sets, as a browser sends them back.
    pub(crate) fn cookie(&self) -> String {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let cookies = lines.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
        let pairs: Vec<_> = cookies.filter_map(|(_, value)| value.split(';').next()).collect();
        pairs.join("; ")
    }
}

/// Connects from an address of this machine.
pub(crate) async fn connect(from: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from.into(), 0))?;
    socket.connect(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)).await
}

pub(crate) async fn get(from: Ipv4Addr, port: u16, path: &str) -> io::Result<Response> {
    request(from, port, "GET", path, &[], "").await
}

/// Sends a form.
pub(crate) async fn post(
    from: Ipv4Addr,
    port: u16,
    path: &str,
    headers: &[(&str, &str)],
    form: &str,
) -> io::Result<Response> {
    let mut headers = headers.to_vec();
    headers.push(("content-type", "application/x-www-form-urlencoded"));
    request(from, port, "POST", path, &headers, form).await
}

pub(crate) async fn request(
    from: Ipv4Addr,
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Response> {
    let headers: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n{headers}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        let mut connection = connect(from, port).await?;
        connection.write_all(text.as_bytes()).await?;
        let mut bytes = Vec::new();
        connection.read_to_end(&mut bytes).await?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = tokio::time::timeout(REQUEST_TIMEOUT, exchange).await??;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("no response"))?;
    Ok(Response { status, head: head.to_owned(), body: body.to_owned() })
}

/// Returns the value of a hidden field of a page.
pub(crate) fn field<'p>(page: &'p str, name: &str) -> &'p str {
    let start = format!("name=\"{name}\" value=\"");
    let rest = page.split(&*start).nth(1).unwrap_or_else(|| panic!("no {name} in {page}"));
    rest.split('"').next().unwrap()
}

pub(crate) fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
