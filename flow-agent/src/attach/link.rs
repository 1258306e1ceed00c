//! Links: one program on one hook of one interface, until dropped.

use std::collections::HashMap;

use aya::programs::links::FdLink;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcAttachType};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, XdpMode};
use flow_common::table::names;
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};

use super::clsact::Clsact;
use super::features::strips_vlan_tags;
use super::load::chain;
use super::version::has_tcx;
use super::{AttachError, AttachMode, Interface, Kernel, NEEDS_TO_LOAD, NetworkNamespace};

/// The hook that meters an interface's incoming packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IngressHook {
    /// In the driver.
    NativeXdp,
    /// Above the driver.
    GenericXdp,
    /// In the stack.
    Tc,
}

impl IngressHook {
    /// The hook that is tried first.
    pub const fn first_choice(interface: &Interface) -> Self {
        match interface.mode {
            AttachMode::Xdp => Self::NativeXdp,
            AttachMode::XdpGeneric => Self::GenericXdp,
            // Not on veth: native XDP there turns its peer's segmentation offload off.
            AttachMode::Auto if interface.hardware => Self::NativeXdp,
            AttachMode::Auto | AttachMode::Tc => Self::Tc,
        }
    }

    /// The name in messages.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NativeXdp => "native XDP",
            Self::GenericXdp => "generic XDP",
            Self::Tc => "TC ingress",
        }
    }
}

const EGRESS: &str = "TC egress";

/// The links of one interface. The kernel detaches XDP and TCX programs when the
/// descriptors are closed, however the process ends; filters of a clsact qdisc, before
/// Linux 6.6, stay when it is killed.
pub struct Links {
    /// How incoming packets are metered.
    pub ingress: IngressHook,
    descriptors: Vec<(u32, FdLink)>,
    filters: Vec<SchedClassifierLink>,
    /// Behind the filters: it goes after them.
    clsact: Option<Clsact>,
}

impl Links {
    /// Attaches the programs of a plane to an interface, all of them or none, in a
    /// thread of its namespace.
    ///
    /// # Errors
    /// The hook that refuses, and why.
    pub fn attach(
        kernel: &mut Kernel,
        plane: u32,
        interface: &Interface,
    ) -> Result<Self, AttachError> {
        let ingress = IngressHook::first_choice(interface);
        refuse_second_agent(interface)?;
        if interface.bond && ingress == IngressHook::NativeXdp {
            return Err(AttachError::Attach {
                hook: ingress.label(),
                interface: interface.to_string(),
                problem: "the programs of a bond run at its members, which have names of their \
                          own; use ':tc' for it, or name its members instead"
                    .into(),
            });
        }
        let mut links =
            Self { ingress, descriptors: Vec::new(), filters: Vec::new(), clsact: None };
        match links.attach_ingress(kernel, plane, interface) {
            Err(error) if interface.mode == AttachMode::Auto && ingress != IngressHook::Tc => {
                // A privilege that is missing here is missing there, which says so.
                tracing::warn!("{error}; metering it by TC instead");
                links.ingress = IngressHook::Tc;
                links.attach_ingress(kernel, plane, interface)?;
            }
            attached => attached?,
        }
        if links.ingress == IngressHook::NativeXdp {
            warn_of_stripped_tags(interface);
        }
        if !interface.loopback {
            // What leaves through lo enters through lo: it is metered there.
            links.attach_tc(kernel, plane, interface, TcAttachType::Egress)?;
        }
        // TC goes by the name.
        if ifindex_of(&interface.name) != Some(interface.place.ifindex) {
            return Err(AttachError::Attach {
                hook: ingress.label(),
                interface: interface.to_string(),
                problem: "another interface has taken its name just now".into(),
            });
        }
        Ok(links)
    }

    /// True while every program is where it was attached; `ifindexes` are those of
    /// [`ifindexes`], without which nothing speaks against it.
    pub fn is_on(&self, ifindex: u32, ifindexes: Option<&HashMap<u32, u32>>) -> bool {
        let Some(ifindexes) = ifindexes else { return true };
        self.descriptors.iter().all(|(id, _)| ifindexes.get(id) == Some(&ifindex))
    }

    /// Detaches them.
    pub fn detach(self, namespace: &NetworkNamespace) {
        if self.filters.is_empty() {
            return;
        }
        // Filters are removed by netlink, in their namespace; they go with a namespace
        // that has gone, and must not be looked for elsewhere.
        let filters = std::sync::Mutex::new(Some((self.filters, self.clsact)));
        let detached = namespace.run(|| {
            drop(filters.lock().map(|mut filters| filters.take()));
            Ok(())
        });
        if detached.is_err() {
            std::mem::forget(filters);
        }
    }

    fn attach_ingress(
        &mut self,
        kernel: &mut Kernel,
        plane: u32,
        interface: &Interface,
    ) -> Result<(), AttachError> {
        let mode = match self.ingress {
            IngressHook::NativeXdp => XdpMode::Driver,
            IngressHook::GenericXdp => XdpMode::Skb,
            IngressHook::Tc => {
                return self.attach_tc(kernel, plane, interface, TcAttachType::Ingress);
            }
        };
        let program = kernel.xdp_of(plane)?;
        let link = program
            .attach_to_if_index(interface.place.ifindex, mode)
            .and_then(|id| program.take_link(id))
            .map_err(|error| attach_error(self.ingress.label(), interface, &error))?;
        self.keep(link.try_into(), self.ingress.label(), interface)
    }

