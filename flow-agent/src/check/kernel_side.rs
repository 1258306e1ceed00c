//! The kernel's own verdict: the shipped programs are loaded with the smallest tables, attached
//! to nothing, and gone when this returns.

use super::Finding;
use crate::attach::{AttachError, Kernel, TableSize};
use crate::config::Config;
use crate::host::online_cpus;

/// Loads and forgets them.
pub fn check(config: &Config, may_load: bool) -> Finding {
    const CHECK: &str = "programs";
    /// Sets for 2 Ki flows a CPU.
    const SETS: u32 = 256;
    const INTERFACES: u32 = 256;
    if !may_load {
        return Finding::fail(CHECK, "not tried: see capabilities", "give the process those");
    }
    let size = TableSize {
        cpus: online_cpus(),
        sets_per_region: SETS,
        interfaces: INTERFACES,
        tunnels: config.decapsulate,
    };
    match Kernel::load(size, 0) {
        Ok(_) => Finding::ok(CHECK, "the kernel's verifier takes the XDP and TC programs"),
        // The verifier's log is for developers.
        Err(AttachError::Verifier { program, source, .. }) => Finding::fail(
            CHECK,
            format!("the kernel's verifier refuses {program}: {source}"),
            "boot another kernel, and send us what `flow-agent run` prints",
        ),
        Err(error) => Finding::fail(
            CHECK,
            error.to_string(),
            "see what the message asks for; `dmesg` may say more",
        ),
    }
}
