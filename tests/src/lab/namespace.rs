//! A named network namespace, and threads that run inside it.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::panic;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cleanup::{self, Leftover, NAMES};

/// A network namespace of this process; deleted with everything in it when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace in which IPv6 sends nothing by itself and anyone may ping.
    pub fn create(name: &str) -> Result<Self> {
        run("ip", &["netns", "add", name])?;
        cleanup::register(Leftover::Namespace(name.to_owned()));
        let namespace = Self { name: name.to_owned() };
        namespace.enter(|| {
            // No link-local addresses, duplicate detection or router discovery; membership
            // reports go out at once, so that they are over before anything is counted.
            for (setting, value) in [
                ("ipv6/conf/default/addr_gen_mode", "1"),
                ("ipv6/conf/default/accept_dad", "0"),
                ("ipv6/conf/default/accept_ra", "0"),
                ("ipv6/conf/default/router_solicitations", "0"),
                ("ipv6/conf/default/mldv2_unsolicited_report_interval", "1"),
                ("ipv4/ping_group_range", "0 2147483647"),
            ] {
                let path = Path::new("/proc/sys/net").join(setting);
                std::fs::write(&path, value)
                    .with_context(|| format!("cannot set {}", path.display()))?;
            }
            Ok(())
        })?;
        namespace.ip("link set lo up\n")?;
        Ok(namespace)
    }

    /// Its name under `/var/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` commands, one a line, inside the namespace.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut ip = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start ip: install iproute2")?;
        ip.stdin.take().context("ip has an input")?.write_all(lines.as_bytes())?;
        let output = ip.wait_with_output()?;
        if !output.status.success() {
            bail!("ip -n {}: {}", self.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Runs the work in a thread that has joined the namespace, and returns what it
    /// returned. Sockets that it opens stay in the namespace wherever they go.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = Path::new(NAMES).join(&self.name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let inside = move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .context("cannot join a network namespace: this needs root")?;
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        cleanup::delete_namespace(&self.name);
        cleanup::forget(&Leftover::Namespace(self.name.clone()));
    }
}

/// Deletes the namespaces of labs whose process is gone (killed before it could).
pub fn sweep() {
    let Ok(entries) = std::fs::read_dir(NAMES) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if owner(&name).is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            cleanup::delete_namespace(&name);
        }
    }
}

/// The process id in a lab's namespace name: `flow-PID-SIDE` or `flow-demo-PID-SIDE`.
fn owner(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("flow-")?;
    let rest = rest.strip_prefix("demo-").unwrap_or(rest);
    let (pid, _side) = rest.split_once('-')?;
    pid.parse::<u32>().is_ok().then_some(pid)
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot start {program}: run `cargo xtask setup`"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {} (this needs root)", arguments.join(" "), error.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn only_the_names_of_labs_have_an_owner() {
        assert_eq!(owner("flow-12-a"), Some("12"));
        assert_eq!(owner("flow-demo-345-left"), Some("345"));
        for other in ["flow-a", "flow-12", "blue", "flow-demo-x-left", "flow-+1x-a"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
