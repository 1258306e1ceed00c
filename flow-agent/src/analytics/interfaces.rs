//! Small numbers for interface names: the agent's own are given to other interfaces in time.

use std::collections::HashMap;
use std::sync::Arc;

use crate::names::Names;

/// An interface name; 0 is every name beyond [`Interfaces::LIMIT`].
pub type InterfaceId = u16;

/// The names seen so far, from 1.
#[derive(Debug)]
pub struct Interfaces {
    names: Vec<Arc<str>>,
    ids: HashMap<Arc<str>, InterfaceId>,
    /// Of the names of this batch, by the agent's number.
    batch: Vec<Option<InterfaceId>>,
}

impl Interfaces {
    /// Names that are told apart; containers that come and go make ever more of them.
    pub const LIMIT: usize = 16_384;

    /// No names.
    pub fn new() -> Self {
        Self { names: vec!["other".into()], ids: HashMap::new(), batch: Vec::new() }
    }

    /// From here on the agent's numbers may have other names.
    pub fn begin_batch(&mut self, names: &Names) {
        self.batch.clear();
        self.batch.resize(names.highest() + 1, None);
    }

    /// The interface of a record of the batch.
    pub fn of(&mut self, number: u16, names: &Names) -> InterfaceId {
        if let Some(Some(id)) = self.batch.get(usize::from(number)) {
            return *id;
        }
        let id = self.id(names.interface(number));
        if let Some(place) = self.batch.get_mut(usize::from(number)) {
            *place = Some(id);
        }
        id
    }

    /// The number of a name.
    pub fn id(&mut self, name: &Arc<str>) -> InterfaceId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        if self.names.len() > Self::LIMIT {
            return 0;
        }
        let id = self.names.len() as InterfaceId;
        self.names.push(name.clone());
        self.ids.insert(name.clone(), id);
        id
    }

    /// The number of a name that has one.
    pub fn find(&self, name: &str) -> Option<InterfaceId> {
        self.ids.get(name).copied()
    }

    /// The name of a number.
    pub fn name(&self, id: InterfaceId) -> &Arc<str> {
        self.names.get(usize::from(id)).unwrap_or(&self.names[0])
    }

    /// Names there are.
    pub fn len(&self) -> usize {
        self.names.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_given_to_another_interface_is_another_one() {
        let mut interfaces = Interfaces::new();
        let (before, after) = (Names::new("h", &["eth0", "eth1"]), Names::new("h", &["eth1"]));
        interfaces.begin_batch(&before);
        let (first, second) = (interfaces.of(1, &before), interfaces.of(2, &before));
        assert_eq!(interfaces.of(1, &before), first);
        interfaces.begin_batch(&after);
        assert_eq!(interfaces.of(1, &after), second);
        assert_eq!(&**interfaces.name(first), "eth0");
        let unknown = interfaces.of(9, &after);
        assert_eq!(&**interfaces.name(unknown), "unknown");
        for number in 0..2 * Interfaces::LIMIT {
            interfaces.id(&format!("veth{number}").into());
        }
        assert_eq!(interfaces.len(), Interfaces::LIMIT);
        let beyond = interfaces.id(&"veth99999".into());
        assert_eq!(&**interfaces.name(beyond), "other");
    }
}
