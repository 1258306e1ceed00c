//! The packages, installed, run, upgraded, removed and (Debian) purged, without systemd running.
//!
//! All of it happens on an overlay of this machine's files, in namespaces of its own, with
//! nothing of the machine mounted below it: whatever the package's scripts do stays there.
//! Needs root, the binary, cargo, dpkg and rpm.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flow_tests::bin_path::flow_agent;
use tempfile::TempDir;

/// The binary without what debuggers need, which is most of it.
fn stripped(folder: &Path) -> Result<PathBuf> {
    let small = folder.join("small");
    let mut strip = Command::new("strip");
    strip.arg("--strip-debug").arg("-o").arg(&small).arg(flow_agent());
    let status = strip.status().context("strip cannot be run: `cargo xtask setup` installs it")?;
    ensure!(status.success(), "strip: {status}");
    Ok(small)
}

/// Packages the binary under this version.
fn package(binary: &Path, out: &Path, version: &str) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(["run", "--quiet", "--package", "xtask", "--", "dist", "--package-version", version])
        .arg("--binary")
        .arg(binary)
        .arg("--out")
        .arg(out)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The overlay, then what is done in it; $0 is the folder of all this.
const OUTSIDE: &str = r#"
mount -t tmpfs tmpfs "$0/layer"
mkdir "$0/layer/upper" "$0/layer/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$0/layer/upper,workdir=$0/layer/work" "$0/root"
mount -t tmpfs tmpfs "$0/root/run"
mount -t proc proc "$0/root/proc"
mount -t tmpfs tmpfs "$0/root/dev"
mknod -m 666 "$0/root/dev/null" c 1 3
mount -t tmpfs tmpfs "$0/root/tmp"
for kind in deb rpm; do
    cp "$0/old/"*.$kind "$0/root/tmp/old.$kind"
    cp "$0/new/"*.$kind "$0/root/tmp/new.$kind"
done
cp "$0/inside" "$0/root/tmp/inside"
exec chroot "$0/root" /bin/sh -e /tmp/inside
"#;

const INSIDE: &str = r#"
# Never on the machine's own files.
test "$(stat -f -c %T /)" = overlayfs
names() { find /etc /usr /var /run -xdev -name '*flow-agent*' | sort; }
users() { getent passwd | cut -d: -f1 | grep flow-agent || true; }
rm -rf /var/lib/flow-agent /var/lib/flow-agent-store /etc/flow-agent
names > /tmp/before
test -z "$(users)"
dpkg --install /tmp/old.deb
test "$(users | wc -l)" = 2
test "$(stat -c '%U %a' /var/lib/flow-agent/spool)" = 'flow-agent 750'
test "$(stat -c '%U %a' /var/lib/flow-agent-store)" = 'flow-agent-store 700'
flow-agent --version
flow-agent schema print | grep -q 'CREATE TABLE'
if flow-agent run --config /etc/flow-agent/flow-agent.toml --interface no-such-0 2> /tmp/said; then
    exit 1
fi
grep -q no-such-0 /tmp/said || { cat /tmp/said; exit 1; }
bash -n /usr/share/bash-completion/completions/flow-agent
for page in flow-agent flow-agent-run flow-agent-store; do
    test -s "/usr/share/man/man1/$page.1"
done
test -s /usr/share/zsh/vendor-completions/_flow-agent
test -s /usr/share/fish/vendor_completions.d/flow-agent.fish
grep -q '"CycloneDX"' /usr/share/doc/flow-agent/sbom.cdx.json
# A changed configuration and the state outlive an upgrade and a removal.
sed -i '1i exporter = "mine"' /etc/flow-agent/flow-agent.toml
touch /var/lib/flow-agent/state
dpkg --install /tmp/new.deb
test "$(dpkg-query -W -f '${Version}' flow-agent)" = 9.9.9
grep -q mine /etc/flow-agent/flow-agent.toml
dpkg --remove flow-agent
test ! -e /usr/bin/flow-agent
test -e /var/lib/flow-agent/state
grep -q mine /etc/flow-agent/flow-agent.toml
dpkg --purge flow-agent
test -z "$(users)"
names > /tmp/after
diff /tmp/before /tmp/after
echo all of it
"#;

/// The same with the RPM package and a data base of its own; Debian's rpm knows no package that
/// would provide what is required.
const INSIDE_RPM: &str = r#"
test "$(stat -f -c %T /)" = overlayfs
rm -rf /var/lib/flow-agent /var/lib/flow-agent-store /etc/flow-agent /var/lib/rpm
mkdir -p /tmp/db
rpm() { command rpm --dbpath /tmp/db "$@"; }
rpm --checksig /tmp/old.rpm | grep -q 'digests OK'
rpm -qp --requires /tmp/old.rpm | grep -q 'libc.so.6(GLIBC_2.34)(64bit)'
test "$(rpm -qp --queryformat '%{NAME} %{VERSION} %{BUILDHOST}' /tmp/old.rpm)" = \
    'flow-agent 0.0.1 localhost'
