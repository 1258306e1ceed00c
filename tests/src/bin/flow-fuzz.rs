//! libFuzzer on one of the targets, which `FLOW_FUZZ_TARGET` names; `cargo xtask fuzz` builds
//! this with coverage and runs it. With `FLOW_FUZZ_SEEDS` the target's seeds are written there.
#![no_main]

use std::sync::OnceLock;

use flow_tests::fuzz::{self, Target};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<Target> = OnceLock::new();

fn begin() {
    let name = std::env::var("FLOW_FUZZ_TARGET").unwrap_or_default();
    let target = fuzz::find(&name).unwrap_or_else(|| panic!("no target is called {name:?}"));
    if let Some(folder) = std::env::var_os("FLOW_FUZZ_SEEDS") {
        for (at, seed) in (target.seeds)().iter().enumerate() {
            let path = std::path::Path::new(&folder).join(format!("seed-{at:03}"));
            std::fs::write(&path, seed).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        }
    }
    TARGET.get_or_init(|| target);
}

fuzz_target!(init: begin(), |octets: &[u8]| {
    if let Some(target) = TARGET.get() {
        (target.run)(octets);
    }
});
