//! Answers that do not come from the store.

use std::io;

use tokio::io::{AsyncWrite, AsyncWriteExt};

/// An answer that is made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A status with a short text.
    Status(u16),
    /// 302 to another address.
    Redirect(String),
    /// 200 with a page of something that is not ClickHouse.
    Page,
    /// So many octets of text.
    Huge {
        /// The status.
        status: u16,
        /// Octets of the body.
        octets: u64,
        /// Whether it has a header as only ClickHouse gives.
        marked: bool,
    },
    /// Octets that are no HTTP.
    Garbage,
    /// ClickHouse's error of this number.
    Exception(u32),
}

const PAGE: &str = "<!DOCTYPE html><html><head><title>Sign in</title></head>\
                    <body><form action=\"/login\">Welcome to the guest network</form></body></html>";
static PIECE: [u8; 1 << 16] = [b'x'; 1 << 16];

impl Answer {
    /// Writes it; a huge one until the client has had enough.
    pub(super) async fn write(&self, client: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let (status, headers, body) = match self {
            Self::Garbage => {
                let noise: Vec<u8> = (0..4_096u32).map(|n| ((n * 131) >> 3) as u8 | 0x80).collect();
                return client.write_all(&noise).await;
            }
            Self::Huge { status, octets, marked } => {
                return huge(client, *status, *octets, *marked).await;
            }
            Self::Status(status) => (*status, String::new(), format!("status {status}\n")),
            Self::Redirect(to) => (302, format!("Location: {to}\r\n"), String::new()),
            Self::Page => (200, "Content-Type: text/html\r\n".into(), PAGE.into()),
            Self::Exception(code) => exception(*code),
        };
        let head = format!(
            "HTTP/1.1 {status} Answer\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        client.write_all(head.as_bytes()).await?;
        client.write_all(body.as_bytes()).await
    }
}

async fn huge(
    client: &mut (impl AsyncWrite + Unpin),
    status: u16,
    octets: u64,
    marked: bool,
) -> io::Result<()> {
    let mark = if marked { "X-ClickHouse-Server-Display-Name: proxy\r\n" } else { "" };
    let head = format!("HTTP/1.1 {status} Answer\r\n{mark}Content-Length: {octets}\r\n\r\n");
    client.write_all(head.as_bytes()).await?;
    let mut left = octets;
    while left > 0 {
        let piece = left.min(PIECE.len() as u64);
        client.write_all(&PIECE[..piece as usize]).await?;
        left -= piece;
    }
    Ok(())
}

/// Status, headers and text, as a ClickHouse server gives them.
fn exception(code: u32) -> (u16, String, String) {
    let (status, name) = match code {
        60 => (404, "UNKNOWN_TABLE"),
        159 => (500, "TIMEOUT_EXCEEDED"),
        202 => (503, "TOO_MANY_SIMULTANEOUS_QUERIES"),
        241 => (500, "MEMORY_LIMIT_EXCEEDED"),
        242 => (500, "TABLE_IS_READ_ONLY"),
        243 => (500, "NOT_ENOUGH_SPACE"),
        252 => (500, "TOO_MANY_PARTS"),
        469 => (500, "VIOLATED_CONSTRAINT"),
        516 => (403, "AUTHENTICATION_FAILED"),
        _ => (500, "MADE_BY_THE_PROXY"),
    };
    let headers = format!("X-ClickHouse-Exception-Code: {code}\r\n");
    let text = format!(
        "Code: {code}. DB::Exception: made by the proxy of the tests. ({name}) (version 26.7.3.1)\n"
    );
    (status, headers, text)
}
