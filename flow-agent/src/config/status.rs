//! The section `status`: as it was given, then checked.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use toml::Value;

use super::values::{Said, text, whole_number, yes_or_no};
use super::{ConfigError, number};
use crate::sink::PasswordFile;

/// Where the status is served unless the configuration says otherwise.
pub const DEFAULT_STATUS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9469);

/// The keys of the section.
pub const KEYS: &[&str] = &[
    "listen",
    "token_file",
    "tls_cert_file",
    "tls_key_file",
    "requests_per_second",
    "max_connections",
    "pprof",
];

/// Enough for a page that asks every second on many screens, and for any scraper.
const REQUESTS_PER_SECOND: u64 = 200;
/// Well below the 1,024 file descriptors that a process may have by default.
const MAX_CONNECTIONS: u64 = 256;

/// Where the status is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusListen {
    /// At [`DEFAULT_STATUS`] if that is free: nobody asked for it.
    Default,
    /// Here, or the agent does not start.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

/// Who may ask, over what, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusAccess {
    /// Where the token is that every request must have; none: whoever can connect may ask.
    pub token_file: Option<PasswordFile>,
    /// Certificate and key in PEM; none: without TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Requests that a client may make in a second, in the long run.
    pub requests_per_second: u32,
    /// Connections at one time.
    pub max_connections: usize,
    /// Profiles may be asked for.
    pub pprof: bool,
}

impl Default for StatusAccess {
    fn default() -> Self {
        Self {
            token_file: None,
            tls: None,
            requests_per_second: REQUESTS_PER_SECOND as u32,
            max_connections: MAX_CONNECTIONS as usize,
            pprof: false,
        }
    }
}

/// The section as it was given, but for `listen`, which the command line has, too.
#[derive(Clone, Debug, Default)]
pub struct StatusSettings {
    texts: BTreeMap<&'static str, Said<String>>,
    numbers: BTreeMap<&'static str, Said<i64>>,
    pprof: Option<Said<bool>>,
}

impl StatusSettings {
    /// Takes the value of a key; false if there is no such key.
    pub(super) fn set(
        &mut self,
        key: &str,
        place: String,
        value: Value,
    ) -> Result<bool, ConfigError> {
        let Some(key) = KEYS.iter().find(|known| **known == key) else { return Ok(false) };
        match *key {
            "listen" => return Ok(false),
            "pprof" => self.pprof = Some(yes_or_no(place, value)?),
            "requests_per_second" | "max_connections" => {
                self.numbers.insert(key, whole_number(place, value)?);
            }
            _ => {
                self.texts.insert(key, text(place, value)?);
            }
        }
        Ok(true)
    }

    /// Checks it. `listen` is as it was given, and checked.
    pub(super) fn check(
        mut self,
        listen: (Option<Said<String>>, StatusListen),
    ) -> Result<StatusAccess, ConfigError> {
        let tls = match (self.path("tls_cert_file")?, self.path("tls_key_file")?) {
            (Some((cert, _)), Some((key, _))) => Some((cert, key)),
            (None, None) => None,
            (cert, key) => {
                let (_, place) = cert.or(key).expect("one of them is given");
                let problem = "tls_cert_file and tls_key_file belong together: give both";
                return Err(ConfigError::Rule { place, problem: problem.into() });
            }
        };
        let token_file = match self.texts.remove("token_file") {
            None => None,
            Some(Said { value, place }) => PasswordFile::parse(&value).map_err(|allowed| {
                ConfigError::Value { place, value: format!("{value:?}"), allowed: allowed.into() }
            })?,
        };
        listen_is_safe(listen, token_file.is_some(), tls.is_some())?;
        let mut whole = |key, default, most| number(self.numbers.remove(key), default, 1, most);
        Ok(StatusAccess {
            token_file,
            tls,
            requests_per_second: whole("requests_per_second", REQUESTS_PER_SECOND, 1_000_000)?
                as u32,
            max_connections: whole("max_connections", MAX_CONNECTIONS, 65_536)? as usize,
            pprof: self.pprof.is_some_and(|said| said.value),
        })
    }

