//! Loading: the embedded object becomes programs and tables in the kernel.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aya::maps::{Array, Map, MapData, MapError};
use aya::programs::{Program, ProgramError, SchedClassifier, Xdp};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfError, EbpfLoader, include_bytes_aligned};
use crossbeam::channel::{Receiver, RecvTimeoutError, bounded, never};
use flow_common::hash::keys_from;
use flow_common::table::{GENERATIONS, InterfaceEntry, NAME_OCTETS, index_base, names};
use rustix::thread::CapabilitySet;

use super::shared_maps::SharedMaps;
use super::version::refuse_old;
use super::{AttachError, NEEDS_TO_JOIN, NEEDS_TO_LOAD, ProgramBook, TableSize};

/// The compiled `flow-ebpf`.
pub const OBJECT: &[u8] = include_bytes_aligned!(env!("FLOW_EBPF_OBJECT"));

/// Verdicts of XDP programs (`enum xdp_action` in `linux/bpf.h`).
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// How long [`Kernel::add_plane`] waits for a load: others have work to do meanwhile.
const LOADING: Duration = Duration::from_millis(5);

/// The loaded kernel side: programs not yet attached, tables empty.
pub struct Kernel {
    /// Programs and maps.
    pub ebpf: Ebpf,
    /// The size of its tables.
    pub size: TableSize,
    pub(crate) seed: u64,
    /// More loads of the programs, on the same tables: planes 1 and up.
    planes: Vec<Ebpf>,
    loading: Option<Receiver<Result<Ebpf, AttachError>>>,
    shared: Option<Arc<SharedMaps>>,
    /// The program that reads the clocks, in a load of its own, until the drain takes it:
    /// hooks may be attached in another thread.
    pub clock: Option<Ebpf>,
    /// Held while the generation flips.
    pub flips: Arc<Mutex<()>>,
    programs: ProgramBook,
}

impl Kernel {
    /// Tells these tables from those of other agents; never 0.
    pub fn instance(&self) -> u32 {
        self.seed as u32 | 1
    }

    /// Loads programs and tables. Senders of packets must not know the `seed` of the hashes.
    ///
    /// # Errors
    /// A missing privilege, a kernel that is too old, or the verifier's refusal with its log.
    pub fn load(size: TableSize, seed: u64) -> Result<Self, AttachError> {
        Self::load_with(size, seed, XDP_PASS)
    }

    /// The same for a measurement whose packets nobody is to get: XDP drops them when it
    /// has metered them.
    ///
    /// # Errors
    /// As [`Kernel::load`].
    pub fn load_dropping(size: TableSize, seed: u64) -> Result<Self, AttachError> {
        Self::load_with(size, seed, XDP_DROP)
    }

    fn load_with(size: TableSize, seed: u64, verdict: u32) -> Result<Self, AttachError> {
        // An unreadable version is no old one: what fails then says why.
        KernelVersion::current().map_or(Ok(()), refuse_old)?;
        refuse_real_time()?;
        let ebpf = Self::load_object(size, seed, verdict, 0, None)?;
        let shared = SharedMaps::new(&ebpf)
            .inspect_err(|error| tracing::debug!("tables cannot be shared: {error}"))
            .map(Arc::new)
            .ok();
        let clock = Some(load_clock()?);
        let (planes, loading, flips) = (Vec::new(), None, Arc::default());
        let programs = ProgramBook::new(Instant::now());
        let mut kernel = Self { ebpf, size, seed, planes, loading, shared, clock, flips, programs };
        load_programs(&mut kernel.ebpf)?;
        kernel.show(&kernel.ebpf);
        Ok(kernel)
    }

    /// Creates the maps of a plane, or takes those of plane 0.
    fn load_object(
        size: TableSize,
        seed: u64,
        verdict: u32,
        plane: u32,
        shared: Option<&SharedMaps>,
    ) -> Result<Ebpf, AttachError> {
        let log_level = if tracing::enabled!(tracing::Level::DEBUG) {
            aya_log::Level::Debug
        } else {
            aya_log::Level::Info
        };
        let log_level = log_level as u8;
        let evicted = size.evicted_per_region();
        let mut loader = EbpfLoader::new();
        let regions = size.regions();
        let base = index_base(plane);
        for (name, path) in shared.into_iter().flat_map(SharedMaps::maps) {
            loader.map_pin_path(name, path);
        }
        loader
            .override_global(aya_log::LEVEL, &log_level, false)
            .override_global(names::CPUS, &size.cpus, true)
            .override_global(names::SETS_PER_REGION, &size.sets_per_region, true)
            .override_global(names::EVICTED_PER_REGION, &evicted, true)
            .override_global(names::MAX_INTERFACES, &size.interfaces, true)
            .override_global(names::DECAPSULATE, &u32::from(size.tunnels), true)
            .override_global(names::HASH_KEYS, &keys_from(seed), true)
            .override_global(names::INDEX_BASE, &base, true)
            .override_global(names::XDP_VERDICT, &verdict, true)
            .map_max_entries(names::SETS, regions * size.sets_per_region)
            .map_max_entries(names::HEADS, regions * size.sets_per_region)
            .map_max_entries(names::TCP, regions * size.sets_per_region)
            .map_max_entries(names::DIRTY, regions * size.dirty_words())
            .map_max_entries(names::REGIONS, regions)
            .map_max_entries(names::EVICTED, regions * evicted)
            .map_max_entries(names::TUNNELS, (regions * size.tunnel_sets()).max(1))
            .map_max_entries(names::EVICTED_TUNNELS, (regions * size.evicted_tunnels()).max(1))
            .map_max_entries(names::COUNTERS, regions * size.interfaces)
            .map_max_entries(names::NAMES, size.interfaces)
            .map_max_entries(names::STRAY, GENERATIONS * size.interfaces)
            .load(OBJECT)
            .map_err(|error| load_error(&error))
    }

