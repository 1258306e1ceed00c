//! Answers one HTTP request: enters its head and body, leaves the response as
//! ClickHouse writes it. What must hold: the status is sent only when the
//! statement has ended or its output is larger than [`HEAD`]; a failure after
//! that ends the body with ClickHouse's exception tag and a cut connection.

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{Fuse, FusedFuture as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN};
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use tempfile::SpooledTempFile;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::body::{self, Piece};
use super::encoding::Encoder;
use super::failure::{Failure, code};
use super::ffi::Figures;
use super::job::{Job, Progress};
use super::output::{self, Output, ResponseBody};
use super::places::Class;
use super::request::Request;
use super::state::{KillGuard, State};

/// Output up to this size is held back, so that a late failure still gets its
/// proper status.
const HEAD: usize = 1 << 20;
/// A body that makes no progress for this long is given up.
const BODY_IDLE: Duration = Duration::from_mins(1);
/// After an early failure the rest of the body is read and thrown away for at
/// most this long, so that the client can read the answer.
const DISCARD: Duration = Duration::from_secs(10);

/// Answers a request.
pub async fn respond(
    state: Arc<State>,
    request: HttpRequest<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let (parts, body) = request.into_parts();
    let reads = parts.method == Method::GET || parts.method == Method::HEAD;
    let bare = parts.uri.query().is_none_or(str::is_empty);
    match parts.uri.path() {
        "/ping" | "/replicas_status" => return Ok(text(StatusCode::OK, "Ok.\n".to_owned())),
        "/" if reads && bare => return Ok(text(StatusCode::OK, "Ok.\n".to_owned())),
        "/" => {}
        path => {
            let message = format!(
                "There is no handle {path}. Use / or /ping for health checks. Send queries from your program with POST method or GET /?query=...\n"
            );
            return Ok(text(StatusCode::NOT_FOUND, message));
        }
    }
    if is_from_a_page(&parts.headers) {
        let message =
            "A web page has sent this, and the store serves none: ask by a client of ClickHouse\n";
        return Ok(text(StatusCode::FORBIDDEN, message.to_owned()));
    }
    if !reads && parts.method != Method::POST && parts.method != Method::PUT {
        let message = format!("The method {} is not served; use GET or POST\n", parts.method);
        return Ok(text(StatusCode::METHOD_NOT_ALLOWED, message));
    }
    let read = Request::read(&parts, state.key.as_ref());
    let given = read.as_ref().ok().and_then(|request| request.query_id.clone());
    let query_id = given.unwrap_or_else(|| Uuid::now_v7().to_string());
    let answer = match read {
        Ok(request) => answer(&state, request, &query_id, body).await,
        Err(failure) => {
            discard(body).await;
            Err(failure)
        }
    };
    let mut response = answer.unwrap_or_else(|failure| {
        let mut response = text(failure.status(), failure.body(&state.version));
        set(&mut response, "x-clickhouse-exception-code", &failure.code.to_string());
        response
    });
    set(&mut response, "x-clickhouse-query-id", &query_id);
    set(&mut response, "x-clickhouse-timezone", &state.timezone);
    set(&mut response, "x-clickhouse-server-display-name", &state.display_name);
    Ok(response)
}

/// Whether a browser says that a page has it send this. Any page can have it send something to
/// loopback, where nobody is asked for a password.
fn is_from_a_page(headers: &HeaderMap) -> bool {
    let elsewhere = |site: &HeaderValue| site == "cross-site" || site == "same-site";
    headers.contains_key(ORIGIN) || headers.get("sec-fetch-site").is_some_and(elsewhere)
}

