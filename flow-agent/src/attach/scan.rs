//! Looking for the interfaces that were asked for.
//!
//! Enters: a [`Selection`]. Leaves: a [`Scan`], what there is of it now. A namespace
//! that does not exist has no interfaces; any other trouble is an error, so that an
//! interface is never taken for gone because it could not be seen.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;

use super::namespace::{NamespaceId, began};
use super::netlink::{Device, devices, number_namespace};
use super::spec::NamespaceSpec;
use super::{AttachError, Interface, InterfaceSpec, NetworkNamespace, Selection};

/// What a look has found.
#[derive(Debug, Default)]
pub struct Scan {
    /// The interfaces to meter.
    pub found: Vec<Interface>,
    /// For each specification that matches nothing, why.
    pub missing: Vec<Missing>,
}

/// A specification that matches nothing.
#[derive(Debug)]
pub struct Missing {
    /// It names one interface, and no glob.
    pub exact: bool,
    /// What is not there.
    pub error: AttachError,
}

/// Looks for interfaces again and again.
#[derive(Debug)]
pub struct Scanner {
    selection: Selection,
    /// When processes whose namespaces were asked for began: an id is used again.
    pids: HashMap<u32, u64>,
    /// Namespaces get numbers, so that a listener hears of them.
    numbers: bool,
}

/// A namespace and what is in it.
struct Listed {
    id: NamespaceId,
    devices: Vec<Device>,
}

impl Scanner {
    /// Looks for what `selection` asks for.
    pub fn new(selection: Selection) -> Self {
        Self { selection, pids: HashMap::new(), numbers: true }
    }

    /// The same, and leaves no trace: nobody listens afterwards.
    pub fn once(selection: Selection) -> Self {
        Self { numbers: false, ..Self::new(selection) }
    }

    /// Looks for something else from now on.
    pub fn select(&mut self, selection: Selection) {
        // A process that is asked for now is the one that has its id now.
        self.pids.clear();
        self.selection = selection;
    }

    /// Looks once, from a thread of the agent's own namespace.
    ///
    /// # Errors
    /// A namespace may not be joined, or its interfaces cannot be listed.
    pub fn scan(&mut self) -> Result<Scan, AttachError> {
        let mut listed = Listings::default();
        if self.selection.include.is_empty() {
            return self.scan_hardware(&mut listed);
        }
        let mut scan = Scan::default();
        // Who is named exactly is so, and is attached so, whatever a glob says.
        let mut include = self.selection.include.clone();
        include.sort_by_key(|spec| !spec.is_exact());
        for spec in &include {
            let before = scan.found.len();
            let mut missing = None;
            for namespace in spec.namespace.expand() {
                match self.look(&namespace, &mut listed)? {
                    Ok(list) => {
                        scan.add(spec, &namespace, list, &self.selection);
                        missing = Some(unknown(spec, &namespace, &list.devices));
                    }
                    Err(error) => missing = Some(error),
                }
            }
            if scan.found.len() == before {
                let error = missing.unwrap_or_else(|| unknown(spec, &NetworkNamespace::Own, &[]));
                scan.missing.push(Missing { exact: spec.is_exact(), error });
            }
        }
        // The first specification that matches decides.
        let mut seen = std::collections::HashSet::new();
        scan.found.retain(|interface| seen.insert(interface.place));
        self.exclude(&mut scan, &mut listed)?;
        Ok(scan)
    }

    fn scan_hardware(&mut self, listed: &mut Listings) -> Result<Scan, AttachError> {
        let mut scan = Scan::default();
        let own = NetworkNamespace::Own;
        let Listed { id, devices } = self.look(&own, listed)??;
        let hardware = devices.iter().filter(|device| device.hardware);
        let mode = self.selection.mode;
        scan.found.extend(hardware.map(|device| Interface::new(&own, *id, device, mode, false)));
        self.exclude(&mut scan, listed)?;
        if scan.found.is_empty() {
            let error = AttachError::NoHardwareInterface;
            scan.missing.push(Missing { exact: true, error });
        }
        Ok(scan)
    }

