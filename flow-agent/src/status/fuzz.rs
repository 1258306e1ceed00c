//! What a client of the status sends enters, as the server's own HTTP reads it; whether there is
//! a page for it, and with which parameters, leaves. Nothing is asked of the agent's stages.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::flow_search::Search;
use super::query::Query;
use super::respond::{self, Refusal};
use super::{FlowName, InvalidateOrder, history, page, server, service};
use crate::names::Names;

/// What became of a connection's octets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Each request that was read: the path of the page, or why there is none.
    pub requests: Vec<Result<String, String>>,
    /// What the client gets.
    pub answer: Vec<u8>,
}

/// Serves a connection on which a client sends this and then nothing more.
pub async fn connection(octets: &[u8]) -> Asked {
    let (mut client, server) = tokio::io::duplex(octets.len().max(1) + (64 << 10));
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = requests.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = seen.clone();
        async move {
            let page = route(request).await.map_err(|refusal| refusal.problem);
            let text = page.clone().unwrap_or_else(|problem| problem);
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(page);
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
        }
    });
    // There is room for all of it.
    let _ = client.write_all(octets).await;
    let _ = client.shutdown().await;
    let _ = server::protocol().serve_connection(TokioIo::new(server), service).await;
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    let requests = std::mem::take(&mut *requests.lock().unwrap_or_else(PoisonError::into_inner));
    Asked { requests, answer }
}

/// The way of a request up to the stages.
async fn route(request: Request<Incoming>) -> Result<String, Refusal> {
    let (parts, body) = request.into_parts();
    service::check_host(&parts.headers)?;
    if page::answer(&parts.method, parts.uri.path(), &parts.headers).is_some() {
        return Ok(parts.uri.path().to_owned());
    }
    let path = respond::known(&parts)?;
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    respond::check_parameters(path, &query)?;
    let names = Names::new("host", &["eth0", "blue/veth1"]);
    match path {
        "/api/v1/flows" => {
            let name: FlowName =
                query.get("key").unwrap_or_default().parse().map_err(respond::bad)?;
            let again: Result<FlowName, String> = name.to_string().parse();
            assert_eq!(again.as_ref(), Ok(&name), "what is printed is understood");
        }
        "/api/v1/flows/open" => {
            query.number("limit", 100, 1..=200)?;
            let search = query.get("search").unwrap_or_default();
            Search::parse(search, &names).map_err(respond::bad)?;
        }
        "/api/v1/history" => {
            history::span(query.get("hours")).map_err(respond::bad)?;
        }
        "/api/v1/overview" => {
            query.number("since", 0, 0..=u64::MAX)?;
        }
        "/api/v1/latency" => {
            query.switch("buckets", false)?;
        }
        "/api/v1/cache" => {
            query.switch("details", false)?;
        }
        "/api/v1/cache/invalidate" => {
            let body = Limited::new(body, respond::MAX_BODY).collect().await;
            let body = body.map_err(|error| respond::bad(error.to_string()))?.to_bytes();
            let order: InvalidateOrder =
                serde_json::from_slice(&body).map_err(|error| respond::bad(error.to_string()))?;
            order.check(&names)?;
        }
        _ => {}
    }
    Ok(path.to_owned())
}
