//! The device inventory: addresses of directly connected networks, with MAC, first and last seen.
//!
//! An address is there when it sent or answered in a flow, when the kernel's neighbour table has
//! confirmed it, or when it is this host's own. A device is new when neither its address nor its
//! MAC was seen before; whether it is can only be said once the neighbour table was read after
//! it was seen. So a phone that takes another IPv6 address is another row, and no event.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Context;
use super::bounded::{Bounded, Size};
use super::episodes::{Episodes, Subject};
use super::event::{Address, Finding, Kind, NONE, Severity, ip};
use super::interfaces::InterfaceId;
use super::network::{LinkState, Mac, is_unicast, mac_text};
use crate::record::FlowRecord;

/// Addresses that are remembered, over all interfaces.
const LIMIT: usize = 16_384;
/// MACs that are remembered.
const MACS: usize = 16_384;
/// How often a device that is still there is written.
const REFRESH_NS: u64 = 300_000_000_000;

type Key = (InterfaceId, Address);

#[derive(Clone, Copy, Debug)]
struct Device {
    mac: Option<Mac>,
    first_ns: u64,
    last_ns: u64,
    /// When the agent heard of it.
    heard_ns: u64,
    own: bool,
    /// Whether it is new was said, or need not be.
    settled: bool,
    /// The `last_ns` of its last row; 0 before the first.
    written_ns: u64,
}

/// A row of the table `devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceRow {
    /// Its address.
    #[serde(serialize_with = "as_text")]
    pub address: Address,
    /// Its MAC, empty if unknown.
    pub mac: String,
    /// Where it is.
    #[serde(serialize_with = "as_name")]
    pub interface: Arc<str>,
    /// Unix ns.
    pub first_ns: u64,
    /// Unix ns.
    pub last_ns: u64,
    /// It is an address of this host.
    pub own: bool,
}

fn as_text<S: serde::Serializer>(address: &Address, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&ip(*address))
}

fn as_name<S: serde::Serializer>(name: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name)
}

/// A device that is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in the table devices")]
pub struct SavedDevice {
    pub interface: String,
    pub address: Address,
    pub mac: Option<Mac>,
    pub first_ns: u64,
    pub last_ns: u64,
}

/// The inventory.
#[derive(Debug)]
pub struct Devices {
    known: Bounded<Key, Device>,
    macs: Bounded<Mac, ()>,
    rows: Vec<DeviceRow>,
    refreshed_ns: u64,
}

impl Devices {
    /// Nothing seen yet.
    pub fn new(now_ns: u64) -> Self {
        Self {
            known: Bounded::new(LIMIT),
            macs: Bounded::new(MACS),
            rows: Vec::new(),
            refreshed_ns: now_ns,
        }
    }

    /// Looks at a record.
    pub fn observe(&mut self, record: &FlowRecord, interface: InterfaceId, context: &Context<'_>) {
        let ends = [(record.src, record.packets), (record.dst, record.reverse_packets)];
        for (address, packets) in ends {
            if packets > 0
                && context.network.is_connected(interface, address)
                && is_unicast(address)
            {
                self.see(interface, address, record.start_ns, record.end_ns, context.now_ns);
            }
        }
    }

    fn see(
        &mut self,
        interface: InterfaceId,
        address: Address,
        first_ns: u64,
        last_ns: u64,
        now_ns: u64,
    ) -> &mut Device {
        let make = || Device {
            mac: None,
            first_ns,
            last_ns,
            heard_ns: now_ns,
            own: false,
            settled: false,
            written_ns: 0,
        };
        let device = self.known.entry((interface, address), make).0;
        device.first_ns = device.first_ns.min(first_ns);
        device.last_ns = device.last_ns.max(last_ns);
        device
    }

    /// Takes what the neighbour tables said at `taken_ns`; says what is new.
    pub fn neighbours(
        &mut self,
        links: &[LinkState],
        taken_ns: u64,
        context: &Context<'_>,
        episodes: &mut Episodes,
    ) {
        for link in links {
            let Some(interface) = context.interfaces.find(&link.name) else { continue };
            for (address, _) in link.addresses.iter().filter(|(address, _)| is_unicast(*address)) {
                self.see(interface, *address, taken_ns, taken_ns, taken_ns).own = true;
                if let Some(mac) = link.mac {
                    self.has_mac((interface, *address), mac, taken_ns, context, episodes);
                }
            }
            for neighbour in &link.neighbours {
                let (address, confirmed) = (neighbour.address, neighbour.confirmed_ns);
                if !is_unicast(address) {
                    continue;
                }
                if let Some(ns) = confirmed {
                    self.see(interface, address, ns, ns, taken_ns);
                }
                self.has_mac((interface, address), neighbour.mac, taken_ns, context, episodes);
            }
        }
        self.settle(taken_ns, context, episodes);
    }

