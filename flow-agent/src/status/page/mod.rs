//! The page at `/`: files that are in the program, gzipped once.
//!
//! Enter: a path and headers. Leaves: a file of the page. It holds that the page is all there
//! is: its policy lets a browser load nothing from elsewhere and run nothing that is not one of
//! these files. There is nothing in them that is secret, so they need no token.

use std::io::Write as _;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Response, StatusCode};
use sha1::{Digest as _, Sha1};

/// What a browser may do for the page: load scripts, styles and images from here, and ask here.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";
const METHODS: &str = "GET, HEAD";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A file, as it is and packed.
struct Asset {
    path: &'static str,
    kind: &'static str,
    content: &'static [u8],
    packed: OnceLock<(Bytes, HeaderValue)>,
}

macro_rules! assets {
    ($($path:literal $kind:ident $file:literal,)+) => {
        [$(Asset {
            path: $path,
            kind: $kind,
            content: include_bytes!(concat!("assets/", $file)),
            packed: OnceLock::new(),
        },)+]
    };
}

static ASSETS: [Asset; 19] = assets![
    "/" HTML "index.html",
    "/assets/page.css" CSS "page.css",
    "/assets/icon.svg" SVG "icon.svg",
    "/assets/vendor/uPlot.iife.min.js" SCRIPT "vendor/uPlot.iife.min.js",
    "/assets/vendor/uPlot.min.css" CSS "vendor/uPlot.min.css",
    "/assets/js/main.js" SCRIPT "js/main.js",
    "/assets/js/api.js" SCRIPT "js/api.js",
    "/assets/js/format.js" SCRIPT "js/format.js",
    "/assets/js/dom.js" SCRIPT "js/dom.js",
    "/assets/js/theme.js" SCRIPT "js/theme.js",
    "/assets/js/charts.js" SCRIPT "js/charts.js",
    "/assets/js/alerts.js" SCRIPT "js/alerts.js",
    "/assets/js/traffic.js" SCRIPT "js/traffic.js",
    "/assets/js/top.js" SCRIPT "js/top.js",
    "/assets/js/flows.js" SCRIPT "js/flows.js",
    "/assets/js/stages.js" SCRIPT "js/stages.js",
    "/assets/js/latency.js" SCRIPT "js/latency.js",
    "/assets/js/ledger.js" SCRIPT "js/ledger.js",
    "/assets/js/history.js" SCRIPT "js/history.js",
];

impl Asset {
    /// Packed, and the name of this content.
    fn packed(&self) -> &(Bytes, HeaderValue) {
        self.packed.get_or_init(|| {
            let mut packer = GzEncoder::new(Vec::new(), Compression::best());
            // Memory takes everything.
            let _ = packer.write_all(self.content);
            let packed = packer.finish().unwrap_or_default();
            // One form of the content, whatever it is packed with.
            let name = format!("W/\"{}\"", STANDARD.encode(Sha1::digest(self.content)));
            let name = HeaderValue::from_str(&name).unwrap_or(HeaderValue::from_static("W/\"\""));
            (packed.into(), name)
        })
    }
}

/// True for a path of the page.
pub fn is_page(path: &str) -> bool {
    ASSETS.iter().any(|asset| asset.path == path)
}

