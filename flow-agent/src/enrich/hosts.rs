//! Host names by address, by the system's resolver.
//!
//! A few threads ask; addresses wait for them in a bounded queue, and what finds no room is asked
//! for again with a later flow. That there is no name is remembered, too.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::EnrichmentCache;
use super::memo::{Lifetime, Memo};
use super::stats::Counts;

/// Threads that ask.
const THREADS: usize = 4;
/// Addresses that may wait for them, and answers that may wait for the next batch.
const QUEUE: usize = 1024;
/// A question that is not answered in this time may be asked again.
const PATIENCE_S: u32 = 60;
/// RFC 1035, section 2.3.4.
const LONGEST_NAME: usize = 253;

/// How host names are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// Of names.
    pub lifetime: Lifetime,
    /// How long it is remembered that an address has no name.
    pub negative_ttl: Duration,
}

/// Names by address (IPv4 mapped, network order).
pub struct HostNames {
    /// None: it has no name, or is being looked up.
    memo: Memo<u128, Option<Arc<str>>>,
    negative_ttl_s: u32,
    questions: Sender<IpAddr>,
    answers: Receiver<(u128, Option<Arc<str>>)>,
    refused: u64,
}

impl HostNames {
    /// Asks the system's resolver: files, DNS and what else it is configured for.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(config: HostConfig) -> io::Result<Self> {
        Self::with_resolver(config, |address| dns_lookup::lookup_addr(&address).ok())
    }

    fn with_resolver(
        config: HostConfig,
        resolve: impl Fn(IpAddr) -> Option<String> + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let (questions, waiting) = bounded::<IpAddr>(QUEUE);
        let (sender, answers) = bounded(QUEUE);
        for number in 0..THREADS {
            let (waiting, sender, resolve) = (waiting.clone(), sender.clone(), resolve.clone());
            // They end when nobody can ask any more; nobody waits for one that is waiting itself.
            thread::Builder::new().name(format!("hosts-{number}")).spawn(move || {
                for address in waiting {
                    let name = resolve(address).and_then(|name| checked(&name));
                    if sender.send((key(address), name)).is_err() {
                        return;
                    }
                }
            })?;
        }
        Ok(Self {
            memo: Memo::new(config.lifetime),
            negative_ttl_s: u32::try_from(config.negative_ttl.as_secs()).unwrap_or(u32::MAX),
            questions,
            answers,
            refused: 0,
        })
    }
}

impl EnrichmentCache for HostNames {
    type Key = u128;
    type Value = Arc<str>;

    fn name(&self) -> &'static str {
        "hosts"
    }

    fn settle(&mut self, now_s: u32) {
        for (address, name) in self.answers.try_iter() {
            if name.is_some() {
                self.memo.put(address, name, now_s);
            } else {
                self.memo.put_for(address, name, now_s, self.negative_ttl_s);
            }
        }
    }

    fn look_up(&mut self, address: &u128, now_s: u32) -> Option<&Arc<str>> {
        if self.memo.get(address, now_s).is_none()
            && let Some(question) = question(*address)
        {
            if self.questions.try_send(question).is_ok() {
                self.memo.put_for(*address, None, now_s, PATIENCE_S);
            } else {
                self.refused += 1;
            }
            return None;
        }
        self.memo.peek(address)?.as_ref()
    }

    fn counts(&self) -> Counts {
        Counts { refused: self.refused, ..self.memo.counts() }
    }
}

