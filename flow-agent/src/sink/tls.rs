//! TLS to the store.
//!
//! Enters: files of the configuration. Leaves: what rustls needs to connect. It holds that a
//! server is believed only with a certificate for its name from a trusted authority, over
//! TLS 1.2 or newer: there is no switch to leave that out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

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

impl TlsFiles {
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
