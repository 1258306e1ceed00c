//! Where the store is, as a person writes it.
//!
//! Enters: a text, or several, one for each shard. Leaves: a [`StoreTarget`]. What must hold: no
//! error and no log line shows a password.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::Url;

use super::SinkError;
use super::secret::Secret;

/// `embedded:DIR` or ClickHouse HTTP URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreTarget {
    /// The embedded engine with its data in this folder.
    Embedded(PathBuf),
    /// Servers.
    Servers(Servers),
}

/// The servers of a store: shards, each of which holds its own rows, and the replicas of each,
/// which hold the same. There is one shard at least, and one replica in each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers(Vec<Vec<StoreAddress>>);

/// A ClickHouse server: `http[s]://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE]`.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreAddress {
    /// Scheme, host and port.
    pub url: String,
    /// The database of the tables.
    pub database: String,
    /// User and password, when given here.
    pub user: Option<(String, Secret)>,
}

const DEFAULT_DATABASE: &str = "flow";
const DEFAULT_PORT: u16 = 8123;
const DEFAULT_TLS_PORT: u16 = 8443;
/// What may be written.
const FORMS: &str =
    "http://HOST[:PORT][/DATABASE], https://..., several replicas with commas, or embedded:DIR";

impl FromStr for StoreTarget {
    type Err = SinkError;

    fn from_str(text: &str) -> Result<Self, SinkError> {
        Self::of_shards(&[text])
    }
}

impl StoreTarget {
    /// The store of these texts: `embedded:DIR` alone, or one text for each shard, in each of
    /// which replicas are separated by commas.
    ///
    /// # Errors
    /// One cannot be understood, is there twice, or has another database than the others.
    pub fn of_shards<T: AsRef<str>>(texts: &[T]) -> Result<Self, SinkError> {
        if let [text] = texts
            && let Some(dir) = text.as_ref().strip_prefix("embedded:")
        {
            if dir.is_empty() {
                return Err(bad(text.as_ref(), "the folder is missing"));
            }
            return Ok(Self::Embedded(dir.into()));
        }
        let mut shards: Vec<Vec<StoreAddress>> = Vec::new();
        for text in texts {
            let whole = text.as_ref();
            let mut replicas = Vec::new();
            for part in whole.split(',') {
                let address = one(part.trim()).map_err(|problem| bad(whole, &problem))?;
                let before = || shards.iter().flatten().chain(&replicas);
                if before().any(|other| other.url == address.url) {
                    return Err(bad(whole, &format!("{} is there twice", address.url)));
                }
                if let Some(other) = before().find(|other| other.database != address.database) {
                    let (this, other) = (&address.database, &other.database);
                    let problem = format!("all need the same database, not {other} and {this}");
                    return Err(bad(whole, &problem));
                }
                replicas.push(address);
            }
            shards.push(replicas);
        }
        if shards.is_empty() {
            return Err(bad("", "no server is named"));
        }
        Ok(Self::Servers(Servers(shards)))
    }

    /// Each shard by the names of its replicas, without users: what tells it from others.
    pub fn shard_names(&self) -> Vec<Vec<String>> {
        let name = |address: &StoreAddress| format!("{}/{}", address.url, address.database);
        match self {
            Self::Embedded(dir) => {
                let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
                vec![vec![format!("embedded:{}", dir.display()).replace(['\n', '\t'], " ")]]
            }
            Self::Servers(Servers(shards)) => {
                shards.iter().map(|replicas| replicas.iter().map(name).collect()).collect()
            }
        }
    }

    /// True if a password stands in it.
    pub fn has_password(&self) -> bool {
        let Self::Servers(servers) = self else { return false };
        servers.all().any(|address| {
            address.user.as_ref().is_some_and(|(_, password)| !password.expose().is_empty())
        })
    }
}

/// The error of `text`; the last `@` ends everything that is secret.
fn bad(text: &str, problem: &str) -> SinkError {
    SinkError::BadAddress {
        what: "store",
        forms: FORMS,
        address: text.split('@').next_back().unwrap_or_default().into(),
        problem: problem.into(),
    }
}

/// One server, or what is wrong with it.
fn one(text: &str) -> Result<StoreAddress, String> {
    const NO_FORM: &str = "it is neither an http or https URL nor embedded:DIR";
    if text.starts_with("embedded:") {
        return Err("an embedded store is the only one".into());
    }
    let text = text.strip_prefix("clickhouse:").unwrap_or(text);
    let url = Url::parse(text).map_err(|error| match error {
        url::ParseError::RelativeUrlWithoutBase => NO_FORM.to_owned(),
        error => error.to_string(),
    })?;
    let default_port = match url.scheme() {
        "http" => DEFAULT_PORT,
        "https" => DEFAULT_TLS_PORT,
        _ => return Err(NO_FORM.into()),
    };
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a URL of a store has no ? and no #; settings have keys of their own".into());
    }
    let host = url.host_str().ok_or("the host is missing")?;
    // The scheme's own port is left out by the parser: 80 was meant if it was written.
    let written = text.rsplit('@').next().unwrap_or_default();
    let port = url.port().or_else(|| own_port(written, url.scheme())).unwrap_or(default_port);
    let database = match url.path().trim_matches('/') {
        "" => DEFAULT_DATABASE,
        database => database,
    };
    let identifier = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !database.chars().all(identifier) {
        return Err("the database may have letters, digits and '_' only".into());
    }
    let user = match (url.username(), url.password()) {
        ("", None) => None,
        (user, password) => {
            Some((decoded(user)?, Secret::new(decoded(password.unwrap_or_default())?)))
        }
    };
    let url = format!("{}://{host}:{port}", url.scheme());
    Ok(StoreAddress { url, database: database.into(), user })
}

