//! A frame enters, what it carries as IP leaves; or why it carries none.

use super::Reason;
use super::capture::Frame;

/// Most labels of an MPLS stack; deeper ones are none that a router would send.
const MAX_LABELS: usize = 8;

/// What follows the link header.
#[derive(Debug)]
pub(super) struct Network<'a> {
    /// VLAN ids, the outermost first.
    pub(super) vlans: Vec<u16>,
    /// What the link header says this is.
    pub(super) version: Version,
    /// Octets captured after the link header.
    pub(super) data: &'a [u8],
    /// Octets on the wire after the link header.
    pub(super) wire: usize,
}

/// Which IP the link header announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
    /// The version field tells.
    ByNibble,
}

/// How to read on after a link header.
enum Next {
    Ethertype(u16),
    Ip(Version),
}

/// Takes the link header off. The outer error is a link type that is not supported.
pub(super) fn strip(frame: &Frame) -> Result<Result<Network<'_>, Reason>, u16> {
    let data = &frame.data[..];
    let number = |at: usize| Some(u16::from_be_bytes([*data.get(at)?, *data.get(at + 1)?]));
    let (header, next) = match frame.link {
        1 => (14, number(12).map(Next::Ethertype)),
        113 => (16, number(14).map(Next::Ethertype)),
        276 => (20, number(0).filter(|_| data.len() >= 20).map(Next::Ethertype)),
        101 | 12 | 14 | 228 | 229 => (0, Some(Next::Ip(Version::ByNibble))),
        0 | 108 => {
            let family = data.get(..4).map(|family| match family {
                // In either byte order: the family is that of whoever captured.
                [2, 0, 0, 0] | [0, 0, 0, 2] => Next::Ip(Version::V4),
                [10 | 23 | 24 | 28 | 30, 0, 0, 0] | [0, 0, 0, 10 | 23 | 24 | 28 | 30] => {
                    Next::Ip(Version::V6)
                }
                _ => Next::Ethertype(0),
            });
            (4, family)
        }
        other => return Err(other),
    };
    let Some(next) = next else {
        return Ok(Err(Reason::Truncated));
    };
    let mut walk = Walk { frame, at: header, vlans: Vec::new() };
    Ok(match next {
        Next::Ip(version) => Ok(walk.network(version)),
        Next::Ethertype(ethertype) => walk.ethertype(ethertype),
    })
}

struct Walk<'a> {
    frame: &'a Frame,
    at: usize,
    vlans: Vec<u16>,
}

impl<'a> Walk<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Reason> {
        let taken = self.frame.data.get(self.at..self.at + count).ok_or(Reason::Truncated)?;
        self.at += count;
        Ok(taken)
    }

    fn network(&mut self, version: Version) -> Network<'a> {
        Network {
            vlans: std::mem::take(&mut self.vlans),
            version,
            data: &self.frame.data[self.at..],
            wire: self.frame.wire - self.at,
        }
    }

    fn ethertype(&mut self, ethertype: u16) -> Result<Network<'a>, Reason> {
        match ethertype {
            0x0800 => Ok(self.network(Version::V4)),
            0x86dd => Ok(self.network(Version::V6)),
            0x8100 | 0x88a8 | 0x9100 => {
                if self.vlans.len() == 4 {
                    return Err(Reason::Unsupported);
                }
                let tag = self.take(4)?;
                self.vlans.push(u16::from_be_bytes([tag[0], tag[1]]) & 0xfff);
                self.ethertype(u16::from_be_bytes([tag[2], tag[3]]))
            }
            0x8847 | 0x8848 => {
                let mut labels = 1;
                while self.take(4)?[2] & 1 == 0 {
                    labels += 1;
                    if labels > MAX_LABELS {
                        return Err(Reason::Unsupported);
                    }
                }
                // Two octets, as for the version field of any other IP header.
                let Some([first, _]) = self.frame.data.get(self.at..self.at + 2) else {
                    return Err(Reason::Truncated);
                };
                match first >> 4 {
                    4 => Ok(self.network(Version::V4)),
                    6 => Ok(self.network(Version::V6)),
                    _ => Err(Reason::Other),
                }
            }
            0x8864 => match self.take(8)? {
                [.., 0x00, 0x21] => Ok(self.network(Version::V4)),
                [.., 0x00, 0x57] => Ok(self.network(Version::V6)),
                _ => Err(Reason::Other),
            },
            0x0806 => Err(Reason::Arp),
            0x88cc => Err(Reason::Lldp),
            _ => Err(Reason::Other),
        }
    }
}
