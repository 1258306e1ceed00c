//! Memory that outlives the process, in pages.

use std::fmt::Debug;
use std::io;

/// Octets of a page.
pub const PAGE: usize = 4096;

/// A page.
pub type Page = [u8; PAGE];

/// Pages that the next process finds as this one left them. A page is written wholly or not at
/// all, also by a process that is killed meanwhile.
pub trait Memory: Send + Debug {
    /// How many there are.
    fn pages(&self) -> u32;

    /// Reads one; zeros if it was never written.
    ///
    /// # Errors
    /// The system refuses.
    fn read(&self, page: u32) -> io::Result<Page>;

    /// Writes one.
    ///
    /// # Errors
    /// The system refuses; it is as it was.
    fn write(&mut self, page: u32, octets: &Page) -> io::Result<()>;
}
