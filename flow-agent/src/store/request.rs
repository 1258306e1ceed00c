//! What a client asks for: enters URL and headers, leaves one `Request` with
//! the engine's settings told apart from the server's own parameters.

use std::time::Duration;

use hyper::http::request::Parts;
use hyper::{HeaderMap, Method};

use super::credentials::{Credentials, Key};
use super::encoding::Encoding;
use super::failure::{Failure, code};
use super::settings::is_server_own;

/// One request, without its body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The `query` parameter.
    pub query: String,
    /// The database to work in.
    pub database: Option<String>,
    /// The output format when the statement names none.
    pub format: Option<String>,
    /// Settings for the engine.
    pub settings: Vec<(String, String)>,
    /// Query parameters, without `param_`.
    pub params: Vec<(String, String)>,
    /// The client's id of the query.
    pub query_id: Option<String>,
    /// The session, if the client wants one.
    pub session: Option<Session>,
    /// Whether the statement must not change data (GET).
    pub readonly: bool,
    /// Whether the body has native framing.
    pub decompress: bool,
    /// Whether the response has native framing.
    pub compress: bool,
    /// Whether the client wants the Native format of the TCP protocol.
    pub native_revision: bool,
    /// Whether the response starts only when the statement has ended.
    pub wait_end: bool,
    /// The encoding of the body.
    pub body_encoding: Option<Encoding>,
    /// The encoding of the response.
    pub accept: Option<Encoding>,
    /// The boundary of a `multipart/form-data` body.
    pub boundary: Option<String>,
}

/// A client's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its name.
    pub id: String,
    /// How long it is kept between requests.
    pub timeout: Duration,
    /// Whether it must exist already.
    pub check: bool,
}

const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_mins(1);
const MAX_SESSION_TIMEOUT: Duration = Duration::from_hours(1);

impl Request {
    /// Reads URL and headers; refuses who does not have the key, if there is one.
    pub fn read(parts: &Parts, key: Option<&Key>) -> Result<Self, Failure> {
        let headers = &parts.headers;
        let mut request = Self {
            readonly: parts.method == Method::GET || parts.method == Method::HEAD,
            database: header(headers, "x-clickhouse-database"),
            format: header(headers, "x-clickhouse-format"),
            query_id: header(headers, "x-clickhouse-query-id"),
            ..Self::default()
        };
        let mut credentials = Credentials::from_headers(headers)?;
        let mut encode_response = true;
        let mut session: Option<Session> = None;
        let (mut timeout, mut check) = (DEFAULT_SESSION_TIMEOUT, false);
        let pairs = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        for (name, value) in pairs {
            let value = value.into_owned();
            match &*name {
                "query" => request.query = value,
                "database" => request.database = Some(value),
                "default_format" => request.format = Some(value),
                "query_id" => request.query_id = Some(value),
                "user" => credentials.user = value,
                "password" => credentials.password = value,
                "compress" => request.compress = is_true(&value),
                "decompress" => request.decompress = is_true(&value),
                "client_protocol_version" => request.native_revision = !matches!(&*value, "" | "0"),
                "wait_end_of_query" => request.wait_end = is_true(&value),
                "enable_http_compression" => encode_response = is_true(&value),
                "session_id" => {
                    session = Some(Session { id: value, timeout, check });
                }
                "session_check" => check = is_true(&value),
                "session_timeout" => {
                    let seconds = value.parse().map_err(|_| {
                        bad(format_args!(
                            "Invalid session timeout: '{value}' is no number of seconds"
                        ))
                    })?;
                    timeout = Duration::from_secs(seconds).min(MAX_SESSION_TIMEOUT);
                }
                "role" if value.is_empty() => {}
                "role" => {
                    return Err(Failure::new(
                        code::UNKNOWN_ROLE,
                        "UNKNOWN_ROLE",
                        format_args!("There is no role `{value}`: the embedded store has no roles"),
                    ));
                }
                _ => request.add(&name, value),
            }
        }
        credentials.check(key)?;
        request.session =
            session.filter(|s| !s.id.is_empty()).map(|s| Session { timeout, check, ..s });
        request.query_id = request.query_id.filter(|id| !id.is_empty());
        request.database = request.database.filter(|name| !name.is_empty());
        if encode_response {
            request.accept =
                header(headers, "accept-encoding").and_then(|value| Encoding::accepted(&value));
        }
        if let Some(name) =
            header(headers, "content-encoding").filter(|n| n != "identity" && !n.is_empty())
        {
            request.body_encoding = Some(Encoding::by_name(&name).ok_or_else(|| {
                Failure::new(
                    code::NOT_IMPLEMENTED,
                    "NOT_IMPLEMENTED",
                    format_args!(
                        "Unknown Content-Encoding '{name}'; gzip, deflate, lz4 and zstd are known"
                    ),
                )
            })?);
        }
        request.boundary = header(headers, "content-type").and_then(|value| boundary(&value));
        Ok(request)
    }

