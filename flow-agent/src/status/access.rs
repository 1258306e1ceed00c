//! Who may ask: headers enter, yes or no leaves.
//!
//! Without a token whoever can connect may, which the configuration allows on loopback alone.
//! It holds that a token is compared in constant time and never shown.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap};
use subtle::ConstantTimeEq as _;

use super::StatusError;
use super::access_tls::ServerTls;
use crate::config::StatusAccess;
use crate::sink::{PasswordFile, Secret, SinkError};

/// A shorter token can be guessed.
const LEAST_OCTETS: usize = 16;
/// A token that does not match may be a new one: so often the file is read again.
const REREAD: Duration = Duration::from_secs(1);

/// What a client must have.
pub struct Access {
    token: Option<Token>,
    /// What the connections are encrypted with, if they are.
    pub tls: Option<ServerTls>,
}

struct Token {
    file: PasswordFile,
    folder: Option<PathBuf>,
    current: Mutex<(Secret, Option<Instant>)>,
}

impl Access {
    /// Reads the files that `config` names. `folder` is `$CREDENTIALS_DIRECTORY`.
    ///
    /// # Errors
    /// One cannot be read or used.
    pub fn open(config: &StatusAccess, folder: Option<&OsStr>) -> Result<Self, StatusError> {
        let token = config.token_file.as_ref().map(|file| {
            let folder = folder.map(PathBuf::from);
            let current = Mutex::new((read(file, folder.clone())?, None));
            Ok(Token { file: file.clone(), folder, current })
        });
        let tls = config.tls.as_ref().map(|(cert, key)| ServerTls::open(cert, key));
        Ok(Self { token: token.transpose()?, tls: tls.transpose()? })
    }

    /// Whether a token is needed.
    pub fn needs_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether a request with these headers may be answered.
    pub fn allows(&self, headers: &HeaderMap, now: Instant) -> bool {
        let Some(token) = &self.token else { return true };
        let Some(shown) = shown(headers) else { return false };
        let mut current = token.current.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &Secret| bool::from(known.expose().as_bytes().ct_eq(&shown));
        if same(&current.0) {
            return true;
        }
        if current.1.is_some_and(|read| now.saturating_duration_since(read) < REREAD) {
            return false;
        }
        current.1 = Some(now);
        match read(&token.file, token.folder.clone()) {
            Ok(new) => current.0 = new,
            Err(error) => tracing::warn!("{error}; the token before stays in force"),
        }
        same(&current.0)
    }
}

/// The token of `Authorization: Bearer TOKEN`, or the password of `Basic`, which browsers have.
fn shown(headers: &HeaderMap) -> Option<Vec<u8>> {
    let (scheme, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().into());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = STANDARD.decode(rest.trim()).ok()?;
    let colon = pair.iter().position(|octet| *octet == b':')?;
    Some(pair[colon + 1..].into())
}

/// Reads a token.
///
/// # Errors
/// The file cannot be read, is for others to read, or holds no good token.
pub fn read(file: &PasswordFile, folder: Option<PathBuf>) -> Result<Secret, StatusError> {
    let problem = |problem: String| StatusError::File {
        what: "the token file",
        path: file.to_string(),
        problem,
    };
    let secret = file.read(folder.as_deref()).map_err(|error| match error {
        SinkError::File { problem: why, .. } => problem(why),
        other => problem(other.to_string()),
    })?;
    if secret.expose().len() < LEAST_OCTETS {
        let write = format!("umask 077; openssl rand -hex 32 > {file}");
        return Err(problem(format!(
            "its token has fewer than {LEAST_OCTETS} octets and can be guessed; make one with: \
             {write}"
        )));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use hyper::header::HeaderValue;

    use super::*;

    fn write(path: &std::path::Path, text: &str, mode: u32) -> PasswordFile {
        fs::write(path, text).expect("ours");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
        PasswordFile::Path(path.into())
    }

    fn headers(value: &str) -> HeaderMap {
        let value = HeaderValue::from_str(value).expect("valid");
        [(AUTHORIZATION, value)].into_iter().collect()
    }

    #[test]
    fn the_token_opens_and_nothing_else_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t");
        let file = write(&path, "0123456789abcdef\n", 0o600);
        let config = StatusAccess { token_file: Some(file), ..StatusAccess::default() };
        let access = Access::open(&config, None).expect("valid");
        let now = Instant::now();
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for good in
            ["Bearer 0123456789abcdef", "bearer 0123456789abcdef", &basic("me:0123456789abcdef")]
        {
            assert!(access.allows(&headers(good), now), "{good}");
        }
        for bad in [
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Bearer ",
            "Bearer",
            "0123456789abcdef",
            "Digest 0123456789abcdef",
            &basic("0123456789abcdef"),
            &basic("0123456789abcdef:"),
            "Basic %",
        ] {
            assert!(!access.allows(&headers(bad), now), "{bad}");
        }
        assert!(!access.allows(&HeaderMap::new(), now));
        // A new token counts without a restart.
        write(&path, "fedcba9876543210", 0o600);
        let later = now + Duration::from_secs(2);
        assert!(access.allows(&headers("Bearer fedcba9876543210"), later));
        assert!(!access.allows(&headers("Bearer 0123456789abcdef"), later));
    }

    #[test]
    fn a_token_that_others_can_read_or_guess_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t");
        for (text, mode, words) in [
            ("0123456789abcdef", 0o644, "chmod 600"),
            ("short", 0o600, "can be guessed"),
            ("", 0o600, "it is empty"),
        ] {
            let error = read(&write(&path, text, mode), None).expect_err(words).to_string();
            assert!(error.contains(words) && error.contains("the token file"), "{error}");
        }
    }
}
