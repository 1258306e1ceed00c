//! The filter: words that were typed enter, whether a flow has them all leaves.

use std::net::IpAddr;

use super::column::end;
use super::flow::OpenFlow;
use crate::filter::Prefix;

/// One word of it.
#[derive(Clone, Debug)]
enum Word {
    /// `10.0.0.0/8`: an end is in it.
    Prefix(Prefix),
    /// `:443`: an end has this port.
    Port(u16),
    /// Part of an address with its port, protocol, service, interface or direction.
    Text(String),
}

/// All of the words.
#[derive(Clone, Debug, Default)]
pub struct Filter(Vec<Word>);

impl Filter {
    /// What was typed so far. Every text is one: a word that is not finished is a text.
    pub fn parse(text: &str) -> Self {
        let word = |word: &str| {
            if word.contains('/')
                && let Ok(prefix) = word.parse()
            {
                return Word::Prefix(prefix);
            }
            match word.strip_prefix(':').map(str::parse) {
                Some(Ok(port)) => Word::Port(port),
                _ => Word::Text(word.to_lowercase()),
            }
        };
        Self(text.split_whitespace().map(word).collect())
    }

    /// True if the flow has every word.
    pub fn matches(&self, flow: &OpenFlow) -> bool {
        self.0.iter().all(|word| word.matches(flow))
    }
}

impl Word {
    fn matches(&self, flow: &OpenFlow) -> bool {
        match self {
            Self::Port(port) => [flow.src_port, flow.dst_port].contains(port),
            Self::Prefix(prefix) => [&flow.src_ip, &flow.dst_ip].into_iter().any(|text| {
                let address = match text.parse() {
                    Ok(IpAddr::V4(address)) => address.octets().into(),
                    Ok(IpAddr::V6(address)) => address.octets().into(),
                    Err(_) => return false,
                };
                prefix.contains(&address)
            }),
            Self::Text(text) => {
                let ends = [end(&flow.src_ip, flow.src_port), end(&flow.dst_ip, flow.dst_port)];
                let protocol = flow.protocol_name();
                let others = [&protocol, &flow.service, &flow.interface, &flow.direction];
                ends.iter().chain(others).any(|part| part.to_lowercase().contains(text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_addresses_ports_protocols_and_services() {
        let flow = OpenFlow {
            src_ip: "10.77.1.1".into(),
            dst_ip: "10.77.2.9".into(),
            src_port: 40_000,
            dst_port: 443,
            key: "tcp,10.77.1.1:40000,10.77.2.9:443".into(),
            service: "https".into(),
            interface: "eth0".into(),
            direction: "egress".into(),
            ..OpenFlow::default()
        };
        for text in [
            "",
            "10.77",
            "10.77.2.9:443",
            ":443",
            ":40000",
            "TCP",
            "https eth0",
            "10.77.0.0/16 :443",
        ] {
            assert!(Filter::parse(text).matches(&flow), "{text}");
        }
        for text in [":44", "udp", "https eth1", "10.78.0.0/16", "10.77.0.0/16 :80", "::/0"] {
            assert!(!Filter::parse(text).matches(&flow), "{text}");
        }
    }
}
