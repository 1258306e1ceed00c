//! Hooks: the programs of a [`Kernel`] on the interfaces, until this is dropped.

use aya::programs::tc::{TcAttachOptions, TcAttachType, qdisc_add_clsact};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, XdpMode};
use aya::util::KernelVersion;
use flow_common::table::{InterfaceEntry, names};
use rustix::io::Errno;

use super::load::chain;
use super::{AttachError, AttachMode, Interface, Kernel, NEEDS_TO_LOAD};

/// TCX appeared in this kernel version; before, TC programs need a clsact qdisc.
const TCX: KernelVersion = KernelVersion::new(6, 6, 0);

/// Attached programs. XDP and TCX programs are detached by the kernel when the
/// file descriptors of their links are closed, however the process ends; filters
/// of a clsact qdisc, before Linux 6.6, stay when it is killed.
pub struct Hooks {
    kernel: Kernel,
    ingress: Vec<IngressHook>,
}

impl Hooks {
    /// Attaches to every interface, or to none.
    ///
    /// # Errors
    /// The first interface that refuses, by name, with what the kernel said.
    pub fn attach(mut kernel: Kernel, interfaces: &[Interface]) -> Result<Self, AttachError> {
        configure(&mut kernel, interfaces)?;
        let mut ingress = Vec::with_capacity(interfaces.len());
        for interface in interfaces {
            let kernel = &mut kernel;
            ingress.push(interface.namespace.run(|| attach_one(kernel, interface))?);
        }
        Ok(Self { kernel, ingress })
    }

    /// The hook that each interface got, in their order.
    pub fn ingress(&self) -> &[IngressHook] {
        &self.ingress
    }

    /// The loaded kernel side.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Detaches every program; the tables stay.
    pub fn detach(self) -> Kernel {
        let mut kernel = self.kernel;
        // Unloading closes the links; the maps are held by whoever drains them.
        let report = |name: &str, result: Result<(), String>| {
            if let Err(error) = result {
                tracing::warn!("program {name} was not unloaded: {error}");
            }
        };
        let text = |error: ProgramError| chain(&error);
        for name in [names::TC_INGRESS, names::TC_EGRESS] {
            let program = kernel.classifier(name).map_err(|error| error.to_string());
            report(name, program.and_then(|program| program.unload().map_err(text)));
        }
        let program = kernel.xdp().map_err(|error| error.to_string());
        report(names::XDP_INGRESS, program.and_then(|program| program.unload().map_err(text)));
        kernel
    }
}

/// Numbers the interfaces: position plus one.
fn configure(kernel: &mut Kernel, interfaces: &[Interface]) -> Result<(), AttachError> {
    for (position, interface) in interfaces.iter().enumerate() {
        let entry = InterfaceEntry {
            number: position as u16 + 1,
            raw_ip: interface.raw_ip.into(),
            undirected: interface.loopback.into(),
        };
        kernel.set_interface(interface.ifindex, entry)?;
    }
    Ok(())
}

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

fn attach_one(kernel: &mut Kernel, interface: &Interface) -> Result<IngressHook, AttachError> {
    let ingress = match interface.mode {
        AttachMode::Xdp => IngressHook::NativeXdp,
        AttachMode::XdpGeneric => IngressHook::GenericXdp,
        // Not on veth: native XDP there turns its peer's segmentation offload off.
        AttachMode::Auto if interface.hardware => IngressHook::NativeXdp,
        AttachMode::Auto | AttachMode::Tc => IngressHook::Tc,
    };
    refuse_second_agent(interface)?;
    let ingress = match attach_ingress(kernel, interface, ingress) {
        Err(error) if interface.mode == AttachMode::Auto && ingress != IngressHook::Tc => {
            // A privilege that is missing here is missing there, which says so.
            tracing::warn!("{error}; metering it by TC instead");
            attach_ingress(kernel, interface, IngressHook::Tc)?;
            IngressHook::Tc
        }
        attached => attached.map(|()| ingress)?,
    };
    if !interface.loopback {
        // What leaves through lo enters through lo: it is metered there.
        tc(kernel, interface, TcAttachType::Egress)?;
    }
    Ok(ingress)
}

fn attach_ingress(
    kernel: &mut Kernel,
    interface: &Interface,
    hook: IngressHook,
) -> Result<(), AttachError> {
    let mode = match hook {
        IngressHook::NativeXdp => XdpMode::Driver,
        IngressHook::GenericXdp => XdpMode::Skb,
        IngressHook::Tc => return tc(kernel, interface, TcAttachType::Ingress),
    };
    kernel
        .xdp()?
        .attach_to_if_index(interface.ifindex, mode)
        .map_err(|error| attach_error(hook.label(), interface, &error))?;
    Ok(())
}

fn tc(kernel: &mut Kernel, interface: &Interface, side: TcAttachType) -> Result<(), AttachError> {
    let (hook, name) = match side {
        TcAttachType::Egress => (EGRESS, names::TC_EGRESS),
        _ => (IngressHook::Tc.label(), names::TC_INGRESS),
    };
    let options = if has_tcx() {
        // First: what other programs drop or send elsewhere has been seen.
        TcAttachOptions::TcxOrder(LinkOrder::first())
    } else {
        // It fails when it is there already, which is as good.
        let _ = qdisc_add_clsact(&interface.name);
        TcAttachOptions::Netlink(aya::programs::tc::NlOptions::default())
    };
    kernel
        .classifier(name)?
        .attach_with_options(&interface.name, side, options)
        .map_err(|error| attach_error(hook, interface, &error))?;
    Ok(())
}

fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= TCX)
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
        // A kernel that does not answer this refuses the attaching, too.
        let Ok((_, programs)) = SchedClassifier::query_tcx(&interface.name, side) else { continue };
        if programs.iter().any(|program| program.name_as_str() == Some(name)) {
            return Err(AttachError::AlreadyMetered { interface: interface.to_string(), hook });
        }
    }
    Ok(())
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
fn errno(error: &ProgramError) -> Option<Errno> {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return Errno::from_io_error(io);
        }
        source = cause.source();
    }
    None
}
