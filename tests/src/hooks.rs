//! Which programs are attached to an interface, asked of the kernel.

use anyhow::Result;
use aya::programs::tc::TcAttachType;
use aya::programs::{ProgramInfo, SchedClassifier};
use flow_agent::attach::has_tcx;

use crate::lab::{Namespace, Side};

/// The kernel's numbers of the programs at TC at one end: others after an attaching.
pub fn program_ids(side: &Side) -> Result<Vec<u32>> {
    programs(side, ProgramInfo::id)
}

/// The kernel's hashes of their instructions: others when the programs are.
pub fn program_tags(side: &Side) -> Result<Vec<u64>> {
    programs(side, ProgramInfo::tag)
}

fn programs<T: Send>(side: &Side, what: impl Fn(&ProgramInfo) -> T + Sync) -> Result<Vec<T>> {
    side.namespace.enter(|| {
        let mut found = Vec::new();
        for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
            let (_, programs) = SchedClassifier::query_tcx(side.interface, direction)?;
            found.extend(programs.iter().map(&what));
        }
        Ok(found)
    })
}

/// The programs at one end of the lab: the names of those at TC, and `xdp` if one is there.
pub fn attached(side: &Side) -> Result<Vec<String>> {
    attached_on(&side.namespace, side.interface)
}

/// The same for any interface.
pub fn attached_on(namespace: &Namespace, interface: &str) -> Result<Vec<String>> {
    namespace.enter(|| {
        let mut names = Vec::new();
        for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
            // Before Linux 6.6 there is clsact alone, which is asked for below.
            if has_tcx() {
                let (_, programs) = SchedClassifier::query_tcx(interface, direction)?;
                names.extend(programs.iter().map(|program| {
                    program.name_as_str().unwrap_or("a program without a name").to_owned()
                }));
            }
        }
        let link = std::process::Command::new("ip")
            .args(["-details", "link", "show", "dev", interface])
            .output()?;
        if String::from_utf8_lossy(&link.stdout).contains("xdp") {
            names.push("xdp".to_owned());
        }
        let filters =
            std::process::Command::new("tc").args(["qdisc", "show", "dev", interface]).output()?;
        if String::from_utf8_lossy(&filters.stdout).contains("clsact") {
            names.push("clsact".to_owned());
        }
        Ok(names)
    })
}
