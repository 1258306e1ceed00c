//! The client of the commands: one request to a running agent, one answer.

use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{FlowName, FoundFlow, InvalidateOrder, OpenFlows, StatusError};

/// How long an agent may take to answer: longer than its store may.
const PATIENCE: Duration = Duration::from_secs(20);
/// No answer is larger.
const MAX_ANSWER: usize = 64 << 20;

/// Asks the agent at an address.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    address: SocketAddr,
}

impl Client {
    /// Asks the agent there; nothing is sent yet.
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// The figures of the flow cache, and its details.
    ///
    /// # Errors
    /// No agent answers, or it refuses.
    pub fn cache(&self) -> Result<Value, StatusError> {
        self.ask(Method::GET, "/api/v1/cache?details=true", String::new())
    }

    /// The open flows with the most octets.
    ///
    /// # Errors
    /// No agent answers, or it refuses.
    pub fn open_flows(&self, limit: usize) -> Result<OpenFlows, StatusError> {
        self.ask(Method::GET, &format!("/api/v1/cache/flows?limit={limit}"), String::new())
    }

    /// A page as it is.
    ///
    /// # Errors
    /// No agent answers, or it refuses.
    pub fn page(&self, target: &str) -> Result<Value, StatusError> {
        self.ask(Method::GET, target, String::new())
    }

    /// Where it asks.
    pub fn address(&self) -> SocketAddr {
        self.address
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
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .expect("method, target and headers are well-formed");
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
