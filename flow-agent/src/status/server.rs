//! The server: a listener and a thread of its own, until it is dropped.
//!
//! It holds that a client can take no more than a connection, a small head, a small body and
//! a few seconds.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

use super::connections::Connections;
use super::limits::RateLimit;
use super::pprof::{MOST_SECONDS, Profiler};
use super::respond::respond;
use super::service::Service;
use super::{Access, Sources, StatusError};
use crate::config::{DEFAULT_STATUS, StatusAccess, StatusListen};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// The largest request head, and the most headers in it.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// How long a client may take to send a head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last: one request and its answer.
const CONNECTION: Duration = Duration::from_secs(30);
/// Longer, if profiles may be asked for.
const PROFILING: Duration = CONNECTION.saturating_add(Duration::from_secs(MOST_SECONDS));
/// What a connection too many, and one whose head does not come, are told.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    retry-after: 5\r\nconnection: close\r\n\r\n\
    {\"error\":\"all connections are taken; max_connections of [status] is the limit\"}\n";
const LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\n\
    connection: close\r\n\r\n{\"error\":\"the head of the request did not come within 5 s\"}\n";
/// Questions that are worked on at one time, each in a thread.
const WORKERS: usize = 4;

/// A listener whose address nobody else has.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Takes the address that was asked for, if one was: before anything is started.
    ///
    /// # Errors
    /// The address cannot be taken.
    pub fn asked(listen: StatusListen) -> Result<Option<Self>, StatusError> {
        match listen {
            StatusListen::At(address) => Self::bind(address).map(Some),
            StatusListen::Default | StatusListen::Off => Ok(None),
        }
    }

    /// Takes the default address if it is meant and free; else there is a warning.
    pub fn default(listen: StatusListen) -> Option<Self> {
        if listen != StatusListen::Default {
            return None;
        }
        let bound = Self::bind(DEFAULT_STATUS);
        bound.inspect_err(|error| tracing::warn!("{error}; this agent goes on without")).ok()
    }

    fn bind(listen: SocketAddr) -> Result<Self, StatusError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => StatusError::InUse { listen },
            _ => StatusError::Listen { listen, source },
        };
        let listener = TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        rustix::net::listen(&listener, BACKLOG).map_err(|error| failed(error.into()))?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves from now on, in a thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn serve(
        self,
        sources: Sources,
        access: Access,
        config: &StatusAccess,
    ) -> io::Result<Server> {
        let service = Arc::new(Service {
            sources: Arc::new(sources),
            workers: Semaphore::new(WORKERS),
            rates: RateLimit::new(config.requests_per_second),
            access,
            profiler: Profiler::new(config.pprof),
        });
        let most = config.max_connections;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(WORKERS)
            .thread_name("status-worker")
            .enable_all()
            .build()?;
        let listener = {
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(self.listener)?
        };
        let thread = thread::Builder::new().name("status".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    // Without a sender the agent is stopping.
                    _ = stopped => {}
                    () = accept(listener, service, most) => {}
                }
            });
            // A question that is being worked on ends by itself; nobody waits for it.
            runtime.shutdown_background();
        })?;
        Ok(Server { stop: Some(stop), thread: Some(thread) })
    }
}

/// The running server; it ends when this is dropped.
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it has been told, and the agent is stopping.
            let _ = thread.join();
        }
    }
}

/// Takes connections for ever.
async fn accept(listener: tokio::net::TcpListener, service: Arc<Service>, most: usize) {
    let mut connections = Connections::default();
    loop {
        connections.make_room(most).await;
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.open() >= most => refuse(&stream, &service),
                Ok((stream, client)) => connections.begin(|asked| {
                    connection(stream, client.ip(), service.clone(), asked)
                }),
                Err(error) => {
                    // Out of file descriptors, most often: others will close.
                    tracing::debug!(%error, "the status cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            () = connections.one_ended(), if connections.open() > 0 => {}
        }
    }
}

/// Says that there is no place, if that can be said at once.
fn refuse(stream: &TcpStream, service: &Service) {
    tracing::debug!("all connections to the status are taken");
    if service.access.tls.is_none() {
        // What has come already is read, or closing would take the answer back.
        let _ = stream.try_read(&mut [0; 4096]);
        let _ = stream.try_write(BUSY);
    }
}

async fn connection(
    stream: TcpStream,
    client: IpAddr,
    service: Arc<Service>,
    asked: Arc<AtomicBool>,
) {
    let limit = if service.profiler.is_on() { PROFILING } else { CONNECTION };
    let served = async {
        let Some(tls) = &service.access.tls else {
            return serve(stream, client, service.clone(), asked).await;
        };
        let shaken = tokio::time::timeout(HEAD_TIMEOUT, tls.acceptor().accept(stream)).await;
        match shaken {
            Ok(Ok(stream)) => serve(stream, client, service.clone(), asked).await,
            Ok(Err(error)) => {
                tracing::debug!(%client, %error, "no TLS at the status");
            }
            Err(_) => tracing::debug!(%client, "TLS at the status took too long"),
        }
    };
    if tokio::time::timeout(limit, served).await.is_err() {
        tracing::debug!(%client, "a connection to the status lasted too long");
    }
}

/// How requests are read, from whatever connection.
pub(super) fn protocol() -> http1::Builder {
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_header_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        // One request each: an idle client takes nobody's place.
        .keep_alive(false);
    protocol
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    client: IpAddr,
    service: Arc<Service>,
    asked: Arc<AtomicBool>,
) {
    let answer = service_fn(move |request| {
        asked.store(true, Ordering::Relaxed);
        respond(service.clone(), client, request)
    });
    let mut served = protocol().serve_connection(TokioIo::new(stream), answer);
    let Err(error) = (&mut served).await else { return };
    tracing::debug!(%client, %error, "a connection to the status ended");
    if error.is_timeout() {
        let mut stream = served.into_parts().io.into_inner();
        // It may be gone.
        let _ = stream.write_all(LATE).await;
        let _ = stream.shutdown().await;
    }
}
