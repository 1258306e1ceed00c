//! How a store is reached: who asks, over what, and how long an answer may take.
//!
//! Enters: what the configuration says. Leaves: [`Access`], which every client of the store is
//! made with. Files are read when it is opened, so that a wrong one is told at the start.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clickhouse::{Client, Compression};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::connector::{ConnectionWatch, Connector};
use super::credentials::{Credentials, PasswordFile};
use super::tls::{Tls, TlsFiles};
use super::{Servers, SinkError, StoreAddress};

/// Below the 3 s after which a ClickHouse server closes an idle connection by default.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Level of zstd: inserts are frequent and CPU is dearer than a few per cent of size.
const ZSTD_LEVEL: i32 = 1;

/// What inserts are compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Codec {
    /// Nothing.
    None,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// As it is written.
    pub fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// What the configuration says of the way to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessConfig {
    /// Instead of the server's default user.
    pub user: Option<String>,
    /// Where the password is.
    pub password_file: Option<PasswordFile>,
    /// What TLS needs.
    pub tls: TlsFiles,
    /// TCP and TLS together may take this long.
    pub connect_timeout: Duration,
    /// An answer to a question may take this long, and the server may take no octets for this
    /// long.
    pub read_timeout: Duration,
    /// A whole insert may take this long.
    pub insert_timeout: Duration,
    /// None: nothing on this host, LZ4 elsewhere.
    pub codec: Option<Codec>,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            user: None,
            password_file: None,
            tls: TlsFiles::default(),
            connect_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_secs(10),
            insert_timeout: Duration::from_secs(60),
            codec: None,
        }
    }
}

/// The way to the store; cheap to clone, clones share the password.
#[derive(Clone)]
pub struct Access {
    config: AccessConfig,
    credentials: Arc<Credentials>,
    tls: Option<Arc<Tls>>,
    watch: Option<Arc<dyn ConnectionWatch>>,
    /// Connections that were begun, by URL.
    connects: Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>,
}

impl Access {
    /// Reads the files that `config` names, those of TLS only if one of `servers` needs them.
    ///
    /// # Errors
    /// One cannot be read or used.
    pub fn open(
        config: &AccessConfig,
        servers: &Servers,
        watch: Option<Arc<dyn ConnectionWatch>>,
    ) -> Result<Self, SinkError> {
        let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(Into::into);
        let file = config.password_file.clone();
        let credentials = Credentials::open(config.user.clone(), file, folder)?;
        let needs_tls = servers.all().any(StoreAddress::is_tls);
        let tls = needs_tls.then(|| Tls::open(config.tls.clone())).transpose()?;
        Ok(Self {
            config: config.clone(),
            credentials: Arc::new(credentials),
            tls: tls.map(Arc::new),
            watch,
            connects: Arc::default(),
        })
    }

    /// Without credentials, files and watch, for a server on this host.
    ///
    /// # Errors
    /// Never for `http` servers.
    pub fn plain(servers: &Servers) -> Result<Self, SinkError> {
        Self::open(&AccessConfig::default(), servers, None)
    }

    /// What was configured.
    pub fn config(&self) -> &AccessConfig {
        &self.config
    }

    /// The user and password of servers whose URLs have none.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Connections that were begun to this server.
    pub fn connects(&self, address: &StoreAddress) -> u64 {
        self.counter(address).load(Ordering::Relaxed)
    }

    fn counter(&self, address: &StoreAddress) -> Arc<AtomicU64> {
        let mut counters = self.connects.lock().unwrap_or_else(PoisonError::into_inner);
        counters.entry(address.url.clone()).or_default().clone()
    }

    /// A client with connections of its own; nothing is sent yet. Credentials are not in it:
    /// they may change.
    pub(super) fn client(&self, address: &StoreAddress) -> Client {
        let connector = Connector {
            tls: self.tls.clone(),
            connect_timeout: self.config.connect_timeout,
            unacknowledged: self.config.insert_timeout,
            connects: self.counter(address),
            watch: self.watch.clone(),
        };
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Client::with_http_client(client)
            .with_url(&address.url)
            .with_compression(self.compression(address))
    }

    /// What inserts to this server are compressed with.
    fn compression(&self, address: &StoreAddress) -> Compression {
        let usual = if address.is_loopback() { Codec::None } else { Codec::Lz4 };
        match self.config.codec.unwrap_or(usual) {
            Codec::None => Compression::None,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd(ZSTD_LEVEL),
        }
    }
}
