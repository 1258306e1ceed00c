//! Capabilities: what this process has, and what it could never get.

use rustix::thread::{CapabilitySet, capabilities, capability_is_in_bounding_set};

use super::Finding;

const TO_LOAD: [(&str, CapabilitySet); 3] = [
    ("CAP_BPF", CapabilitySet::BPF),
    ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
    ("CAP_PERFMON", CapabilitySet::PERFMON),
];

/// Without these an agent cannot start; `elsewhere`: interfaces of other network namespaces
/// are asked for.
pub fn check(elsewhere: bool) -> Vec<Finding> {
    const CHECK: &str = "capabilities";
    let effective = match capabilities(None) {
        Ok(sets) => sets.effective,
        Err(error) => {
            let found = format!("they cannot be read: {error}");
            return vec![Finding::warn(CHECK, found, "run it where capget(2) is allowed")];
        }
    };
    let mut needed = TO_LOAD.to_vec();
    if elsewhere {
        needed.push(("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN));
    }
    let without = |has: &dyn Fn(CapabilitySet) -> bool| -> Vec<&str> {
        needed.iter().filter(|(_, one)| !has(*one)).map(|(name, _)| *name).collect()
    };
    // What is not said is not against it.
    let bounded = without(&|one| capability_is_in_bounding_set(one).unwrap_or(true));
    let missing = without(&|one| effective.contains(one));
    let names: Vec<_> = needed.iter().map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return vec![Finding::ok(CHECK, format!("{} are there", names.join(", ")))];
    }
    let joins = if missing.contains(&"CAP_SYS_ADMIN") && missing.len() == 1 {
        " (to join other network namespaces)"
    } else {
        ""
    };
    let found = format!("{} missing{joins}", verb(&missing));
    let fix = if bounded.is_empty() {
        format!("run as root, or AmbientCapabilities={} in the unit", names.join(" "))
    } else {
        format!(
            "the bounding set lacks {}: allow it in CapabilityBoundingSet= of the unit, or in the \
             options of the container (--cap-add)",
            bounded.join(", ")
        )
    };
    vec![Finding::fail(CHECK, found, fix)]
}

fn verb(names: &[&str]) -> String {
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}
