//! The memory of an estate: a kernel map, pinned beside the flow tables.
//!
//! It outlives the agent as they do, has no disk that could fail, and is gone with them when the
//! host starts anew. A page is an entry, and the kernel copies it in one call that nothing
//! interrupts.

use std::fmt;
use std::io;

use aya::maps::{Array, Map, MapData, MapError};

use super::load::chain;
use super::{AttachError, PinFolder};
use crate::estate::{Memory, Page};

/// Pages of an estate: three states with a head and two slots of 256 KiB each, which is enough for
/// a thousand interfaces; more are summed up.
const PAGES: u32 = 3 * (1 + 2 * 64);

/// A pinned map of pages.
pub struct EstateMap(Array<MapData, Page>);

impl EstateMap {
    /// Makes and pins that of this agent.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn create(folder: &PinFolder) -> Result<Self, AttachError> {
        let path = folder.estate();
        let refused = |problem| AttachError::Pin { path: path.display().to_string(), problem };
        let map: Array<MapData, Page> =
            Array::create(PAGES, 0).map_err(|error| refused(chain(&error)))?;
        map.pin(&path).map_err(|error| refused(chain(&error)))?;
        // Pinning took the map; the pin is it.
        Self::open(folder)?.ok_or_else(|| refused("it is not there".into()))
    }

    /// That of a dead agent; none if it had none.
    ///
    /// # Errors
    /// The kernel refuses, or it is something else.
    pub fn open(folder: &PinFolder) -> Result<Option<Self>, AttachError> {
        let path = folder.estate();
        if !path.exists() {
            return Ok(None);
        }
        let refused = |error: MapError| AttachError::Pin {
            path: path.display().to_string(),
            problem: chain(&error),
        };
        let map = MapData::from_pin(&path).and_then(Map::from_map_data).map_err(refused)?;
        Ok(Some(Self(Array::try_from(map).map_err(refused)?)))
    }
}

impl Memory for EstateMap {
    fn pages(&self) -> u32 {
        self.0.len()
    }

    fn read(&self, page: u32) -> io::Result<Page> {
        self.0.get(&page, 0).map_err(io::Error::other)
    }

    fn write(&mut self, page: u32, octets: &Page) -> io::Result<()> {
        self.0.set(page, octets, 0).map_err(io::Error::other)
    }
}

impl fmt::Debug for EstateMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EstateMap").field("pages", &self.0.len()).finish()
    }
}