/// The file at a path; none if it is not the page's.
pub fn answer(method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
    let asset = ASSETS.iter().find(|asset| asset.path == path)?;
    let mut response = Response::new(Full::default());
    if method != Method::GET && method != Method::HEAD {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        let problem =
            format!("{{\"error\":\"{path} does not take this method; it takes {METHODS}\"}}\n");
        *response.body_mut() = Full::from(problem);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
        return Some(response);
    }
    let (packed, name) = asset.packed();
    for (header, value) in [
        (CONTENT_TYPE, asset.kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        // Kept, and asked about each time: another agent may be there the next time.
        (CACHE_CONTROL, "no-cache"),
        (VARY, "accept-encoding"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(header, HeaderValue::from_static(value));
    }
    response.headers_mut().insert(ETAG, name.clone());
    let says = |header| headers.get(header).and_then(|value| value.to_str().ok()).unwrap_or("");
    if says(IF_NONE_MATCH).split(',').any(|known| known.trim().as_bytes() == name.as_bytes()) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else if takes_gzip(says(ACCEPT_ENCODING)) {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        *response.body_mut() = Full::new(packed.clone());
    } else {
        *response.body_mut() = Full::new(Bytes::from_static(asset.content));
    }
    Some(response)
}

/// True if a client that says this takes gzip.
fn takes_gzip(accept: &str) -> bool {
    accept.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.split_whitespace().collect::<String>();
        name.trim().eq_ignore_ascii_case("gzip")
            && !["q=0", "q=0.0", "q=0.00", "q=0.000"].contains(&refused.as_str())
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::io::Read as _;

    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn the_page_is_small_and_packed_as_it_is() {
        let mut octets = 0;
        for asset in &ASSETS {
            let (packed, _) = asset.packed();
            let mut text = Vec::new();
            flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut text).expect("gzip");
            assert_eq!(text, asset.content, "{}", asset.path);
            octets += packed.len();
        }
        assert!(octets < 100_000, "{octets}");
    }

    #[test]
    fn every_file_that_the_page_names_is_there_and_nothing_is_inline() {
        let text = |asset: &Asset| String::from_utf8_lossy(asset.content).into_owned();
        let page = text(&ASSETS[0]);
        for attribute in ["src=\"", "href=\""] {
            for rest in page.split(attribute).skip(1) {
                let path = rest.split('"').next().expect("a quote");
                let known =
                    path.starts_with('#') || path.starts_with("/api/") || path == "/metrics";
                assert!(known || is_page(path), "{path}");
            }
        }
        for words in ["style=\"", "<style", "onclick", "javascript:", "http://", "https://"] {
            assert!(!page.contains(words), "{words}");
        }
        for asset in ASSETS.iter().filter(|asset| asset.path.starts_with("/assets/js/")) {
            let script = text(asset);
            for rest in script.split(" from \"./").skip(1) {
                let name = rest.split('"').next().expect("a quote");
                assert!(is_page(&format!("/assets/js/{name}")), "{}: {name}", asset.path);
            }
            for words in ["innerHTML", "eval(", "http://", "https://"] {
                assert!(!script.contains(words), "{}: {words}", asset.path);
            }
        }
    }

    #[test]
    fn every_reason_of_the_ledger_has_its_meaning_on_the_page() {
        let script = include_str!("assets/js/ledger.js");
        for entry in crate::ledger::Entry::all() {
            let (stage, reason) = entry.labels();
            let line = format!("[\"{stage}\", \"{reason}\", \"");
            let (_, meaning) = script.split_once(&line).unwrap_or_else(|| panic!("no {line}"));
            assert!(!meaning.starts_with('"'), "{line}");
        }
    }

    #[test]
    fn the_vendored_files_are_those_of_the_table() {
        let table = include_str!("assets/vendor/README.md");
        for asset in ASSETS.iter().filter(|asset| asset.path.contains("/vendor/")) {
            let hash = Sha256::digest(asset.content);
            let hash = hash.iter().fold(String::new(), |mut text, octet| {
                let _ = write!(text, "{octet:02x}");
                text
            });
            let name = asset.path.rsplit('/').next().expect("a name");
            assert!(table.contains(&format!("| `{name}` | `{hash}` |")), "{name}: {hash}");
        }
    }

    #[test]
    fn who_has_it_is_told_so_and_gzip_is_for_those_who_take_it() {
        let ask = |name: HeaderName, value: &str| {
            let value = HeaderValue::from_str(value).expect("valid");
            let headers = [(name, value)].into_iter().collect();
            answer(&Method::GET, "/", &headers).expect("the page")
        };
        let packed = ask(ACCEPT_ENCODING, "br, GZIP;q=0.5");
        assert_eq!(packed.headers()[CONTENT_ENCODING], "gzip");
        assert!(
            packed.headers()[CONTENT_SECURITY_POLICY]
                .to_str()
                .expect("text")
                .starts_with("default-src 'none'")
        );
        let plain = ask(ACCEPT_ENCODING, "gzip; q=0, br");
        assert!(!plain.headers().contains_key(CONTENT_ENCODING));
        let name = plain.headers()[ETAG].to_str().expect("text").to_owned();
        assert_eq!(ask(IF_NONE_MATCH, &format!("\"x\", {name}")).status(), 304);
        assert_eq!(ask(IF_NONE_MATCH, "\"x\"").status(), 200);
        let none = HeaderMap::new();
        assert_eq!(answer(&Method::POST, "/", &none).expect("refused").status(), 405);
        assert!(answer(&Method::GET, "/assets/", &none).is_none());
        assert!(answer(&Method::GET, "/assets/../Cargo.toml", &none).is_none());
    }
}
