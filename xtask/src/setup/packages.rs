//! Which Debian packages are missing: each is looked for by what it provides, so
//! that the same thing from elsewhere (npm, gcc, a nightly) is accepted too.

use std::path::Path;

use super::For;
use super::toolchain::{LIBSTD_BPF, Route};
use crate::command;

/// A package to install and what it is for.
pub struct Missing {
    /// Its name in Debian and Ubuntu.
    pub package: String,
    /// What needs it.
    pub why: &'static str,
}

/// The packages whose content is not on this machine.
pub fn missing(purpose: For, route: Route) -> Vec<Missing> {
    let mut list = List(Vec::new());
    let program = |name: &str| command::find(name).is_some();
    list.need(program("gcc") && program("make"), "build-essential", "the linker of Rust programs");
    list.need(program("npm"), "npm", "fetches libchdb");
    list.need(program("ip"), "iproute2", "network namespaces of demo and tests");
    list.need(program("setpriv"), "util-linux", "tests without privileges");
    if let Route::Debian { bpf_core: false } = route {
        list.need(false, "rustc-web", "compiles the kernel programs");
        list.need(false, LIBSTD_BPF, "Rust's core for the BPF target");
    }
    let llvm = route.llvm();
    let why = "bpf-linker is built against it";
    list.need(llvm_has(llvm, LLVM_CONFIG), &format!("llvm-{llvm}-dev"), why);
    list.need(llvm_has(llvm, LIB_POLLY), &format!("libpolly-{llvm}-dev"), why);
    list.need(Path::new("/usr/include/zlib.h").exists(), "zlib1g-dev", why);
    list.need(Path::new("/usr/include/zstd.h").exists(), "libzstd-dev", why);
    if purpose == For::Measure {
        list.need(program("iperf3"), "iperf3", "measures TCP throughput");
    }
    if purpose == For::Bench {
        let why = "what replay is measured beside";
        let libpcap = Path::new("/usr/include/pcap/pcap.h").exists();
        list.need(libpcap, "libpcap-dev", why);
        list.need(program("nfpcapd"), "nfdump", why);
        list.need(program("softflowd"), "softflowd", why);
        list.need(program("argus"), "argus-server", why);
        list.need(program("tshark"), "tshark", why);
    }
    if purpose == For::Kernels {
        let why = "other kernels in a virtual machine";
        list.need(program("qemu-system-x86_64"), "qemu-system-x86", why);
        let busybox = Path::new("/usr/share/doc/busybox-static").exists();
        list.need(busybox, "busybox-static", why);
        list.need(program("cpio"), "cpio", why);
        list.need(program("xz"), "xz-utils", why);
    }
    if purpose == For::Test {
        let venv = super::python::can_make_venv();
        list.need(venv, "python3-venv", "clickhouse-connect in the store's tests");
        let zookeeper = Path::new("/usr/share/java/zookeeper.jar").exists() && program("java");
        list.need(zookeeper, "zookeeper", "the tests of replicated tables");
        list.need(program("systemd-analyze"), "systemd", "checks of the systemd units");
        let python = Path::new("/usr/bin/python3").exists();
        list.need(python, "python3", "the system calls that the agent's unit allows");
        list.need(program("dpkg"), "dpkg", "the test of the Debian package");
        let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];
        let library = "faketime/libfaketimeMT.so.1";
        let clock = folders.iter().any(|folder| Path::new(folder).join(library).exists());
        list.need(clock, "faketime", "the tests of a clock that is set");
        list.need(program("mkfs.ext2"), "e2fsprogs", "the tests of a disk that fails");
        list.need(program("mount"), "mount", "the tests of a disk that fails");
        list.need(program("curl"), "curl", "the tests of the store and the status");
        let prometheus = program("promtool") && program("prometheus");
        list.need(prometheus, "prometheus", "the tests of metrics, rules and dashboards");
        list.need(program("valgrind"), "valgrind", "counts instructions (cargo xtask guard)");
        list.need(program("rpm"), "rpm", "the test of the RPM package");
        list.need(program("cpio"), "cpio", "the test of the RPM package");
        list.need(program("ansible-playbook"), "ansible-core", "the check of the playbooks");
        list.need(program("chromium"), "chromium", "the tests of the page");
        list.need(program("chromedriver"), "chromium-driver", "the tests of the page");
    }
    list.0
}

const LLVM_CONFIG: &str = "bin/llvm-config";
const LIB_POLLY: &str = "lib/libPolly.a";

/// True if what `bpf-linker` needs of this LLVM is there.
pub fn has_llvm(major: u32) -> bool {
    llvm_has(major, LLVM_CONFIG) && llvm_has(major, LIB_POLLY)
}

fn llvm_has(major: u32, file: &str) -> bool {
    Path::new(&format!("/usr/lib/llvm-{major}")).join(file).exists()
}

struct List(Vec<Missing>);

impl List {
    fn need(&mut self, there: bool, package: &str, why: &'static str) {
        if !there {
            self.0.push(Missing { package: package.to_owned(), why });
        }
    }
}
