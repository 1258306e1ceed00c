//! A request body on its way from the network task to the thread that runs the
//! statement. What must hold: the reader sees the end of the data only when
//! the whole body has arrived; a cut body is an error.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::failure::{Failure, code};

/// Pieces that may wait between the two; hyper's are at most some 100 KiB.
const DEPTH: usize = 8;

/// A piece of a body.
pub enum Piece {
    /// Data.
    Data(Bytes),
    /// The body has arrived to its last octet.
    End,
    /// The body will not arrive: why.
    Cut(String),
}

/// The sending side and the reading side of one body.
pub fn channel() -> (mpsc::Sender<Piece>, BodyReader) {
    let (sender, receiver) = mpsc::channel(DEPTH);
    let state = State { receiver, current: Bytes::new(), ended: false };
    (sender, BodyReader(Arc::new(Mutex::new(state))))
}

/// Reads a body; a clone reads on where the other stopped.
#[derive(Clone)]
pub struct BodyReader(Arc<Mutex<State>>);

struct State {
    receiver: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

impl BodyReader {
    /// Reads and forgets what is left, to know that the body is whole.
    pub fn drain(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(|_| ())
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while state.current.is_empty() && !state.ended {
            match state.receiver.blocking_recv() {
                Some(Piece::Data(data)) => state.current = data,
                Some(Piece::End) => state.ended = true,
                Some(Piece::Cut(reason)) => return Err(cut(&reason)),
                None => return Err(cut("the client went away")),
            }
        }
        let n = buffer.len().min(state.current.len());
        buffer[..n].copy_from_slice(&state.current[..n]);
        state.current.advance(n);
        Ok(n)
    }
}

fn cut(reason: &str) -> io::Error {
    let message = format_args!("The request body was cut: {reason}; nothing of it is stored");
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        Failure::new(code::NETWORK_ERROR, "NETWORK_ERROR", message),
    )
}

/// What an error while reading a body says to the client.
pub fn failure_of(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Failure>()) {
        Some(failure) => failure.clone(),
        None => Failure::new(
            code::CANNOT_DECOMPRESS,
            "CANNOT_DECOMPRESS",
            format_args!("Cannot decompress the body: {error}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_seen_only_when_it_was_sent() {
        let (sender, mut reader) = channel();
        sender.try_send(Piece::Data(Bytes::from_static(b"abc"))).unwrap_or_default();
        sender.try_send(Piece::End).unwrap_or_default();
        let mut whole = Vec::new();
        reader.read_to_end(&mut whole).unwrap();
        assert_eq!(whole, b"abc");

        let (sender, mut reader) = channel();
        sender.try_send(Piece::Data(Bytes::from_static(b"abc"))).unwrap_or_default();
        drop(sender);
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(failure_of(&error).code, code::NETWORK_ERROR);
    }
}
