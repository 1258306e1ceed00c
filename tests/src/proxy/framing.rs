//! Where an HTTP/1.1 message ends.

/// The body of a message, of which octets are shown as they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// So many octets are to come.
    Length(u64),
    /// Chunks are to come.
    Chunks(Chunk),
    /// All until the connection ends.
    UntilClose,
}

/// Where in a chunked body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chunk {
    /// In the line that says a chunk's size.
    Size(u64),
    /// After its digits: an extension, or the line's end.
    SizeEnd(u64),
    /// In a chunk, with its line end.
    Data(u64),
    /// After the last chunk; so many octets in the line.
    Trailer(u64),
    /// It has ended.
    End,
}

/// A message that is no HTTP/1.1.
#[derive(Debug, thiserror::Error)]
#[error("a chunk begins with {0:#04x}")]
pub(super) struct BadChunk(u8);

impl Body {
    /// By the headers of a message, names in lower case. `silent` is what a message without any
    /// is taken for.
    pub(super) fn of(head: &str, silent: Self) -> Self {
        let header = |name: &str| {
            let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Self::Chunks(Chunk::Size(0));
        }
        match header("content-length").and_then(|value| value.parse().ok()) {
            Some(length) => Self::Length(length),
            None => silent,
        }
    }

    /// True when no more octets belong to it.
    pub(super) fn ended(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunks(Chunk::End))
    }

    /// How many of these octets belong to it; moves on by them.
    pub(super) fn take(&mut self, octets: &[u8]) -> Result<usize, BadChunk> {
        match self {
            Self::UntilClose => Ok(octets.len()),
            Self::Length(left) => {
                let taken = (octets.len() as u64).min(*left);
                *left -= taken;
                Ok(taken as usize)
            }
            Self::Chunks(chunk) => {
                let mut taken = 0;
                while taken < octets.len() && *chunk != Chunk::End {
                    taken += chunk.take(&octets[taken..])?;
                }
                Ok(taken)
            }
        }
    }
}

impl Chunk {
    /// Takes at least one octet of some.
    fn take(&mut self, octets: &[u8]) -> Result<usize, BadChunk> {
        let octet = octets[0];
        let next = match *self {
            Self::Size(size) => match (octet as char).to_digit(16) {
                Some(digit) => Self::Size(size << 4 | u64::from(digit)),
                None if octet == b';' || octet == b'\r' => Self::SizeEnd(size),
                None => return Err(BadChunk(octet)),
            },
            Self::SizeEnd(0) if octet == b'\n' => Self::Trailer(0),
            Self::SizeEnd(size) if octet == b'\n' => Self::Data(size + 2),
            Self::SizeEnd(size) => Self::SizeEnd(size),
            Self::Data(left) => {
                let taken = (octets.len() as u64).min(left);
                *self = if taken == left { Self::Size(0) } else { Self::Data(left - taken) };
                return Ok(taken as usize);
            }
            Self::Trailer(0) if octet == b'\n' => Self::End,
            Self::Trailer(_) if octet == b'\n' => Self::Trailer(0),
            Self::Trailer(length) if octet == b'\r' => Self::Trailer(length),
            Self::Trailer(length) => Self::Trailer(length + 1),
            Self::End => return Ok(0),
        };
        *self = next;
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows a message's octets in pieces of every size: where does it end?
    fn ends(head: &str, octets: &[u8]) -> Vec<Option<usize>> {
        let shown = |piece: usize| {
            let mut body = Body::of(head, Body::Length(0));
            let mut at = 0;
            while !body.ended() {
                let end = octets.len().min(at + piece);
                if end == at {
                    return None;
                }
                at += body.take(&octets[at..end]).expect("valid");
            }
            Some(at)
        };
        (1..=octets.len()).map(shown).collect()
    }

    #[test]
    fn a_message_ends_where_it_ends_however_it_comes() {
        let chunks = b"5\r\nhello\r\n1a;x=1\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nA: b\r\n\r\nGET";
        let all = ends("POST / HTTP/1.1\r\nTransfer-Encoding: chunked", chunks);
        assert!(all.iter().all(|end| *end == Some(chunks.len() - 3)), "{all:?}");
        let cut = ends("POST / HTTP/1.1\r\ntransfer-encoding: chunked", &chunks[..50]);
        assert!(cut.iter().all(Option::is_none), "{cut:?}");
        let plain = ends("POST / HTTP/1.1\r\ncontent-length: 5", b"helloGET");
        assert!(plain.iter().all(|end| *end == Some(5)), "{plain:?}");
        assert_eq!(ends("GET / HTTP/1.1", b"x"), [Some(0)]);
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        let mut body = Body::Chunks(Chunk::Size(0));
        assert!(body.take(b"5\r\nhello\r\nx").is_err());
    }
}