    /// Removes what is not to be metered.
    fn exclude(&mut self, scan: &mut Scan, listed: &mut Listings) -> Result<(), AttachError> {
        for spec in self.selection.exclude.clone() {
            for namespace in spec.namespace.expand() {
                // By what the namespace is: it may have been asked for in another way.
                let Ok(Listed { id, .. }) = self.look(&namespace, listed)? else { continue };
                scan.found.retain(|interface| {
                    interface.place.namespace != *id || !spec.matches(&interface.name)
                });
            }
        }
        Ok(())
    }

    /// What is in a namespace; the inner error says that it does not exist.
    fn look<'a>(
        &mut self,
        namespace: &NetworkNamespace,
        listed: &'a mut Listings,
    ) -> Result<Result<&'a Listed, AttachError>, AttachError> {
        if !listed.by_namespace.contains_key(namespace) {
            match self.list(namespace) {
                Ok(list) => {
                    listed.by_namespace.insert(namespace.clone(), list);
                }
                Err(error @ (AttachError::Namespace { .. } | AttachError::ProcessGone { .. })) => {
                    return Ok(Err(error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Ok(&listed.by_namespace[namespace]))
    }

    fn list(&mut self, namespace: &NetworkNamespace) -> Result<Listed, AttachError> {
        let io = |what: &str| {
            let what = format!("{what} of network namespace '{}'", namespace.name());
            move |source| AttachError::Io { what, source }
        };
        let file = namespace.open()?;
        if let NetworkNamespace::Pid(pid) = namespace {
            self.same_process(*pid)?;
        }
        let id = NetworkNamespace::id(&file).map_err(io("the identity cannot be read"))?;
        let list = || devices().map_err(io("the interfaces cannot be listed"));
        let devices = if *namespace == NetworkNamespace::Own {
            list()?
        } else {
            // First, so that nothing that comes after the listing goes unheard.
            if self.numbers {
                number(namespace, &file);
            }
            namespace.run_in(&file, list)?
        };
        Ok(Listed { id, devices })
    }

    /// An error if the process of this id is not the one it was at the first look.
    fn same_process(&mut self, pid: u32) -> Result<(), AttachError> {
        let Some(began) = began(pid) else { return Err(AttachError::ProcessGone { pid }) };
        if *self.pids.entry(pid).or_insert(began) == began {
            Ok(())
        } else {
            Err(AttachError::ProcessGone { pid })
        }
    }
}

#[derive(Default)]
struct Listings {
    by_namespace: BTreeMap<NetworkNamespace, Listed>,
}

impl Scan {
    fn add(
        &mut self,
        spec: &InterfaceSpec,
        namespace: &NetworkNamespace,
        list: &Listed,
        selection: &Selection,
    ) {
        let mode = spec.mode.unwrap_or(selection.mode);
        let exact = spec.is_exact();
        for device in list.devices.iter().filter(|device| spec.matches(&device.name)) {
            self.found.push(Interface::new(namespace, list.id, device, mode, exact));
        }
    }
}

/// Lets the listener hear of a namespace; without that it is looked at now and then.
fn number(namespace: &NetworkNamespace, file: &File) {
    use std::os::fd::AsFd;
    if let Err(error) = number_namespace(file.as_fd()) {
        tracing::debug!("network namespace '{}' has no number here: {error}", namespace.name());
    }
}

fn unknown(spec: &InterfaceSpec, namespace: &NetworkNamespace, devices: &[Device]) -> AttachError {
    let place = match (&spec.namespace, namespace) {
        (NamespaceSpec::Glob(pattern), _) => format!(" in a network namespace '{pattern}'"),
        (_, NetworkNamespace::Own) => String::new(),
        (_, other) => format!(" in network namespace '{}'", other.name()),
    };
    let names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
    let known = if names.is_empty() { "none".into() } else { names.join(", ") };
    AttachError::UnknownInterface { name: spec.name.clone(), place, known }
}
