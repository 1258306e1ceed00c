//! One HTTP/1.1 request over one connection: enters octets, leaves the answer
//! as it came.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The head, header names in lower case.
    pub head: String,
    /// The body, without transfer encoding.
    pub body: Vec<u8>,
    /// Whether the body came to its proper end.
    pub whole: bool,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Opens a connection to `http://HOST:PORT`.
pub fn connect(url: &str) -> TcpStream {
    try_connect(url).expect("the store listens")
}

fn try_connect(url: &str) -> io::Result<TcpStream> {
    let address = url.strip_prefix("http://").ok_or_else(|| io::Error::other("no plain URL"))?;
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_mins(2)))?;
    Ok(stream)
}

/// Sends a request with a body of known length.
pub fn send(
    url: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    try_send(url, method, target, headers, body).expect("the store answers")
}

/// The same, for a store that may be away.
pub fn try_send(
    url: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut stream = try_connect(url)?;
    let host = url.strip_prefix("http://").unwrap_or(url);
    let mut request =
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request.extend(["Content-Length: ", &body.len().to_string(), "\r\n\r\n"]);
    stream.write_all(request.as_bytes())?;
    stream.write_all(body)?;
    read_answer(stream)
}

/// Posts a statement.
pub fn post(url: &str, target: &str, body: &[u8]) -> Answer {
    send(url, "POST", target, &[], body)
}

/// Reads the answer to the end of the connection.
pub fn read_answer(mut stream: TcpStream) -> io::Result<Answer> {
    let mut all = Vec::new();
    // A cut connection may end with a reset; what came before it counts.
    let _ = stream.read_to_end(&mut all);
    let end = all
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or_else(|| io::Error::other(format!("no head in {} octets", all.len())))?;
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let rest = &all[end + 4..];
    let (body, whole) = if head.contains("transfer-encoding: chunked") {
        unchunk(rest)
    } else {
        (rest.to_vec(), true)
    };
    Ok(Answer { status, head, body, whole })
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size =
            std::str::from_utf8(&rest[..end]).ok().and_then(|s| usize::from_str_radix(s, 16).ok());
        let Some(size) = size else {
            return (body, false);
        };
        if size == 0 {
            return (body, true);
        }
        let Some(chunk) = rest.get(end + 2..end + 2 + size) else {
            return (body, false);
        };
        body.extend_from_slice(chunk);
        rest = rest.get(end + 4 + size..).unwrap_or_default();
    }
    (body, false)
}
