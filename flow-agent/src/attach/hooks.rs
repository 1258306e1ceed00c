//! Hooks: the programs of a [`Kernel`] on the interfaces, until this is dropped.

use aya::programs::tc::{TcAttachOptions, TcAttachType, qdisc_add_clsact};
use aya::programs::{LinkOrder, ProgramError, XdpMode};
use aya::util::KernelVersion;
use flow_common::table::{InterfaceEntry, names};

use super::load::chain;
use super::{AttachError, AttachMode, Interface, Kernel};

/// TCX appeared in this kernel version; before, TC programs need a clsact qdisc.
const TCX: KernelVersion = KernelVersion::new(6, 6, 0);

/// Attached programs. The kernel detaches them when the file descriptors of
/// their links are closed, however the process ends.
pub struct Hooks {
    kernel: Kernel,
}

impl Hooks {
    /// Attaches to every interface, or to none.
    ///
    /// # Errors
    /// The first interface that refuses, by name, with what the kernel said.
    pub fn attach(mut kernel: Kernel, interfaces: &[Interface]) -> Result<Self, AttachError> {
        configure(&mut kernel, interfaces)?;
        for interface in interfaces {
            let kernel = &mut kernel;
            interface.namespace.run(|| attach_one(kernel, interface))?;
        }
        Ok(Self { kernel })
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

fn attach_one(kernel: &mut Kernel, interface: &Interface) -> Result<(), AttachError> {
    match interface.mode {
        AttachMode::Xdp => xdp(kernel, interface, XdpMode::Driver)?,
        AttachMode::XdpGeneric => xdp(kernel, interface, XdpMode::Skb)?,
        AttachMode::Tc | AttachMode::Auto => tc(kernel, interface, TcAttachType::Ingress)?,
    }
    if !interface.loopback {
        // What leaves through lo enters through lo: it is metered there.
        tc(kernel, interface, TcAttachType::Egress)?;
    }
    Ok(())
}

fn xdp(kernel: &mut Kernel, interface: &Interface, mode: XdpMode) -> Result<(), AttachError> {
    let hook = if mode == XdpMode::Skb { "generic XDP" } else { "native XDP" };
    kernel
        .xdp()?
        .attach_to_if_index(interface.ifindex, mode)
        .map_err(|error| attach_error(hook, interface, &error))?;
    Ok(())
}

fn tc(kernel: &mut Kernel, interface: &Interface, side: TcAttachType) -> Result<(), AttachError> {
    let (hook, name) = match side {
        TcAttachType::Egress => ("TC egress", names::TC_EGRESS),
        _ => ("TC ingress", names::TC_INGRESS),
    };
    let options = if KernelVersion::current().is_ok_and(|version| version >= TCX) {
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

fn attach_error(hook: &'static str, interface: &Interface, error: &ProgramError) -> AttachError {
    let text = chain(error);
    let errno = |number: i32| {
        let mut source: Option<&dyn std::error::Error> = Some(error);
        while let Some(cause) = source {
            if let Some(io) = cause.downcast_ref::<std::io::Error>() {
                return io.raw_os_error() == Some(number);
            }
            source = cause.source();
        }
        false
    };
    if errno(rustix::io::Errno::PERM.raw_os_error()) {
        return AttachError::Permission { operation: format!("attaching {hook} to {interface}") };
    }
    let problem = if errno(rustix::io::Errno::BUSY.raw_os_error()) {
        "another program is attached there (see `ip -details link`); \
         use ':tc' for this interface or detach it"
            .to_string()
    } else if errno(rustix::io::Errno::OPNOTSUPP.raw_os_error()) {
        "the driver does not support it; use ':tc' for this interface".to_string()
    } else {
        text
    };
    AttachError::Attach { hook, interface: interface.to_string(), problem }
}
