//! What only a live agent can know: services and units of its own sockets, host names.

use flow_common::Direction;

use super::EnrichmentCache;
use super::hosts::HostNames;
use super::labels::{BatchLabels, Labels};
use super::service_names::{ServiceKey, ServiceNames};
use super::stats::Counts;
use super::units::{SocketKey, Units};
use crate::record::FlowRecord;

/// The caches that are switched on.
#[derive(Default)]
#[allow(missing_docs, reason = "each is its type")]
pub struct Local {
    pub services: Option<ServiceNames>,
    pub units: Option<Units>,
    pub hosts: Option<HostNames>,
}

/// An end of a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Src,
    Dst,
}

/// The ends that may be this host's, the likelier one first. Where the interface does not say it
/// (on `lo` both are), the end that was asked.
const fn local_ends(direction: Direction) -> &'static [End] {
    match direction {
        Direction::Egress => &[End::Src],
        Direction::Ingress => &[End::Dst],
        Direction::Unknown => &[End::Dst, End::Src],
    }
}

impl Local {
    pub(super) fn settle(&mut self, now_s: u32) {
        if let Some(services) = &mut self.services {
            services.settle(now_s);
        }
        if let Some(units) = &mut self.units {
            units.settle(now_s);
        }
        if let Some(hosts) = &mut self.hosts {
            hosts.settle(now_s);
        }
    }

    pub(super) fn label(
        &mut self,
        record: &FlowRecord,
        namespace: u32,
        now_s: u32,
        batch: &mut BatchLabels,
        labels: &mut Labels,
    ) {
        if let Some(services) = &mut self.services {
            labels.service = service(services, record, namespace, now_s, batch);
        }
        if let Some(units) = &mut self.units {
            labels.unit = unit(units, record, namespace, now_s, batch);
        }
        if let Some(hosts) = &mut self.hosts {
            let mut name = |address| {
                let name = hosts.look_up(&u128::from_be_bytes(address), now_s);
                name.map_or(0, |name| batch.text(name))
            };
            (labels.src_host, labels.dst_host) = (name(record.src), name(record.dst));
        }
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, Counts)> {
        let services = self.services.as_ref().map(|cache| (cache.name(), cache.counts()));
        let units = self.units.as_ref().map(|cache| (cache.name(), cache.counts()));
        let hosts = self.hosts.as_ref().map(|cache| (cache.name(), cache.counts()));
        services.into_iter().chain(units).chain(hosts)
    }
}

/// By the port of the side that was asked, else of the other.
fn service(
    services: &mut ServiceNames,
    record: &FlowRecord,
    namespace: u32,
    now_s: u32,
    batch: &mut BatchLabels,
) -> u32 {
    let ends = local_ends(record.direction);
    for (end, port) in [(End::Dst, record.dst_port), (End::Src, record.src_port)] {
        let local = ends.contains(&end).then_some(namespace);
        let key = ServiceKey { protocol: record.protocol, port, local };
        if let Some(name) = services.look_up(&key, now_s) {
            return batch.text(name);
        }
    }
    0
}

fn unit(
    units: &mut Units,
    record: &FlowRecord,
    namespace: u32,
    now_s: u32,
    batch: &mut BatchLabels,
) -> u32 {
    let protocol = record.protocol;
    let src = (record.src, record.src_port);
    let dst = (record.dst, record.dst_port);
    // Only these have sockets that are listed.
    if ![flow_common::key::protocol::TCP, flow_common::key::protocol::UDP].contains(&protocol) {
        return 0;
    }
    for end in local_ends(record.direction) {
        let ((local, local_port), (remote, remote_port)) = match end {
            End::Src => (src, dst),
            End::Dst => (dst, src),
        };
        let key = SocketKey {
            local: u128::from_be_bytes(local),
            remote: u128::from_be_bytes(remote),
            namespace,
            local_port,
            remote_port,
            protocol,
        };
        if let Some(unit) = units.look_up(&key, now_s) {
            return batch.text(unit);
        }
    }
    0
}
