//! What a spool needs of a file system: one flat folder of files.
//!
//! The real one is [`Folder`](super::Folder); tests have one that fails on purpose. Names are
//! plain, without a path. Reads and writes may be short, as the system's are.

use std::any::Any;
use std::fmt::Debug;
use std::io;

use rustix::io::Errno;

/// A folder of files.
pub trait FileSystem: Debug + Send + Sync {
    /// Where it is, for messages.
    fn name(&self) -> String;
    /// Makes the folder if it is missing and keeps others out until the value is dropped.
    ///
    /// # Errors
    /// `WouldBlock`: another holds it; else it cannot be made or opened.
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>>;
    /// The names in it.
    ///
    /// # Errors
    /// It cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A new empty file, to read and write.
    ///
    /// # Errors
    /// There is one, or the disk is full or fails.
    fn create(&self, name: &str) -> io::Result<Box<dyn OpenFile>>;
    /// A file that is there, to read and write.
    ///
    /// # Errors
    /// There is none, or it cannot be opened.
    fn open(&self, name: &str) -> io::Result<Box<dyn OpenFile>>;
    /// Gives a file another name.
    ///
    /// # Errors
    /// There is none, or the disk fails.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// There is none, or the disk fails.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Waits until names are on the disk.
    ///
    /// # Errors
    /// The disk fails.
    fn sync_folder(&self) -> io::Result<()>;
    /// Free and all space of the disk, in octets.
    ///
    /// # Errors
    /// It cannot be asked.
    fn space(&self) -> io::Result<Space>;
}

/// Space of a disk, in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// That this process may use.
    pub free: u64,
    /// All there is.
    pub total: u64,
}

/// An open file.
pub trait OpenFile: Debug + Send + Sync {
    /// Its length in octets.
    ///
    /// # Errors
    /// It cannot be asked.
    fn length(&self) -> io::Result<u64>;
    /// Reads at an offset; 0 at the end.
    ///
    /// # Errors
    /// The disk fails.
    fn read_at(&self, offset: u64, octets: &mut [u8]) -> io::Result<usize>;
    /// Writes at an offset; may be short.
    ///
    /// # Errors
    /// The disk is full or fails; some of it may have been written.
    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<usize>;
    /// Writes at the end, wherever that is now; may be short.
    ///
    /// # Errors
    /// As [`OpenFile::write_at`].
    fn append(&self, octets: &[u8]) -> io::Result<usize>;
    /// Cuts it.
    ///
    /// # Errors
    /// The disk fails.
    fn cut(&self, length: u64) -> io::Result<()>;
    /// Waits until it is on the disk.
    ///
    /// # Errors
    /// The disk fails: what was written since the last success may be lost, and a second try
    /// proves nothing.
    fn sync(&self) -> io::Result<()>;
}

/// True if the file does not have what was written to it, so that trying again would not help.
/// All else, such as a missing right or too many open files, says nothing of what is in it.
pub(super) fn is_damage(error: &io::Error) -> bool {
    let damage = [Errno::IO, Errno::NOENT, Errno::UCLEAN, Errno::BADMSG, Errno::NODATA];
    match error.raw_os_error() {
        Some(number) => damage.iter().any(|errno| errno.raw_os_error() == number),
        None => true,
    }
}

/// Writes all.
pub(super) fn write_all_at(
    file: &dyn OpenFile,
    mut offset: u64,
    mut octets: &[u8],
) -> io::Result<()> {
    while !octets.is_empty() {
        match file.write_at(offset, octets) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                octets = &octets[written..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all at the end. What was written of it before a failure stays.
pub(super) fn append_all(file: &dyn OpenFile, mut octets: &[u8]) -> io::Result<()> {
    while !octets.is_empty() {
        match file.append(octets) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => octets = &octets[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until `octets` is full or the file ends; how much was read.
pub(super) fn read_at(file: &dyn OpenFile, offset: u64, octets: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < octets.len() {
        match file.read_at(offset + filled as u64, &mut octets[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
