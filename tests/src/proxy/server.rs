//! The proxy's listener and what a test does with it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::connection;
use super::script::Script;
use super::{Fault, Fired, Request};
use crate::port;

/// What all connections share.
pub(super) struct Shared {
    /// `HOST:PORT` of the store.
    pub(super) store: String,
    pub(super) script: Mutex<Script>,
    pub(super) fired: Fired,
    pub(super) requests: AtomicU64,
    connections: AtomicU64,
}

impl Shared {
    pub(super) fn of_request(&self, request: &Request) -> Option<Fault> {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        (script.of_request)(request)
    }

    fn of_connection(&self) -> Option<Fault> {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        (script.of_connection)(number)
    }
}

/// Whether it listens, and who waits for that.
type Order = (bool, oneshot::Sender<()>);

/// A running proxy; its connections end when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    /// While it refuses connections.
    _port: TcpSocket,
    shared: Arc<Shared>,
    orders: mpsc::UnboundedSender<Order>,
    runtime: Option<Runtime>,
}

impl Proxy {
    /// Listens at a free port of loopback, in front of the store at `http://HOST:PORT`. The store
    /// may come and go; while it is away, connections are reset.
    pub fn start(store: &str) -> Result<Self> {
        let store = store.strip_prefix("http://").context("a store has an http URL")?.to_owned();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("proxy")
            .enable_all()
            .build()?;
        let port = port::keep("127.0.0.1:0".parse()?)?;
        let address = port.local_addr()?;
        let listener = runtime.block_on(TcpListener::bind(address))?;
        let shared = Arc::new(Shared {
            store,
            script: Mutex::default(),
            fired: Fired::default(),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let (orders, receiver) = mpsc::unbounded_channel();
        runtime.spawn(listen(listener, address, shared.clone(), receiver));
        Ok(Self { address, _port: port, shared, orders, runtime: Some(runtime) })
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on each request is asked about.
    pub fn on_request(&self, script: impl FnMut(&Request) -> Option<Fault> + Send + 'static) {
        self.script(|all| all.of_request = Box::new(script));
    }

    /// From now on each request that inserts rows of flows is asked about, and no other.
    pub fn on_flows(&self, mut script: impl FnMut(&Request) -> Option<Fault> + Send + 'static) {
        self.on_request(
            move |request| {
                if request.inserts_into("flows") { script(request) } else { None }
            },
        );
    }

    /// From now on each connection is asked about, by its number from 0, before its first octet.
    pub fn on_connection(&self, script: impl FnMut(u64) -> Option<Fault> + Send + 'static) {
        self.script(|all| all.of_connection = Box::new(script));
    }

    /// From now on everything passes; what has happened to a request goes on.
    pub fn calm(&self) {
        self.script(|all| *all = Script::default());
    }

    fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.shared.script.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Refuses connections, and ends those that there are; returns when that is so.
    pub fn refuse(&self) -> Result<()> {
        self.order(false)
    }

    /// Takes connections again.
    pub fn accept(&self) -> Result<()> {
        self.order(true)
    }

    fn order(&self, listens: bool) -> Result<()> {
        let (done, is_done) = oneshot::channel();
        self.orders.send((listens, done)).ok().context("the proxy has ended")?;
        is_done.blocking_recv().context("the proxy cannot listen at its port again")
    }

    /// What has happened so far.
    pub fn fired(&self) -> &Fired {
        &self.shared.fired
    }

    /// How many requests have come.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// How many connections have come.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Serves until the proxy is dropped.
async fn listen(
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some((listens, done)) = order else { return };
                if listens && listener.is_none() {
                    let Ok(bound) = TcpListener::bind(address).await else { continue };
                    listener = Some(bound);
                } else if !listens {
                    listener = None;
                    connections.shutdown().await;
                }
                // A test that does not wait for it has ended.
                let _ = done.send(());
            }
            Some(stream) = accept(listener.as_ref()) => {
                let fault = shared.of_connection();
                connections.spawn(connection::serve(stream, shared.clone(), fault));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A connection; none without a listener, or when the client has gone already.
async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    Some(listener?.accept().await.ok()?.0)
}