    /// Planes that are loaded.
    pub fn planes(&self) -> u32 {
        self.planes.len() as u32 + 1
    }

    /// Loads the programs once more, on the same tables, for interfaces whose index is in
    /// use already. That takes as long as the first load, in a thread: it is asked for
    /// again and again until it says that there is one more plane.
    ///
    /// # Errors
    /// As [`Kernel::load`]; or the tables cannot be shared, which `CAP_SYS_ADMIN` is needed for.
    pub fn add_plane(&mut self) -> Result<bool, AttachError> {
        let Some(loading) = &self.loading else {
            let flips = self.flips.clone();
            let flip = flips.lock().unwrap_or_else(PoisonError::into_inner);
            if self.filling()? == 0 {
                self.loading = Some(self.start_loading()?);
            } else {
                drop(flip);
                // The next flip is not far.
                let _ = never::<()>().recv_timeout(LOADING);
            }
            return Ok(false);
        };
        let loaded = match loading.recv_timeout(LOADING) {
            Ok(loaded) => loaded,
            Err(RecvTimeoutError::Timeout) => return Ok(false),
            Err(RecvTimeoutError::Disconnected) => {
                Err(AttachError::Load { problem: "the thread that loads has ended".into() })
            }
        };
        self.loading = None;
        let loaded = loaded?;
        self.show(&loaded);
        self.planes.push(loaded);
        Ok(true)
    }

    /// What the programs cost.
    pub fn programs(&self) -> ProgramBook {
        self.programs.clone()
    }

    /// Nothing is metered less when the cost of a load is not seen.
    fn show(&self, ebpf: &Ebpf) {
        if let Err(error) = self.programs.add(ebpf) {
            tracing::warn!("what the programs cost is not shown: {error}");
        }
    }

    /// The generation that is being filled, as the programs see it.
    fn filling(&self) -> Result<u32, AttachError> {
        let load = |error: MapError| AttachError::Load { problem: chain(&error) };
        let path = self.shared()?.path(names::BSS);
        let map = MapData::from_pin(path).map_err(load)?;
        let map: Array<MapData, u32> = Map::Array(map).try_into().map_err(load)?;
        map.get(&0, 0).map_err(load)
    }

    fn shared(&self) -> Result<&Arc<SharedMaps>, AttachError> {
        self.shared.as_ref().ok_or_else(|| AttachError::Permission {
            operation: "sharing the flow tables among network namespaces".into(),
            needs: NEEDS_TO_JOIN,
        })
    }

    fn start_loading(&self) -> Result<Receiver<Result<Ebpf, AttachError>>, AttachError> {
        let shared = self.shared()?.clone();
        // Not in the thread: this writes the programs' variables, with zeros. The one that
        // says which generation is filled is 0 now, and stays so: the caller holds `flips`.
        let mut ebpf =
            Self::load_object(self.size, self.seed, XDP_PASS, self.planes(), Some(&shared))?;
        let (sender, loading) = bounded(1);
        let load = move || {
            let loaded = load_programs(&mut ebpf).map(|()| ebpf);
            // Without a receiver the agent has stopped meanwhile.
            let _ = sender.send(loaded);
        };
        let thread = std::thread::Builder::new().name("load".into()).spawn(load);
        thread.map_err(|source| AttachError::Io {
            what: "the programs cannot be loaded in a thread".into(),
            source,
        })?;
        Ok(loading)
    }

    /// A TC program of a plane.
    pub(super) fn classifier_of(
        &mut self,
        plane: u32,
        name: &str,
    ) -> Result<&mut SchedClassifier, AttachError> {
        classifier(self.plane(plane)?, name)
    }

    /// The XDP program of a plane.
    pub(super) fn xdp_of(&mut self, plane: u32) -> Result<&mut Xdp, AttachError> {
        xdp(self.plane(plane)?)
    }

    fn plane(&mut self, plane: u32) -> Result<&mut Ebpf, AttachError> {
        match plane.checked_sub(1) {
            None => Ok(&mut self.ebpf),
            Some(more) => self.planes.get_mut(more as usize).ok_or_else(|| missing("a plane")),
        }
    }

    /// A TC program by name.
    ///
    /// # Errors
    /// It is not in the object.
    pub fn classifier(&mut self, name: &str) -> Result<&mut SchedClassifier, AttachError> {
        classifier(&mut self.ebpf, name)
    }

