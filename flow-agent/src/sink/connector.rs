//! Connections to the store whose addresses and ports are known before their first packet.
//!
//! Enters: the store's URL. Leaves: a TCP connection. It holds that a
//! [`ConnectionWatch`] hears of a connection before its SYN is sent, and of its end.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tower_service::Service;

/// As the `clickhouse` crate's own connector.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Hears of the agent's own connections.
pub trait ConnectionWatch: Send + Sync {
    /// A connection is about to be opened.
    fn opened(&self, local: SocketAddr, remote: SocketAddr, now: Instant);
    /// It has ended; packets of it may still come.
    fn closed(&self, local: SocketAddr, remote: SocketAddr, now: Instant);
}

/// Connects as a watch hears of it.
#[derive(Clone)]
pub struct Connector(Arc<dyn ConnectionWatch>);

impl Connector {
    /// Tells `watch`.
    pub fn new(watch: Arc<dyn ConnectionWatch>) -> Self {
        Self(watch)
    }

    /// The first address of the store that answers.
    async fn connect(self, uri: Uri) -> io::Result<WatchedStream> {
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = uri.port_u16().unwrap_or(80);
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for remote in lookup_host((host, port)).await? {
            match self.connect_to(remote).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, remote: SocketAddr) -> io::Result<WatchedStream> {
        let socket = if remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.bind(source(remote)?)?;
        let watched = Watched::new(&self.0, socket.local_addr()?, remote);
        let stream = socket.connect(remote).await?;
        rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
        rustix::net::sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?;
        Ok(WatchedStream { stream: TokioIo::new(stream), _watched: watched })
    }
}

/// The address that the kernel sends from to `remote`, with port 0: connecting a
/// datagram socket looks up the route and sends nothing.
fn source(remote: SocketAddr) -> io::Result<SocketAddr> {
    let any: SocketAddr = if remote.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(remote)?;
    let mut source = socket.local_addr()?;
    source.set_port(0);
    Ok(source)
}

impl Service<Uri> for Connector {
    type Response = WatchedStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<WatchedStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// From before a connection's first packet to its end.
struct Watched {
    watch: Arc<dyn ConnectionWatch>,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Watched {
    fn new(watch: &Arc<dyn ConnectionWatch>, local: SocketAddr, remote: SocketAddr) -> Self {
        watch.opened(local, remote, Instant::now());
        Self { watch: watch.clone(), local, remote }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.closed(self.local, self.remote, Instant::now());
    }
}

/// A connection that is watched until it is dropped.
pub struct WatchedStream {
    stream: TokioIo<TcpStream>,
    _watched: Watched,
}

impl Connection for WatchedStream {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl Read for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, octets)
    }
}
