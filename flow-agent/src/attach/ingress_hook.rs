//! Where incoming packets are metered: in the driver, above it, or in the stack.

use super::{AttachMode, Interface};

/// The hook that meters an interface's incoming packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IngressHook {
    /// In the driver.
    NativeXdp,
    /// Above the driver.
    GenericXdp,
    /// In the stack.
    Tc,
}

impl IngressHook {
    /// The hook that is tried first.
    pub const fn first_choice(interface: &Interface) -> Self {
        match interface.mode {
            AttachMode::Xdp => Self::NativeXdp,
            AttachMode::XdpGeneric => Self::GenericXdp,
            // Not on veth: native XDP there turns its peer's segmentation offload off.
            AttachMode::Auto if interface.hardware => Self::NativeXdp,
            AttachMode::Auto | AttachMode::Tc => Self::Tc,
        }
    }

    /// The name in messages.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NativeXdp => "native XDP",
            Self::GenericXdp => "generic XDP",
            Self::Tc => "TC ingress",
        }
    }
}
