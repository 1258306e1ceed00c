//! A look at what comes from the store before anybody believes it.
//!
//! Enters: the octets of a connection as they are read. Leaves: nothing, or the reason why they
//! are not for the HTTP client. It holds that an answer without a header that ClickHouse writes
//! ends the connection before its status is seen, so that it is never taken for an
//! acknowledgement, and that of an error's text no more than [`MOST_ERROR`] octets are read.

use httparse::{EMPTY_HEADER, Status};

/// Octets of the text of an error that are read; ClickHouse's are a few hundred.
pub const MOST_ERROR: u64 = 64 << 10;
/// Octets of the head of an answer.
const MOST_HEAD: usize = 64 << 10;
/// As the HTTP client takes.
const MOST_HEADERS: usize = 100;
/// How every answer begins.
const START: &[u8] = b"HTTP/1.";
/// What every answer of ClickHouse to a statement has some of: `X-ClickHouse-Query-Id`,
/// `X-ClickHouse-Server-Display-Name`, `X-ClickHouse-Summary`.
const MARK: &str = "x-clickhouse-";

/// Why an answer is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Strange {
    /// It is no HTTP.
    #[error("the answer is no HTTP; if it is a port for TLS, write https")]
    NotHttp,
    /// Something else, perhaps a proxy, has answered.
    #[error(
        "the answer (status {status}) has none of ClickHouse's headers; check host, port and \
         what is between"
    )]
    NotClickHouse {
        /// Of the answer.
        status: u16,
    },
    /// Its head has no end.
    #[error("the head of the answer has more than {MOST_HEAD} octets")]
    LongHead,
    /// The text of the error has no end; its status is known.
    #[error("the text of the error has more than {MOST_ERROR} octets")]
    LongError,
}

/// Follows the answers on one connection, each of which ends before the next begins.
#[derive(Debug)]
pub struct Answers {
    state: State,
}

#[derive(Debug)]
enum State {
    /// What there is of the next head.
    Head(Vec<u8>),
    Body {
        rest: Rest,
        /// Octets that may still come, if it is an error.
        room: Option<u64>,
    },
}

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Length(u64),
    /// Until the connection ends.
    Open,
    /// The digits of a chunk's length.
    ChunkSize(u64),
    /// After these digits, to the end of the line.
    ChunkLine(u64),
    /// This many octets and the end of the line.
    Chunk(u64),
    ChunkEnd,
    /// Lines after the last chunk; so far the line is empty or not.
    Trailer {
        empty: bool,
    },
}

impl Default for Answers {
    fn default() -> Self {
        Self { state: State::Head(Vec::new()) }
    }
}

impl Answers {
    /// Takes the next octets.
    ///
    /// # Errors
    /// They must not be used, and the connection neither.
    pub fn read(&mut self, mut octets: &[u8]) -> Result<(), Strange> {
        while !octets.is_empty() {
            match &mut self.state {
                State::Head(head) => {
                    let before = head.len();
                    head.extend_from_slice(octets);
                    let start = head.len().min(START.len());
                    if head[..start] != START[..start] {
                        return Err(Strange::NotHttp);
                    }
                    if !octets.contains(&b'\n') {
                        return if head.len() > MOST_HEAD {
                            Err(Strange::LongHead)
                        } else {
                            Ok(())
                        };
                    }
                    let Some((length, next)) = parse(head)? else {
                        return if head.len() > MOST_HEAD {
                            Err(Strange::LongHead)
                        } else {
                            Ok(())
                        };
                    };
                    octets = &octets[length - before..];
                    self.state = next;
                }
                State::Body { rest, room } => {
                    let taken = rest.take(octets)?;
                    if let Some(room) = room {
                        *room = room.checked_sub(taken as u64).ok_or(Strange::LongError)?;
                    }
                    octets = &octets[taken..];
                    if *rest == Rest::Length(0) {
                        self.state = State::Head(Vec::new());
                    }
                }
            }
        }
        Ok(())
    }
}

/// The length of a whole head and what follows it; none while it is not whole.
fn parse(head: &[u8]) -> Result<Option<(usize, State)>, Strange> {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let length = match answer.parse(head) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(_) => return Err(Strange::NotHttp),
    };
    let status = answer.code.unwrap_or_default();
    if (100..200).contains(&status) {
        return Ok(Some((length, State::Head(Vec::new()))));
    }
    let is_mark =
        |name: &str| name.get(..MARK.len()).is_some_and(|start| start.eq_ignore_ascii_case(MARK));
    if !answer.headers.iter().any(|header| is_mark(header.name)) {
        return Err(Strange::NotClickHouse { status });
    }
    let value = |name: &str| {
        let header = answer.headers.iter().rfind(|header| header.name.eq_ignore_ascii_case(name));
        header.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    let chunked = |coding: &str| coding.to_ascii_lowercase().ends_with("chunked");
    let rest = if status == 204 || status == 304 {
        Rest::Length(0)
    } else if value("transfer-encoding").is_some_and(chunked) {
        Rest::ChunkSize(0)
    } else {
        match value("content-length").map(str::parse) {
            Some(Ok(length)) => Rest::Length(length),
            Some(Err(_)) => return Err(Strange::NotHttp),
            None => Rest::Open,
        }
    };
    if rest == Rest::Length(0) {
        return Ok(Some((length, State::Head(Vec::new()))));
    }
    let is_error = status != 200 || value("x-clickhouse-exception-code").is_some();
    Ok(Some((length, State::Body { rest, room: is_error.then_some(MOST_ERROR) })))
}

impl Rest {
    /// How many of the octets (there is one at least) belong to this state; goes on to the next.
    /// The end of the body is `Length(0)`.
    fn take(&mut self, octets: &[u8]) -> Result<usize, Strange> {
        let first = octets[0];
        let most = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(octets.len());
        let line_end = || octets.iter().position(|octet| *octet == b'\n');
        match *self {
            Self::Length(left) => {
                let taken = most(left);
                *self = Self::Length(left - taken as u64);
                Ok(taken)
            }
            Self::Open => Ok(octets.len()),
            Self::ChunkSize(size) => {
                if let Some(digit) = (first as char).to_digit(16) {
                    let size = size.checked_mul(16).ok_or(Strange::NotHttp)?;
                    *self = Self::ChunkSize(size + u64::from(digit));
                    return Ok(1);
                }
                *self = Self::ChunkLine(size);
                Ok(0)
            }
            Self::ChunkLine(size) => {
                let Some(end) = line_end() else { return Ok(octets.len()) };
                *self = if size == 0 { Self::Trailer { empty: true } } else { Self::Chunk(size) };
                Ok(end + 1)
            }
            Self::Chunk(left) => {
                let taken = most(left);
                let left = left - taken as u64;
                *self = if left == 0 { Self::ChunkEnd } else { Self::Chunk(left) };
                Ok(taken)
            }
            Self::ChunkEnd => {
                let Some(end) = line_end() else { return Ok(octets.len()) };
                *self = Self::ChunkSize(0);
                Ok(end + 1)
            }
            Self::Trailer { empty } => {
                *self = match first {
                    b'\n' if empty => Self::Length(0),
                    b'\n' => Self::Trailer { empty: true },
                    b'\r' => Self::Trailer { empty },
                    _ => Self::Trailer { empty: false },
                };
                Ok(1)
            }
        }
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
