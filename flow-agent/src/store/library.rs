//! Where `libchdb.so` is: enters the environment, leaves the one path to open.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::StoreError;

/// The pinned version of the engine library.
pub const VERSION: &str = "26.7.3";

/// Where the engine library may be, in the order of preference; a path given
/// by the caller or by `FLOW_LIBCHDB` is the only candidate.
pub fn candidates(given: Option<&Path>, env: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    if let Some(path) = given {
        return vec![path.to_owned()];
    }
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    if let Some(path) = set("FLOW_LIBCHDB") {
        return vec![PathBuf::from(path)];
    }
    let cache = set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache")));
    cache
        .map(|cache| cache.join(format!("flow-agent/libchdb-{VERSION}/libchdb.so")))
        .into_iter()
        .chain([PathBuf::from("/usr/lib/flow-agent/libchdb.so")])
        .collect()
}

/// The first candidate that is a file and can be read.
pub fn find(given: Option<&Path>) -> Result<PathBuf, StoreError> {
    let searched = candidates(given, |name| std::env::var(name).ok());
    let mut unreadable = None;
    for path in &searched {
        let readable = File::open(path).and_then(|file| file.metadata());
        match readable {
            Ok(metadata) if metadata.is_file() => return Ok(path.clone()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                unreadable.get_or_insert((path.clone(), error));
            }
            Ok(_) | Err(_) => {}
        }
    }
    Err(match unreadable {
        Some((path, source)) => StoreError::LibraryUnreadable { path, source },
        None => StoreError::LibraryMissing { searched },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_variable_is_the_only_candidate() {
        let env = |name: &str| (name == "FLOW_LIBCHDB").then(|| "/x/libchdb.so".to_owned());
        assert_eq!(candidates(None, env), [PathBuf::from("/x/libchdb.so")]);
        assert_eq!(candidates(Some(Path::new("/y")), env), [PathBuf::from("/y")]);
    }

    #[test]
    fn the_cache_comes_before_the_system() {
        let env = |name: &str| (name == "HOME").then(|| "/home/a".to_owned());
        let paths = candidates(None, env);
        assert_eq!(paths[0], PathBuf::from("/home/a/.cache/flow-agent/libchdb-26.7.3/libchdb.so"));
        assert_eq!(paths[1], PathBuf::from("/usr/lib/flow-agent/libchdb.so"));
    }
}
