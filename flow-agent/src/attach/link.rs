//! Links: one program on one hook of one interface, until dropped.

use std::collections::HashMap;
use std::path::Path;

use aya::programs::links::{FdLink, LinkError};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcAttachType};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, XdpMode};
use flow_common::table::names;
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};

use super::clsact::Clsact;
use super::features::strips_vlan_tags;
use super::ingress_hook::IngressHook;
use super::load::chain;
use super::predecessor::Inherited;
use super::version::has_tcx;
use super::{AttachError, AttachMode, Interface, Kernel, NEEDS_TO_LOAD, NetworkNamespace};

const EGRESS: &str = "TC egress";

/// A link that goes with its descriptor.
struct Held {
    /// By which the kernel knows it.
    id: u32,
    /// As in messages.
    hook: &'static str,
    link: FdLink,
}

/// The links of one interface. The kernel detaches XDP and TCX programs when the
/// descriptors are closed, however the process ends; filters of a clsact qdisc, before
/// Linux 6.6, stay when it is killed.
pub struct Links {
    /// How incoming packets are metered.
    pub ingress: IngressHook,
    descriptors: Vec<Held>,
    filters: Vec<SchedClassifierLink>,
    /// Behind the filters: it goes after them.
    clsact: Option<Clsact>,
}

impl Links {
    /// Attaches the programs of a plane to an interface, all of them or none, in a
    /// thread of its namespace: by the links of the agent that is relieved, if it has any there.
    ///
    /// # Errors
    /// The hook that refuses, and why.
    pub fn attach(
        kernel: &mut Kernel,
        plane: u32,
        interface: &Interface,
        inherited: &mut Inherited,
    ) -> Result<Self, AttachError> {
        if let Some(ingress) = inherited_ingress(interface, inherited)? {
            return Self::take_over(kernel, plane, interface, ingress, inherited);
        }
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

    /// Puts the programs of a plane into the links that the agent has that is relieved.
    fn take_over(
        kernel: &mut Kernel,
        plane: u32,
        interface: &Interface,
        ingress: IngressHook,
        inherited: &mut Inherited,
    ) -> Result<Self, AttachError> {
        let mut links =
            Self { ingress, descriptors: Vec::new(), filters: Vec::new(), clsact: None };
        for hook in [ingress.label(), EGRESS] {
            if let Some(link) = inherited.remove(&pin_name(interface, hook)) {
                let link = put_program(kernel, plane, hook, link)
                    .map_err(|error| attach_error(hook, interface, &error))?;
                links.keep(Ok(link), hook, interface)?;
            } else if !interface.loopback {
                links.attach_tc(kernel, plane, interface, TcAttachType::Egress)?;
            }
        }
        Ok(links)
    }

    /// Pins the links in a folder, under the names that a successor looks for.
    pub fn offer(&mut self, interface: &Interface, folder: &Path) {
        for Held { id, hook, link } in std::mem::take(&mut self.descriptors) {
            match link.pin(folder.join(pin_name(interface, hook))) {
                Ok(pinned) => self.descriptors.push(Held { id, hook, link: pinned.into() }),
                // It is detached now; the next look at the interfaces attaches it again.
                Err(error) => tracing::warn!("{hook} of {interface} is not pinned: {error}"),
            }
        }
    }

    /// Puts the programs back that a successor may have replaced.
    pub fn restore(&mut self, kernel: &mut Kernel, plane: u32, interface: &Interface) {
        for Held { id, hook, link } in std::mem::take(&mut self.descriptors) {
            match put_program(kernel, plane, hook, link) {
                Ok(link) => self.descriptors.push(Held { id, hook, link }),
                Err(error) => tracing::warn!("{}", attach_error(hook, interface, &error)),
            }
        }
    }

    /// True while every program is where it was attached; `ifindexes` are those of
    /// [`ifindexes`], without which nothing speaks against it.
    pub fn is_on(&self, ifindex: u32, ifindexes: Option<&HashMap<u32, u32>>) -> bool {
        let Some(ifindexes) = ifindexes else { return true };
        self.descriptors.iter().all(|held| ifindexes.get(&held.id) == Some(&ifindex))
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
        link: Result<FdLink, LinkError>,
        hook: &'static str,
        interface: &Interface,
    ) -> Result<(), AttachError> {
        let known = link.and_then(|link| Ok((link.info()?.id(), link)));
        let (id, link) = known.map_err(|error| AttachError::Attach {
            hook,
            interface: interface.to_string(),
            problem: chain(&error),
        })?;
        self.descriptors.push(Held { id, hook, link });
        Ok(())
    }
}

/// How the link of a hook is called while it is handed over.
fn pin_name(interface: &Interface, hook: &str) -> String {
    // The file system takes no dots.
    format!("{}-{}", interface.place, hook.replace(' ', "-"))
}

/// The hook by which the agent that is relieved meters incoming packets, if it meters there.
fn inherited_ingress(
    interface: &Interface,
    inherited: &Inherited,
) -> Result<Option<IngressHook>, AttachError> {
    let hooks = [IngressHook::NativeXdp, IngressHook::GenericXdp, IngressHook::Tc];
    let has = |hook: &IngressHook| inherited.contains_key(&pin_name(interface, hook.label()));
    let Some(theirs) = hooks.into_iter().find(has) else { return Ok(None) };
    let ours = IngressHook::first_choice(interface);
    if interface.mode == AttachMode::Auto || ours == theirs {
        return Ok(Some(theirs));
    }
    Err(AttachError::Attach {
        hook: ours.label(),
        interface: interface.to_string(),
        problem: format!(
            "the agent that is to be relieved meters it by {}, and packets would be counted by \
             both or by none while that changes; take over as it is, then change it by a restart",
            theirs.label()
        ),
    })
}

/// Puts a program into a link in one step: each packet meets the old one or the new one.
fn put_program(
    kernel: &mut Kernel,
    plane: u32,
    hook: &str,
    link: FdLink,
) -> Result<FdLink, ProgramError> {
    let missing = |error: AttachError| ProgramError::IOError(std::io::Error::other(error));
    let other = |error: LinkError| ProgramError::IOError(std::io::Error::other(error));
    if hook != EGRESS && hook != IngressHook::Tc.label() {
        let program = kernel.xdp_of(plane).map_err(missing)?;
        let id = program.attach_to_link(link.try_into().map_err(other)?)?;
        return program.take_link(id)?.try_into().map_err(other);
    }
    let name = if hook == EGRESS { names::TC_EGRESS } else { names::TC_INGRESS };
    let program = kernel.classifier_of(plane, name).map_err(missing)?;
    let id = program.attach_to_link(link.try_into().map_err(other)?)?;
    program.take_link(id)?.try_into().map_err(other)
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
