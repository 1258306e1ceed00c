//! Where a backup is: enters what a person typed, leaves what the engine
//! understands.

use std::fmt;
use std::path::PathBuf;

use super::BackupError;
use crate::sink::quoted;

/// Places that the engine knows by itself: a disk of its configuration, a bucket.
const ENGINES: [&str; 4] = ["Disk(", "S3(", "AzureBlobStorage(", "File("];

/// Where a backup is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder, or an archive by its name, on the store's host.
    Path(PathBuf),
    /// In the engine's words: `Disk('backups', 'today')`.
    Engine(String),
}

impl Place {
    /// What was typed; a path becomes absolute, because the store works in another folder.
    ///
    /// # Errors
    /// The current folder is gone, or the path is empty.
    pub fn new(typed: &str) -> std::io::Result<Self> {
        if ENGINES.iter().any(|engine| typed.starts_with(engine)) && typed.ends_with(')') {
            return Ok(Self::Engine(typed.into()));
        }
        Ok(Self::Path(std::path::absolute(typed)?))
    }

    /// In SQL.
    pub fn sql(&self) -> String {
        match self {
            Self::Path(path) => format!("File('{}')", quoted(&path.display().to_string())),
            Self::Engine(text) => text.clone(),
        }
    }

    /// Refuses a place that is taken, as far as can be seen from here.
    pub fn check_free(&self) -> Result<(), BackupError> {
        match self {
            Self::Path(path) if path.exists() => {
                Err(BackupError::Exists { place: self.to_string() })
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            // A bucket is called with its keys: only what kind of place it is may be shown.
            Self::Engine(text) => f.write_str(text.split('(').next().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_engines_keep_their_words() {
        let path = Place::new("a'b.tar").unwrap();
        assert!(path.sql().starts_with("File('/") && path.sql().ends_with("/a\\'b.tar')"));
        let bucket = Place::new("S3('https://b', 'key', 'secret')").unwrap();
        assert_eq!(bucket.sql(), "S3('https://b', 'key', 'secret')");
        assert_eq!(bucket.to_string(), "S3");
        assert!(matches!(Place::new("Disk(x").unwrap(), Place::Path(_)));
        assert!(Place::new("").is_err());
    }
}
