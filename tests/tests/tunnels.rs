//! Tunnels: the programs and replay with `decapsulate`, and without. Needs root.

use flow_agent::attach::{Kernel, KernelOptions, TableSize};

#[test]
fn every_program_loads_with_decapsulation() {
    let size = TableSize { cpus: 2, sets_per_region: 256, interfaces: 16 };
    for decapsulate in [false, true] {
        let kernel = Kernel::load(KernelOptions { size, seed: 7, decapsulate })
            .unwrap_or_else(|error| panic!("{error}"));
        for (name, program) in kernel.ebpf.programs() {
            let info = program.info().expect("loaded");
            let verified = info.verified_instruction_count().expect("5.16 or later");
            let octets = info.size_translated().expect("the kernel says so");
            println!(
                "{name}, decapsulate {decapsulate}: {verified} instructions verified, \
                 {octets} octets"
            );
            assert!(verified < 900_000, "{name} is near the verifier's limit of a million");
        }
    }
}
