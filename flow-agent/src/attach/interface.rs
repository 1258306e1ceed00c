//! Interfaces: what was asked for, and what is there.

use std::fmt;
use std::str::FromStr;

use flow_common::table::MAX_IFINDEX;
use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::LinkAttribute;

use super::{AttachError, MAX_INTERFACES, NetworkNamespace};

/// Which hook meters the packets that enter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum AttachMode {
    /// Native XDP on hardware, TC on virtual interfaces.
    #[default]
    Auto,
    /// Native XDP, in the driver.
    Xdp,
    /// Generic XDP, above the driver: sees super-packets as one packet.
    XdpGeneric,
    /// TC ingress.
    Tc,
}

/// An interface as it is asked for: `[NETNS/]NAME[:MODE]`, where the name may be a glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSpec {
    /// Where to look.
    pub namespace: NetworkNamespace,
    /// Name or glob (`*`, `?`).
    pub name: String,
    /// Overrides the general mode.
    pub mode: Option<AttachMode>,
}

impl FromStr for InterfaceSpec {
    type Err = AttachError;

    fn from_str(spec: &str) -> Result<Self, AttachError> {
        let bad =
            |problem: &str| AttachError::BadSpec { spec: spec.into(), problem: problem.into() };
        let (namespace, rest) = match spec.split_once('/') {
            Some(("", _)) => return Err(bad("the namespace is empty")),
            Some((namespace, rest)) => (NetworkNamespace::Named(namespace.into()), rest),
            None => (NetworkNamespace::Own, spec),
        };
        let (name, mode) = match rest.split_once(':') {
            Some((name, mode)) => {
                let mode = clap::ValueEnum::from_str(mode, false)
                    .map_err(|_| bad(&format!("'{mode}' is no way to attach")))?;
                (name, Some(mode))
            }
            None => (rest, None),
        };
        if name.is_empty() || name.contains('/') {
            return Err(bad("the interface name is empty or has a slash"));
        }
        Ok(Self { namespace, name: name.into(), mode })
    }
}

/// One interface to meter.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its namespace.
    pub namespace: NetworkNamespace,
    /// Its name there.
    pub name: String,
    /// The kernel's number for it there.
    pub ifindex: u32,
    /// How its incoming packets are metered, as it was asked for.
    pub mode: AttachMode,
    /// A device of its own, not made by the kernel.
    pub hardware: bool,
    /// Packets begin with the IP header.
    pub raw_ip: bool,
    /// `lo`: each packet is metered once, on ingress.
    pub loopback: bool,
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            NetworkNamespace::Own => f.write_str(&self.name),
            NetworkNamespace::Named(namespace) => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// What sysfs says of an interface.
struct Device {
    name: String,
    ifindex: u32,
    /// `ARPHRD_*` (`include/uapi/linux/if_arp.h`).
    kind: u16,
    hardware: bool,
}

/// Finds the interfaces that `specs` name, or all hardware interfaces when there are none.
///
/// # Errors
/// A name without an interface, too many of them, or a namespace that cannot be read.
pub fn resolve(
    specs: &[InterfaceSpec],
    default_mode: AttachMode,
) -> Result<Vec<Interface>, AttachError> {
    let mut found: Vec<Interface> = Vec::new();
    if specs.is_empty() {
        for device in NetworkNamespace::Own.run(devices)?.iter().filter(|device| device.hardware) {
            found.push(interface(&NetworkNamespace::Own, device, default_mode));
        }
        if found.is_empty() {
            return Err(AttachError::NoHardwareInterface);
        }
    }
    for spec in specs {
        let devices = spec.namespace.run(devices)?;
        let before = found.len();
        for device in devices.iter().filter(|device| glob_matches(&spec.name, &device.name)) {
            found.push(interface(&spec.namespace, device, spec.mode.unwrap_or(default_mode)));
        }
        if found.len() == before {
            return Err(AttachError::UnknownInterface {
                name: spec.name.clone(),
                place: match &spec.namespace {
                    NetworkNamespace::Own => String::new(),
                    NetworkNamespace::Named(name) => format!(" in network namespace '{name}'"),
                },
                known: names(&devices),
            });
        }
    }
    found.sort_by(|a, b| (&a.namespace, a.ifindex).cmp(&(&b.namespace, b.ifindex)));
    found.dedup_by(|a, b| (&a.namespace, a.ifindex) == (&b.namespace, b.ifindex));
    check(&found)?;
    Ok(found)
}

