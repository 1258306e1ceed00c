//! The section `status`, checked.

use std::net::{Ipv4Addr, SocketAddr};

use super::ConfigError;
use super::values::Said;

/// Where the status is served unless the configuration says otherwise.
pub const DEFAULT_STATUS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9469);

/// Where the status is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusListen {
    /// At [`DEFAULT_STATUS`] if that is free: nobody asked for it.
    Default,
    /// Here, or the agent does not start.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

impl StatusListen {
    /// The address; none when it is off.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Default => Some(DEFAULT_STATUS),
            Self::At(address) => Some(address),
            Self::Off => None,
        }
    }

    pub(super) fn check(said: Option<Said<String>>) -> Result<Self, ConfigError> {
        let Some(Said { value, place }) = said else { return Ok(Self::Default) };
        if value.is_empty() {
            return Ok(Self::Off);
        }
        let allowed = match value.parse::<SocketAddr>() {
            Ok(address) if address.ip().to_canonical().is_loopback() => {
                return Ok(Self::At(address));
            }
            Ok(_) => {
                "a loopback address such as 127.0.0.1:9469 or [::1]:9469: without TLS and a \
                 token, for now the status is for this host alone"
            }
            Err(_) => "IP:PORT on this host, such as 127.0.0.1:9469, or empty for none",
        };
        let value = format!("{value:?}");
        Err(ConfigError::Value { place, value, allowed: allowed.into() })
    }
}