fn key(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address to ask for; none for what is no host's.
fn question(address: u128) -> Option<IpAddr> {
    let v6 = Ipv6Addr::from_bits(address);
    match v6.to_ipv4_mapped() {
        Some(v4) if v4.is_multicast() || v4.is_unspecified() || v4 == Ipv4Addr::BROADCAST => None,
        Some(v4) => Some(v4.into()),
        None if v6.is_multicast() || v6.is_unspecified() => None,
        None => Some(v6.into()),
    }
}

/// Whoever owns an address says its name: it is taken only if it looks like one.
fn checked(name: &str) -> Option<Arc<str>> {
    let name = name.trim_end_matches('.');
    let usual = |octet: u8| octet.is_ascii_graphic() || octet >= 0x80;
    let fits = !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(usual);
    fits.then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: HostConfig = HostConfig {
        lifetime: Lifetime { entries: 8, ttl: Duration::from_secs(100) },
        negative_ttl: Duration::from_secs(10),
    };

    fn v4(last: u8) -> u128 {
        key([192, 0, 2, last].into())
    }

    fn asked(hosts: &mut HostNames, address: u128, now_s: u32) -> Option<String> {
        hosts.look_up(&address, now_s).map(ToString::to_string)
    }

    #[test]
    fn names_come_in_the_background_and_their_absence_is_remembered() {
        let (asked_for, questions) = bounded(16);
        let mut hosts = HostNames::with_resolver(CONFIG, move |address| {
            asked_for.send(address).expect("room");
            (address == IpAddr::from([192, 0, 2, 1])).then(|| "web.example.".to_string())
        })
        .expect("threads");
        let wait = Duration::from_secs(30);
        let taken_in = |hosts: &mut HostNames, now_s| {
            let answer = hosts.answers.recv_timeout(wait).expect("an answer");
            let (sender, answers) = bounded(1);
            sender.send(answer).expect("room");
            let others = std::mem::replace(&mut hosts.answers, answers);
            hosts.settle(now_s);
            hosts.answers = others;
        };
        for address in [v4(1), v4(2)] {
            assert_eq!(asked(&mut hosts, address, 0), None);
            assert_eq!(asked(&mut hosts, address, 0), None, "asked once");
            taken_in(&mut hosts, 0);
        }
        assert_eq!(asked(&mut hosts, v4(1), 99).as_deref(), Some("web.example"));
        assert_eq!(asked(&mut hosts, v4(2), 9), None);
        assert_eq!(questions.len(), 2);
        assert_eq!(asked(&mut hosts, v4(2), 10), None);
        taken_in(&mut hosts, 10);
        assert_eq!(asked(&mut hosts, v4(1), 100), None, "too old");
        taken_in(&mut hosts, 100);
        assert_eq!(questions.len(), 4);
        assert_eq!(asked(&mut hosts, v4(1), 100).as_deref(), Some("web.example"));
    }

    #[test]
    fn a_resolver_that_hangs_makes_nobody_wait() {
        let (let_go, held) = bounded::<()>(0);
        let mut hosts = HostNames::with_resolver(
            HostConfig { lifetime: Lifetime { entries: 1 << 16, ..CONFIG.lifetime }, ..CONFIG },
            move |_| {
                let _ = held.recv();
                None
            },
        )
        .expect("threads");
        for address in 0..2 * (QUEUE + THREADS) as u32 {
            assert_eq!(asked(&mut hosts, key(Ipv4Addr::from_bits(address + 1).into()), 0), None);
        }
        let counts = hosts.counts();
        assert!(counts.refused >= (QUEUE + THREADS) as u64, "{counts:?}");
        assert!(counts.entries >= QUEUE as u64, "{counts:?}");
        drop(let_go);
    }

    #[test]
    fn only_hosts_are_asked_for_and_only_names_are_taken() {
        for address in ["0.0.0.0", "224.0.0.251", "255.255.255.255", "::", "ff02::fb"] {
            assert_eq!(question(key(address.parse().expect("one"))), None, "{address}");
        }
        for address in ["10.0.0.1", "2001:db8::1", "::1"] {
            let address = address.parse().expect("one");
            assert_eq!(question(key(address)), Some(address));
        }
        for name in ["", ".", "a b", "a\nb", "\u{7f}", &"a".repeat(254)] {
            assert_eq!(checked(name), None, "{name:?}");
        }
        assert_eq!(checked("web-1.example.").as_deref(), Some("web-1.example"));
    }
}
