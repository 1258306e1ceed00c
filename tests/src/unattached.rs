//! The shipped programs and tables, attached nowhere: a frame enters by a test run
//! (`BPF_PROG_TEST_RUN`), what the kernel counted leaves by a drain. Needs root.
//!
//! All that tests of this kind ask of the agent's library stands here.

use aya::maps::{HashMap, MapData};
use aya::programs::{ProgramError, SchedClassifier, TestRun, TestRunOptions, Xdp};
use flow_agent::attach::{Kernel, TableSize};
use flow_agent::drain::{Balance, Drain};
use flow_common::parse::{FragmentKey, FragmentPorts};
use flow_common::table::{InterfaceEntry, names};

use crate::counted::Counted;

/// Test runs say that packets come from `lo`.
const TEST_RUN_IFINDEX: u32 = 1;

/// Octets of an XDP test run's frame that lie in its first buffer: a page without its headroom
/// (256) and the shared info at its end (320); see `bpf_prog_test_run_xdp` in `net/bpf/test_run.c`.
pub const FIRST_BUFFER: usize = 4096 - 256 - 320;

/// A hook's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// XDP.
    Xdp,
    /// TC, entering.
    TcIngress,
    /// TC, leaving.
    TcEgress,
}

impl Hook {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Xdp, Self::TcIngress, Self::TcEgress];
}

/// The programs and their tables.
pub struct Unattached {
    kernel: Kernel,
    drain: Drain,
}

type Fragments<'a> = HashMap<&'a mut MapData, [u8; FRAGMENT_KEY], [u8; FRAGMENT_VALUE]>;
const FRAGMENT_KEY: usize = size_of::<FragmentKey>();
const FRAGMENT_VALUE: usize = size_of::<FragmentPorts>();

impl Unattached {
    /// New ones, with places for some hundred thousand flows. With `decapsulate`, tunnels are
    /// opened.
    pub fn new(decapsulate: bool) -> Self {
        let cpus = aya::util::nr_cpus().expect("the CPUs are known") as u32;
        let size = TableSize::for_budget(cpus, 16, decapsulate, 64 << 20)
            .unwrap_or_else(|error| panic!("{error}"));
        let mut kernel = Kernel::load(size, 7).unwrap_or_else(|error| panic!("{error}"));
        let entry = InterfaceEntry::ethernet(1);
        kernel.set_interface(TEST_RUN_IFINDEX, entry).unwrap_or_else(|error| panic!("{error}"));
        let drain = Drain::new(&mut kernel, 1).unwrap_or_else(|error| panic!("{error}"));
        Self { kernel, drain }
    }

    /// Runs a frame through a hook's program; false if the kernel takes no such frame.
    pub fn run(&self, hook: Hook, frame: &[u8]) -> bool {
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        let result = match hook {
            Hook::Xdp => self.program::<Xdp>(names::XDP_INGRESS).test_run(options),
            Hook::TcIngress => self.program::<SchedClassifier>(names::TC_INGRESS).test_run(options),
            Hook::TcEgress => self.program::<SchedClassifier>(names::TC_EGRESS).test_run(options),
        };
        let goes_on = if hook == Hook::Xdp { 2 } else { -1 }; // XDP_PASS, TCX_NEXT
        match result {
            Ok(result) => {
                assert_eq!(
                    result.return_value.cast_signed(),
                    goes_on,
                    "{hook:?}: it does not pass"
                );
                true
            }
            Err(ProgramError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::EINVAL) =>
            {
                false
            }
            Err(error) => panic!("{hook:?}: {error}"),
        }
    }

    fn program<'a, P>(&'a self, name: &str) -> &'a P
    where
        &'a P: TryFrom<&'a aya::programs::Program, Error: std::fmt::Debug>,
    {
        let program = self.kernel.ebpf.program(name).expect("it is in the object");
        program.try_into().expect("a program of this type")
    }

    /// What was counted since the last call.
    pub fn drain(&mut self) -> Counted {
        let mut deltas = Vec::new();
        let drained = self
            .drain
            .drain(flow_agent::clock::wall_clock, &mut deltas)
            .unwrap_or_else(|error| panic!("{error}"));
        let [stray, balance] = &drained.balances[..] else { panic!("one interface is metered") };
        assert_eq!(*stray, Balance::default(), "nothing comes from another interface");
        assert_eq!(balance.unaccounted(), (0, 0), "{balance:?}");
        assert_eq!(balance.lost, Balance::default().lost, "{balance:?}");
        Counted::by_kernel(deltas, balance)
    }

    /// Forgets first fragments, so that none of this batch is tied to one of an earlier one.
    pub fn forget_fragments(&mut self) {
        let map = self.kernel.ebpf.map_mut(names::FRAGMENTS).expect("it is in the object");
        let mut map: Fragments<'_> = map.try_into().expect("a hash of this shape");
        let keys: Vec<_> = map.keys().map(|key| key.expect("the map can be read")).collect();
        for key in keys {
            map.remove(&key).expect("nobody else removes it");
        }
    }
}
