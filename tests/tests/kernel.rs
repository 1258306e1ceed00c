//! The eBPF programs in the running kernel, driven by test runs. Needs root.

use flow_agent::attach::{Kernel, TableSize};

#[test]
fn every_program_loads() {
    let size = TableSize {
        cpus: 2,
        sets_per_region: 256,
    };
    let start = std::time::Instant::now();
    match Kernel::load(size, 7) {
        Ok(kernel) => {
            println!("{:?}", start.elapsed());
            for (name, program) in kernel.ebpf.programs() {
                let info = program.info().expect("loaded");
                println!(
                    "{name}: {:?} insns verified, {:?} xlated",
                    info.verified_instruction_count(),
                    info.size_translated()
                );
            }
        }
        Err(error) => panic!("{error}"),
    }
}
