//! TLS of the status: certificate and key enter, what accepts a connection leaves.
//!
//! They are read again when they have changed: certificates are renewed more often than agents
//! are restarted. TLS 1.2 or newer.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::StatusError;

/// When the files were changed, and their lengths; none for one that is not there.
type Stamps = [Option<(SystemTime, u64)>; 2];

/// The files and what they said last.
pub struct ServerTls {
    cert: PathBuf,
    key: PathBuf,
    current: Mutex<(Stamps, TlsAcceptor)>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read or used.
    pub fn open(cert: &Path, key: &Path) -> Result<Self, StatusError> {
        let current = Mutex::new((stamps(cert, key), load(cert, key)?));
        Ok(Self { cert: cert.into(), key: key.into(), current })
    }

    /// For the next connection. Files that cannot be used now are told of once, and what they
    /// said before stays.
    pub fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.cert, &self.key);
        if current.0 != now {
            match load(&self.cert, &self.key) {
                Ok(acceptor) => {
                    tracing::info!("the certificate of the status has changed and was read again");
                    current.1 = acceptor;
                }
                Err(error) => tracing::warn!("{error}; what it said before stays in force"),
            }
            current.0 = now;
        }
        current.1.clone()
    }
}

fn stamps(cert: &Path, key: &Path) -> Stamps {
    [cert, key].map(|path| {
        let about = std::fs::metadata(path).ok()?;
        Some((about.modified().ok()?, about.len()))
    })
}

fn load(cert: &Path, key: &Path) -> Result<TlsAcceptor, StatusError> {
    let file = |what, path: &Path, problem: &dyn ToString| StatusError::File {
        what,
        path: path.display().to_string(),
        problem: problem.to_string(),
    };
    let (cert_name, key_name) = ("the certificate of the status", "the key of the status");
    let chain =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| file(cert_name, cert, &error))?;
    if chain.is_empty() {
        return Err(file(cert_name, cert, &"it has no certificate in PEM"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| file(key_name, key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| file("the TLS library", Path::new("ring"), &error))?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| file(key_name, key, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