    fn attach_tc(
        &mut self,
        kernel: &mut Kernel,
        plane: u32,
        interface: &Interface,
        side: TcAttachType,
    ) -> Result<(), AttachError> {
        let (hook, name) = match side {
            TcAttachType::Egress => (EGRESS, names::TC_EGRESS),
            _ => (IngressHook::Tc.label(), names::TC_INGRESS),
        };
        let tcx = has_tcx();
        let options = if tcx {
            // First: what other programs drop or send elsewhere has been seen.
            TcAttachOptions::TcxOrder(LinkOrder::first())
        } else {
            self.clsact = self.clsact.take().or_else(|| Clsact::make(interface));
            TcAttachOptions::Netlink(NlOptions::default())
        };
        let program = kernel.classifier_of(plane, name)?;
        let link = program
            .attach_with_options(&interface.name, side, options)
            .and_then(|id| program.take_link(id))
            .map_err(|error| attach_error(hook, interface, &error))?;
        if tcx {
            return self.keep(link.try_into(), hook, interface);
        }
        self.filters.push(link);
        Ok(())
    }

    /// Keeps a link, with the number by which the kernel knows it.
    fn keep(
        &mut self,
        link: Result<FdLink, aya::programs::links::LinkError>,
        hook: &'static str,
        interface: &Interface,
    ) -> Result<(), AttachError> {
        let known = link.and_then(|link| Ok((link.info()?.id(), link)));
        let (id, link) = known.map_err(|error| AttachError::Attach {
            hook,
            interface: interface.to_string(),
            problem: chain(&error),
        })?;
        self.descriptors.push((id, link));
        Ok(())
    }
}

/// The interface that each link of this process is on, by the link's number in the
/// kernel; 0 when the interface is gone. None when the system does not say.
pub fn ifindexes() -> Option<HashMap<u32, u32>> {
    let mut ifindexes = HashMap::new();
    for entry in std::fs::read_dir("/proc/self/fdinfo").ok()? {
        // A descriptor may have been closed since the folder was read.
        let Ok(text) = std::fs::read_to_string(entry.ok()?.path()) else { continue };
        let number = |key: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
            rest.trim().parse::<u32>().ok()
        };
        if let (Some(link), Some(ifindex)) = (number("link_id:"), number("ifindex:")) {
            ifindexes.insert(link, ifindex);
        }
    }
    Some(ifindexes)
}

fn ifindex_of(name: &str) -> Option<u32> {
    let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()?;
    name_to_index(socket, name).ok()
}

/// Two agents at one interface would store each packet twice. XDP has room for
/// one program only; TC must be asked, which only TCX answers.
fn refuse_second_agent(interface: &Interface) -> Result<(), AttachError> {
    if !has_tcx() {
        return Ok(());
    }
    for (side, name, hook) in [
        (TcAttachType::Ingress, names::TC_INGRESS, IngressHook::Tc.label()),
        (TcAttachType::Egress, names::TC_EGRESS, EGRESS),
    ] {
        // A kernel that does not answer this refuses the attaching, too; or CAP_NET_ADMIN was
        // given up: then the interface is one that was there at the start, and has come back.
        let Ok((_, programs)) = SchedClassifier::query_tcx(&interface.name, side) else { continue };
        if programs.iter().any(|program| program.name_as_str() == Some(name)) {
            return Err(AttachError::AlreadyMetered { interface: interface.to_string(), hook });
        }
    }
    Ok(())
}

/// XDP sees the packet without what the driver has taken out of it.
fn warn_of_stripped_tags(interface: &Interface) {
    match strips_vlan_tags(interface.place.ifindex) {
        Ok(true) => tracing::warn!(
            "{interface}: its driver may take VLAN tags out of packets before native XDP sees \
             them; then they are metered without: run `ethtool -K {} rxvlan off` (for a veth \
             `txvlan off` at its other end) or use ':tc'",
            interface.name
        ),
        Ok(false) => {}
        Err(error) => tracing::debug!("{interface}: its features are not known: {error}"),
    }
}

fn attach_error(hook: &'static str, interface: &Interface, error: &ProgramError) -> AttachError {
    let problem = match errno(error) {
        Some(Errno::PERM | Errno::ACCESS) => {
            return AttachError::Permission {
                operation: format!("attaching {hook} to {interface}"),
                needs: NEEDS_TO_LOAD,
            };
        }
        Some(Errno::BUSY) => "another program is attached there (see `ip -details link`); \
                              use ':tc' for this interface or detach it"
            .to_string(),
        Some(Errno::OPNOTSUPP) => {
            "the driver does not support it; use ':tc' for this interface".to_string()
        }
        _ => chain(error),
    };
    AttachError::Attach { hook, interface: interface.to_string(), problem }
}

/// The system's error number among the causes of an error.
pub(super) fn errno(error: &ProgramError) -> Option<Errno> {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return Errno::from_io_error(io);
        }
        source = cause.source();
    }
    None
}
