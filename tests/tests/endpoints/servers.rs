//! Servers for the tests of endpoints: certificates, a door in front of a store (TCP or TLS), and
//! servers that answer what no ClickHouse would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use tokio::io::copy_bidirectional;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub struct Identity {
    pub cert: rcgen::Certificate,
    pub key: KeyPair,
}

impl Authority {
    /// Two of different names are strangers.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("valid");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("random numbers");
        Self(CertifiedIssuer::self_signed(params, key).expect("valid"))
    }

    /// Writes its certificate; leaves the path.
    pub fn file(&self, folder: &Path, name: &str) -> String {
        write(folder, name, &self.0.pem())
    }

    /// A certificate for this name, which ends with this year.
    pub fn identity(&self, name: &str, last_year: i32) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("valid");
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(last_year, 12, 31);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("random numbers");
        let cert = params.signed_by(&key, &self.0).expect("valid");
        Identity { cert, key }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("valid");
        roots
    }
}

impl Identity {
    /// Writes both; leaves the paths.
    pub fn files(&self, folder: &Path) -> (String, String) {
        let cert = write(folder, "client.pem", &self.cert.pem());
        (cert, write(folder, "client.key", &self.key.serialize_pem()))
    }

    /// For a server; `clients` signs those that are let in.
    pub fn acceptor(&self, clients: Option<&Authority>) -> TlsAcceptor {
        let chain: Vec<CertificateDer<'static>> = vec![self.cert.der().clone()];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let config = ServerConfig::builder();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let roots = Arc::new(authority.roots());
                let verifier = WebPkiClientVerifier::builder(roots).build().expect("valid");
                config.with_client_cert_verifier(verifier)
            }
        };
        Arc::new(config.with_single_cert(chain, key).expect("valid")).into()
    }
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = folder.join(name);
    std::fs::write(&path, text).expect("ours");
    path.to_str().expect("UTF-8").to_owned()
}

/// A way to a store; closed, with all connections, when it is dropped.
pub struct Door {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Door {
    /// At a free port.
    pub fn open(store: &str, tls: Option<TlsAcceptor>) -> Self {
        Self::open_at("127.0.0.1:0".parse().expect("valid"), store, tls)
    }

    /// At this address.
    pub fn open_at(address: SocketAddr, store: &str, tls: Option<TlsAcceptor>) -> Self {
        let store = store.trim_start_matches("http://").to_owned();
        let runtime = Runtime::new().expect("threads");
        let listener =
            runtime.block_on(tokio::net::TcpListener::bind(address)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        runtime.spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (store, tls) = (store.clone(), tls.clone());
                tokio::spawn(async move {
                    let Ok(mut far) = tokio::net::TcpStream::connect(store).await else { return };
                    let _ = match tls {
                        None => copy_bidirectional(&mut near, &mut far).await,
                        Some(tls) => match tls.accept(near).await {
                            Ok(mut near) => copy_bidirectional(&mut near, &mut far).await,
                            Err(error) => Err(error),
                        },
                    };
                });
            }
        });
        Self { address, runtime: Some(runtime) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The port is free when this returns.
            runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        }
    }
}

/// Answers each connection as `answer` does, which is given the head of the request; ends with
/// the last of `connections`.
pub fn answering<T: Send + 'static>(
    connections: usize,
    answer: impl Fn(TcpStream, &str) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<Vec<T>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let thread = thread::spawn(move || {
        let mut answers = Vec::new();
        for _ in 0..connections {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut head = vec![0; 1 << 16];
            let length = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            answers.push(answer(stream, &head));
        }
        answers
    });
    (address, thread)
}

/// An answer with a length.
pub fn reply(stream: &mut TcpStream, status: &str, headers: &str, body: &str) {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    // The other end may have seen enough.
    let _ = stream.write_all(text.as_bytes());
}
