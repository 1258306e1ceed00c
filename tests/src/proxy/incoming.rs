//! One side's octets, message by message.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::framing::Body;

/// More than any head here has.
const LONGEST_HEAD: usize = 1 << 20;
const PIECE: usize = 1 << 16;

/// What comes from one side: heads and bodies in turn.
pub(super) struct Incoming<R> {
    stream: R,
    /// Read and not yet taken.
    octets: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, octets: Vec::new() }
    }

    /// Reads some more; how many.
    pub(super) async fn more(&mut self) -> io::Result<usize> {
        self.octets.reserve(PIECE);
        self.stream.read_buf(&mut self.octets).await
    }

    /// The next message's head, with the empty line; none if the connection ends before it.
    pub(super) async fn head(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.octets.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.octets.split_off(end + 4);
                return Ok(Some(std::mem::replace(&mut self.octets, rest)));
            }
            if self.octets.len() > LONGEST_HEAD {
                return Err(io::Error::other("a head without an end"));
            }
            if self.more().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The next octets of a body; none when it has ended, an error if the connection ends before.
    pub(super) async fn piece(&mut self, body: &mut Body) -> io::Result<Option<Vec<u8>>> {
        if body.ended() {
            return Ok(None);
        }
        if self.octets.is_empty() && self.more().await? == 0 {
            return match body {
                Body::UntilClose => Ok(None),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        let taken = body.take(&self.octets).map_err(io::Error::other)?;
        let rest = self.octets.split_off(taken);
        Ok(Some(std::mem::replace(&mut self.octets, rest)))
    }

    /// What has come of the body so far, at least `least` octets if it has as many; takes nothing.
    pub(super) async fn peek(&mut self, body: &Body, least: usize) -> io::Result<&[u8]> {
        loop {
            let mut ahead = body.clone();
            let there = ahead.take(&self.octets).map_err(io::Error::other)?;
            if there >= least || ahead.ended() || self.more().await? == 0 {
                return Ok(&self.octets[..there]);
            }
        }
    }

    /// Reads and forgets until the other side has closed.
    pub(super) async fn until_closed(&mut self) -> io::Result<()> {
        self.octets.clear();
        while self.more().await? > 0 {
            self.octets.clear();
        }
        Ok(())
    }
}
