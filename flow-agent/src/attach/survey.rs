//! A look at one interface without touching it: what the kernel says of its driver, its
//! offloads, its counters, and the programs of others that see its packets.

use std::collections::BTreeMap;
use std::io;

use aya::programs::tc::TcAttachType;
use aya::programs::{ProgramInfo, SchedClassifier, loaded_programs};
use flow_common::table::names;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
};
use rtnetlink::packet_route::tc::{
    TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption, TcStats2,
};

use super::clsact::HOOKS;
use super::features::{self, Channels, XdpFeatures};
use super::netlink::list;
use super::{AttachError, Interface};

/// A program at a hook of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// `native XDP`, `generic XDP`, `hardware XDP`, `TC ingress` or `TC egress`.
    pub hook: &'static str,
    /// The kernel's number for it.
    pub id: u32,
    /// Its name, at most 15 octets.
    pub name: String,
    /// It is a program of a flow-agent.
    pub ours: bool,
}

/// What is known of an interface.
#[derive(Debug)]
pub struct Survey {
    /// The driver, or the kind of a virtual interface; empty if it cannot be told.
    pub driver: String,
    /// The largest IP packet, in octets.
    pub mtu: u32,
    /// It is up.
    pub up: bool,
    /// Programs at its hooks.
    pub attached: Vec<Attached>,
    /// What its driver can do by XDP.
    pub xdp: io::Result<XdpFeatures>,
    /// Its queues.
    pub channels: io::Result<Channels>,
    /// Offloads that are switched on.
    pub features: io::Result<Vec<String>>,
}

impl Survey {
    /// Looks at an interface, in a thread of its namespace.
    ///
    /// # Errors
    /// It has gone, or the kernel does not answer.
    pub fn of(interface: &Interface) -> Result<Self, AttachError> {
        let failed =
            |source| AttachError::Io { what: format!("{interface} cannot be looked at"), source };
        interface.namespace.run(|| {
            let ifindex = interface.place.ifindex;
            let link = link(ifindex).map_err(failed)?;
            let mut attached = xdp_programs(&link);
            attached.extend(tc_programs(interface, ifindex));
            Ok(Self {
                driver: driver(&link),
                mtu: link.attributes.iter().find_map(mtu).unwrap_or_default(),
                up: link.header.flags.contains(LinkFlags::Up),
                attached: named(attached),
                xdp: features::xdp_features(ifindex),
                channels: features::channels(ifindex),
                features: features::active_features(ifindex),
            })
        })
    }
}

/// What a driver has counted, in packets as it handles them and octets with link headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "as /proc/net/dev has them")]
pub struct Counters {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
    /// What its queueing discipline dropped after the egress hook.
    pub qdisc_drops: u64,
}

/// The counters of every interface of this thread's namespace, by name.
///
/// # Errors
/// What the kernel said.
pub fn link_counters() -> io::Result<BTreeMap<String, Counters>> {
    let mut all: BTreeMap<u32, (String, Counters)> = BTreeMap::new();
    list(RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| {
        let RouteNetlinkMessage::NewLink(link) = message else { return };
        let name = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        });
        all.insert(link.header.index, (name.unwrap_or_default(), counters(&link)));
    })?;
    // Not every kernel has queueing disciplines.
    let _ = list(RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default()), |message| {
        let RouteNetlinkMessage::NewQueueDiscipline(qdisc) = message else { return };
        if qdisc.header.parent != TcHandle::ROOT {
            return;
        }
        if let Some((_, counters)) = all.get_mut(&(qdisc.header.index as u32)) {
            counters.qdisc_drops += drops(&qdisc);
        }
    });
    Ok(all.into_values().collect())
}

fn counters(link: &LinkMessage) -> Counters {
    let stats = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(stats) => Some(*stats),
        _ => None,
    });
    let Some(stats) = stats else { return Counters::default() };
    Counters {
        rx_packets: stats.rx_packets,
        rx_bytes: stats.rx_bytes,
        tx_packets: stats.tx_packets,
        tx_bytes: stats.tx_bytes,
        rx_dropped: stats.rx_dropped,
        tx_dropped: stats.tx_dropped,
        qdisc_drops: 0,
    }
}

fn drops(qdisc: &TcMessage) -> u64 {
    let of = |stats: &TcStats2| match stats {
        TcStats2::Queue(queue) => u64::from(queue.drops),
        _ => 0,
    };
    let sets = qdisc.attributes.iter().filter_map(|attribute| match attribute {
        TcAttribute::Stats2(stats) => Some(stats),
        _ => None,
    });
    sets.flatten().map(of).sum()
}