fn check(found: &[Interface]) -> Result<(), AttachError> {
    if found.len() as u32 >= MAX_INTERFACES {
        let what = format!("metering {} interfaces", found.len());
        return Err(AttachError::TooMany { what, limit: MAX_INTERFACES - 1 });
    }
    for (i, interface) in found.iter().enumerate() {
        if interface.ifindex >= MAX_IFINDEX {
            let what = format!("the index {} of {interface}", interface.ifindex);
            return Err(AttachError::TooMany { what, limit: MAX_IFINDEX - 1 });
        }
        if let Some(first) = found[..i].iter().find(|other| other.ifindex == interface.ifindex) {
            return Err(AttachError::SameIndex {
                first: first.to_string(),
                second: interface.to_string(),
                ifindex: interface.ifindex,
            });
        }
    }
    Ok(())
}

fn interface(namespace: &NetworkNamespace, device: &Device, mode: AttachMode) -> Interface {
    const ARPHRD_ETHER: u16 = 1;
    const ARPHRD_LOOPBACK: u16 = 772;
    Interface {
        namespace: namespace.clone(),
        name: device.name.clone(),
        ifindex: device.ifindex,
        mode,
        hardware: device.hardware,
        raw_ip: device.kind != ARPHRD_ETHER && device.kind != ARPHRD_LOOPBACK,
        loopback: device.kind == ARPHRD_LOOPBACK,
    }
}

/// The devices of the current thread's namespace, by netlink: a thread that
/// joined another namespace still sees the sysfs of the old one.
fn devices() -> Result<Vec<Device>, AttachError> {
    let io = |source| AttachError::Io { what: "interfaces cannot be listed".into(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io)?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(io)?;
        tokio::spawn(connection);
        let mut links = handle.link().get().execute();
        let mut devices = Vec::new();
        while let Some(link) =
            links.try_next().await.map_err(|error| io(std::io::Error::other(error)))?
        {
            let name = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
            let Some(name) = name else { continue };
            devices.push(Device {
                name,
                ifindex: link.header.index,
                kind: u16::from(link.header.link_layer_type),
                hardware: link
                    .attributes
                    .iter()
                    .any(|attribute| matches!(attribute, LinkAttribute::ParentDevName(_))),
            });
        }
        Ok(devices)
    })
}

fn names(devices: &[Device]) -> String {
    let names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
    names.join(", ")
}

/// `*` is any run of characters, `?` is any one.
fn glob_matches(pattern: &str, name: &str) -> bool {
    let mut pattern = pattern.chars();
    match pattern.next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = pattern.as_str();
            (0..=name.len()).any(|i| name.is_char_boundary(i) && glob_matches(rest, &name[i..]))
        }
        Some(first) => {
            let mut name = name.chars();
            name.next().is_some_and(|c| first == '?' || first == c)
                && glob_matches(pattern.as_str(), name.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_name_namespace_interface_and_mode() {
        let spec: InterfaceSpec = "blue/veth*:xdp-generic".parse().expect("valid");
        assert_eq!(spec.namespace, NetworkNamespace::Named("blue".into()));
        assert_eq!(spec.name, "veth*");
        assert_eq!(spec.mode, Some(AttachMode::XdpGeneric));
        let spec: InterfaceSpec = "eth0".parse().expect("valid");
        assert_eq!((spec.namespace, spec.mode), (NetworkNamespace::Own, None));
    }

    #[test]
    fn bad_specs_say_what_is_allowed() {
        for spec in ["", "/eth0", "eth0:", "eth0:fast", "a/b/c", "blue/"] {
            let error = spec.parse::<InterfaceSpec>().expect_err(spec).to_string();
            assert!(error.contains("auto|xdp|xdp-generic|tc"), "{error}");
        }
    }

    #[test]
    fn globs() {
        for (pattern, name, matches) in [
            ("eth0", "eth0", true),
            ("eth*", "eth0", true),
            ("*", "", true),
            ("e?h0", "eth0", true),
            ("eth?", "eth10", false),
            ("*0", "eth10", true),
            ("veth", "veth1", false),
        ] {
            assert_eq!(glob_matches(pattern, name), matches, "{pattern} {name}");
        }
    }
}
