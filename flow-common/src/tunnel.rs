//! The tunnel that a packet came in, as flow keys and the kernel tables hold it.

use bytemuck::{Pod, Zeroable};

use crate::Address;

/// How a packet is carried inside another one; the numbers are those of the column `tunnel_type`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TunnelKind {
    /// It is not, or tunnels are not looked into.
    #[default]
    None = 0,
    /// RFC 7348.
    Vxlan = 1,
    /// RFC 8926.
    Geneve = 2,
    /// RFC 2784 and RFC 2890.
    Gre = 3,
    /// IP directly in IP, any versions (RFC 2003, RFC 2473, RFC 4213).
    IpIp = 4,
    /// User data of mobile networks (3GPP TS 29.281).
    GtpU = 5,
}

impl TunnelKind {
    /// The kind with this number; anything else is `None`.
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Vxlan,
            2 => Self::Geneve,
            3 => Self::Gre,
            4 => Self::IpIp,
            5 => Self::GtpU,
            _ => Self::None,
        }
    }

    /// The name in rows and documents.
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Gre => "gre",
            Self::IpIp => "ipip",
            Self::GtpU => "gtpu",
        }
    }
}

/// A tunnel in one direction. 40 octets without padding, so that two are equal exactly when
/// their octets are; all zero for a packet that came in none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct Tunnel {
    /// A [`TunnelKind`].
    pub kind: u32,
    /// VNI, GRE key or TEID; 0 where the tunnel has none.
    pub id: u32,
    /// The outer packet's source.
    pub src: Address,
    /// The outer packet's destination.
    pub dst: Address,
}

const _: () = assert!(size_of::<Tunnel>() == 40 && align_of::<Tunnel>() == 4);

impl Tunnel {
    /// No tunnel.
    pub const NONE: Self =
        Self { kind: TunnelKind::None as u32, id: 0, src: Address([0; 4]), dst: Address([0; 4]) };

    /// True when there is none.
    #[inline(always)]
    pub const fn is_none(&self) -> bool {
        self.kind == TunnelKind::None as u32
    }

    /// How it carries.
    pub const fn kind(&self) -> TunnelKind {
        TunnelKind::from_number(self.kind)
    }

    /// The same tunnel as answers take it, where both directions have one id.
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self { src: self.dst, dst: self.src, ..*self }
    }

    /// 32 bits that differ between tunnels in all likelihood, and are the same for the
    /// tunnel of the answers; 0 for none.
    #[inline(always)]
    pub const fn mark(&self) -> u32 {
        if self.is_none() {
            return 0;
        }
        // FNV-1a over words. A sender who wants two tunnels to agree gains wrong ports of
        // fragments that are his own.
        const PRIME: u32 = 0x0100_0193;
        let (src, dst) = (&self.src.0, &self.dst.0);
        let mut mark = (0x811c_9dc5 ^ self.kind).wrapping_mul(PRIME);
        mark = (mark ^ self.id).wrapping_mul(PRIME);
        mark ^= mark >> 15;
        let mut at = 0;
        while at < 4 {
            mark = (mark ^ src[at].wrapping_add(dst[at])).wrapping_mul(PRIME);
            mark ^= mark >> 15;
            mark = (mark ^ src[at] ^ dst[at]).wrapping_mul(PRIME);
            mark ^= mark >> 15;
            at += 1;
        }
        mark
    }
}
