//! A file that a replay writes at its end: checked before any work, then there whole or not at all.

use std::fs::{File, FileType, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::ReplayError;
use super::file_id::FileId;

/// Names of the standard output.
const STANDARD_OUTPUT: [&str; 4] = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// Where open files have names: what these lead to is written, never replaced.
const OPEN_FILES: [&str; 3] = ["/dev/stderr", "/dev/fd", "/proc"];

/// A file to be written.
#[derive(Debug)]
pub struct Destination {
    /// As it was typed.
    path: PathBuf,
    target: Target,
}

/// Where the octets go.
#[derive(Debug)]
enum Target {
    /// The standard output.
    StandardOutput,
    /// A device, a fifo or an open file, written as it is.
    Direct(PathBuf),
    /// A regular file, there or not, free of symbolic links: renamed into place when it is whole.
    Replaced(PathBuf),
}

impl Destination {
    /// Finds out whether `path` can be written as the `role` of a replay; changes nothing.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn check(role: &'static str, path: &Path) -> Result<Self, ReplayError> {
        match Target::check(path) {
            Ok(target) => Ok(Self { path: path.into(), target }),
            Err(source) => {
                let path = path.display().to_string();
                Err(ReplayError::Destination { role, path, source })
            }
        }
    }

    /// What messages call it.
    pub fn name(&self) -> String {
        match self.target {
            Target::StandardOutput => "standard output".into(),
            Target::Direct(_) | Target::Replaced(_) => self.path.display().to_string(),
        }
    }

    /// Tells whether another path means the same file.
    pub fn id(&self) -> Option<FileId> {
        match &self.target {
            Target::StandardOutput => FileId::of_open(io::stdout()),
            Target::Direct(path) => FileId::of(path),
            Target::Replaced(path) => FileId::of(path).or_else(|| Some(FileId::New(path.clone()))),
        }
    }

    /// Writes what `content` gives. A reader that has gone away wants no more: that is no error.
    ///
    /// # Errors
    /// `content` fails or the octets cannot be written, for example because the disk is full.
    pub fn write(&self, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let written = match &self.target {
            Target::StandardOutput => buffered(io::stdout().lock(), content),
            // Appending keeps what an open file has; to devices and fifos it is the same.
            Target::Direct(path) => {
                OpenOptions::new().append(true).open(path).and_then(|file| buffered(file, content))
            }
            Target::Replaced(path) => return replace(path, content),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }
}

impl Target {
    fn check(path: &Path) -> io::Result<Self> {
        if STANDARD_OUTPUT.iter().any(|name| path.as_os_str() == *name) {
            return Ok(Self::StandardOutput);
        }
        let kind = match path.metadata() {
            Ok(metadata) => Some(metadata.file_type()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let open_file = OPEN_FILES.iter().any(|folder| path.starts_with(folder));
        match kind {
            Some(kind) if kind.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Some(kind) if kind.is_socket() => Err(io::Error::other("it is a socket")),
            Some(kind) if open_file || !kind.is_file() => {
                access(path, Access::WRITE_OK)?;
                Ok(Self::Direct(path.into()))
            }
            kind => Self::replaced(path, kind),
        }
    }

    fn replaced(path: &Path, kind: Option<FileType>) -> io::Result<Self> {
        let path = if kind.is_some() {
            let path = path.canonicalize()?;
            OpenOptions::new().write(true).open(&path)?;
            path
        } else {
            let named = !path.as_os_str().as_encoded_bytes().ends_with(b"/");
            let name = path.file_name().filter(|_| named).ok_or(io::ErrorKind::IsADirectory)?;
            folder(path).canonicalize()?.join(name)
        };
        // The folder takes files; this one is gone again, so that a signal leaves nothing.
        tempfile::tempfile_in(folder(&path))?;
        Ok(Self::Replaced(path))
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn buffered(
    file: impl Write,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, file);
    content(&mut out)?;
    out.flush()
}

/// Writes a new file beside `path`, with its owner and mode if there is one, and renames it.
fn replace(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    // The process's umask takes its part.
    const NEW_FILE_MODE: u32 = 0o666;
    let file = tempfile::Builder::new()
        .prefix(".flow-agent-")
        .permissions(Permissions::from_mode(NEW_FILE_MODE))
        .tempfile_in(folder(path))?;
    if let Ok(old) = path.metadata() {
        // Only root can give files away; for others the file is theirs already or becomes theirs.
        let _ = fchown(file.as_file(), Some(old.uid()), Some(old.gid()));
        file.as_file().set_permissions(old.permissions())?;
    }
    buffered(file.as_file(), content)?;
    let _: File = file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) -> io::Result<()> {
        let destination = Destination::check("output", path).map_err(io::Error::other)?;
        destination.write(|out| out.write_all(text.as_bytes()))
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_through_links() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        write(&file, "long old content").expect("new");
        std::fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("ours");
        std::os::unix::fs::symlink("file", &link).expect("linked");
        write(&link, "new").expect("replaced");
        assert_eq!(std::fs::read_to_string(&file).expect("there"), "new");
        assert_eq!(file.metadata().expect("there").mode() & 0o777, 0o640);
        assert!(link.symlink_metadata().expect("there").is_symlink());
        assert_eq!(std::fs::read_dir(folder.path()).expect("ours").count(), 2);
    }

    #[test]
    fn a_failure_half_way_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "old").expect("ours");
        let destination = Destination::check("output", &file).expect("can be written");
        let failed = destination.write(|out| {
            out.write_all(b"half")?;
            Err(io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read_to_string(&file).expect("there"), "old");
        assert_eq!(std::fs::read_dir(folder.path()).expect("ours").count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_refused_by_the_check() {
        let folder = tempfile::tempdir().expect("a folder");
        for path in [folder.path().to_path_buf(), folder.path().join("no/file"), "/proc/x".into()] {
            assert!(Destination::check("output", &path).is_err(), "{}", path.display());
        }
        assert!(Destination::check("output", &folder.path().join("new/")).is_err());
        assert!(Destination::check("output", Path::new("/dev/null")).is_ok());
    }
}
