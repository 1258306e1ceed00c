//! `/api/v1/flows/open`: open flows of the cache, the largest first, found by words.
//!
//! Enters: a search as a person types it. Leaves: at most [`MOST`] flows. It holds that a search
//! is bounded, and that a flow is compared by its key alone: no text is made for it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use flow_common::FlowKey;
use serde_json::{Value, json};

use super::find::open;
use super::{Sources, StatusError, key};
use crate::filter::{self, Prefix};
use crate::names::Names;
use crate::services::service;

/// Flows that are told at most.
pub const MOST: usize = 200;
/// Words of a search, and its length.
const MOST_WORDS: usize = 8;
const LONGEST: usize = 200;

/// A word of a search: a flow is meant when one of these is so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Word {
    /// The address of an end begins so.
    prefix: Option<Prefix>,
    /// An end has this port.
    port: Option<u16>,
    protocol: Option<u8>,
    /// Numbers of interfaces with such a name.
    interfaces: Vec<u16>,
    /// The name of the service has this in it.
    service: Option<String>,
}

/// What is looked for: all words must be so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search(Arc<[Word]>);

impl Search {
    /// Of words with spaces between.
    ///
    /// # Errors
    /// It is too long.
    pub fn parse(text: &str, names: &Names) -> Result<Self, String> {
        let words: Vec<_> = text.split_whitespace().collect();
        if text.len() > LONGEST || words.len() > MOST_WORDS {
            return Err(format!(
                "search is too long; at most {MOST_WORDS} words and {LONGEST} characters: \
                 addresses or their beginnings, prefixes, ports, protocols, services, interfaces"
            ));
        }
        Ok(Self(words.into_iter().map(|word| Word::parse(word, names)).collect()))
    }

    /// True for a flow with this key.
    fn matches(&self, key: &FlowKey) -> bool {
        self.0.iter().all(|word| word.matches(key))
    }
}

impl Word {
    fn parse(text: &str, names: &Names) -> Self {
        let text = text.to_lowercase();
        let prefix = text.parse().ok().or_else(|| beginning(&text));
        let port = text.trim_start_matches(':').parse().ok();
        // A number alone is a port.
        let protocol = if port.is_some() { None } else { filter::protocol(&text).ok() };
        let named = |number: &u16| {
            names.name_of(*number).is_some_and(|name| name.to_lowercase().contains(&text))
        };
        let highest = u16::try_from(names.highest()).unwrap_or(u16::MAX);
        let interfaces = (1..=highest).filter(named).collect();
        let service = (prefix.is_none() && port.is_none()).then_some(text);
        Self { prefix, port, protocol, interfaces, service }
    }

    fn matches(&self, key: &FlowKey) -> bool {
        let ports = if key.is_icmp() { [0, 0] } else { [key.src_port, key.dst_port] };
        self.prefix.is_some_and(|prefix| prefix.contains(&key.src) || prefix.contains(&key.dst))
            || self.port.is_some_and(|port| ports.contains(&port) && !key.is_icmp())
            || self.protocol == Some(key.protocol)
            || self.interfaces.contains(&key.interface)
            || self.service.as_ref().is_some_and(|word| {
                let named =
                    |port| service(key.protocol, port).is_some_and(|name| name.contains(word));
                ports.into_iter().any(named)
            })
    }
}

/// The prefix of addresses that begin as somebody has typed: whole parts only.
fn beginning(text: &str) -> Option<Prefix> {
    if text.contains('.') {
        let parts: Vec<&str> = text.trim_end_matches('.').split('.').collect();
        let mut octets = [0; 4];
        for (octet, part) in octets.iter_mut().zip(&parts) {
            *octet = part.parse().ok()?;
        }
        (parts.len() <= 4).then_some(())?;
        return format!("{}/{}", Ipv4Addr::from(octets), 8 * parts.len()).parse().ok();
    }
    let (text, end) = (text.trim_end_matches(':'), text.ends_with(':'));
    let parts: Vec<&str> = text.split(':').collect();
    // One part without a colon is a port or a word; an empty one may stand for many.
    if (parts.len() < 2 && !end) || parts.len() > 8 || parts.contains(&"") {
        return None;
    }
    let mut groups = [0; 8];
    for (group, part) in groups.iter_mut().zip(&parts) {
        *group = u16::from_str_radix(part, 16).ok()?;
    }
    format!("{}/{}", Ipv6Addr::from(groups), 16 * parts.len()).parse().ok()
}

