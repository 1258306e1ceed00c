//! Answers one request: its path, method and body enter, a page or an error leaves.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::find::in_process;
use super::reasons::reasons;
use super::selection::InvalidateOrder;
use super::stored::in_store;
use super::{
    FlowName, FoundFlow, OpenFlows, Sources, StatusError, findings, metrics, pages, spool,
};

/// The largest body of a request.
const MAX_BODY: usize = 16 << 10;
/// How long a client may take to send it.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

const JSON: &str = "application/json";

/// An answer.
type Page = Response<Full<Bytes>>;

/// Why there is no page.
struct Refusal {
    status: StatusCode,
    problem: String,
    /// The methods that there are instead.
    allow: Option<&'static str>,
}

impl Refusal {
    fn new(status: StatusCode, problem: impl Into<String>) -> Self {
        Self { status, problem: problem.into(), allow: None }
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
const PATHS: [(&str, &str); 16] = [
    ("/healthz", "GET, HEAD"),
    ("/readyz", "GET, HEAD"),
    ("/metrics", "GET, HEAD"),
    ("/api/v1/status", "GET, HEAD"),
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
    ("/api/v1/cache/flows", "GET, HEAD"),
    ("/api/v1/cache/invalidate", "POST"),
];

/// Answers a request.
pub async fn respond(
    sources: Arc<Sources>,
    workers: Arc<Semaphore>,
    request: Request<Incoming>,
) -> Result<Page, Infallible> {
    let (parts, body) = request.into_parts();
    let page = match answer(&sources, &workers, &parts, body).await {
        Ok(page) => page,
        Err(Refusal { status, problem, allow }) => {
            let mut page = json_page(status, &json!({ "error": problem }));
            if let Some(methods) = allow {
                page.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
            }
            page
        }
    };
    Ok(page)
}

async fn answer(
    sources: &Arc<Sources>,
    workers: &Semaphore,
    parts: &Parts,
    body: Incoming,
) -> Result<Page, Refusal> {
    check_host(&parts.headers)?;
    let path = parts.uri.path();
    let Some((_, methods)) = PATHS.iter().find(|(known, _)| *known == path) else {
        let known = PATHS.map(|(path, _)| path).join(", ");
        let problem = format!("there is no page {path}; there are {known}");
        return Err(Refusal::new(StatusCode::NOT_FOUND, problem));
    };
    if !methods.split(", ").any(|method| parts.method == method) {
        let problem = format!("{path} does not take {}; it takes {methods}", parts.method);
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Err(Refusal { allow: Some(methods), ..Refusal::new(status, problem) });
    }
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    match path {
        "/api/v1/flows" => query.only(&["key", "store"])?,
        "/api/v1/cache" => query.only(&["details"])?,
        "/api/v1/cache/flows" => query.only(&["limit"])?,
        _ => query.only(&[])?,
    }
    let page = match path {
        "/healthz" => either(pages::health(sources)),
        "/readyz" => either(pages::readiness(sources)),
        "/metrics" => metrics_page(work(sources, workers, metrics::collect).await?)?,
        "/api/v1/status" => {
            json_page(StatusCode::OK, &work(sources, workers, pages::status).await?)
        }
        "/api/v1/ledger" => json_page(StatusCode::OK, &pages::ledger(sources)),
        "/api/v1/spool" => json_page(StatusCode::OK, &spool::page(sources)),
        "/api/v1/latency" => json_page(StatusCode::OK, &pages::latency(sources)),
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
        "/api/v1/cache/flows" => {
            let limit = query.get("limit").map_or(Ok(OpenFlows::USUAL), OpenFlows::limit);
            let limit = limit.map_err(bad)?;
            let page = work(sources, workers, move |sources| OpenFlows::of(sources, limit));
            json_page(StatusCode::OK, &page.await??)
        }
        "/api/v1/flows" => flows(sources, workers, &query).await?,
        _ => invalidate(sources, workers, &parts.headers, body).await?,
    };
    Ok(page)
}

/// A page in a browser on this host must not be able to ask by another name for it.
fn check_host(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(host) = headers.get(HOST) else { return Ok(()) };
    let text = host.to_str().unwrap_or_default();
    let name = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => text.split(':').next().unwrap_or_default(),
    };
    let local = name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    if local || name.eq_ignore_ascii_case("localhost") {
        return Ok(());
    }
    let problem = format!("the host is {text:?}; ask by a loopback address or as localhost");
    Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, problem))
}

/// The part of a URL behind the question mark.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let pairs: Vec<_> = url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        let mut names: Vec<_> = pairs.iter().map(|(name, _)| name).collect();
        names.sort();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(bad(format!("{} is given twice", pair[0]))),
            None => Ok(Self(pairs)),
        }
    }

    fn only(&self, known: &[&str]) -> Result<(), Refusal> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) if known.is_empty() => {
                Err(bad(format!("{name:?} is no parameter here; there are none")))
            }
            Some((name, _)) => {
                Err(bad(format!("{name:?} is no parameter here; there are {}", known.join(", "))))
            }
        }
    }

    fn get(&self, wanted: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    fn switch(&self, name: &str, default: bool) -> Result<bool, Refusal> {
        match self.get(name) {
            None => Ok(default),
            Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(bad(format!("{name} is {other:?}; it must be true or false"))),
        }
    }
}

fn bad(problem: String) -> Refusal {
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
    let mut levels = work(sources, workers, move |sources| in_process(sources, &name)).await?;
    if ask_store {
        levels.push(in_store(sources, &name).await);
    }
    let found = FoundFlow { key: name.to_string(), levels, reasons: reasons(sources, &name) };
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

fn metrics_page(families: Vec<metrics::Family>) -> Result<Page, Refusal> {
    let failed =
        |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "a metric cannot be written: a bug");
    let text = metrics::encode(families).map_err(failed)?;
    Ok(page(StatusCode::OK, metrics::CONTENT_TYPE, text))
}

fn json_page(status: StatusCode, value: &impl serde::Serialize) -> Page {
    match serde_json::to_string(value) {
        Ok(mut text) => {
            text.push('\n');
            page(status, JSON, text)
        }
        // Maps with keys of text and finite numbers always can.
        Err(error) => page(
            StatusCode::INTERNAL_SERVER_ERROR,
            JSON,
            json!({ "error": error.to_string() }).to_string(),
        ),
    }
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Page {
    let mut page = Response::new(Full::new(Bytes::from(text)));
    *page.status_mut() = status;
    let headers = page.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_host_are_answered() {
        let check = |host: &'static str| {
            let headers = [(HOST, HeaderValue::from_static(host))].into_iter().collect();
            check_host(&headers).is_ok()
        };
        for host in ["127.0.0.1:9469", "127.0.0.1", "localhost:9469", "[::1]:9469", "LocalHost"] {
            assert!(check(host), "{host}");
        }
        for host in ["example.org", "10.0.0.1:9469", "", "127.0.0.1.example.org", "[2001:db8::1]"] {
            assert!(!check(host), "{host}");
        }
        assert!(check_host(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn parameters_are_known_and_given_once() {
        let query = |text| Query::parse(text).map_err(|refusal| refusal.problem);
        let good = query("key=tcp%2C1&store=false").expect("valid");
        assert_eq!(good.get("key"), Some("tcp,1"));
        assert!(good.only(&["key", "store"]).is_ok() && good.only(&["key"]).is_err());
        assert!(good.switch("store", true).is_ok_and(|store| !store));
        assert!(query("a=1&a=2").is_err_and(|problem| problem.contains("twice")));
        assert!(query("store=perhaps").expect("pairs").switch("store", true).is_err());
    }
}
