//! Where the store is, as a person writes it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use super::SinkError;

/// `embedded:DIR` or a ClickHouse HTTP URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreTarget {
    /// The embedded engine with its data in this folder.
    Embedded(PathBuf),
    /// A server.
    Server(StoreAddress),
}

/// A ClickHouse server: `http://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE]`.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreAddress {
    /// Scheme, host and port.
    pub url: String,
    /// The database of the tables.
    pub database: String,
    /// User and password, when given.
    pub user: Option<(String, String)>,
}

const DEFAULT_DATABASE: &str = "flow";
const DEFAULT_PORT: u16 = 8123;

impl FromStr for StoreTarget {
    type Err = SinkError;

    fn from_str(text: &str) -> Result<Self, SinkError> {
        const NO_FORM: &str = "it is neither an http URL nor embedded:DIR";
        let bad = |problem: &str| SinkError::BadAddress {
            what: "store",
            forms: "http://HOST:PORT[/DATABASE] or embedded:DIR",
            address: text.split('@').next_back().unwrap_or_default().into(),
            problem: problem.into(),
        };
        if let Some(dir) = text.strip_prefix("embedded:") {
            if dir.is_empty() {
                return Err(bad("the folder is missing"));
            }
            return Ok(Self::Embedded(dir.into()));
        }
        let text = text.strip_prefix("clickhouse:").unwrap_or(text);
        let url = Url::parse(text).map_err(|error| match error {
            url::ParseError::RelativeUrlWithoutBase => bad(NO_FORM),
            error => bad(&error.to_string()),
        })?;
        if url.scheme() == "https" {
            return Err(bad("TLS is not supported yet; use http"));
        }
        if url.scheme() != "http" {
            return Err(bad(NO_FORM));
        }
        let host = url.host_str().ok_or_else(|| bad("the host is missing"))?;
        let port = url.port().unwrap_or(DEFAULT_PORT);
        let database = match url.path().trim_matches('/') {
            "" => DEFAULT_DATABASE,
            database => database,
        };
        let identifier = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !database.chars().all(identifier) {
            return Err(bad("the database may have letters, digits and '_' only"));
        }
        let user = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some((user.into(), password.unwrap_or_default().into())),
        };
        let url = format!("http://{host}:{port}");
        Ok(Self::Server(StoreAddress { url, database: database.into(), user }))
    }
}

impl StoreAddress {
    /// A server without a password and with the default database.
    pub fn local(url: &str) -> Self {
        Self { url: url.into(), database: DEFAULT_DATABASE.into(), user: None }
    }
}

impl StoreAddress {
    /// The port it listens at.
    pub fn port(&self) -> Option<u16> {
        Url::parse(&self.url).ok()?.port_or_known_default()
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

    #[test]
    fn addresses_have_defaults() {
        let target: StoreTarget = "http://db.example".parse().expect("valid");
        let StoreTarget::Server(address) = target else { panic!("a server") };
        assert_eq!(address.url, "http://db.example:8123");
        assert_eq!(address.database, "flow");
        let target: StoreTarget = "clickhouse:http://u:p@[::1]:9/x_1".parse().expect("valid");
        let StoreTarget::Server(address) = target else { panic!("a server") };
        assert_eq!(address.url, "http://[::1]:9");
        assert_eq!(address.database, "x_1");
        assert_eq!(address.user, Some(("u".into(), "p".into())));
        assert!(!format!("{address:?}").contains(":p@"));
    }

    #[test]
    fn bad_addresses_are_refused() {
        for text in ["", "db", "ftp://db", "https://db", "http://", "http://db/a b", "embedded:"] {
            assert!(text.parse::<StoreTarget>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_error_does_not_show_the_password() {
        let error = "ftp://user:secret@db".parse::<StoreTarget>().expect_err("refused");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
