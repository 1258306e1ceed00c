//! User and password, and where the password is read.
//!
//! Enters: what the configuration says. Leaves: the pair that requests are sent with. It holds
//! that a password file is for its owner alone, and that no message shows what it says.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use super::SinkError;
use super::secret::Secret;

/// The user of a ClickHouse server that has none of its own.
const DEFAULT_USER: &str = "default";
/// A longer file holds no password.
const MOST_OCTETS: u64 = 4096;

/// Where the password is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordFile {
    /// A file that only its owner may read.
    Path(PathBuf),
    /// A credential that the service manager gave, by its name.
    Credential(String),
}

impl PasswordFile {
    /// `credential:NAME`, or a path; an empty text is none.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse(text: &str) -> Result<Option<Self>, &'static str> {
        match text.strip_prefix("credential:") {
            None if text.is_empty() => Ok(None),
            None => Ok(Some(Self::Path(text.into()))),
            Some(name) if name.is_empty() || name.contains('/') || name == ".." => {
                Err("credential:NAME with the name of a systemd credential, or a path")
            }
            Some(name) => Ok(Some(Self::Credential(name.into()))),
        }
    }

    /// Reads it; a newline at the end is none of its own. `folder` is where the service manager
    /// keeps credentials, if it does.
    pub(crate) fn read(&self, folder: Option<&Path>) -> Result<Secret, SinkError> {
        let (path, managed) = match self {
            Self::Path(path) => (path.clone(), false),
            Self::Credential(name) => match folder {
                Some(folder) => (folder.join(name), true),
                None => {
                    return Err(self.problem(
                        "the service manager gave no credentials: add LoadCredential=... to the \
                         unit",
                    ));
                }
            },
        };
        let read = || -> io::Result<Result<String, String>> {
            let file = File::open(&path)?;
            let about = file.metadata()?;
            // The service manager keeps others out by the folder.
            if !managed && about.mode() & 0o077 != 0 {
                let mode = about.mode() & 0o7777;
                return Ok(Err(format!(
                    "it has mode {mode:04o}, so others may read it; write chmod 600 {}",
                    path.display()
                )));
            }
            let mut octets = Vec::new();
            file.take(MOST_OCTETS + 1).read_to_end(&mut octets)?;
            if octets.len() as u64 > MOST_OCTETS {
                return Ok(Err(format!("it has more than {MOST_OCTETS} octets")));
            }
            Ok(String::from_utf8(octets).map_err(|_| "it is no text in UTF-8".into()))
        };
        let text = match read() {
            Ok(Ok(text)) => text,
            Ok(Err(problem)) => return Err(self.problem(&problem)),
            Err(error) => return Err(self.problem(&error.to_string())),
        };
        let password = text.strip_suffix('\n').unwrap_or(&text);
        let password = password.strip_suffix('\r').unwrap_or(password);
        if password.is_empty() {
            return Err(self.problem("it is empty"));
        }
        if password.chars().any(char::is_control) {
            return Err(self.problem("it must be one line, without control characters"));
        }
        Ok(Secret::new(password.into()))
    }

    fn problem(&self, problem: &str) -> SinkError {
        SinkError::File {
            what: "the password file",
            path: self.to_string(),
            problem: problem.into(),
        }
    }
}

impl fmt::Display for PasswordFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Credential(name) => write!(f, "credential:{name}"),
        }
    }
}

/// User and password; the latter is read again when the server has another one.
#[derive(Debug)]
pub struct Credentials {
    user: Option<String>,
    file: Option<PasswordFile>,
    folder: Option<PathBuf>,
    password: RwLock<Option<Secret>>,
}

impl Credentials {
    /// Reads the password. `folder` is `$CREDENTIALS_DIRECTORY`.
    ///
    /// # Errors
    /// The file cannot be read, is for others to read, or holds no password.
    pub fn open(
        user: Option<String>,
        file: Option<PasswordFile>,
        folder: Option<PathBuf>,
    ) -> Result<Self, SinkError> {
        let password = file.as_ref().map(|file| file.read(folder.as_deref())).transpose()?;
        Ok(Self { user, file, folder, password: RwLock::new(password) })
    }

    /// User and password now; none if nothing was configured.
    pub fn current(&self) -> Option<(String, Secret)> {
        let password = self.password.read().unwrap_or_else(PoisonError::into_inner).clone();
        if self.user.is_none() && password.is_none() {
            return None;
        }
        let user = self.user.clone().unwrap_or_else(|| DEFAULT_USER.into());
        Some((user, password.unwrap_or_else(|| Secret::new(String::new()))))
    }

    /// Reads the password again. True if it is another one.
    ///
    /// # Errors
    /// As [`Credentials::open`]; the old one stays.
    pub fn reread(&self) -> Result<bool, SinkError> {
        let Some(file) = &self.file else { return Ok(false) };
        let new = Some(file.read(self.folder.as_deref())?);
        let mut password = self.password.write().unwrap_or_else(PoisonError::into_inner);
        let other = *password != new;
        *password = new;
        Ok(other)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(path: &Path, text: &[u8], mode: u32) {
        fs::write(path, text).expect("ours");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    }

    #[test]
    fn a_password_is_read_and_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("p");
        write(&path, b"one\n", 0o600);
        let file = PasswordFile::parse(path.to_str().expect("text")).expect("valid");
        let credentials = Credentials::open(Some("u".into()), file, None).expect("read");
        let now = || credentials.current().map(|(u, p)| (u, p.expose().to_owned()));
        assert_eq!(now(), Some(("u".into(), "one".into())));
        assert!(!credentials.reread().expect("still there"));
        write(&path, b"two", 0o400);
        assert!(credentials.reread().expect("still there"));
        assert_eq!(now(), Some(("u".into(), "two".into())));
        write(&path, b"", 0o600);
        assert!(credentials.reread().is_err());
        assert_eq!(now(), Some(("u".into(), "two".into())), "the old one stays");
        assert!(!format!("{credentials:?}").contains("two"));
    }

    #[test]
    fn a_file_for_others_or_without_a_password_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("p");
        let long = [b'x'; 5000];
        for (text, mode, words) in [
            (&b"secret"[..], 0o640, "chmod 600"),
            (b"secret", 0o604, "has mode 0604"),
            (b"\n", 0o600, "empty"),
            (b"a\nb\n", 0o600, "one line"),
            (&long, 0o600, "4096"),
            (b"\xff", 0o600, "UTF-8"),
        ] {
            write(&path, text, mode);
            let file = Some(PasswordFile::Path(path.clone()));
            let error = Credentials::open(None, file, None).expect_err(words).to_string();
            assert!(error.contains(words) && !error.contains("secret"), "{error}");
            fs::remove_file(&path).expect("ours");
        }
        let file = Some(PasswordFile::Path(path));
        assert!(Credentials::open(None, file, None).is_err(), "it is missing");
    }

    #[test]
    fn the_service_manager_gives_passwords_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        write(&folder.path().join("clickhouse"), b"s", 0o440);
        let file = PasswordFile::parse("credential:clickhouse").expect("valid");
        let given = Some(folder.path().to_owned());
        let credentials = Credentials::open(None, file.clone(), given).expect("read");
        let (user, password) = credentials.current().expect("a password");
        assert_eq!((user.as_str(), password.expose()), ("default", "s"));
        let error = Credentials::open(None, file, None).expect_err("no folder").to_string();
        assert!(error.contains("LoadCredential"), "{error}");
        for bad in ["credential:", "credential:a/b", "credential:.."] {
            assert!(PasswordFile::parse(bad).is_err(), "{bad}");
        }
    }
}
