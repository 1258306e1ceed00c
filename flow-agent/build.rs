//! Compiles `flow-ebpf` for the BPF virtual machine; the agent embeds the object.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const BPF_LINKER: &str = "bpf-linker-0.13.0/bin";
/// Packets and keys are read in the widest words: x86-64 and arm64 need no alignment.
const RUSTFLAGS: [&str; 4] = [
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    "-Ctarget-cpu=v3",
    "-Clink-arg=--cpu-features=+alu32,+allows-misaligned-mem-access",
];

const TARGET: &str = "bpfel-unknown-none";

/// A compiler that has, or can build, `core` for BPF.
enum Toolchain {
    /// Debian's `rustc-web` with `libstd-rust-web-dev-bpf`: `core` is prebuilt.
    Debian,
    /// A rustup nightly with `rust-src`; builds `core` itself.
    Nightly { rustc: PathBuf },
}

fn main() {
    for path in ["../flow-ebpf", "../flow-common/src", "build.rs"] {
        println!("cargo:rerun-if-changed={path}");
    }
    if env::var_os("CARGO_FEATURE_LIVE").is_none() {
        return;
    }
    let Some(toolchain) = find_toolchain() else {
        fail("no Rust toolchain can compile for BPF");
    };
    let linker_dir = cache_dir().join(BPF_LINKER);
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([linker_dir].into_iter().chain(env::split_paths(&path)))
        .expect("PATH entries have no separator");
    if !env::split_paths(&path).any(|dir| dir.join("bpf-linker").is_file()) {
        fail("bpf-linker is missing");
    }

    // One folder for all profiles: the object is the same.
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let other_layout = env::var_os("CARGO_FEATURE_OTHER_LAYOUT").is_some();
    let folder = if other_layout { "ebpf-other-layout" } else { "ebpf" };
    let target_dir = out_dir.ancestors().nth(4).unwrap_or(&out_dir).join(folder);
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
    cargo
        .args(["build", "--release", "--package", "flow-ebpf", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("PATH", path)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTFLAGS")
        .env("RUSTUP_AUTO_INSTALL", "0")
        .env("CARGO_ENCODED_RUSTFLAGS", flags().join("\u{1f}"));
    if other_layout {
        cargo.args(["--features", "other-layout"]);
    }
    match toolchain {
        Toolchain::Nightly { rustc } => {
            cargo.arg("-Zbuild-std=core").env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
        }
        Toolchain::Debian => {
            cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
        }
    }
    let status = cargo.status().expect("cargo can be run");
    if !status.success() {
        fail("flow-ebpf does not compile (messages above)");
    }
    let objects = target_dir.join(TARGET).join("release");
    println!("cargo:rustc-env=FLOW_EBPF_OBJECT={}", objects.join("flow-ebpf").display());
    println!("cargo:rustc-env=FLOW_PEERS_OBJECT={}", objects.join("flow-peers").display());
    println!("cargo:rustc-env=FLOW_BENCH_OBJECT={}", objects.join("flow-bench").display());
}

/// The flags above, and those by which the agent's build leaves its folders out of the binary
/// (`cargo xtask dist`): they are in the object's debug information too.
fn flags() -> Vec<String> {
    let host = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let remaps = host.split('\u{1f}').filter(|flag| flag.starts_with("--remap-path-prefix="));
    RUSTFLAGS.into_iter().chain(remaps).map(str::to_owned).collect()
}

/// The first that is there, in the order of `cargo xtask setup`.
fn find_toolchain() -> Option<Toolchain> {
    let core = Path::new("/usr/lib/rustlib").join(TARGET).join("lib");
    let debian = core.is_dir() && Path::new("/usr/bin/rustc").is_file();
    debian.then_some(Toolchain::Debian).or_else(nightly_with_source)
}

fn nightly_with_source() -> Option<Toolchain> {
    let output = Command::new("rustup")
        .args(["run", "nightly", "rustc", "--print", "sysroot"])
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("RUSTUP_AUTO_INSTALL", "0")
        .output()
        .ok()?;
    let sysroot = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    let source = sysroot.join("lib/rustlib/src/rust/library/core");
    (output.status.success() && source.is_dir())
        .then(|| Toolchain::Nightly { rustc: sysroot.join("bin/rustc") })
}

/// Where `cargo xtask setup` keeps what it built or fetched.
fn cache_dir() -> PathBuf {
    env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .unwrap_or_default()
        .join("flow-agent")
}

fn fail(what: &str) -> ! {
    eprintln!(
        "flow-agent: {what}; run `cargo xtask setup` to install the eBPF toolchain, \
         or build with `--no-default-features` to replay captures only"
    );
    std::process::exit(1);
}
