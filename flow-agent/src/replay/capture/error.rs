//! Why a file cannot be read as a capture. Defects after its header are [`super::End`], not errors.

use std::io;

use crate::Exit;

/// Why a capture cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be opened.
    #[error("cannot open capture {file}: {source}; check the path and its permissions")]
    Open {
        /// The path as given.
        file: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The file cannot be read on.
    #[error(
        "cannot read capture {file} at offset {offset}: {source}; check the file and its device"
    )]
    Read {
        /// The path as given.
        file: String,
        /// Octets of the uncompressed capture read before the failure.
        offset: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// The file has no octets.
    #[error("{file} is empty; give a pcap or pcapng capture")]
    Empty {
        /// The path as given.
        file: String,
    },
    /// The file starts like a capture but ends inside its file header.
    #[error(
        "{file} ends after {present} octets, inside the {needed} octets of a capture's file \
         header; give a complete pcap or pcapng capture"
    )]
    Short {
        /// The path as given.
        file: String,
        /// Octets the file has.
        present: usize,
        /// Octets a file header needs.
        needed: usize,
    },
    /// The gzip data is cut or damaged before the capture's file header.
    #[error("{file} cannot be decompressed: {defect}; compress the capture again or give it plain")]
    Compression {
        /// The path as given.
        file: String,
        /// What is wrong.
        defect: String,
    },
    /// The file starts like no capture.
    #[error(
        "{file} is no capture (it starts with {start}); give a pcap or pcapng file, plain or gzip"
    )]
    NotACapture {
        /// The path as given.
        file: String,
        /// Its first octets, and what they are if known.
        start: String,
    },
    /// The file is of a version that is not known.
    #[error("capture {file} cannot be read: {reason}; convert it, e.g. with editcap")]
    Unsupported {
        /// The path as given.
        file: String,
        /// What is not supported.
        reason: String,
    },
}

impl CaptureError {
    /// The process exit code for this error: bad input, unless the reading failed half way.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Read { offset: 1.., .. } => Exit::Failed,
            _ => Exit::Usage,
        }
    }
}

/// The first octets of a file in words, with the name of a well-known compression.
pub(super) fn describe_start(magic: [u8; 4]) -> String {
    let name = match magic {
        [0x28, 0xb5, 0x2f, 0xfd] => ", zstd: decompress it first",
        [0xfd, b'7', b'z', b'X'] => ", xz: decompress it first",
        [b'B', b'Z', b'h', _] => ", bzip2: decompress it first",
        [0x04, 0x22, 0x4d, 0x18] => ", lz4: decompress it first",
        [b'P', b'K', 3, 4] => ", zip: unpack it first",
        _ => "",
    };
    let [a, b, c, d] = magic;
    format!("{a:02x} {b:02x} {c:02x} {d:02x}{name}")
}
