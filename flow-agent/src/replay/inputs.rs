//! The captures of a replay: paths enter, captures that can be read leave, in order.
//!
//! It holds that each is a file of its own and that nothing of a pipe is lost by looking at it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::ReplayError;
use super::capture::{Capture, CaptureError};
use super::destination::Destination;
use super::file_id::FileId;
use super::reading::parser_link;

/// One capture to be read.
pub struct Input {
    path: PathBuf,
    /// The name of its interfaces that have none of their own.
    name: String,
    /// A pipe can be opened only once.
    opened: Option<Capture>,
}

impl Input {
    /// Refuses files that are used twice, and captures that cannot be read. Fifos after the first
    /// capture are not looked at: who fills them may do so one after the other.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn check(
        files: &[PathBuf],
        output: Option<&Destination>,
        ledger: Option<&Destination>,
    ) -> Result<Vec<Self>, ReplayError> {
        refuse_shared(files, output, ledger)?;
        let names = interface_names(files);
        let inputs = files.iter().zip(names).enumerate();
        inputs.map(|(position, (path, name))| Self::look(path, name, position == 0)).collect()
    }

    fn look(path: &Path, name: String, first: bool) -> Result<Self, ReplayError> {
        let mut input = Self { path: path.into(), name, opened: None };
        if is_standard_input(path) {
            input.opened = Some(input.open()?);
            return Ok(input);
        }
        let metadata = path.metadata().map_err(|source| {
            let file = path.display().to_string();
            ReplayError::Capture(CaptureError::Open { file, source })
        })?;
        if metadata.is_file() || metadata.is_dir() {
            let mut capture = input.open()?;
            if let Some(packet) = capture.next_packet()? {
                let (index, link) = (packet.interface as usize, packet.link);
                parser_link(link, &capture, index)?;
            }
        } else if first {
            input.opened = Some(input.open()?);
        }
        Ok(input)
    }

    /// The capture at its first packet.
    ///
    /// # Errors
    /// It cannot be opened or is no capture.
    pub fn open(&mut self) -> Result<Capture, CaptureError> {
        match self.opened.take() {
            Some(capture) => Ok(capture),
            None => Capture::open(&self.path, &self.name),
        }
    }
}

fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn refuse_shared(
    files: &[PathBuf],
    output: Option<&Destination>,
    ledger: Option<&Destination>,
) -> Result<(), ReplayError> {
    let mut known: HashMap<FileId, String> = HashMap::new();
    let mut standard_input = false;
    let mut add =
        |role: String, id: Option<FileId>| match id.and_then(|id| known.insert(id, role.clone())) {
            Some(first) => Err(ReplayError::SameFile { first, second: role }),
            None => Ok(()),
        };
    for path in files {
        let role = format!("capture {}", path.display());
        if !is_standard_input(path) {
            add(role, FileId::of(path))?;
        } else if std::mem::replace(&mut standard_input, true) {
            return Err(ReplayError::SameFile { first: role.clone(), second: role });
        } else {
            add(role, FileId::of_open(std::io::stdin()))?;
        }
    }
    let output_id = output.and_then(Destination::id);
    if let Some(output) = output {
        add(format!("the output ({})", output.name()), output_id.clone())?;
    }
    if let Some(ledger) = ledger {
        // Rows and ledger may go into one pipe.
        let one_pipe =
            |id: &FileId| matches!(id, FileId::Fifo { .. }) && Some(id) == output_id.as_ref();
        let id = ledger.id().filter(|id| !one_pipe(id));
        add(format!("the ledger ({})", ledger.name()), id)?;
    }
    Ok(())
}

/// File names, or the paths of files whose names are the same.
fn interface_names(files: &[PathBuf]) -> Vec<String> {
    let base = |path: &Path| match path.file_name() {
        _ if is_standard_input(path) => "stdin".to_string(),
        Some(name) => Path::new(name).display().to_string(),
        None => path.display().to_string(),
    };
    let mut count: HashMap<String, usize> = HashMap::new();
    for path in files {
        *count.entry(base(path)).or_default() += 1;
    }
    let name = |path: &PathBuf| match base(path) {
        name if count[&name] == 1 || is_standard_input(path) => name,
        _ => path.display().to_string(),
    };
    files.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_named_by_file_and_by_path_where_files_have_one_name() {
        let files = ["a/eth0.pcap", "b/eth0.pcap", "b/eth1.pcap", "-"].map(PathBuf::from);
        assert_eq!(interface_names(&files), ["a/eth0.pcap", "b/eth0.pcap", "eth1.pcap", "stdin"]);
    }
}
