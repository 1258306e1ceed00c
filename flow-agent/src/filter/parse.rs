//! Prefixes, ports and protocols as a person writes them.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use flow_common::Address;
use flow_common::filter::prefix;

/// What is wrong with a rule.
pub type BadRule = String;

/// Addresses that begin alike: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// The first address, IPv4 mapped into IPv6.
    address: Address,
    /// Bits that count, of the 128.
    bits: u8,
}

impl Prefix {
    /// Bits of the prefix and its data, as the kernel's trie has them.
    pub fn key(&self, generation: u32) -> (u32, [u32; 5]) {
        let data = prefix::data(generation, &self.address);
        (prefix::HEAD_BITS + u32::from(self.bits), data)
    }

    /// Bits that count, of the 128.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The first address, IPv4 mapped, and how many of its 128 bits count.
    pub fn parts(&self) -> ([u8; 16], u8) {
        (self.address.octets(), self.bits)
    }

    /// True for an address that begins so. `::/0` is all of IPv6 and nothing of IPv4.
    pub fn contains(&self, address: &Address) -> bool {
        let number = |address: &Address| u128::from_be_bytes(address.octets());
        let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
        address.is_mapped() == self.address.is_mapped()
            && number(address) & mask == number(&self.address)
    }
}

impl FromStr for Prefix {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_| format!("{text:?} is no prefix (10.0.0.0/8, fd00::/8)"))?;
        let (width, before) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let length = match length {
            None => width,
            Some(length) => length
                .parse()
                .ok()
                .filter(|length| *length <= width)
                .ok_or_else(|| format!("{text:?} has no length of 0 to {width}"))?,
        };
        let bits = before + length;
        let number = number(address);
        let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
        if number & !mask != 0 {
            let first = (number & mask).to_be_bytes();
            let first = IpAddr::from(first);
            let first = if address.is_ipv4() { first.to_canonical() } else { first };
            return Err(format!("{text:?} has bits behind its length; write \"{first}/{length}\""));
        }
        Ok(Self { address: number.to_be_bytes().into(), bits })
    }
}

/// As in the configuration: IPv4 prefixes with a length of 0 to 32.
impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const MAPPED: u8 = 96;
        match IpAddr::from(self.address.octets()).to_canonical() {
            IpAddr::V4(address) if self.bits >= MAPPED => {
                write!(f, "{address}/{}", self.bits - MAPPED)
            }
            _ => write!(f, "{}/{}", std::net::Ipv6Addr::from(self.address.octets()), self.bits),
        }
    }
}

/// An address as a number of 128 bits, IPv4 mapped.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// `443` or `8000-8100`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(pub RangeInclusive<u16>);

impl FromStr for Ports {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        let port = |text: &str| text.trim().parse::<u16>().ok();
        let range = match text.split_once('-') {
            Some((first, last)) => port(first).zip(port(last)),
            None => port(text).map(|port| (port, port)),
        };
        match range {
            Some((first, last)) if first <= last => Ok(Self(first..=last)),
            _ => Err(format!("{text:?} is no port (443) or range of ports (8000-8100)")),
        }
    }
}

/// Names of protocols that are common enough to be written by name.
const PROTOCOLS: [(&str, u8); 16] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("sctp", 132),
    ("udplite", 136),
];

/// The number of a protocol given by name or number.
///
/// # Errors
/// It is neither a known name nor a number up to 255.
pub fn protocol(text: &str) -> Result<u8, BadRule> {
    let named = PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    named.map(|(_, number)| *number).or_else(|| text.parse().ok()).ok_or_else(|| {
        let names: Vec<_> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
        format!("{text:?} is no protocol: 0 to 255, or one of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Result<Prefix, String> {
        text.parse()
    }

    #[test]
    fn prefixes_of_both_families() {
        let four = prefix("10.0.0.0/8").expect("valid");
        let (bits, [head, a, b, c, d]) = four.key(1);
        assert_eq!((bits, head), (32 + 96 + 8, 1 << 1 | 1));
        assert_eq!(Address([a, b, c, d]), Address::from([10, 0, 0, 0]));
        let six = prefix("fd00::/8").expect("valid");
        assert_eq!((six.key(0).0, six.key(0).1[0]), (32 + 8, 0));
        assert_eq!(prefix("10.1.2.3").expect("valid").bits, 128);
        assert_eq!(prefix("::ffff:10.0.0.0/104"), prefix("10.0.0.0/8"));
        assert_eq!(prefix("0.0.0.0/0").expect("valid").key(0), {
            let address = Address::from([0, 0, 0, 0]).0;
            (32 + 96, [1, address[0], address[1], address[2], address[3]])
        });
        assert_eq!(prefix("::/0").expect("valid").key(0), (32, [0; 5]));
    }

    #[test]
    fn bad_rules_say_what_is_wrong() {
        for (text, words) in [
            ("ten", "\"ten\" is no prefix"),
            ("10.0.0.0/33", "no length of 0 to 32"),
            ("10.0.0.0/x", "no length of 0 to 32"),
            ("fd00::/129", "no length of 0 to 128"),
            ("10.0.0.1/8", "write \"10.0.0.0/8\""),
            ("fd00::1/64", "write \"fd00::/64\""),
            ("", "is no prefix"),
        ] {
            let error = prefix(text).expect_err(text);
            assert!(error.contains(words), "{error}");
        }
        for text in ["", "x", "65536", "9-8", "1-", "-1"] {
            assert!(text.parse::<Ports>().is_err(), "{text}");
        }
        assert_eq!("8000-8100".parse::<Ports>().expect("valid").0, 8000..=8100);
        assert_eq!((protocol("TCP"), protocol("47")), (Ok(6), Ok(47)));
        assert!(protocol("256").is_err() && protocol("tpc").is_err());
    }
}
