//! The client of the commands: one request to a running agent, one answer.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{FlowName, FoundFlow, InvalidateOrder, StatusError};
use crate::sink::Secret;

/// How long an agent may take to answer: longer than its store may.
const PATIENCE: Duration = Duration::from_secs(20);
/// No answer is larger.
const MAX_ANSWER: usize = 64 << 20;

/// Asks the agent at an address.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    token: Option<Secret>,
    tls: Option<Arc<ClientConfig>>,
}

impl Client {
    /// Asks the agent there; nothing is sent yet.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, token: None, tls: None }
    }

    /// Shows this token.
    #[must_use]
    pub fn with_token(self, token: Secret) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Asks over TLS: the agent's certificate must be for its address.
    #[must_use]
    pub fn with_tls(self, config: Arc<ClientConfig>) -> Self {
        Self { tls: Some(config), ..self }
    }

    /// Where it asks.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The figures of the flow cache, and its details.
    ///
    /// # Errors
    /// No agent answers, or it refuses.
    pub fn cache(&self) -> Result<Value, StatusError> {
        self.ask(Method::GET, "/api/v1/cache?details=true", String::new())
    }

    /// Has the cache emit flows.
    ///
    /// # Errors
    /// No agent answers, or it refuses.
    pub fn invalidate(&self, order: &InvalidateOrder) -> Result<Value, StatusError> {
        let body = serde_json::to_string(order)
            .map_err(|error| StatusError::Usage { problem: error.to_string() })?;
        self.ask(Method::POST, "/api/v1/cache/invalidate", body)
    }

    /// Looks for a flow on all levels.
    ///
    /// # Errors
    /// No agent answers, or it refuses.
    pub fn find(&self, name: &FlowName) -> Result<FoundFlow, StatusError> {
        let key: String =
            url::form_urlencoded::byte_serialize(name.to_string().as_bytes()).collect();
        self.ask(Method::GET, &format!("/api/v1/flows?key={key}"), String::new())
    }

    /// A page, for example `/api/v1/ledger`.
    ///
    /// # Errors
    /// No agent answers, or it refuses.
    pub fn page(&self, path: &str) -> Result<Value, StatusError> {
        self.ask(Method::GET, path, String::new())
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: String,
    ) -> Result<T, StatusError> {
        let address = self.address;
        let not_understood = |problem: String| StatusError::NotUnderstood { address, problem };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| self.no_agent(&error))?;
        let answer = async {
            let asked = self.send(method, target, body);
            match tokio::time::timeout(PATIENCE, asked).await {
                Ok(answer) => answer,
                Err(_) => Err(StatusError::Silent { address, seconds: PATIENCE.as_secs() }),
            }
        };
        let (status, text) = runtime.block_on(answer)?;
        if status == 200 {
            return serde_json::from_slice(&text)
                .map_err(|error| not_understood(error.to_string()));
        }
        let said: Option<Value> = serde_json::from_slice(&text).ok();
        match said.as_ref().and_then(|value| value["error"].as_str()) {
            Some(problem) => {
                Err(StatusError::Refused { problem: problem.into(), usage: status == 400 })
            }
            None => Err(not_understood(format!("it answers with status {status}"))),
        }
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        body: String,
    ) -> Result<(u16, Bytes), StatusError> {
        let stream = tokio::net::TcpStream::connect(self.address).await;
        let stream = stream.map_err(|error| self.no_agent(&error))?;
        let Some(tls) = &self.tls else { return self.exchange(stream, method, target, body).await };
        let name = ServerName::from(self.address.ip());
        let stream = tokio_rustls::TlsConnector::from(tls.clone()).connect(name, stream).await;
        let stream = stream.map_err(|error| StatusError::Tls {
            address: self.address,
            problem: error.to_string(),
        })?;
        self.exchange(stream, method, target, body).await
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        method: Method,
        target: &str,
        body: String,
    ) -> Result<(u16, Bytes), StatusError> {
        let failed = |error: hyper::Error| {
            let problem = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            StatusError::NotUnderstood { address: self.address, problem }
        };
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(failed)?;
        let _connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/json");
        let request = match &self.token {
            None => request,
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {}", token.expose())),
        };
        // A token is one line without control characters; all else is ours.
        let request = request.body(Full::new(Bytes::from(body)));
        let request = request.map_err(|error| StatusError::Usage { problem: error.to_string() })?;
        let answer = sender.send_request(request).await.map_err(failed)?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let broken = |error: Box<dyn std::error::Error + Send + Sync>| StatusError::NotUnderstood {
            address: self.address,
            problem: error.to_string(),
        };
        Ok((status, body.map_err(broken)?.to_bytes()))
    }

    fn no_agent(&self, error: &std::io::Error) -> StatusError {
        StatusError::NoAgent { address: self.address, problem: error.to_string() }
    }
}