/// The document.
///
/// # Errors
/// The cache does not answer in time.
pub fn page(sources: &Sources, search: &Search, most: usize) -> Result<Value, StatusError> {
    let refused = |error: crate::cache::Unanswered| StatusError::Refused {
        problem: error.to_string(),
        usage: false,
    };
    let wanted = search.clone();
    let largest = sources.cache.largest(move |key| wanted.matches(key), most, sources.patience);
    let largest = largest.map_err(refused)?;
    let names = sources.names.current();
    let flows: Vec<_> = largest
        .flows
        .iter()
        .map(|record| {
            let mut flow = json!(open(record, &names));
            let ports = [record.dst_port, record.src_port];
            let service = ports.into_iter().find_map(|port| service(record.protocol, port));
            flow["key"] = key::of_record(record).to_string().into();
            flow["protocol"] = record.protocol.into();
            flow["service"] = service.unwrap_or_default().into();
            flow
        })
        .collect();
    Ok(json!({ "matching": largest.matching, "shown": flows.len(), "flows": flows }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> FlowKey {
        FlowKey {
            src: [10, 1, 2, 3].into(),
            dst: [192, 0, 2, 7].into(),
            src_port: 40_000,
            dst_port: 443,
            protocol: 6,
            interface: 2,
            ..FlowKey::default()
        }
    }

    fn found(text: &str, key: &FlowKey) -> bool {
        let names = Names::new("host", &["eth0", "wlan1"]);
        Search::parse(text, &names).expect("a short search").matches(key)
    }

    #[test]
    fn a_flow_is_found_by_each_of_its_parts_and_by_all_of_them() {
        let words = ["10.1.2.3", "10.1", "10.", "10.1.2.", "192.0.2.0/24", "443", ":443", "tcp"];
        let words = [&words[..], &["https", "HTTP", "wlan1", "wlan", "40000", "TCP"]].concat();
        for word in &words {
            assert!(found(word, &key()), "{word}");
        }
        assert!(found("", &key()) && found(&words[..8].join(" "), &key()));
        for word in ["10.2", "11.", "0.1", "80", "udp", "eth0", "ssh", "fd00:", "4", "nothing"] {
            assert!(!found(word, &key()), "{word}");
            assert!(!found(&format!("tcp {word}"), &key()), "all words must be so: {word}");
        }
    }

    #[test]
    fn beginnings_of_ipv6_addresses() {
        let key = FlowKey {
            src: "fd00:77::1".parse::<Ipv6Addr>().expect("an address").octets().into(),
            ..key()
        };
        for word in ["fd00:", "fd00:77", "fd00:77:", "fd00:77::1", "fd00:77::/64"] {
            assert!(found(word, &key), "{word}");
        }
        for word in ["fd01:", "fd00:78", "fd00:77:1", "2001:db8::/32"] {
            assert!(!found(word, &key), "{word}");
        }
    }

    #[test]
    fn icmp_has_no_ports() {
        let ping = FlowKey { protocol: 1, src_port: 0, dst_port: 8 << 8, ..key() };
        assert!(found("icmp", &ping) && !found("2048", &ping) && !found("0", &ping));
    }

    #[test]
    fn a_search_is_bounded() {
        let names = Names::new("host", &["eth0"]);
        assert!(Search::parse(&"a ".repeat(9), &names).is_err());
        assert!(Search::parse(&"a".repeat(201), &names).is_err());
    }
}
