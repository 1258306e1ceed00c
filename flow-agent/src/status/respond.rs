//! Answers one request: its path, method and body enter, a page or an error leaves.
//!
//! Who asks must have the token, if there is one, and ask no oftener than it may. Each answer
//! has the name of its request, which is in the log, too.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::access_log::{X_REQUEST_ID, request_id};
use super::find::in_process;
use super::flow_search::{self, Search};
use super::pprof::{MOST_SECONDS, USUAL_SECONDS};
use super::query::Query;
use super::reasons::{lost_meanwhile, reasons};
use super::selection::InvalidateOrder;
use super::service::Service;
use super::stored::in_store;
use super::{FlowName, FoundFlow, Sources, StatusError};
use super::{findings, history, metrics, openapi, overview, page, pages, pprof, spool, trace};

/// The largest body of a request.
pub const MAX_BODY: usize = 16 << 10;
/// How long a client may take to send it.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

const JSON: &str = "application/json";

/// An answer.
type Page = Response<Full<Bytes>>;

/// Why there is no page.
pub struct Refusal {
    /// Told in the head.
    pub status: StatusCode,
    /// One sentence.
    pub problem: String,
    /// What the client may do about it.
    pub hint: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// Without a hint.
    pub fn new(status: StatusCode, problem: impl Into<String>) -> Self {
        Self { status, problem: problem.into(), hint: None }
    }
}

