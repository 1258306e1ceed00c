//! The store's life: enters a configuration and a signal to stop, serves in
//! between. What must hold: no data folder is touched before the address and
//! the library are known to be good; the engine closes cleanly, whatever the
//! clients do.

use std::future::Future;
use std::io::{self, Write as _};
use std::net::{self, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::StoreError;
use super::credentials::Key;
use super::ffi::Engine;
use super::folder::Folder;
use super::layout;
use super::library;
use super::places::MAX_STATEMENTS;
use super::privileges::become_owner;
use super::respond::respond;
use super::state::State;

/// What `flow-agent store` is told.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The data folder; made if it is missing.
    pub dir: PathBuf,
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Whether `listen` may be reachable from other hosts.
    pub allow_remote: bool,
    /// The engine library, if not in its usual places.
    pub library: Option<PathBuf>,
    /// Options of the engine as ClickHouse's own configuration has them, XML or YAML.
    pub config_file: Option<PathBuf>,
    /// The most memory that the engine may take; none: half of what there is.
    pub memory_mib: Option<u32>,
    /// The password that clients must have; without one, everybody may ask.
    pub key: Option<Key>,
}

/// What the ready line on standard output begins with; the URL follows.
pub const READY: &str = "flow-agent store: listening on ";

/// With less the engine cannot do its own work, in MiB.
pub const LEAST_MEMORY_MIB: u32 = 512;

const MAX_CONNECTIONS: usize = 512;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// The largest request head: clients put inserts' statements into the URL.
const MAX_HEAD: usize = 512 << 10;
/// Also how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);
/// A client that takes nothing for this long is cut off.
const CLIENT_STALLS_MS: u32 = 300_000;
/// How long running requests may go on after the signal to stop, and how long
/// their statements may take to notice that they were cut.
const STOP_REQUESTS: Duration = Duration::from_secs(20);
const STOP_STATEMENTS: Duration = Duration::from_secs(20);

/// Serves until what `shutdown` gives is ready, then ends running requests and closes
/// the engine. `shutdown` is called in the runtime before the store says that it is ready.
/// To be called before the process has other threads: a store that root starts becomes the
/// owner of its folder.
pub fn serve<F: Future<Output = ()>>(
    config: StoreConfig,
    shutdown: impl FnOnce() -> io::Result<F>,
) -> Result<(), StoreError> {
    let prepared = Prepared::new(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // A statement and, when it is abandoned, the order to kill it.
        .max_blocking_threads(2 * MAX_STATEMENTS)
        .thread_name("store")
        .enable_all()
        .build()
        .map_err(|source| StoreError::System { action: "start its threads", source })?;
    let served = runtime.block_on(run(prepared, shutdown));
    // A statement that did not end in time must not keep the process.
    runtime.shutdown_background();
    served
}

/// What a store has before its first thread.
struct Prepared {
    listener: net::TcpListener,
    address: SocketAddr,
    engine: Engine,
    folder: Folder,
    key: Option<Key>,
    /// Whether everybody who connects gets root's files.
    open_root: bool,
}

impl Prepared {
    fn new(config: StoreConfig) -> Result<Self, StoreError> {
        let StoreConfig { dir, listen, allow_remote, library, config_file, memory_mib, key } =
            config;
        if !allow_remote && !listen.ip().is_loopback() {
            return Err(StoreError::NotLoopback { listen });
        }
        // The engine starts in its data folder.
        let config_file = config_file
            .map(|path| {
                path.canonicalize().map_err(|source| StoreError::ConfigFile { path, source })
            })
            .transpose()?;
        let library = library::find(library.as_deref())?;
        let failed = |source| StoreError::Listen { listen, source };
        let listener = net::TcpListener::bind(listen).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => StoreError::PortInUse { listen },
            _ => failed(source),
        })?;
        listener.set_nonblocking(true).map_err(failed)?;
        rustix::net::listen(&listener, BACKLOG).map_err(|error| failed(error.into()))?;
        let address = listener.local_addr().map_err(failed)?;
        let mut engine = Engine::load(&library)?;
        // The port and the library may be root's; the data is the owner's, who may not
        // enter the directory that root started it in, where the engine looks around.
        let dir = dir.canonicalize().unwrap_or(dir);
        let root = become_owner(&dir)?;
        let folder = Folder::open(&dir)?;
        layout::check(folder.path(), engine.version())?;
        std::env::set_current_dir(folder.path())
            .map_err(|source| StoreError::System { action: "enter its data folder", source })?;
        let memory = memory_mib.map_or_else(default_memory, |mib| u64::from(mib) << 20);
        let mut arguments = arguments(&folder, memory);
        arguments.extend(config_file.map(|file| format!("--config-file={}", file.display())));
        engine.set_arguments(&arguments);
        Ok(Self { listener, address, engine, folder, open_root: root && key.is_none(), key })
    }
}