test "$(rpm -qpc /tmp/old.rpm)" = /etc/flow-agent/flow-agent.toml
rpm -qpl /tmp/old.rpm > /tmp/list
for file in /usr/bin/flow-agent /usr/lib/systemd/system/flow-agent.service \
    /usr/lib/systemd/system/flow-agent-store.service /usr/lib/sysusers.d/flow-agent.conf \
    /usr/lib/tmpfiles.d/flow-agent.conf /usr/share/man/man1/flow-agent-run.1 \
    /usr/share/bash-completion/completions/flow-agent \
    /usr/share/zsh/site-functions/_flow-agent \
    /usr/share/fish/vendor_completions.d/flow-agent.fish \
    /usr/share/doc/flow-agent/sbom.cdx.json; do
    grep -qx "$file" /tmp/list || { echo "no $file"; exit 1; }
done
# The payload, read by another program.
mkdir /tmp/payload
(cd /tmp/payload && rpm2cpio /tmp/old.rpm | cpio -id --quiet)
rpm --nodeps -i /tmp/old.rpm
cmp /tmp/payload/usr/bin/flow-agent /usr/bin/flow-agent
rpm -V --nodeps flow-agent
test "$(stat -c '%U %a' /var/lib/flow-agent/spool)" = 'flow-agent 750'
test "$(stat -c '%U %a' /var/lib/flow-agent-store)" = 'flow-agent-store 700'
flow-agent schema print | grep -q 'CREATE TABLE'
# A changed configuration and the state outlive an upgrade and a removal.
sed -i '1i exporter = "mine"' /etc/flow-agent/flow-agent.toml
touch /var/lib/flow-agent/state
rpm --nodeps -U /tmp/new.rpm
test "$(rpm -q --queryformat '%{VERSION}' flow-agent)" = 9.9.9
grep -q mine /etc/flow-agent/flow-agent.toml
rpm --nodeps -e flow-agent
for gone in /usr/bin/flow-agent /usr/share/doc/flow-agent /usr/lib/sysusers.d/flow-agent.conf; do
    test ! -e $gone
done
test -e /var/lib/flow-agent/state
grep -q mine /etc/flow-agent/flow-agent.toml.rpmsave
echo all of it
"#;

#[test]
fn packages_are_installed_upgraded_and_removed() -> Result<()> {
    let folder = TempDir::with_prefix("flow-package-")?;
    for name in ["layer", "root", "old", "new", "again"] {
        std::fs::create_dir(folder.path().join(name))?;
    }
    let binary = stripped(folder.path())?;
    package(&binary, &folder.path().join("old"), "0.0.1")?;
    package(&binary, &folder.path().join("again"), "0.0.1")?;
    package(&binary, &folder.path().join("new"), "9.9.9")?;
    let mut kinds = Vec::new();
    for file in std::fs::read_dir(folder.path().join("old"))? {
        let file = file?;
        if file.file_type()?.is_file() {
            let again = folder.path().join("again").join(file.file_name());
            let same = std::fs::read(file.path())? == std::fs::read(again)?;
            ensure!(same, "{:?} is another one each time", file.file_name());
            kinds.push(file.path().extension().context("a kind")?.to_owned());
        }
    }
    kinds.sort();
    ensure!(kinds == ["deb", "gz", "json", "rpm"], "{kinds:?}");
    in_overlay(folder.path(), INSIDE)?;
    in_overlay(folder.path(), INSIDE_RPM)
}

/// Runs this in an overlay of the machine's files, which is gone afterwards.
fn in_overlay(folder: &Path, inside: &str) -> Result<()> {
    std::fs::write(folder.join("inside"), inside)?;
    let users = std::fs::read("/etc/passwd")?;
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--net", "--propagation", "private"])
        .args(["/bin/sh", "-ec", OUTSIDE])
        .arg(folder)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .context("unshare cannot be run: `cargo xtask setup` installs util-linux")?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    ensure!(output.status.success() && text.contains("all of it"), "{}:\n{text}", output.status);
    ensure!(std::fs::read("/etc/passwd")? == users, "the machine itself was changed");
    Ok(())
}

/// Ansible reads the playbook, and the lists of tasks that it includes while it runs.
#[test]
fn playbooks_have_no_faults() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/ansible");
    let tasks = TempDir::with_prefix("flow-ansible-")?;
    let all = tasks.path().join("all.yml");
    let lists = ["upgrade.yml", "healthy.yml"].map(|list| {
        format!("    - ansible.builtin.import_tasks: {}\n", folder.join(list).display())
    });
    let text = format!("- hosts: all\n  gather_facts: false\n  tasks:\n{}", lists.concat());
    std::fs::write(&all, text)?;
    for playbook in [folder.join("flow-agent.yml"), all] {
        let output = Command::new("ansible-playbook")
            .args(["--syntax-check", "--inventory"])
            .arg(folder.join("inventory.ini"))
            .arg(&playbook)
            .env("LC_ALL", "C.UTF-8")
            .output()
            .context("ansible-playbook cannot be run: `cargo xtask setup` installs it")?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        ensure!(output.status.success(), "{}: {text}", playbook.display());
        ensure!(!text.contains("ERROR") && !text.contains("WARNING"), "{text}");
    }
    Ok(())
}
