//! TLS to the store.
//!
//! Enters: files of the configuration. Leaves: what rustls needs to connect. It holds that a
//! server is believed only with a certificate for its name from a trusted authority, over
//! TLS 1.2 or newer: there is no switch to leave that out.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::SinkError;

/// Files in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that are trusted instead of the system's.
    pub ca: Option<PathBuf>,
    /// The agent's own certificate, with what leads to its authority, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// TLS as the files say it now: they are read again when they have changed, because
/// certificates are renewed more often than agents are restarted.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    current: Mutex<(Stamps, Arc<ClientConfig>)>,
}

/// When the files were changed, and their lengths; none for one that is not there.
type Stamps = Vec<Option<(SystemTime, u64)>>;

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// As [`TlsFiles::load`].
    pub fn open(files: TlsFiles) -> Result<Self, SinkError> {
        let stamps = files.stamps();
        let config = files.load()?;
        Ok(Self { files, current: Mutex::new((stamps, config)) })
    }

    /// For the next connection. Files that cannot be used now are told of once, and what they
    /// said before stays.
    pub fn config(&self) -> Arc<ClientConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = self.files.stamps();
        if current.0 != stamps {
            match self.files.load() {
                Ok(config) => {
                    tracing::info!("the files for TLS have changed and were read again");
                    current.1 = config;
                }
                Err(error) => tracing::warn!("{error}; what it said before stays in force"),
            }
            current.0 = stamps;
        }
        current.1.clone()
    }
}

impl TlsFiles {
    fn stamps(&self) -> Stamps {
        let client = self.client.iter().flat_map(|(cert, key)| [cert, key]);
        let stamp = |path: &PathBuf| {
            let about = std::fs::metadata(path).ok()?;
            Some((about.modified().ok()?, about.len()))
        };
        self.ca.iter().chain(client).map(stamp).collect()
    }

    /// Reads them.
    ///
    /// # Errors
    /// One cannot be read or used, or the system trusts no authority.
    pub fn load(&self) -> Result<Arc<ClientConfig>, SinkError> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| file("the TLS library", Path::new("ring"), &error))?
            .with_root_certificates(self.roots()?);
        let mut config = match &self.client {
            None => config.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = certificates("the client certificate", cert)?;
                let secret = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| file("the client key", key, &error))?;
                config
                    .with_client_auth_cert(chain, secret)
                    .map_err(|error| file("the client key", key, &error))?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, SinkError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.ca {
            for certificate in certificates("the file of authorities", path)? {
                roots
                    .add(certificate)
                    .map_err(|error| file("the file of authorities", path, &error))?;
            }
            return Ok(roots);
        }
        let system = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(system.certs);
        if added == 0 {
            let problem =
                system.errors.first().map_or("there are none".into(), ToString::to_string);
            return Err(SinkError::File {
                what: "the system's certificates",
                path: "ca-certificates".into(),
                problem: format!("{problem}; install them, or name a file with ca_file"),
            });
        }
        Ok(roots)
    }
}

fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, SinkError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = read.map_err(|error| file(what, path, &error))?;
    if found.is_empty() {
        return Err(file(what, path, &"it has no certificate in PEM"));
    }
    Ok(found)
}

fn file(what: &'static str, path: &Path, problem: &dyn ToString) -> SinkError {
    SinkError::File { what, path: path.display().to_string(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn certificate(name: &str) -> String {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("valid");
        let key = KeyPair::generate().expect("random numbers");
        params.self_signed(&key).expect("valid").pem()
    }

    #[test]
    fn renewed_files_are_read_again_and_broken_ones_are_not_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = folder.path().join("ca.pem");
        fs::write(&ca, certificate("one")).expect("ours");
        let tls = Tls::open(TlsFiles { ca: Some(ca.clone()), client: None }).expect("valid");
        let first = tls.config();
        assert!(Arc::ptr_eq(&first, &tls.config()), "nothing has changed");
        fs::write(&ca, "no certificate").expect("ours");
        assert!(Arc::ptr_eq(&first, &tls.config()), "it cannot be used");
        fs::remove_file(&ca).expect("ours");
        assert!(Arc::ptr_eq(&first, &tls.config()), "it is gone");
        fs::write(&ca, certificate("another.example")).expect("ours");
        assert!(!Arc::ptr_eq(&first, &tls.config()), "it is another one");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("c.pem"), certificate("c")).expect("ours");
        fs::write(path("k.pem"), "no key").expect("ours");
        let other = KeyPair::generate().expect("random numbers");
        fs::write(path("other.pem"), other.serialize_pem()).expect("ours");
        for (ca, key, words) in [
            ("missing.pem", None, "missing.pem cannot be used"),
            ("k.pem", None, "no certificate in PEM"),
            ("c.pem", Some("k.pem"), "the client key"),
            ("c.pem", Some("other.pem"), "the client key"),
        ] {
            let client = key.map(|key| (path("c.pem"), path(key)));
            let files = TlsFiles { ca: Some(path(ca)), client };
            let error = Tls::open(files).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