/// A statement that runs on its thread.
struct Running {
    job: JoinHandle<Result<Figures, Failure>>,
    pipe: pipe::Receiver,
    progress: Arc<Progress>,
    kill: KillGuard,
    /// Moves the request's body there.
    pump: Fuse<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

async fn answer(
    state: &Arc<State>,
    request: Request,
    query_id: &str,
    body: Incoming,
) -> Result<Response<ResponseBody>, Failure> {
    let started = Instant::now();
    let (accept, wait_end) = (request.accept, request.wait_end);
    let mut encoder = Encoder::new(request.compress, accept).map_err(system)?;
    let mut running = start(state, request, query_id, body).await?;
    let progress = Arc::clone(&running.progress);
    let tag = Uuid::now_v7().simple().to_string().split_off(16);
    let mut figures = Figures::default();
    let body = if wait_end {
        let mut spool = SpooledTempFile::new(HEAD);
        let mut ended = false;
        while !ended {
            let piece;
            (piece, ended) = running.read(HEAD / 4).await.map_err(system)?;
            let encoded = encoder.write(&piece).map_err(system)?;
            spool.write_all(&encoded).map_err(system)?;
        }
        figures = running.end().await?;
        spool.write_all(&encoder.finish().map_err(system)?).map_err(system)?;
        output::spooled(spool).map_err(system)?
    } else {
        let (head, ended) = running.read(HEAD).await.map_err(system)?;
        if ended {
            figures = running.end().await?;
            let mut bytes = encoder.write(&head).map_err(system)?;
            bytes.extend(encoder.finish().map_err(system)?);
            output::whole(bytes)
        } else {
            let (tag, version) = (tag.clone(), state.version.clone());
            let Running { job, pipe, kill, .. } = running;
            Output { head, pipe, encoder, job, tag, version, kill }.into_body()
        }
    };
    let mut response = Response::new(body);
    let format = progress.format.get().map_or("TabSeparated", String::as_str);
    set(&mut response, "content-type", output::content_type(format));
    set(&mut response, "x-clickhouse-format", format);
    set(&mut response, "x-clickhouse-summary", &summary(&figures, started.elapsed()));
    set(&mut response, "x-clickhouse-exception-tag", &tag);
    if let Some(encoding) = accept {
        set(&mut response, CONTENT_ENCODING.as_str(), encoding.name());
    }
    Ok(response)
}

/// Waits for a place and starts the statement.
async fn start(
    state: &Arc<State>,
    request: Request,
    query_id: &str,
    mut body: Incoming,
) -> Result<Running, Failure> {
    let progress = Arc::new(Progress::default());
    let registered = state.register(query_id, &progress)?;
    let first = if request.query.is_empty() { frame(&mut body).await } else { None };
    let class = match &first {
        _ if !request.query.is_empty() => Class::of(request.query.as_bytes()),
        Some(Piece::Data(data)) if request.is_plain() => Class::of(data),
        _ => Class::Other,
    };
    let place = match state.places.take(class).await {
        Ok(place) => place,
        Err(failure) => {
            tokio::spawn(discard(body));
            return Err(failure);
        }
    };
    let (sender, reader) = body::channel();
    let (out, pipe) = pipe::pipe().map_err(system)?;
    let job = Job {
        engine: Arc::clone(&state.engine),
        sessions: Arc::clone(&state.sessions),
        request,
        query_id: query_id.to_owned(),
        body: reader,
        out: out.into_blocking_fd().map_err(system)?,
        progress: Arc::clone(&progress),
    };
    let kill = KillGuard {
        engine: Arc::clone(&state.engine),
        query_id: query_id.to_owned(),
        progress: Arc::clone(&progress),
    };
    let job = tokio::task::spawn_blocking(move || {
        let result = job.run();
        drop((registered, place));
        result
    });
    let pump =
        (Box::pin(pump(first, body, sender)) as Pin<Box<dyn Future<Output = ()> + Send>>).fuse();
    Ok(Running { job, pipe, progress, kill, pump })
}

impl Running {
    /// Reads output until there is at least `limit` or it has ended (then true).
    async fn read(&mut self, limit: usize) -> io::Result<(Vec<u8>, bool)> {
        let mut output = Vec::new();
        while output.len() < limit {
            output.reserve(64 << 10);
            tokio::select! {
                biased;
                () = &mut self.pump => {}
                n = self.pipe.read_buf(&mut output) => if n? == 0 {
                    return Ok((output, true));
                },
            }
        }
        Ok((output, false))
    }

    /// The figures of a statement whose output has ended.
    async fn end(self) -> Result<Figures, Failure> {
        let pump = async {
            if !self.pump.is_terminated() {
                self.pump.await;
            }
        };
        let (result, ()) = tokio::join!(self.job, pump);
        output::joined(result)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function in map_err")]
fn system(error: io::Error) -> Failure {
    Failure::new(code::LOGICAL_ERROR, "LOGICAL_ERROR", format_args!("The store: {error}"))
}

/// The next piece of the body; none for what is no data.
async fn frame(body: &mut Incoming) -> Option<Piece> {
    Some(match tokio::time::timeout(BODY_IDLE, body.frame()).await {
        Err(_) => Piece::Cut(format!("nothing came for {} s", BODY_IDLE.as_secs())),
        Ok(None) => Piece::End,
        Ok(Some(Err(error))) => Piece::Cut(error.to_string()),
        Ok(Some(Ok(frame))) => Piece::Data(frame.into_data().ok()?),
    })
}

/// Moves the body, of which the first piece may have been read, to the statement's thread.
async fn pump(mut first: Option<Piece>, mut body: Incoming, sender: mpsc::Sender<Piece>) {
    loop {
        let next = match first.take() {
            Some(piece) => Some(piece),
            None => frame(&mut body).await,
        };
        let Some(piece) = next else { continue };
        let last = !matches!(piece, Piece::Data(_));
        if sender.send(piece).await.is_err() {
            return discard(body).await;
        }
        if last {
            return;
        }
    }
}

async fn discard(mut body: Incoming) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    // A client that still sends after that sees the connection close.
    let _ = tokio::time::timeout(DISCARD, rest).await;
}

fn summary(figures: &Figures, elapsed: Duration) -> String {
    format!(
        r#"{{"read_rows":"{}","read_bytes":"{}","written_rows":"{}","written_bytes":"{}","total_rows_to_read":"{}","result_rows":"{}","result_bytes":"{}","elapsed_ns":"{}"}}"#,
        figures.read_rows,
        figures.read_bytes,
        figures.written_rows,
        figures.written_bytes,
        figures.read_rows,
        figures.result_rows,
        figures.result_bytes,
        elapsed.as_nanos(),
    )
}

fn text(status: StatusCode, text: String) -> Response<ResponseBody> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
    response
}

fn set(response: &mut Response<ResponseBody>, name: &'static str, value: &str) {
    // A query id of the client may hold what a header may not: then it is left out.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
