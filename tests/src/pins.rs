//! A folder of pins in the BPF file system, for one test.

use std::fs;
use std::path::{Path, PathBuf};

/// Gone with what is in it when it is dropped.
pub struct Pins(PathBuf);

impl Pins {
    /// A new one; `test` tells it from those of other tests.
    pub fn new(test: &str) -> Self {
        Self(PathBuf::from(format!("/sys/fs/bpf/flow-test-{}-{test}", std::process::id())))
    }

    /// For an argument.
    pub fn path(&self) -> &str {
        self.0.to_str().expect("made of a text")
    }

    /// For everything else.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Names of the folders of agents.
    pub fn folders(&self) -> Vec<String> {
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        fs::read_dir(&self.0).map_or(Vec::new(), |entries| entries.flatten().map(name).collect())
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // There is nothing to remove after a test that has passed but the folder.
        drop(fs::remove_dir_all(&self.0));
    }
}
