//! `libchdb.so` behind safe types: the only unsafe code of the store.
//!
//! Enters: a path and SQL. Leaves: bytes, figures and the engine's error
//! texts. What must hold: a connection runs one statement at a time (`&mut`),
//! everything the engine hands out is given back exactly once (`Drop`), and
//! every connection is closed before [`Engine::shutdown`], else the process
//! crashes at exit.

use std::error::Error as _;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::NonNull;

use libloading::Library;

use super::StoreError;
use super::failure::Failure;

/// The releases whose C API this is written after.
const API: &str = "26.7.";

type Handle = *mut c_void;
type Count = unsafe extern "C" fn(Handle) -> u64;
type Text = unsafe extern "C" fn(Handle) -> *const c_char;
type Give = unsafe extern "C" fn(Handle);
type Statement = unsafe extern "C" fn(
    Handle,
    *const u8,
    usize,
    *const u8,
    usize,
    *const *const u8,
    *const usize,
    *const *const u8,
    *const usize,
    usize,
) -> Handle;

macro_rules! api {
    ($($field:ident: $symbol:literal $kind:ty,)*) => {
        /// The functions of the library; their signatures are those of its `chdb.h`.
        struct Api { $($field: $kind,)* }

        impl Api {
            fn load(library: &Library) -> Result<Self, libloading::Error> {
                // SAFETY: the types are written after chdb.h of the pinned
                // version; the library is never unloaded.
                unsafe { Ok(Self { $($field: *library.get($symbol)?,)* }) }
            }
        }
    };
}

api! {
    set_signal_handlers: b"chdb_set_signal_handlers_enabled" unsafe extern "C" fn(c_int),
    connect: b"chdb_connect" unsafe extern "C" fn(c_int, *const *const c_char) -> *mut Handle,
    close: b"chdb_close_conn" unsafe extern "C" fn(*mut Handle),
    shutdown: b"chdb_shutdown" unsafe extern "C" fn() -> c_int,
    query: b"chdb_query_with_params_n" Statement,
    insert: b"chdb_stream_insert_with_params_n" Statement,
    insert_append: b"chdb_stream_append" unsafe extern "C" fn(Handle, *const u8, usize) -> c_int,
    insert_done: b"chdb_stream_done" unsafe extern "C" fn(Handle) -> Handle,
    insert_error: b"chdb_stream_insert_error" Text,
    insert_cancel: b"chdb_stream_cancel_insert" Give,
    insert_destroy: b"chdb_destroy_insert_stream" Give,
    result_buffer: b"chdb_result_buffer" unsafe extern "C" fn(Handle) -> *const u8,
    result_length: b"chdb_result_length" unsafe extern "C" fn(Handle) -> usize,
    result_rows: b"chdb_result_rows_read" Count,
    result_bytes: b"chdb_result_bytes_read" Count,
    result_storage_rows: b"chdb_result_storage_rows_read" Count,
    result_storage_bytes: b"chdb_result_storage_bytes_read" Count,
    result_rows_written: b"chdb_result_rows_written" Count,
    result_bytes_written: b"chdb_result_bytes_written" Count,
    result_error: b"chdb_result_error" Text,
    result_destroy: b"chdb_destroy_query_result" Give,
}

/// Figures of a finished statement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Rows read from tables.
    pub read_rows: u64,
    /// Octets read from tables.
    pub read_bytes: u64,
    /// Rows written, those of materialized views included.
    pub written_rows: u64,
    /// Octets written, those of materialized views included.
    pub written_bytes: u64,
    /// Rows of the result.
    pub result_rows: u64,
    /// Octets of the result, before formatting.
    pub result_bytes: u64,
}

/// Name and value of each query parameter.
pub type Params = [(String, String)];

/// The open engine of this process; one data folder per process.
pub struct Engine {
    api: &'static Api,
    version: String,
    arguments: Vec<CString>,
}

