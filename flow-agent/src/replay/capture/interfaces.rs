//! Interface descriptions enter in capture order, dense indices leave.
//!
//! What must hold: an index means one interface for the whole capture. A later pcapng section
//! describes its interfaces anew: the n-th one of a name and link type there is the n-th one of
//! that name and link type in the sections before, so that flows go on across sections.

use std::collections::HashMap;

use super::LinkType;

/// Most different interfaces in a capture; more is taken for damage.
const MAX_INTERFACES: usize = 4096;

/// Most octets kept of an interface's name.
const MAX_NAME_OCTETS: usize = 255;

/// An interface that packets were captured on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Interface {
    /// Its name in the capture (pcapng `if_name`), else the file's name.
    pub name: String,
    /// What its packets start with.
    pub link: LinkType,
}

/// All interfaces of a capture.
#[derive(Debug)]
pub(super) struct Interfaces {
    default_name: String,
    all: Vec<Interface>,
    /// The indices of each name and link type, in order of appearance.
    known: HashMap<Interface, Vec<u32>>,
    /// How many of each the section being read has described.
    in_section: HashMap<Interface, usize>,
}

impl Interfaces {
    pub(super) fn new(default_name: &str) -> Self {
        Self {
            default_name: default_name.to_owned(),
            all: Vec::new(),
            known: HashMap::new(),
            in_section: HashMap::new(),
        }
    }

    /// A new section begins: it describes its interfaces anew.
    pub(super) fn begin_section(&mut self) {
        self.in_section.clear();
    }

    /// The index of the interface described next, or `None` if there are too many.
    pub(super) fn describe(&mut self, name: Option<&[u8]>, link: LinkType) -> Option<u32> {
        let interface = Interface { name: self.name(name), link };
        let nth = self.in_section.entry(interface.clone()).or_default();
        let indices = self.known.entry(interface.clone()).or_default();
        let index = match indices.get(*nth) {
            Some(index) => *index,
            None if self.all.len() == MAX_INTERFACES => return None,
            None => {
                let index = self.all.len() as u32;
                indices.push(index);
                self.all.push(interface);
                index
            }
        };
        *nth += 1;
        Some(index)
    }

    pub(super) fn as_slice(&self) -> &[Interface] {
        &self.all
    }

    fn name(&self, name: Option<&[u8]>) -> String {
        let name = name.unwrap_or_default();
        let end = name.iter().position(|octet| *octet == 0).unwrap_or(name.len());
        let name = String::from_utf8_lossy(&name[..end.min(MAX_NAME_OCTETS)]);
        if name.trim().is_empty() { self.default_name.clone() } else { name.into_owned() }
    }
}