    /// An empty text is none.
    fn path(&mut self, key: &str) -> Result<Option<(PathBuf, String)>, ConfigError> {
        let Some(Said { value, place }) = self.texts.remove(key) else { return Ok(None) };
        let path = PathBuf::from(&value);
        if value.is_empty() {
            return Ok(None);
        }
        if path.is_absolute() {
            return Ok(Some((path, place)));
        }
        let value = format!("{value:?}");
        Err(ConfigError::Value { place, value, allowed: "an absolute path".into() })
    }
}

/// Beyond this host nobody is told anything without a token, and no token goes over the wire
/// without TLS.
fn listen_is_safe(
    (said, listen): (Option<Said<String>>, StatusListen),
    token: bool,
    tls: bool,
) -> Result<(), ConfigError> {
    let (Some(Said { value, place }), StatusListen::At(address)) = (said, listen) else {
        return Ok(());
    };
    if address.ip().to_canonical().is_loopback() || token && tls {
        return Ok(());
    }
    let missing: Vec<_> = [(token, "token_file"), (tls, "tls_cert_file"), (tls, "tls_key_file")]
        .into_iter()
        .filter_map(|(given, key)| (!given).then_some(key))
        .collect();
    let value = format!("{value:?}");
    let allowed = format!(
        "a loopback address such as 127.0.0.1:9469 or [::1]:9469, or have {} in [status]: \
         without a token and TLS the status is for this host alone",
        missing.join(", ")
    );
    Err(ConfigError::Value { place, value, allowed })
}

impl StatusListen {
    /// The address; none when it is off.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Default => Some(DEFAULT_STATUS),
            Self::At(address) => Some(address),
            Self::Off => None,
        }
    }

    pub(super) fn check(said: Option<Said<String>>) -> Result<Self, ConfigError> {
        let Some(Said { value, place }) = said else { return Ok(Self::Default) };
        if value.is_empty() {
            return Ok(Self::Off);
        }
        value.parse().map(Self::At).map_err(|_| ConfigError::Value {
            place,
            value: format!("{value:?}"),
            allowed: "IP:PORT on this host, such as 127.0.0.1:9469, or empty for none".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Settings};
    use super::*;

    fn config(text: &str) -> Result<Config, String> {
        let settings = Settings::parse(&format!("[status]\n{text}"), "test");
        settings.and_then(|settings| settings.check("host", 1)).map_err(|error| error.to_string())
    }

    const TLS: &str = "tls_cert_file = '/c'\ntls_key_file = '/k'\n";
    const TOKEN: &str = "token_file = 'credential:status'\n";

    #[test]
    fn beyond_this_host_there_is_a_token_and_tls_or_no_start() {
        for listen in ["0.0.0.0:1", "192.0.2.1:9469", "[::]:9469", "[2001:db8::1]:1"] {
            let listen = format!("listen = '{listen}'\n");
            for (more, missing) in [
                ("", "token_file, tls_cert_file, tls_key_file"),
                (TLS, "have token_file in [status]"),
                (TOKEN, "have tls_cert_file, tls_key_file in"),
            ] {
                let error = config(&format!("{listen}{more}")).expect_err("open to all");
                assert!(error.contains(missing) && error.contains("line 2"), "{error}");
            }
            let config = config(&format!("{listen}{TLS}{TOKEN}")).expect("safe");
            assert_eq!(config.status_access.tls, Some(("/c".into(), "/k".into())));
        }
        for listen in ["127.0.0.1:1", "[::1]:1", "127.9.9.9:1", "[::ffff:127.0.0.1]:1", ""] {
            assert!(config(&format!("listen = '{listen}'")).is_ok(), "{listen}");
        }
    }

    #[test]
    fn limits_and_files_are_checked() {
        let access = config("").expect("valid").status_access;
        assert_eq!(access, StatusAccess::default());
        for (text, words) in [
            ("requests_per_second = 0", "1 to 1000000"),
            ("max_connections = 0", "1 to 65536"),
            ("pprof = 1", "true or false"),
            ("tls_cert_file = '/c'", "belong together"),
            ("tls_key_file = '/k'", "belong together"),
            ("tls_cert_file = 'c'\ntls_key_file = '/k'", "an absolute path"),
            ("token_file = 'credential:'", "credential:NAME"),
            ("token = 'x'", "did you mean token_file?"),
        ] {
            let error = config(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
