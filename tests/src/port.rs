//! A port that stays a test's own while nobody listens at it.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// Takes a port without listening at it, for as long as what is returned lives: connections to it
/// are refused, and a listener at it can come and go if it sets `SO_REUSEADDR`, as those of the
/// standard library and tokio do. Without this the kernel gives the port of a server that is away
/// to some connection as its own end, even to one that is tried to that port.
///
/// # Errors
/// Somebody has it.
pub fn keep(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_kept_port_refuses_until_somebody_listens_and_again_afterwards() {
        let kept = keep("127.0.0.1:0".parse().expect("valid")).expect("a free port");
        let address = kept.local_addr().expect("bound");
        for _ in 0..3 {
            let refused = TcpStream::connect(address).expect_err("nobody listens");
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let listener = TcpListener::bind(address).expect("it may be shared");
            TcpStream::connect(address).expect("somebody listens");
            drop(listener);
        }
    }
}