/// 80 or 443 if it was written after the host.
fn own_port(written: &str, scheme: &str) -> Option<u16> {
    let port = if scheme == "https" { 443 } else { 80 };
    let authority = written.trim_start_matches("http://").trim_start_matches("https://");
    let authority = authority.split('/').next().unwrap_or_default();
    authority.ends_with(&format!(":{port}")).then_some(port)
}

fn decoded(text: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into).map_err(|_| "user and password must be UTF-8, with %XX for octets".into())
}

impl Servers {
    /// One server alone.
    pub fn one(address: StoreAddress) -> Self {
        Self(vec![vec![address]])
    }

    /// The replicas of each shard.
    pub fn shards(&self) -> &[Vec<StoreAddress>] {
        &self.0
    }

    /// Every server.
    pub fn all(&self) -> impl Iterator<Item = &StoreAddress> {
        self.0.iter().flatten()
    }
}

impl StoreAddress {
    /// A server without a password and with the default database.
    pub fn local(url: &str) -> Self {
        Self { url: url.into(), database: DEFAULT_DATABASE.into(), user: None }
    }

    /// The port it listens at.
    pub fn port(&self) -> Option<u16> {
        Url::parse(&self.url).ok()?.port_or_known_default()
    }

    /// True if it is asked over TLS.
    pub fn is_tls(&self) -> bool {
        self.url.starts_with("https:")
    }

    /// True if it is on this host, as far as the URL says.
    pub fn is_loopback(&self) -> bool {
        let url = Url::parse(&self.url).ok();
        match url.as_ref().and_then(Url::host) {
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        }
    }
}

/// Without the password.
impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.url, self.database)
    }
}

/// Without the password.
impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreAddress({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(texts: &[&str]) -> Servers {
        match StoreTarget::of_shards(texts).expect("valid") {
            StoreTarget::Servers(servers) => servers,
            StoreTarget::Embedded(dir) => panic!("{dir:?} is no server"),
        }
    }

    #[test]
    fn addresses_have_defaults() {
        for (text, url, database) in [
            ("http://db.example", "http://db.example:8123", "flow"),
            ("https://db.example", "https://db.example:8443", "flow"),
            ("https://db.example:443/x", "https://db.example:443", "x"),
            ("http://u:p@db.example:80/", "http://db.example:80", "flow"),
            ("clickhouse:http://u:p@[::1]:9/x_1", "http://[::1]:9", "x_1"),
        ] {
            let servers = servers(&[text]);
            let address = servers.all().next().expect("one");
            assert_eq!((address.url.as_str(), address.database.as_str()), (url, database));
            assert!(!format!("{address:?} {address}").contains(":p@"));
        }
    }

    #[test]
    fn users_and_passwords_are_decoded() {
        let servers = servers(&["http://us%40er:p%2Cw@h"]);
        let address = servers.all().next().expect("one");
        assert_eq!(address.user, Some(("us@er".into(), Secret::new("p,w".into()))));
        assert!(!format!("{:?}", address.user).contains("p,w"));
    }

    #[test]
    fn shards_have_replicas() {
        let servers = servers(&["http://a,https://b", "http://c"]);
        let urls: Vec<Vec<&str>> =
            servers.shards().iter().map(|s| s.iter().map(|a| a.url.as_str()).collect()).collect();
        assert_eq!(urls, [vec!["http://a:8123", "https://b:8443"], vec!["http://c:8123"]]);
    }

    #[test]
    fn bad_addresses_are_refused() {
        for (texts, words) in [
            (&[""][..], "neither"),
            (&["db"], "neither"),
            (&["ftp://db"], "neither"),
            (&["http://"], "host"),
            (&["http://db/a b"], "letters"),
            (&["embedded:"], "folder"),
            (&["http://db,"], "neither"),
            (&["http://db,embedded:/x"], "the only one"),
            (&["http://db", "embedded:/x"], "the only one"),
            (&["embedded:/y", "embedded:/x"], "the only one"),
            (&["http://db?user=x"], "no ?"),
            (&["http://db#x"], "no #"),
            (&["http://db:70000"], "port"),
            (&["http://db,http://db:8123"], "twice"),
            (&["http://db", "http://u@db"], "twice"),
            (&["http://a/x,http://b/y"], "same database"),
            (&["http://%ff@a"], "UTF-8"),
        ] {
            let error = StoreTarget::of_shards(texts).expect_err(texts[0]).to_string();
            assert!(error.contains(words), "{texts:?}: {error}");
        }
    }

    #[test]
    fn an_error_does_not_show_the_password() {
        for text in ["ftp://user:secret@db", "http://u:sec,ret@db", "http://a,http://u:secret@db:x"]
        {
            let error = text.parse::<StoreTarget>().expect_err("refused").to_string();
            assert!(!error.contains("sec"), "{error}");
        }
    }

    #[test]
    fn this_host_is_known() {
        for (url, here) in [
            ("http://127.0.0.1", true),
            ("http://[::1]", true),
            ("http://[::ffff:127.0.0.2]", true),
            ("http://localhost", true),
            ("http://10.0.0.1", false),
            ("http://db", false),
        ] {
            let servers = servers(&[url]);
            assert_eq!(servers.all().next().expect("one").is_loopback(), here, "{url}");
        }
    }
}
