//! What rows need to know of the interfaces: in which namespace each is, and whether it has a name.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::stats::Counts;
use crate::names::Names;

/// A number for a namespace, by what stands before the names of its interfaces (`blue/`); 0 for
/// the agent's own.
pub fn namespace_number(prefix: &str) -> u32 {
    if prefix.is_empty() { 0 } else { FixedState::with_seed(0).hash_one(prefix) as u32 | 1 }
}

/// The interfaces by the numbers in records.
#[derive(Debug, Default)]
pub struct Interfaces {
    names: Option<Arc<Names>>,
    /// By number: the namespace, if it has a name.
    namespaces: Vec<Option<u32>>,
    hits: u64,
    misses: u64,
}

impl Interfaces {
    /// What statistics call it.
    pub const NAME: &'static str = "interfaces";

    /// From now on the interfaces have these names.
    pub fn take(&mut self, names: &Arc<Names>) {
        if self.names.as_ref().is_some_and(|known| Arc::ptr_eq(known, names)) {
            return;
        }
        let namespace = |number| {
            let name = names.name_of(number)?;
            let end = name.rfind('/').map_or(0, |slash| slash + 1);
            Some(namespace_number(&name[..end]))
        };
        self.namespaces = (0..=names.highest() as u16).map(namespace).collect();
        self.names = Some(names.clone());
    }

    /// The namespace of an interface; the agent's own for one without a name.
    #[inline]
    pub fn namespace(&mut self, number: u16) -> u32 {
        let namespace = self.namespaces.get(usize::from(number)).copied().flatten();
        *(if namespace.is_some() { &mut self.hits } else { &mut self.misses }) += 1;
        namespace.unwrap_or(0)
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        let entries = self.namespaces.iter().flatten().count() as u64;
        Counts {
            hits: self.hits,
            misses: self.misses,
            entries,
            capacity: entries,
            ..Counts::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_come_from_the_names_of_interfaces() {
        let mut interfaces = Interfaces::default();
        interfaces.take(&Arc::new(Names::new("host", &["eth0", "blue/eth0", "pid:7/eth0"])));
        let numbers = [0, 1, 2, 3, 4].map(|number| interfaces.namespace(number));
        let (blue, pid) = (namespace_number("blue/"), namespace_number("pid:7/"));
        assert_eq!(numbers, [0, 0, blue, pid, 0]);
        assert!(blue != 0 && pid != 0 && blue != pid);
        let counts = interfaces.counts();
        assert_eq!((counts.hits, counts.misses, counts.entries), (3, 2, 3));
        interfaces.take(&Arc::new(Names::new("host", &["blue/eth0"])));
        assert_eq!(interfaces.namespace(1), blue);
    }
}
