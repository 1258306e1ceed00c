//! Names of services by port: the configuration's, else the built-in ones, else what this host's
//! listening sockets are called.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;

use crossbeam::channel::Receiver;
use foldhash::fast::FixedState;

use super::EnrichmentCache;
use super::stats::Counts;
use crate::services::{PORTS, SERVICES, row};

/// The configuration's own services: protocols with their ports, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnServices(pub BTreeMap<String, Vec<(u8, RangeInclusive<u16>)>>);

impl OwnServices {
    /// Every protocol and port with its name.
    pub fn iter(&self) -> impl Iterator<Item = (u8, u16, &str)> {
        self.0.iter().flat_map(|(name, ports)| {
            ports.iter().flat_map(move |(protocol, ports)| {
                ports.clone().map(move |port| (*protocol, port, name.as_str()))
            })
        })
    }
}

/// Which service is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceKey {
    /// An IP protocol number.
    pub protocol: u8,
    /// The port.
    pub port: u16,
    /// The namespace of the end with that port, if the end is this host's.
    pub local: Option<u32>,
}

/// Names of listening sockets, by namespace, protocol and port.
pub type ServiceNews = HashMap<(u32, u8, u16), Arc<str>, FixedState>;

/// Names by protocol and port.
pub struct ServiceNames {
    /// Position in `names` plus one, 0 for none.
    table: Box<[u16]>,
    names: Vec<Arc<str>>,
    learned: ServiceNews,
    news: Option<Receiver<ServiceNews>>,
    counts: Counts,
}

impl ServiceNames {
    /// The built-in names and the configuration's own (fewer than 32,768), and what comes by
    /// `news`.
    pub fn new(own: &OwnServices, news: Option<Receiver<ServiceNews>>) -> Self {
        let mut service_names = Self {
            table: vec![0; 3 * PORTS].into(),
            names: Vec::new(),
            learned: ServiceNews::default(),
            news,
            counts: Counts::default(),
        };
        let mut numbers = HashMap::new();
        let built_in = SERVICES.iter().map(|(port, protocol, name)| (*protocol, *port, *name));
        for (protocol, port, name) in built_in.chain(own.iter()) {
            let Some(row) = row(protocol) else { continue };
            let names = &mut service_names.names;
            let number = *numbers.entry(name).or_insert_with(|| {
                names.push(name.into());
                names.len() as u16
            });
            service_names.table[row * PORTS + usize::from(port)] = number;
        }
        let entries = service_names.table.iter().filter(|number| **number != 0).count() as u64;
        service_names.counts.capacity = entries;
        service_names
    }

    fn known(&self, key: &ServiceKey) -> Option<&Arc<str>> {
        let number = self.table[row(key.protocol)? * PORTS + usize::from(key.port)];
        if let Some(at) = usize::from(number).checked_sub(1) {
            return self.names.get(at);
        }
        self.learned.get(&(key.local?, key.protocol, key.port))
    }
}

impl EnrichmentCache for ServiceNames {
    type Key = ServiceKey;
    type Value = Arc<str>;

    fn name(&self) -> &'static str {
        "services"
    }

    fn settle(&mut self, _now_s: u32) {
        if let Some(learned) = self.news.as_ref().and_then(|news| news.try_iter().last()) {
            self.counts.insertions += learned.len() as u64;
            self.learned = learned;
        }
    }

    fn look_up(&mut self, key: &ServiceKey, _now_s: u32) -> Option<&Arc<str>> {
        let found = self.known(key).is_some();
        *(if found { &mut self.counts.hits } else { &mut self.counts.misses }) += 1;
        self.known(key)
    }

    fn counts(&self) -> Counts {
        let learned = self.learned.len() as u64;
        Counts {
            entries: self.counts.capacity + learned,
            capacity: self.counts.capacity + super::listeners::MOST as u64,
            ..self.counts
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam::channel::bounded;

    use super::*;
    use crate::services::service;

    const TCP: u8 = 6;
    const UDP: u8 = 17;

    fn name(names: &mut ServiceNames, protocol: u8, port: u16, local: Option<u32>) -> String {
        let key = ServiceKey { protocol, port, local };
        names.look_up(&key, 0).map(ToString::to_string).unwrap_or_default()
    }

    #[test]
    fn the_built_in_table_is_all_there() {
        let mut names = ServiceNames::new(&OwnServices::default(), None);
        for protocol in [0, 1, TCP, UDP, 132, 255] {
            for port in 0..=u16::MAX {
                let expected = service(protocol, port).unwrap_or_default();
                assert_eq!(
                    name(&mut names, protocol, port, Some(0)),
                    expected,
                    "{protocol}/{port}"
                );
            }
        }
    }

    #[test]
    fn own_names_come_first_and_learned_ones_last_at_this_host_alone() {
        let own = BTreeMap::from([
            ("mine".to_string(), vec![(TCP, 443..=443), (UDP, 9000..=9002)]),
            ("last".to_string(), vec![(TCP, 65_535..=65_535)]),
        ]);
        let (sender, news) = bounded(2);
        let mut names = ServiceNames::new(&OwnServices(own), Some(news));
        assert_eq!(name(&mut names, TCP, 443, None), "mine");
        assert_eq!(name(&mut names, UDP, 443, None), "https");
        assert_eq!(name(&mut names, UDP, 9002, None), "mine");
        assert_eq!(name(&mut names, TCP, 65_535, None), "last");
        let learned = [((0, TCP, 22), "other"), ((0, TCP, 7777), "app"), ((5, TCP, 7778), "blue")];
        let learned = learned.into_iter().map(|(key, name)| (key, name.into())).collect();
        sender.send(learned).expect("room");
        names.settle(0);
        assert_eq!(name(&mut names, TCP, 22, Some(0)), "ssh");
        assert_eq!(name(&mut names, TCP, 7777, Some(0)), "app");
        assert_eq!(name(&mut names, TCP, 7777, None), "", "another host's port");
        assert_eq!(name(&mut names, TCP, 7778, Some(0)), "", "another namespace's port");
        assert_eq!(name(&mut names, TCP, 7778, Some(5)), "blue");
        sender.send(ServiceNews::default()).expect("room");
        names.settle(0);
        assert_eq!(name(&mut names, TCP, 7777, Some(0)), "");
    }
}
