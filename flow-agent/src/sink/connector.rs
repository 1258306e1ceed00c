//! Connections to the store whose addresses and ports are known before their first packet.
//!
//! Enters: the store's URL. Leaves: a TCP or TLS connection whose answers are looked at
//! ([`Answers`]). It holds that a [`ConnectionWatch`] hears of a connection before its SYN is
//! sent, and of its end, and that an `https` URL is never served without TLS.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::Uri;
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::dial::DialError;
use super::stream::{StoreStream, Wire};
use super::tls::Tls;

/// An idle connection is asked after so long whether its other end still lives,
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
/// then again and again with this between,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// and is over after so many questions without an answer.
const KEEPALIVE_COUNT: u32 = 3;

/// Hears of the agent's own connections.
pub trait ConnectionWatch: Send + Sync {
    /// A connection is about to be opened.
    fn opened(&self, local: SocketAddr, remote: SocketAddr, now: Instant);
    /// It has ended; packets of it may still come.
    fn closed(&self, local: SocketAddr, remote: SocketAddr, now: Instant);
}

/// Connects as it is told.
#[derive(Clone)]
pub struct Connector {
    /// For `https`; without it no such URL is connected to.
    pub tls: Option<Arc<Tls>>,
    /// For each address of a name: TCP and TLS together.
    pub connect_timeout: Duration,
    /// How long octets may go unacknowledged before the other end counts as dead.
    pub unacknowledged: Duration,
    /// Counts every connection that is begun.
    pub connects: Arc<AtomicU64>,
    /// Hears of every connection.
    pub watch: Option<Arc<dyn ConnectionWatch>>,
}

impl Connector {
    /// The first address of the store that answers.
    async fn connect(self, uri: Uri) -> Result<StoreStream, DialError> {
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let tls = match uri.scheme_str() {
            Some("https") => Some(self.tls_to(host)?),
            _ => None,
        };
        let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let too_long = |_| DialError::TimedOut(self.connect_timeout);
        let addresses = timeout(self.connect_timeout, lookup_host((host, port))).await;
        let addresses = addresses.map_err(too_long)?.map_err(DialError::LookUp)?;
        let none = io::Error::new(io::ErrorKind::NotFound, "it has no address");
        let mut last = DialError::LookUp(none);
        for remote in addresses {
            let connecting = self.connect_to(remote, tls.clone());
            match timeout(self.connect_timeout, connecting).await.map_err(too_long) {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) | Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn tls_to(&self, host: &str) -> Result<(TlsConnector, ServerName<'static>), DialError> {
        let bad = |error: &dyn ToString| DialError::Tls(io::Error::other(error.to_string()));
        let tls = self.tls.as_ref().ok_or_else(|| bad(&"there is no TLS configuration"))?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| bad(&error))?;
        Ok((tls.config().into(), name))
    }

    async fn connect_to(
        &self,
        remote: SocketAddr,
        tls: Option<(TlsConnector, ServerName<'static>)>,
    ) -> Result<StoreStream, DialError> {
        let (stream, watched) = self.tcp(remote).await.map_err(DialError::Tcp)?;
        let wire = match tls {
            None => Wire::Plain(stream),
            Some((connector, name)) => {
                let stream = connector.connect(name, stream).await.map_err(DialError::Tls)?;
                Wire::Tls(Box::new(stream))
            }
        };
        Ok(StoreStream::new(wire, watched))
    }

    async fn tcp(&self, remote: SocketAddr) -> io::Result<(TcpStream, Option<Watched>)> {
        let socket = if remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        let watched = match &self.watch {
            None => None,
            Some(watch) => {
                socket.bind(source(remote)?)?;
                Some(Watched::new(watch, socket.local_addr()?, remote))
            }
        };
        self.connects.fetch_add(1, Ordering::Relaxed);
        let stream = socket.connect(remote).await?;
        // A batch goes out in large pieces; a question should not wait for one.
        stream.set_nodelay(true)?;
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(&stream, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_COUNT)?;
        let ms = u32::try_from(self.unacknowledged.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(&stream, ms)?;
        Ok((stream, watched))
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
    type Response = TokioIo<StoreStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.clone().connect(uri);
        Box::pin(async { Ok(TokioIo::new(connecting.await?)) })
    }
}

/// From before a connection's first packet to its end.
pub(super) struct Watched {
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
            let mut connector = Connector {
                tls: None,
                connect_timeout: Duration::from_secs(3),
                unacknowledged: Duration::from_secs(60),
                connects: Arc::default(),
                watch: Some(heard.clone()),
            };
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