    /// The XDP program.
    ///
    /// # Errors
    /// It is not in the object.
    pub fn xdp(&mut self) -> Result<&mut Xdp, AttachError> {
        xdp(&mut self.ebpf)
    }

    /// Writes down the name that belongs to a number, for the next agent, should this one
    /// be killed; what is longer than 128 octets is cut.
    ///
    /// # Errors
    /// The number is too large for the table.
    pub fn set_name(&mut self, number: u16, name: &str) -> Result<(), AttachError> {
        let load = |error: MapError| AttachError::Load { problem: chain(&error) };
        let map = self.ebpf.map_mut(names::NAMES).ok_or_else(|| missing(names::NAMES))?;
        let mut table: Array<&mut MapData, [u8; NAME_OCTETS]> = map.try_into().map_err(load)?;
        let mut octets = [0; NAME_OCTETS];
        let used = name.len().min(NAME_OCTETS);
        octets[..used].copy_from_slice(&name.as_bytes()[..used]);
        table.set(u32::from(number), octets, 0).map_err(load)
    }

    /// Tells the programs what they must know of an interface; `index` is its ifindex, in
    /// planes above 0 with [`index_base`] added.
    ///
    /// # Errors
    /// The index is too large for the table.
    pub fn set_interface(&mut self, index: u32, entry: InterfaceEntry) -> Result<(), AttachError> {
        let name = names::INTERFACES;
        let load = |error: MapError| AttachError::Load { problem: chain(&error) };
        let map = self.ebpf.map_mut(name).ok_or_else(|| missing(name))?;
        let mut table: Array<&mut MapData, u32> = map.try_into().map_err(load)?;
        let [low, high] = entry.number.to_ne_bytes();
        let entry = u32::from_ne_bytes([low, high, entry.raw_ip, entry.direction_mask]);
        table.set(index, entry, 0).map_err(load)
    }
}

/// Loads the program that reads the kernel's clocks, with tables as small as can be.
fn load_clock() -> Result<Ebpf, AttachError> {
    let name = names::READ_CLOCK;
    let mut ebpf = EbpfLoader::new()
        .map_max_entries(names::INTERFACES, 1)
        .load(OBJECT)
        .map_err(|error| load_error(&error))?;
    classifier(&mut ebpf, name)?.load().map_err(|error| program_error(name, error))?;
    Ok(ebpf)
}

/// Loads what is attached: TC and XDP programs.
fn load_programs(ebpf: &mut Ebpf) -> Result<(), AttachError> {
    for name in [names::TC_INGRESS, names::TC_EGRESS] {
        classifier(ebpf, name)?.load().map_err(|error| program_error(name, error))?;
    }
    xdp(ebpf)?.load().map_err(|error| program_error(names::XDP_INGRESS, error))
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, AttachError> {
    program(ebpf, name)?.try_into().map_err(|error| program_error(name, error))
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, AttachError> {
    let name = names::XDP_INGRESS;
    program(ebpf, name)?.try_into().map_err(|error| program_error(name, error))
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, AttachError> {
    ebpf.program_mut(name).ok_or_else(|| missing(name))
}

/// On `PREEMPT_RT` kernels programs can nest on a CPU, and a region would have two writers.
fn refuse_real_time() -> Result<(), AttachError> {
    match std::fs::read_to_string("/sys/kernel/realtime") {
        Ok(text) if text.trim() == "1" => Err(AttachError::Load {
            problem: "this is a PREEMPT_RT kernel, on which counts would not be exact".into(),
        }),
        _ => Ok(()),
    }
}

fn missing(name: &str) -> AttachError {
    AttachError::Load { problem: format!("{name} is not in the embedded object") }
}

fn load_error(error: &EbpfError) -> AttachError {
    let permission = match error {
        EbpfError::MapError(MapError::CreateError { io_error, .. }) => {
            io_error.kind() == ErrorKind::PermissionDenied
        }
        EbpfError::MapError(MapError::SyscallError(error)) => {
            error.io_error.kind() == ErrorKind::PermissionDenied
        }
        _ => false,
    };
    if permission {
        AttachError::Permission {
            operation: "creating the flow tables".into(),
            needs: NEEDS_TO_LOAD,
        }
    } else {
        AttachError::Load { problem: chain(error) }
    }
}

fn program_error(name: &str, error: ProgramError) -> AttachError {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            // Without CAP_PERFMON it is the verifier that says no, of a program that is good.
            let refused = log.trim().is_empty() || lacks_perfmon();
            if io_error.kind() == ErrorKind::PermissionDenied && refused {
                AttachError::Permission {
                    operation: format!("loading program {name}"),
                    needs: NEEDS_TO_LOAD,
                }
            } else {
                AttachError::Verifier { program: name.into(), source: io_error, log }
            }
        }
        error => AttachError::Load { problem: format!("program {name}: {}", chain(&error)) },
    }
}

/// True if this thread has neither `CAP_PERFMON` nor what stands for it.
fn lacks_perfmon() -> bool {
    let either = CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN;
    rustix::thread::capabilities(None).is_ok_and(|sets| !sets.effective.intersects(either))
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
