//! What a client of the embedded store sends enters, as the store's own HTTP reads it; what its
//! engine would be asked leaves. No engine is asked.

use std::convert::Infallible;
use std::io::{Cursor, Read as _};
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request as HttpRequest, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;

use super::framing::FrameReader;
use super::lexer::{Kind, Lexer};
use super::request::Request;
use super::settings::set_statement;
use super::sql::{self, Statement};
use super::{multipart, server};

/// So much of a decoded body is looked at.
const MOST: usize = 1 << 20;

/// What an engine would be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Texts, each of which the engine must take for one statement.
    pub statements: Vec<Vec<u8>>,
    /// It came by GET: nothing may change.
    pub readonly: bool,
}

/// Serves a connection on which a client sends this and then nothing more.
pub async fn connection(octets: &[u8]) -> Vec<Result<Asked, String>> {
    let (mut client, served) = tokio::io::duplex(octets.len().max(1) + (64 << 10));
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = requests.clone();
    let service = service_fn(move |request: HttpRequest<Incoming>| {
        let seen = seen.clone();
        async move {
            let asked = read(request).await;
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
        }
    });
    // There is room for all of it.
    let _ = client.write_all(octets).await;
    let _ = client.shutdown().await;
    let _ = server::protocol().serve_connection(TokioIo::new(served), service).await;
    std::mem::take(&mut *requests.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What `job` does with a request, up to the engine.
async fn read(request: HttpRequest<Incoming>) -> Result<Asked, String> {
    let (parts, body) = request.into_parts();
    let mut request = Request::read(&parts, None).map_err(|failure| failure.to_string())?;
    let body = Limited::new(body, MOST).collect().await.map_err(|error| error.to_string())?;
    let mut body =
        decoded(&request, body.to_bytes().to_vec()).map_err(|error| error.to_string())?;
    if let Some(boundary) = request.boundary.take() {
        let fields = multipart::fields(&body, &boundary).map_err(|failure| failure.to_string())?;
        body = Vec::new();
        for (name, value) in fields {
            let value = String::from_utf8_lossy(&value).into_owned();
            match &*name {
                "query" => request.query = value,
                _ => request.add(&name, value),
            }
        }
    }
    let mut text = request.query.clone().into_bytes();
    text.extend(body);
    let id = request.query_id.clone().unwrap_or_default();
    let settings = set_statement(&id, &request.settings).map_err(|failure| failure.to_string())?;
    let mut statements = vec![settings.into_bytes()];
    match sql::parse(&text).map_err(|failure| failure.to_string())? {
        Statement::Insert { head, data_at, .. } => {
            assert!(text.starts_with(&head) && head.len() <= data_at && data_at <= text.len());
            statements.push(head);
        }
        Statement::Output { mut before, after, .. } => {
            before.extend(b" ");
            before.extend(after);
            statements.push(before);
        }
        Statement::Plain { sql, .. } => statements.push(sql),
    }
    Ok(Asked { statements, readonly: request.readonly })
}

/// The body without its encodings.
fn decoded(request: &Request, body: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut reader: Box<dyn std::io::Read + Send> = Box::new(Cursor::new(body));
    if let Some(encoding) = request.body_encoding {
        reader = encoding.reader(reader)?;
    }
    if request.decompress {
        reader = Box::new(FrameReader::new(reader));
    }
    let mut plain = Vec::new();
    reader.take(MOST as u64).read_to_end(&mut plain)?;
    Ok(plain)
}

/// True if a text has a semicolon between statements, by ClickHouse's tokens.
pub fn has_several(text: &[u8]) -> bool {
    Lexer::new(text).any(|token| token.kind == Kind::Semicolon)
}