/// Which processes hold these programs open: `NAME (PID)`.
pub fn holders(ids: &[u32]) -> BTreeMap<u32, Vec<String>> {
    let mut holders: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    let Ok(processes) = std::fs::read_dir("/proc") else { return holders };
    for process in processes.flatten().map(|entry| entry.path()) {
        // What is no process, has ended, or may not be looked at.
        let Ok(descriptors) = std::fs::read_dir(process.join("fdinfo")) else { continue };
        for descriptor in descriptors.flatten() {
            let text = std::fs::read_to_string(descriptor.path()).unwrap_or_default();
            let id = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
            let Some(id) = id.and_then(|id| id.trim().parse().ok()) else { continue };
            if ids.contains(&id) {
                let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
                let pid = process.file_name().unwrap_or_default().to_string_lossy();
                let holder = format!("{} ({pid})", name.trim());
                let list = holders.entry(id).or_default();
                if !list.contains(&holder) {
                    list.push(holder);
                }
            }
        }
    }
    holders
}

fn link(ifindex: u32) -> io::Result<LinkMessage> {
    let mut found = None;
    list(RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| {
        if let RouteNetlinkMessage::NewLink(link) = message
            && link.header.index == ifindex
        {
            found = Some(link);
        }
    })?;
    found.ok_or_else(|| io::Error::other("it has gone"))
}

fn mtu(attribute: &LinkAttribute) -> Option<u32> {
    match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    }
}

/// By the bus that the device is on, which is the same in every namespace; else the kind.
fn driver(link: &LinkMessage) -> String {
    let (mut bus, mut device, mut kind) = (None, None, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::ParentDevBusName(name) => bus = Some(name),
            LinkAttribute::ParentDevName(name) => device = Some(name),
            LinkAttribute::LinkInfo(infos) => {
                kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind_name(kind)),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let of_bus = bus.zip(device).and_then(|(bus, device)| {
        let path = std::fs::read_link(format!("/sys/bus/{bus}/devices/{device}/driver")).ok()?;
        Some(path.file_name()?.to_string_lossy().into_owned())
    });
    of_bus.or(kind).unwrap_or_default()
}

fn kind_name(kind: &InfoKind) -> String {
    kind.to_string()
}

fn xdp_programs(link: &LinkMessage) -> Vec<(&'static str, u32)> {
    let sets = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::Xdp(set) => Some(set),
        _ => None,
    });
    let program = |attribute: &LinkXdp| match attribute {
        LinkXdp::DrvProgId(id) => Some(("native XDP", *id)),
        LinkXdp::SkbProgId(id) => Some(("generic XDP", *id)),
        LinkXdp::HwProgId(id) => Some(("hardware XDP", *id)),
        _ => None,
    };
    sets.flatten().filter_map(program).collect()
}

/// Those of TCX, and of a clsact qdisc.
fn tc_programs(interface: &Interface, ifindex: u32) -> Vec<(&'static str, u32)> {
    let mut found = Vec::new();
    let sides = [("TC ingress", TcAttachType::Ingress), ("TC egress", TcAttachType::Egress)];
    for ((hook, side), parent) in sides.into_iter().zip(HOOKS) {
        if let Ok((_, programs)) = SchedClassifier::query_tcx(&interface.name, side) {
            found.extend(programs.iter().map(|program| (hook, program.id())));
        }
        let mut question = TcMessage::with_index(ifindex as i32);
        question.header.parent = parent;
        // An error where there is no such qdisc.
        let _ = list(RouteNetlinkMessage::GetTrafficFilter(question), |message| {
            let RouteNetlinkMessage::NewTrafficFilter(filter) = message else { return };
            let options = filter.attributes.iter().filter_map(|attribute| match attribute {
                TcAttribute::Options(options) => Some(options),
                _ => None,
            });
            found.extend(options.flatten().filter_map(|option| match option {
                TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some((hook, *id)),
                _ => None,
            }));
        });
    }
    found
}

fn named(programs: Vec<(&'static str, u32)>) -> Vec<Attached> {
    if programs.is_empty() {
        return Vec::new();
    }
    let known: BTreeMap<u32, String> = loaded_programs()
        .filter_map(Result::ok)
        .map(|program: ProgramInfo| (program.id(), program.name_as_str().unwrap_or("").to_owned()))
        .collect();
    let attached = |(hook, id)| {
        let name = known.get(&id).cloned().unwrap_or_default();
        let ours = [names::TC_INGRESS, names::TC_EGRESS, names::XDP_INGRESS];
        Attached { hook, id, ours: ours.contains(&name.as_str()), name }
    };
    programs.into_iter().map(attached).collect()
}
