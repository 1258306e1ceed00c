//! Names for the interface numbers in records, as they are at one moment.
//!
//! A number belongs to one interface at a time, and to the next one only after
//! nothing of the first is on its way. Whoever writes names down takes them when
//! the records are frozen, so a record is never given the name of a later interface.

use std::sync::{Arc, PoisonError, RwLock};

/// The names that belong to the numbers in records.
#[derive(Clone, Debug)]
pub struct Names {
    /// The exporter: this host's name or what the configuration says.
    pub exporter: Arc<str>,
    /// Interface names; a record's number is the position plus one.
    interfaces: Vec<Arc<str>>,
    unknown: Arc<str>,
}

impl Names {
    /// Names for the numbers from 1 on.
    pub fn new<I: AsRef<str>>(exporter: &str, interfaces: &[I]) -> Self {
        let interfaces = interfaces.iter().map(|name| name.as_ref().into()).collect();
        Self { exporter: exporter.into(), interfaces, unknown: "unknown".into() }
    }

    /// The name of an interface number; 0 is for packets of unknown interfaces.
    pub fn interface(&self, number: u16) -> &Arc<str> {
        usize::from(number)
            .checked_sub(1)
            .and_then(|position| self.interfaces.get(position))
            .unwrap_or(&self.unknown)
    }

    /// The name of an interface number, if it has one.
    pub fn name_of(&self, number: u16) -> Option<&str> {
        let position = usize::from(number).checked_sub(1)?;
        let name = self.interfaces.get(position)?;
        (!Arc::ptr_eq(name, &self.unknown)).then_some(name)
    }

    /// All names that interfaces have.
    pub fn interfaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.interfaces.iter()
    }

    /// The largest number that has a name.
    pub fn highest(&self) -> usize {
        self.interfaces.len()
    }

    fn set(&mut self, number: u16, name: &str) {
        let position = usize::from(number) - 1;
        if position >= self.interfaces.len() {
            self.interfaces.resize(position + 1, self.unknown.clone());
        }
        self.interfaces[position] = name.into();
    }
}

/// The names as they are now; clones share them.
#[derive(Clone, Debug)]
pub struct NameBook {
    current: Arc<RwLock<Arc<Names>>>,
}

impl NameBook {
    /// A book that begins with these.
    pub fn new(names: Names) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(names))) }
    }

    /// The names now; they stay as they are in the copy.
    pub fn current(&self) -> Arc<Names> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives a number, from 1, a name from now on.
    pub fn set(&self, number: u16, name: &str) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut current).set(number, name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_the_names_of_its_moment() {
        let book = NameBook::new(Names::new("host", &["eth0"]));
        let before = book.current();
        book.set(1, "eth1");
        book.set(3, "eth3");
        assert_eq!(&**before.interface(1), "eth0");
        let names = book.current();
        let name = |number| names.interface(number).to_string();
        assert_eq!([name(0), name(1), name(2), name(3)], ["unknown", "eth1", "unknown", "eth3"]);
        assert_eq!(names.highest(), 3);
    }
}
