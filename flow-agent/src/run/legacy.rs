//! Agents that were killed: whose tables and books this one takes over.
//!
//! Enters: the folders of pins. Leaves: those of dead agents, with the remains of their books. It
//! holds that the books of an agent are taken by one heir, also if that one is killed meanwhile.

use std::collections::BTreeSet;
use std::path::Path;

use crate::attach::{EstateMap, PinFolder};
use crate::config::Config;
use crate::drain::Leftover;
use crate::estate::Remains;

/// What dead agents left.
#[derive(Default)]
pub struct Legacy {
    /// Their folders.
    pub folders: Vec<PinFolder>,
    /// Their books.
    pub remains: Vec<Remains>,
}

impl Legacy {
    /// Looks for dead agents, before anything of theirs is touched.
    pub fn find(config: &Config) -> Self {
        let Some(parent) = config.pin_dir.as_deref() else { return Self::default() };
        let folders = match PinFolder::abandoned(parent) {
            Ok(folders) => folders,
            Err(error) => {
                tracing::warn!("what a killed agent had counted cannot be read: {error}");
                return Self::default();
            }
        };
        let draining: BTreeSet<u32> =
            folders.iter().filter_map(|folder| Leftover::draining(folder).ok().flatten()).collect();
        let mut legacy = Self::default();
        for folder in folders {
            let remains = read(&folder, &draining);
            let other = remains
                .as_ref()
                .and_then(|it| it.spool())
                .filter(|spool| config.spool.dir.as_ref() != Some(spool) && is_spool(spool));
            if let Some(spool) = other {
                tracing::warn!(
                    "{}: a killed agent whose spool is {}: left to the agent that has this spool \
                     (without the spool, or without the folder, nobody waits for it)",
                    folder.path().display(),
                    spool.display()
                );
                continue;
            }
            legacy.folders.push(folder);
            legacy.remains.extend(remains);
        }
        let heirs = legacy.remains.iter().flat_map(|it| it.beginning().heir_of.iter().copied());
        let taken: BTreeSet<u128> = heirs.collect();
        legacy.remains.retain(|it| !taken.contains(&it.beginning().id));
        legacy
    }
}

fn read(folder: &PinFolder, draining: &BTreeSet<u32>) -> Option<Remains> {
    let map = EstateMap::open(folder).map_err(|error| error.to_string());
    let remains = map.and_then(|map| {
        let Some(map) = map else { return Ok(None) };
        let drained = |instance: u32| !draining.contains(&instance);
        Remains::read(Box::new(map), drained).map_err(|error| error.to_string())
    });
    remains.unwrap_or_else(|problem| {
        tracing::warn!(
            "{}: the books of a killed agent cannot be read: {problem}; what it held is lost \
             without a count",
            folder.path().display()
        );
        None
    })
}

/// There may be batches in it.
fn is_spool(path: &Path) -> bool {
    path.is_dir()
}
