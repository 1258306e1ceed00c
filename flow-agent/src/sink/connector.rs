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

/// How long one of several addresses may take before the next is tried.
const NEXT_ADDRESS: Duration = Duration::from_secs(3);

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
        let mut error = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        let mut addresses = lookup_host((host, port)).await?.peekable();
        while let Some(remote) = addresses.next() {
            let connecting = self.connect_to(remote);
            let connected = if addresses.peek().is_some() {
                let timeout = tokio::time::timeout(NEXT_ADDRESS, connecting);
                timeout.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            } else {
                connecting.await
            };
            match connected {
                Ok(stream) => return Ok(stream),
                Err(source) => error = source,
            }
        }
        Err(error)
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::net::TcpListener;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<(&'static str, SocketAddr, SocketAddr)>>);

    impl Heard {
        fn take(&self) -> Vec<(&'static str, SocketAddr, SocketAddr)> {
            std::mem::take(&mut self.0.lock().expect("no panic"))
        }
    }

    impl ConnectionWatch for Heard {
        fn opened(&self, local: SocketAddr, remote: SocketAddr, _: Instant) {
            self.0.lock().expect("no panic").push(("opened", local, remote));
        }

        fn closed(&self, local: SocketAddr, remote: SocketAddr, _: Instant) {
            self.0.lock().expect("no panic").push(("closed", local, remote));
        }
    }

    #[tokio::test]
    async fn a_watch_hears_of_both_ends_of_each_connection() {
        for host in ["127.0.0.1", "[::1]"] {
            let listener = TcpListener::bind(format!("{host}:0")).await.expect("free");
            let remote = listener.local_addr().expect("bound");
            let heard = Arc::new(Heard::default());
            let mut connector = Connector::new(heard.clone());
            let uri: Uri = format!("http://{remote}/").parse().expect("valid");
            let stream = connector.call(uri.clone()).await.expect("it listens");
            let (_, local) = listener.accept().await.expect("connected");
            assert_eq!(heard.take(), [("opened", local, remote)]);
            drop(stream);
            assert_eq!(heard.take(), [("closed", local, remote)]);
            // A port where nobody listens any more: its SYN is known, too.
            drop(listener);
            assert!(connector.call(uri).await.is_err());
            let words: Vec<_> = heard.take().iter().map(|(word, ..)| *word).collect();
            assert_eq!(words, ["opened", "closed"]);
        }
    }
}
