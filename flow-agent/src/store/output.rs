//! A response body: enters the statement's pipe, leaves encoded pieces. What
//! must hold: a failure ends the body with an exception that clients find, and
//! the connection is cut, so that no short result passes for a whole one.

use std::io::{self, Read as _, Seek as _};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::task::{JoinError, JoinHandle};

use super::encoding::Encoder;
use super::failure::{Failure, code};
use super::ffi::Figures;
use super::state::KillGuard;

/// The body of every response.
pub type ResponseBody = UnsyncBoxBody<Bytes, io::Error>;

/// The size of the pieces of a long body.
const PIECE: usize = 256 << 10;
/// hyper writes a piece out only while the body is pending; this long the last
/// one may take before the connection is cut.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A response that begins before its statement has ended.
pub struct Output {
    /// The output so far.
    pub head: Vec<u8>,
    /// Where the rest comes from.
    pub pipe: pipe::Receiver,
    /// How it is encoded.
    pub encoder: Encoder,
    /// The statement.
    pub job: JoinHandle<Result<Figures, Failure>>,
    /// Marks an exception in the body.
    pub tag: String,
    /// The engine's version.
    pub version: String,
    /// Kills the statement when the response is dropped.
    pub kill: KillGuard,
}

enum Phase {
    Head(Output),
    Reading(Output),
    Cut(Failure),
    End,
}

impl Output {
    /// The body.
    pub fn into_body(self) -> ResponseBody {
        let pieces = stream::unfold(Phase::Head(self), |phase| async {
            let (piece, phase) = phase.step().await;
            piece.map(|piece| (piece.map(|bytes| Frame::data(Bytes::from(bytes))), phase))
        });
        StreamBody::new(pieces).boxed_unsync()
    }
}

impl Phase {
    async fn step(self) -> (Option<io::Result<Vec<u8>>>, Self) {
        let mut output = match self {
            Self::Head(mut output) => {
                let head = std::mem::take(&mut output.head);
                return match output.encoder.write(&head) {
                    Ok(bytes) => (Some(Ok(bytes)), Self::Reading(output)),
                    Err(error) => (Some(Err(error)), Self::End),
                };
            }
            Self::Reading(output) => output,
            Self::Cut(failure) => {
                tokio::time::sleep(LAST_WORDS).await;
                return (Some(Err(io::Error::other(failure))), Self::End);
            }
            Self::End => return (None, Self::End),
        };
        let mut piece = Vec::with_capacity(PIECE);
        match output.pipe.read_buf(&mut piece).await {
            Ok(0) => output.close().await,
            Ok(_) => match output.encoder.write(&piece) {
                Ok(bytes) => (Some(Ok(bytes)), Self::Reading(output)),
                Err(error) => (Some(Err(error)), Self::End),
            },
            Err(error) => (Some(Err(error)), Self::End),
        }
    }
}

impl Output {
    async fn close(self) -> (Option<io::Result<Vec<u8>>>, Phase) {
        let Self { mut encoder, job, tag, version, kill, .. } = self;
        let result = joined(job.await);
        // The statement has ended: there is nothing to kill any more.
        drop(kill);
        match result {
            Ok(_figures) => (Some(encoder.finish()), Phase::End),
            Err(failure) => {
                let last = exception(&mut encoder, &tag, &failure.body(&version));
                (Some(last), Phase::Cut(failure))
            }
        }
    }
}

/// The exception as ClickHouse ends a body that has begun; in blocks of its
/// own, because clients look for it at the end of a decoded block.
fn exception(encoder: &mut Encoder, tag: &str, message: &str) -> io::Result<Vec<u8>> {
    let text = format!(
        "\r\n__exception__\r\n{tag}\r\n{message}{} {tag}\r\n__exception__\r\n",
        message.len()
    );
    let mut bytes = encoder.flush()?;
    bytes.extend(encoder.write(text.as_bytes())?);
    bytes.extend(encoder.flush()?);
    Ok(bytes)
}

/// A body that is known whole.
pub fn whole(bytes: Vec<u8>) -> ResponseBody {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

/// A body that was kept aside until its statement ended.
pub fn spooled(mut spool: tempfile::SpooledTempFile) -> io::Result<ResponseBody> {
    spool.rewind()?;
    let pieces = stream::unfold(spool, |mut spool| async {
        let mut piece = vec![0; PIECE];
        match spool.read(&mut piece) {
            Ok(0) => None,
            Ok(n) => {
                piece.truncate(n);
                Some((Ok(Frame::data(Bytes::from(piece))), spool))
            }
            Err(error) => Some((Err(error), spool)),
        }
    });
    Ok(StreamBody::new(pieces).boxed_unsync())
}

/// The result of a statement's thread.
pub fn joined(result: Result<Result<Figures, Failure>, JoinError>) -> Result<Figures, Failure> {
    result.unwrap_or_else(|error| {
        let message = format_args!("The statement's thread ended: {error}");
        Err(Failure::new(code::LOGICAL_ERROR, "LOGICAL_ERROR", message))
    })
}

/// The media type that ClickHouse gives a format.
pub fn content_type(format: &str) -> &'static str {
    let is = |names: &[&str]| names.iter().any(|name| format.eq_ignore_ascii_case(name));
    if is(&["JSONEachRow", "JSONLines", "NDJSON", "JSONStringsEachRow", "JSONCompactEachRow"]) {
        "application/x-ndjson; charset=UTF-8"
    } else if format.starts_with("JSON") {
        "application/json; charset=UTF-8"
    } else if is(&["CSV"]) {
        "text/csv; charset=UTF-8; header=absent"
    } else if format.starts_with("CSV") {
        "text/csv; charset=UTF-8; header=present"
    } else if format.starts_with("TabSeparated") || format.starts_with("TSV") {
        "text/tab-separated-values; charset=UTF-8"
    } else if is(&["XML"]) {
        "application/xml; charset=UTF-8"
    } else if is(&["Markdown"]) {
        "text/markdown; charset=UTF-8"
    } else if format.starts_with("Pretty") || is(&["Vertical", "Values", "Null", "Prometheus"]) {
        "text/plain; charset=UTF-8"
    } else {
        "application/octet-stream"
    }
}
