//! The server: a listener and a thread of its own, until it is dropped.
//!
//! It holds that a client can take no more than a connection, a small head, a small body and
//! a few seconds.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use super::respond::respond;
use super::{Sources, StatusError};
use crate::config::{DEFAULT_STATUS, StatusListen};

/// Connections at one time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 128;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// The largest request head, and the most headers in it.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// How long a client may take to send a head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last: one request and its answer.
const CONNECTION: Duration = Duration::from_secs(30);
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
    pub fn serve(self, sources: Sources) -> io::Result<Server> {
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
            runtime.block_on(accept(listener, Arc::new(sources), stopped));
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

async fn accept(
    listener: tokio::net::TcpListener,
    sources: Arc<Sources>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    let workers = Arc::new(Semaphore::new(WORKERS));
    loop {
        tokio::select! {
            // Without a sender the agent is stopping.
            _ = &mut stopped => return,
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, sources.clone(), workers.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, most often: others will close.
                    tracing::debug!(%error, "the status cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn connection(stream: TcpStream, sources: Arc<Sources>, workers: Arc<Semaphore>) {
    let service = service_fn(move |request| respond(sources.clone(), workers.clone(), request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_header_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        // One request each: an idle client takes nobody's place.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the status ended"),
        Err(_) => tracing::debug!("a connection to the status lasted too long"),
    }
}
