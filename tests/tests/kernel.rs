//! The eBPF programs in the running kernel, driven by test runs. Needs root.

use flow_agent::attach::{Kernel, TableSize};

#[test]
fn every_program_loads() {
    let size = TableSize {
        cpus: 2,
        sets_per_region: 256,
    };
    match Kernel::load(size, 7) {
        Ok(_) => {}
        Err(error) => panic!("{error}"),
    }
}
