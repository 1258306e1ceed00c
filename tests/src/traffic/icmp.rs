//! ICMP and ICMPv6 echo.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use super::socket;
use super::{Ends, Sent};

const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;
const HEADER: usize = 8;

/// Sends `count` echo requests with `size` octets of data, each answered before the next.
pub fn ping(ends: Ends<'_>, count: u16, size: usize) -> Result<Sent> {
    let socket = socket::ping(&ends.client.namespace, ends.from)?;
    let target = SocketAddr::new(ends.to.ip(), 0);
    let mut request = vec![0x11; HEADER + size];
    let mut reply = vec![0; HEADER + size + 1];
    for sequence in 1..=count {
        request[..HEADER].fill(0);
        request[0] = if target.is_ipv4() { ECHO_REQUEST_V4 } else { ECHO_REQUEST_V6 };
        request[6..HEADER].copy_from_slice(&sequence.to_be_bytes());
        socket.send_to(&request, target)?;
        let length = socket
            .recv(&mut reply)
            .with_context(|| format!("{} does not answer a ping", ends.to.ip()))?;
        ensure!(length == request.len() && reply[6..HEADER] == request[6..HEADER], "a wrong reply");
    }
    let octets = u64::from(count) * size as u64;
    Ok(Sent { conversations: 1, forward: octets, backward: octets })
}