    /// Whether the body is text as it is: neither encoded nor a form.
    pub fn is_plain(&self) -> bool {
        self.body_encoding.is_none() && !self.decompress && self.boundary.is_none()
    }

    /// Adds a parameter that is either a query parameter or a setting.
    pub fn add(&mut self, name: &str, value: String) {
        if let Some(param) = name.strip_prefix("param_") {
            self.params.push((param.to_owned(), value));
        } else if !is_server_own(name) {
            self.settings.push((name.to_owned(), value));
        }
    }
}

fn bad(message: impl std::fmt::Display) -> Failure {
    Failure::new(code::BAD_ARGUMENTS, "BAD_ARGUMENTS", message)
}

fn is_true(value: &str) -> bool {
    matches!(value, "1" | "true")
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn boundary(content_type: &str) -> Option<String> {
    let (kind, rest) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = rest.split(';').find_map(|part| part.trim().strip_prefix("boundary="))?;
    Some(value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str, headers: &[(&str, &str)]) -> Result<Request, Failure> {
        let mut builder = hyper::Request::post(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        Request::read(&builder.body(()).unwrap().into_parts().0, None)
    }

    #[test]
    fn url_and_headers_are_told_apart() {
        let request = read(
            "/?query=SELECT+%7Bx:UInt8%7D&param_x=1&database=flow&max_threads=2&compress=1&wait_end_of_query=1&log_comment=x&session_timeout=5&session_id=s",
            &[("X-ClickHouse-Format", "JSON"), ("Accept-Encoding", "gzip")],
        )
        .unwrap();
        assert_eq!(request.query, "SELECT {x:UInt8}");
        assert_eq!(request.params, [("x".to_owned(), "1".to_owned())]);
        assert_eq!(request.settings, [("max_threads".to_owned(), "2".to_owned())]);
        assert_eq!(request.database.as_deref(), Some("flow"));
        assert_eq!(request.format.as_deref(), Some("JSON"));
        assert!(request.compress && request.wait_end && !request.decompress);
        assert_eq!(request.accept, Some(Encoding::Gzip));
        let session = request.session.unwrap();
        assert_eq!((session.id.as_str(), session.timeout), ("s", Duration::from_secs(5)));
    }

    #[test]
    fn http_compression_can_be_switched_off() {
        let request = read("/?enable_http_compression=0", &[("Accept-Encoding", "gzip")]).unwrap();
        assert_eq!(request.accept, None);
    }

    #[test]
    fn only_the_default_user_without_a_password() {
        for (uri, headers) in [
            ("/?user=default", vec![]),
            ("/", vec![("Authorization", "Basic ZGVmYXVsdDo=")]),
            ("/", vec![("X-ClickHouse-User", "default"), ("X-ClickHouse-Key", "")]),
        ] {
            read(uri, &headers).unwrap();
        }
        for (uri, headers) in [
            ("/?user=bob", vec![]),
            ("/?password=x", vec![]),
            ("/", vec![("Authorization", "Bearer x")]),
            ("/", vec![("Authorization", "Basic !")]),
        ] {
            assert_eq!(read(uri, &headers).unwrap_err().status().as_u16(), 403, "{uri}");
        }
    }

    #[test]
    fn boundaries() {
        assert_eq!(boundary("multipart/form-data; boundary=\"a b\"").as_deref(), Some("a b"));
        assert_eq!(boundary("text/plain; boundary=x"), None);
    }
}