async fn run<F: Future<Output = ()>>(
    prepared: Prepared,
    shutdown: impl FnOnce() -> io::Result<F>,
) -> Result<(), StoreError> {
    let Prepared { listener, address, engine, folder, key, open_root } = prepared;
    let listener = TcpListener::from_std(listener)
        .map_err(|source| StoreError::Listen { listen: address, source })?;
    let version = engine.version().to_owned();
    let state = State::boot(engine, key).map_err(|failure| StoreError::Engine {
        dir: folder.path().to_owned(),
        reason: failure.text,
    })?;
    layout::note(folder.path(), &version)?;
    let state = Arc::new(state);
    if open_root {
        tracing::warn!(
            "the store runs as root: anyone who can connect to http://{address} reads and writes \
             files as root; start it as another user, or give the folder to one: chown -R USER {}",
            folder.path().display()
        );
    }
    // Who reads that it is ready may ask it to stop at once.
    let shutdown = shutdown()
        .map_err(|source| StoreError::System { action: "catch signals to stop", source })?;
    announce(address)?;
    let result = accept(&listener, &state, shutdown).await;
    drop(listener);
    if result.is_ok() && !state.close() {
        // Every answer has been given and every insert is on disk; the process ends now.
        tracing::debug!("some of the engine's threads could not be joined");
    }
    result
}

/// Half of the memory of this host, or of the cgroup that the store is in; octets.
fn default_memory() -> u64 {
    let host = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = host.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    let total = total.map_or(u64::from(LEAST_MEMORY_MIB) << 21, |kib| kib << 10);
    (crate::host::cgroup_memory_limit().unwrap_or(total).min(total) / 2)
        .max(u64::from(LEAST_MEMORY_MIB) << 20)
}

/// Options of the engine; settings among them are each connection's defaults. `memory`
/// is in octets.
fn arguments(folder: &Folder, memory: u64) -> Vec<String> {
    vec![
        format!("--path={}", folder.path().display()),
        // A row is stored when its insert is answered.
        "--async_insert=0".to_owned(),
        // As a server parses, not as the shell tool does.
        "--implicit_select=0".to_owned(),
        format!("--max_server_memory_usage={memory}"),
        // One question must not take what the inserts need.
        format!("--max_memory_usage={}", memory / 4 * 3),
        format!("--mark_cache_size={}", (memory / 16).min(128 << 20)),
        // BACKUP writes where `flow-agent backup` asks; who may ask reads and writes the
        // user's files anyway (`file()`).
        "--backups.allowed_path=/".to_owned(),
        "--background_schedule_pool_size=8".to_owned(),
        "--background_move_pool_size=1".to_owned(),
        "--background_fetches_pool_size=1".to_owned(),
        "--background_common_pool_size=2".to_owned(),
    ]
}

fn announce(address: SocketAddr) -> Result<(), StoreError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{READY}http://{address}")
        .and_then(|()| stdout.flush())
        .map_err(|source| StoreError::System { action: "write to standard output", source })
}

async fn accept(
    listener: &TcpListener,
    state: &Arc<State>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), StoreError> {
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(state), stopping.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, most often: others will close.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    stop.send_replace(true);
    let all_done = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_REQUESTS, all_done).await.is_err() {
        // Dropped requests cancel their inserts and kill their selects.
        connections.shutdown().await;
    }
    match tokio::time::timeout(STOP_STATEMENTS, state.places.close()).await {
        Ok(()) => Ok(()),
        Err(_) => Err(StoreError::StillRunning {
            running: state.places.running(),
            seconds: (STOP_REQUESTS + STOP_STATEMENTS).as_secs(),
        }),
    }
}

/// How requests are read, from whatever connection.
pub(super) fn protocol() -> http1::Builder {
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    protocol
}

async fn connection(stream: TcpStream, state: Arc<State>, mut stopping: watch::Receiver<bool>) {
    // Answers are written whole; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    // A client that stops reading must not keep its statement's place for ever.
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, CLIENT_STALLS_MS);
    let service = service_fn(move |request| respond(Arc::clone(&state), request));
    let mut served = std::pin::pin!(protocol().serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = stop_requested(&mut stopping) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}

async fn stop_requested(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender has gone, which is a stop as well.
    let _ = stopping.wait_for(|stop| *stop).await;
}