    /// A device that is known has this MAC now.
    fn has_mac(
        &mut self,
        key: Key,
        mac: Mac,
        now_ns: u64,
        context: &Context<'_>,
        episodes: &mut Episodes,
    ) {
        let Some(device) = self.known.get_mut(&key) else { return };
        let before = device.mac.replace(mac);
        if before.is_none() {
            // The row without a MAC stays; this one has another key.
            device.written_ns = 0;
        }
        let Some(before) = before.filter(|before| *before != mac) else { return };
        (device.first_ns, device.last_ns) = (now_ns, device.last_ns.max(now_ns));
        (device.written_ns, device.settled) = (0, true);
        self.macs.entry(mac, || ());
        let (interface, address) = key;
        let kind = Kind::MacChanged;
        let subject = Subject { kind, src: address, dst: NONE, port: 0, protocol: 0, interface };
        let details = BTreeMap::from([("mac", mac_text(mac)), ("mac_before", mac_text(before))]);
        let texts = details.clone();
        let grow = |finding: &mut Finding| {
            finding.add(now_ns, now_ns);
            finding.value += 1.0;
            finding.details.extend(texts);
        };
        if episodes.grow(&subject, now_ns, grow) {
            return;
        }
        let finding = Finding { value: 1.0, details, ..found(kind, key, now_ns, context) };
        episodes.open(subject, finding, now_ns);
    }

    /// Says which devices are new: those that were heard of before the tables were read.
    fn settle(&mut self, taken_ns: u64, context: &Context<'_>, episodes: &mut Episodes) {
        for (key, device) in self.known.iter_mut() {
            if device.settled || device.heard_ns > taken_ns {
                continue;
            }
            device.settled = true;
            let known = device.mac.is_some_and(|mac| self.macs.contains(&mac));
            if let Some(mac) = device.mac {
                self.macs.entry(mac, || ());
            }
            if known || device.own || context.learning {
                continue;
            }
            let (interface, address) = *key;
            let kind = Kind::NewDevice;
            let subject =
                Subject { kind, src: address, dst: NONE, port: 0, protocol: 0, interface };
            let mac = device.mac.map(|mac| ("mac", mac_text(mac)));
            let finding = Finding {
                first_ns: device.first_ns,
                last_ns: device.last_ns,
                details: mac.into_iter().collect(),
                ..found(kind, *key, taken_ns, context)
            };
            episodes.open(subject, finding, taken_ns);
        }
        for (_, device) in self.known.iter() {
            // Touched, so that a MAC is remembered for as long as its device.
            device.mac.and_then(|mac| self.macs.get_mut(&mac));
        }
        self.write(context, |device| device.settled && device.written_ns == 0);
    }

    /// Writes devices that are still there, now and then.
    pub fn tick(&mut self, context: &Context<'_>) {
        if context.now_ns.saturating_sub(self.refreshed_ns) >= REFRESH_NS {
            self.finish(context);
        }
    }

    /// Writes every device that was seen since it was last written.
    pub fn finish(&mut self, context: &Context<'_>) {
        self.refreshed_ns = context.now_ns;
        self.write(context, |device| device.written_ns < device.last_ns);
    }

    fn write(&mut self, context: &Context<'_>, which: impl Fn(&Device) -> bool) {
        for (key, device) in self.known.iter_mut().filter(|(_, device)| which(device)) {
            device.written_ns = device.last_ns.max(1);
            self.rows.push(row(key, device, context));
        }
    }

    /// Rows since the last call.
    pub fn take(&mut self) -> Vec<DeviceRow> {
        std::mem::take(&mut self.rows)
    }

    /// The devices seen last, at most so many.
    pub fn view(&self, most: usize, context: &Context<'_>) -> Vec<DeviceRow> {
        self.known.iter().take(most).map(|(key, device)| row(key, device, context)).collect()
    }

    /// What is remembered, most recently seen first.
    pub fn save(&self, name: impl Fn(InterfaceId) -> String) -> Vec<SavedDevice> {
        let saved = |((interface, address), device): (&Key, &Device)| SavedDevice {
            interface: name(*interface),
            address: *address,
            mac: device.mac,
            first_ns: device.first_ns,
            last_ns: device.last_ns,
        };
        self.known.iter().filter(|(_, device)| device.settled).map(saved).collect()
    }

    /// Remembers what an earlier agent has seen.
    pub fn load(
        &mut self,
        saved: Vec<SavedDevice>,
        now_ns: u64,
        mut id: impl FnMut(&str) -> InterfaceId,
    ) {
        for saved in saved.into_iter().rev() {
            let interface = id(&saved.interface);
            let (first, last) = (saved.first_ns, saved.last_ns);
            let device = self.see(interface, saved.address, first, last, now_ns);
            device.mac = device.mac.or(saved.mac);
            device.settled = true;
            if let Some(mac) = saved.mac {
                self.macs.entry(mac, || ());
            }
        }
    }

    /// Addresses in it.
    pub fn len(&self) -> usize {
        self.known.size("devices").entries
    }

    /// How full it is.
    pub fn sizes(&self) -> [Size; 2] {
        [self.known.size("devices"), self.macs.size("device_macs")]
    }
}

fn row((interface, address): &Key, device: &Device, context: &Context<'_>) -> DeviceRow {
    DeviceRow {
        address: *address,
        mac: device.mac.map_or(String::new(), mac_text),
        interface: context.interfaces.name(*interface).clone(),
        first_ns: device.first_ns,
        last_ns: device.last_ns,
        own: device.own,
    }
}

fn found(kind: Kind, (interface, address): Key, now_ns: u64, context: &Context<'_>) -> Finding {
    Finding {
        kind,
        severity: if kind == Kind::MacChanged { Severity::Warning } else { Severity::Info },
        interface: context.interfaces.name(interface).clone(),
        src: address,
        dst: NONE,
        port: 0,
        protocol: 0,
        service: "",
        value: 1.0,
        threshold: 1.0,
        count: 1,
        first_ns: now_ns,
        last_ns: now_ns,
        details: BTreeMap::new(),
    }
}
