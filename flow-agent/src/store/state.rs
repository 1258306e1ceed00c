//! What all requests share: the engine, the sessions, the running queries and
//! the places for them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::credentials::Key;
use super::failure::{Failure, code};
use super::ffi::{Connection, Engine};
use super::job::Progress;
use super::places::Places;
use super::sessions::Sessions;
use super::settings::quote;

/// How often an abandoned statement is told to end, until it does: the first
/// order may come before the engine knows the statement.
const KILL_AGAIN: Duration = Duration::from_millis(200);

/// The shared state of a store.
pub struct State {
    /// The open engine.
    pub engine: Arc<Engine>,
    /// The sessions.
    pub sessions: Arc<Sessions>,
    /// A place for each statement that runs.
    pub places: Places,
    /// The engine's version.
    pub version: String,
    /// The engine's time zone.
    pub timezone: String,
    /// The host's name.
    pub display_name: String,
    /// What a client must have, if not everybody may ask.
    pub key: Option<Key>,
    running: Arc<Mutex<HashSet<String>>>,
    /// Keeps the engine open: it closes with its last connection.
    root: Mutex<Option<Connection>>,
}

impl State {
    /// Boots the engine with its first connection.
    pub fn boot(engine: Engine, key: Option<Key>) -> Result<Self, Failure> {
        let mut root = engine.connect()?;
        let about = b"SELECT version(), timezone(), displayName()";
        let (answer, _) = root.query(about, "TSVRaw", &[])?;
        let answer = String::from_utf8_lossy(&answer);
        let mut fields = answer.trim_end().split('\t').map(str::to_owned);
        let mut field = || fields.next().unwrap_or_default();
        Ok(Self {
            engine: Arc::new(engine),
            sessions: Arc::default(),
            places: Places::default(),
            version: field(),
            timezone: field(),
            display_name: field(),
            key,
            running: Arc::default(),
            root: Mutex::new(Some(root)),
        })
    }

    /// Enters a query among the running ones.
    pub fn register(&self, query_id: &str, progress: &Arc<Progress>) -> Result<Running, Failure> {
        let mut ids = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if !ids.insert(query_id.to_owned()) {
            return Err(Failure::new(
                code::QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING,
                "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING",
                format_args!("Query with id = {query_id} is already running"),
            ));
        }
        Ok(Running {
            ids: Arc::clone(&self.running),
            id: query_id.to_owned(),
            progress: Arc::clone(progress),
        })
    }

    /// Closes what is open and joins the engine's threads; all statements have ended.
    pub fn close(&self) -> bool {
        self.sessions.clear();
        self.root.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.engine.shutdown()
    }
}

/// A query among the running ones, until it is dropped.
pub struct Running {
    ids: Arc<Mutex<HashSet<String>>>,
    id: String,
    progress: Arc<Progress>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.progress.ended.set(());
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// Held by a response: dropped while its statement still produces rows, the
/// client has gone, and the statement is killed.
pub struct KillGuard {
    /// The engine to give the order to.
    pub engine: Arc<Engine>,
    /// The query.
    pub query_id: String,
    /// What is known of it.
    pub progress: Arc<Progress>,
}

impl Drop for KillGuard {
    fn drop(&mut self) {
        if self.progress.ended.get().is_some() {
            return;
        }
        let (engine, progress) = (Arc::clone(&self.engine), Arc::clone(&self.progress));
        let id = quote(&self.query_id);
        let sql = format!("KILL QUERY WHERE Settings['log_comment'] = {id} ASYNC");
        tokio::spawn(async move {
            while progress.ended.get().is_none() {
                if progress.killable.get().is_some() {
                    let (engine, sql) = (Arc::clone(&engine), sql.clone());
                    let killed = tokio::task::spawn_blocking(move || {
                        engine.connect()?.query(sql.as_bytes(), "Null", &[]).map(|_| ())
                    });
                    if let Ok(Err(failure)) = killed.await {
                        tracing::warn!(%failure, "cannot kill an abandoned query");
                    }
                }
                tokio::time::sleep(KILL_AGAIN).await;
            }
        });
    }
}