impl Engine {
    /// Loads the library.
    pub fn load(library: &Path) -> Result<Self, StoreError> {
        let broken = |error: libloading::Error| StoreError::LibraryBroken {
            path: library.to_owned(),
            reason: error.source().map_or_else(|| error.to_string(), ToString::to_string),
        };
        // SAFETY: the constructors of libchdb are those of any ClickHouse
        // binary; it is opened once, before it is used from any thread.
        let opened = unsafe { Library::new(library) }.map_err(broken)?;
        let version = version(&opened).map_err(broken)?;
        if !version.starts_with(API) {
            return Err(StoreError::LibraryVersion { path: library.to_owned(), version });
        }
        let api = Api::load(&opened).map_err(broken)?;
        // The engine's threads outlive every handle: unloading it would crash.
        std::mem::forget(opened);
        // SAFETY: called before the first connect, as chdb.h asks.
        unsafe { (api.set_signal_handlers)(0) };
        Ok(Self { api: Box::leak(Box::new(api)), version, arguments: Vec::new() })
    }

    /// The version of the library.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Sets the server options that the first connection boots the engine
    /// with, and the settings that every connection begins with.
    pub fn set_arguments(&mut self, arguments: &[String]) {
        self.arguments = std::iter::once("clickhouse")
            .chain(arguments.iter().map(String::as_str))
            .map(|argument| CString::new(argument).expect("paths and options have no zero byte"))
            .collect();
    }

    /// Opens a connection with the settings of a new session; about 60 µs
    /// once the engine is booted, so each request gets its own.
    pub fn connect(&self) -> Result<Connection, Failure> {
        let argv: Vec<_> = self.arguments.iter().map(|argument| argument.as_ptr()).collect();
        let argc = c_int::try_from(argv.len()).expect("a handful of arguments");
        // SAFETY: argv holds argc terminated strings that live through the call.
        let raw = unsafe { (self.api.connect)(argc, argv.as_ptr()) };
        match NonNull::new(raw) {
            Some(raw) => Ok(Connection { api: self.api, raw }),
            None => Err(Failure::from_engine("the engine refused the connection")),
        }
    }

    /// Joins the engine's threads; false when a connection is still open.
    pub fn shutdown(&self) -> bool {
        // SAFETY: may be called from any thread at any time.
        unsafe { (self.api.shutdown)() == 0 }
    }
}

/// A session of the engine.
pub struct Connection {
    api: &'static Api,
    raw: NonNull<Handle>,
}

// SAFETY: chdb.h allows a connection to be used from any thread as long as
// statements are serialized; `&mut self` on every method serializes them.
unsafe impl Send for Connection {}

impl Connection {
    /// Runs one statement to its end; leaves its output and figures.
    pub fn query(
        &mut self,
        sql: &[u8],
        format: &str,
        params: &Params,
    ) -> Result<(Vec<u8>, Figures), Failure> {
        let call = self.api.query;
        let raw = self.statement(call, sql, format, params);
        QueryResult { api: self.api, raw }.take()
    }

    /// Begins an insert; `sql` has neither FORMAT nor data.
    pub fn insert(
        &mut self,
        sql: &[u8],
        format: &str,
        params: &Params,
    ) -> Result<Insert<'_>, Failure> {
        let call = self.api.insert;
        let raw = self.statement(call, sql, format, params);
        let insert = Insert { connection: self, raw };
        match insert.error() {
            None => Ok(insert),
            Some(failure) => Err(failure),
        }
    }

    fn statement(&mut self, call: Statement, sql: &[u8], format: &str, params: &Params) -> Handle {
        let pointers = |of: fn(&(String, String)) -> &String| -> (Vec<*const u8>, Vec<usize>) {
            params.iter().map(of).map(|text| (text.as_ptr(), text.len())).unzip()
        };
        let (names, name_lengths) = pointers(|(name, _)| name);
        let (values, value_lengths) = pointers(|(_, value)| value);
        // SAFETY: `raw` is a live connection; every pointer is paired with its
        // length and outlives the call, which copies what it keeps.
        unsafe {
            call(
                *self.raw.as_ptr(),
                sql.as_ptr(),
                sql.len(),
                format.as_ptr(),
                format.len(),
                names.as_ptr(),
                name_lengths.as_ptr(),
                values.as_ptr(),
                value_lengths.as_ptr(),
                params.len(),
            )
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: opened by `connect`, closed here only; results and insert
        // streams borrow the connection or were destroyed before.
        unsafe { (self.api.close)(self.raw.as_ptr()) };
    }
}