impl From<StatusError> for Refusal {
    fn from(error: StatusError) -> Self {
        let status = match error {
            StatusError::Refused { usage: true, .. } => StatusCode::BAD_REQUEST,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

/// Every path, with its methods.
pub const PATHS: [(&str, &str); 23] = [
    ("/", "GET, HEAD"),
    ("/healthz", "GET, HEAD"),
    ("/readyz", "GET, HEAD"),
    ("/metrics", "GET, HEAD"),
    ("/api/v1/status", "GET, HEAD"),
    ("/api/v1/config", "GET, HEAD"),
    ("/api/v1/ledger", "GET, HEAD"),
    ("/api/v1/cache", "GET, HEAD"),
    ("/api/v1/spool", "GET, HEAD"),
    ("/api/v1/latency", "GET, HEAD"),
    ("/api/v1/interfaces", "GET, HEAD"),
    ("/api/v1/events", "GET, HEAD"),
    ("/api/v1/devices", "GET, HEAD"),
    ("/api/v1/top", "GET, HEAD"),
    ("/api/v1/enrichment", "GET, HEAD"),
    ("/api/v1/flows", "GET, HEAD"),
    ("/api/v1/flows/open", "GET, HEAD"),
    ("/api/v1/history", "GET, HEAD"),
    ("/api/v1/overview", "GET, HEAD"),
    ("/api/v1/cache/invalidate", "POST"),
    ("/api/v1/openapi.json", "GET, HEAD"),
    ("/debug/pprof/profile", "GET, HEAD"),
    ("/debug/pprof/heap", "GET, HEAD"),
];

/// Answers a request.
pub async fn respond(
    service: Arc<Service>,
    client: IpAddr,
    request: Request<Incoming>,
) -> Result<Page, Infallible> {
    let begun = Instant::now();
    let (parts, body) = request.into_parts();
    let id = request_id(&parts.headers);
    let name = id.to_str().unwrap_or_default();
    let answered = match service.admit(client, &parts, begun) {
        Err(refusal) => Err(refusal),
        Ok(()) => match parts.uri.path() {
            path if path.starts_with("/debug/pprof/") => profile(&service, path, &parts).await,
            _ => answer(&service.sources, &service.workers, &parts, body).await,
        },
    };
    let mut page = answered.unwrap_or_else(|Refusal { status, problem, hint }| {
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(request_id = name, "the status cannot answer: {problem}");
        }
        let mut page = json_page(status, &json!({ "error": problem, "request_id": name }));
        page.headers_mut().extend(hint);
        page
    });
    tracing::debug!(
        request_id = name,
        %client,
        method = %parts.method,
        // What was asked for may name addresses: it stays out of the log.
        path = parts.uri.path(),
        status = page.status().as_u16(),
        octets = hyper::body::Body::size_hint(page.body()).lower(),
        ms = begun.elapsed().as_secs_f64() * 1e3,
        "the status was asked"
    );
    page.headers_mut().insert(X_REQUEST_ID, id);
    Ok(page)
}

async fn answer(
    sources: &Arc<Sources>,
    workers: &Semaphore,
    parts: &Parts,
    body: Incoming,
) -> Result<Page, Refusal> {
    if let Some(page) = page::answer(&parts.method, parts.uri.path(), &parts.headers) {
        return Ok(page);
    }
    let path = known(parts)?;
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    check_parameters(path, &query)?;
    let page = match path {
        "/healthz" => either(pages::health(sources)),
        "/readyz" => either(pages::readiness(sources)),
        "/metrics" => {
            let families = work(sources, workers, metrics::collect).await?;
            metrics_page(families, metrics::Form::asked(parts.headers.get(ACCEPT)))?
        }
        "/api/v1/openapi.json" => page(StatusCode::OK, JSON, openapi::DOCUMENT.into()),
        "/api/v1/status" => {
            json_page(StatusCode::OK, &work(sources, workers, pages::status).await?)
        }
        "/api/v1/config" => json_page(StatusCode::OK, &sources.configuration.page()),
        "/api/v1/ledger" => json_page(StatusCode::OK, &pages::ledger(sources)),
        "/api/v1/spool" => json_page(StatusCode::OK, &spool::page(sources)),
        "/api/v1/latency" => {
            json_page(StatusCode::OK, &pages::latency(sources, query.switch("buckets", false)?))
        }
        "/api/v1/interfaces" => json_page(StatusCode::OK, &pages::interfaces(sources)),
        "/api/v1/events" => json_page(StatusCode::OK, &findings::events(sources)),
        "/api/v1/devices" => json_page(StatusCode::OK, &findings::devices(sources)),
        "/api/v1/top" => json_page(StatusCode::OK, &findings::top(sources)),
        "/api/v1/enrichment" => json_page(StatusCode::OK, &findings::enrichment(sources)),
        "/api/v1/cache" => {
            let details = query.switch("details", false)?;
            let page = work(sources, workers, move |sources| pages::cache(sources, details));
            json_page(StatusCode::OK, &page.await??)
        }
        "/api/v1/flows/open" => {
            let most = query.number("limit", 100, 1..=flow_search::MOST as u64)?;
            let names = sources.names.current();
            let search = Search::parse(query.get("search").unwrap_or_default(), &names);
            let search = search.map_err(bad)?;
            let job = move |sources: &Sources| flow_search::page(sources, &search, most as usize);
            json_page(StatusCode::OK, &work(sources, workers, job).await??)
        }
        "/api/v1/history" => {
            let span = history::span(query.get("hours")).map_err(bad)?;
            json_page(StatusCode::OK, &history::page(sources, span).await?)
        }
        "/api/v1/overview" => {
            let since = query.number("since", 0, 0..=u64::MAX)?;
            let page = work(sources, workers, move |sources| overview::overview(sources, since));
            json_page(StatusCode::OK, &page.await?)
        }
        "/api/v1/flows" => flows(sources, workers, &query).await?,
        _ => invalidate(sources, workers, &parts.headers, body).await?,
    };
    Ok(page)
}

/// Whether the page at this path takes such parameters.
pub fn check_parameters(path: &str, query: &Query) -> Result<(), Refusal> {
    query.only(match path {
        "/api/v1/flows" => &["key", "store"],
        "/api/v1/cache" => &["details"],
        "/api/v1/flows/open" => &["search", "limit"],
        "/api/v1/history" => &["hours"],
        "/api/v1/overview" => &["since"],
        "/api/v1/latency" => &["buckets"],
        _ => &[],
    })
}

/// The path, if there is a page for it and it takes the method.
pub fn known(parts: &Parts) -> Result<&str, Refusal> {
    let path = parts.uri.path();
    let Some((_, methods)) = PATHS.iter().find(|(known, _)| *known == path) else {
        let known = PATHS.map(|(path, _)| path).join(", ");
        let problem = format!("there is no page {path}; there are {known}");
        return Err(Refusal::new(StatusCode::NOT_FOUND, problem));
    };
    if !methods.split(", ").any(|method| parts.method == method) {
        let problem = format!("{path} does not take {}; it takes {methods}", parts.method);
        let hint = Some((ALLOW, HeaderValue::from_static(methods)));
        return Err(Refusal { hint, ..Refusal::new(StatusCode::METHOD_NOT_ALLOWED, problem) });
    }
    Ok(path)
}

/// `/debug/pprof/...`: what uses the CPU, and what the allocator says.
async fn profile(service: &Service, path: &str, parts: &Parts) -> Result<Page, Refusal> {
    known(parts)?;
    if !service.profiler.is_on() {
        let problem = "profiling is switched off; write pprof = true in [status] of the \
                       configuration and restart the agent";
        return Err(Refusal::new(StatusCode::NOT_FOUND, problem));
    }
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    if path == "/debug/pprof/heap" {
        query.only(&[])?;
        let heap = work(&service.sources, &service.workers, |_| pprof::heap()).await??;
        return Ok(json_page(StatusCode::OK, &heap));
    }
    query.only(&["seconds"])?;
    let seconds = query.get("seconds").map_or(Ok(USUAL_SECONDS), str::parse);
    let seconds = seconds.ok().filter(|seconds| (1..=MOST_SECONDS).contains(seconds));
    let seconds = seconds.ok_or_else(|| bad(format!("seconds must be 1 to {MOST_SECONDS}")))?;
    let profile = service.profiler.cpu(Duration::from_secs(seconds)).await?;
    Ok(page(StatusCode::OK, "application/octet-stream", profile.into()))
}

/// What is asked is wrong.
pub fn bad(problem: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, problem)
}

/// Does in a thread what may take long; as many at one time as there are workers.
async fn work<T: Send + 'static>(
    sources: &Arc<Sources>,
    workers: &Semaphore,
    job: impl FnOnce(&Sources) -> T + Send + 'static,
) -> Result<T, Refusal> {
    let ended = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the question failed: a bug");
    // Never closed.
    let _place = workers.acquire().await;
    let sources = sources.clone();
    tokio::task::spawn_blocking(move || job(&sources)).await.map_err(ended)
}

async fn flows(
    sources: &Arc<Sources>,
    workers: &Semaphore,
    query: &Query,
) -> Result<Page, Refusal> {
    let missing = || bad("the key is missing: /api/v1/flows?key=PROTOCOL,END,END".into());
    let name: FlowName = query.get("key").ok_or_else(missing)?.parse().map_err(bad)?;
    let ask_store = query.switch("store", true)?;
    let look = move |sources: &Sources| (in_process(sources, &name), reasons(sources, &name));
    let (mut levels, mut reasons) = work(sources, workers, look).await?;
    if ask_store {
        levels.push(in_store(sources, &name).await);
    }
    reasons.extend(lost_meanwhile(sources, &levels));
    let (outcome, conclusion) = trace::conclude(sources, &name, &levels);
    let steps = trace::steps(sources, &name, &levels);
    let (key, outcome) = (name.to_string(), outcome.to_owned());
    let found = FoundFlow { key, outcome, conclusion, steps, levels, reasons };
    Ok(json_page(StatusCode::OK, &found))
}

async fn invalidate(
    sources: &Arc<Sources>,
    workers: &Semaphore,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Page, Refusal> {
    // A form of a web page cannot have this type without asking first, which is refused.
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(JSON) {
        let problem = format!("the content type is {kind:?}; it must be {JSON}");
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, problem));
    }
    let collected = Limited::new(body, MAX_BODY).collect();
    let body = match tokio::time::timeout(BODY_TIMEOUT, collected).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let problem = format!("the body is larger than {MAX_BODY} octets");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, problem));
        }
        Ok(Err(error)) => return Err(bad(format!("the body broke off: {error}"))),
        Err(_) => {
            let problem = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
            return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, problem));
        }
    };
    let order: InvalidateOrder = serde_json::from_slice(&body)
        .map_err(|error| bad(format!("the body is no order to invalidate: {error}")))?;
    let report = work(sources, workers, move |sources| order.carry_out(sources)).await??;
    Ok(json_page(StatusCode::OK, &report))
}

fn either((good, page): (bool, Value)) -> Page {
    json_page(if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &page)
}

fn metrics_page(families: Vec<metrics::Family>, form: metrics::Form) -> Result<Page, Refusal> {
    let failed =
        |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "a metric cannot be written: a bug");
    let text = metrics::encode(families, form).map_err(failed)?;
    Ok(page(StatusCode::OK, form.content_type(), text.into()))
}

fn json_page(status: StatusCode, value: &impl serde::Serialize) -> Page {
    match serde_json::to_string(value) {
        Ok(mut text) => {
            text.push('\n');
            page(status, JSON, text.into())
        }
        // Maps with keys of text and finite numbers always can.
        Err(error) => page(
            StatusCode::INTERNAL_SERVER_ERROR,
            JSON,
            json!({ "error": error.to_string() }).to_string().into(),
        ),
    }
}

fn page(status: StatusCode, kind: &'static str, octets: Bytes) -> Page {
    let mut page = Response::new(Full::new(octets));
    *page.status_mut() = status;
    let headers = page.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    page
}