/// An insert in progress; dropped before `finish`, it is cancelled.
pub struct Insert<'c> {
    connection: &'c mut Connection,
    raw: Handle,
}

impl Insert<'_> {
    /// Hands over a piece of the data; blocks while the engine is behind.
    pub fn append(&mut self, data: &[u8]) -> Result<(), Failure> {
        // SAFETY: a live stream and a slice with its length; the engine copies it.
        let state =
            unsafe { (self.connection.api.insert_append)(self.raw, data.as_ptr(), data.len()) };
        if state == 0 {
            return Ok(());
        }
        Err(self.error().unwrap_or_else(|| Failure::from_engine("the insert stream has failed")))
    }

    /// Ends the data and commits.
    pub fn finish(self) -> Result<Figures, Failure> {
        let api = self.connection.api;
        // SAFETY: a live stream, finalized once because `self` is consumed.
        let raw = unsafe { (api.insert_done)(self.raw) };
        QueryResult { api, raw }.take().map(|(_, figures)| figures)
    }

    /// Gives the data up; what has not become a part is not stored.
    pub fn cancel(self) {
        // SAFETY: a live stream; `drop` then destroys it.
        unsafe { (self.connection.api.insert_cancel)(self.raw) };
    }

    fn error(&self) -> Option<Failure> {
        // SAFETY: a live stream; the text lives as long as the stream.
        unsafe { text((self.connection.api.insert_error)(self.raw)) }
            .map(|text| Failure::from_engine(&text))
    }
}

impl Drop for Insert<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `insert`, destroyed here only; cancels if not finalized.
        unsafe { (self.connection.api.insert_destroy)(self.raw) };
    }
}

struct QueryResult {
    api: &'static Api,
    raw: Handle,
}

impl QueryResult {
    fn take(&self) -> Result<(Vec<u8>, Figures), Failure> {
        if self.raw.is_null() {
            return Err(Failure::from_engine("the engine gave no result"));
        }
        let (api, raw) = (self.api, self.raw);
        // SAFETY: `raw` is a live result; the texts and the buffer live as
        // long as it does and are copied here.
        unsafe {
            if let Some(text) = text((api.result_error)(raw)) {
                return Err(Failure::from_engine(&text));
            }
            let figures = Figures {
                read_rows: (api.result_storage_rows)(raw),
                read_bytes: (api.result_storage_bytes)(raw),
                written_rows: (api.result_rows_written)(raw),
                written_bytes: (api.result_bytes_written)(raw),
                result_rows: (api.result_rows)(raw),
                result_bytes: (api.result_bytes)(raw),
            };
            let buffer = (api.result_buffer)(raw);
            let output = if buffer.is_null() {
                Vec::new()
            } else {
                std::slice::from_raw_parts(buffer, (api.result_length)(raw)).to_vec()
            };
            Ok((output, figures))
        }
    }
}

impl Drop for QueryResult {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: handed out by the engine once, destroyed here only.
            unsafe { (self.api.result_destroy)(self.raw) };
        }
    }
}

/// What the library says it is.
fn version(library: &Library) -> Result<String, libloading::Error> {
    type Version = unsafe extern "C" fn() -> *const c_char;
    // SAFETY: the type is written after chdb.h; the text is static.
    let version = unsafe { text(library.get::<Version>(b"chdb_version")?()) };
    Ok(version.unwrap_or_default())
}

/// Copies a terminated string.
///
/// # Safety
/// `pointer` is null or points to a terminated string.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: not null, and the caller promises the rest.
    let text = unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned();
    (!text.is_empty()).then_some(text)
}
