//! The path of a cgroup enters, the name of its systemd unit or container leaves.

/// Digits of a container's id that people use.
const SHORT_ID: usize = 12;
/// Digits of a whole one.
const WHOLE_ID: usize = 64;

/// What container engines put before the id, and what it is called here.
const ENGINES: [(&str, &str); 6] = [
    ("docker-", "docker"),
    ("cri-containerd-", "containerd"),
    ("crio-", "crio"),
    ("libpod-", "podman"),
    ("nerdctl-", "containerd"),
    ("buildkit-", "buildkit"),
];

/// The unit (`nginx.service`, `session-3.scope`) or container (`docker:0123456789ab`,
/// `lxc:web`) that a cgroup belongs to; the innermost one counts.
pub fn unit_name(path: &str) -> Option<String> {
    let mut outer = "";
    let mut found = None;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let name = container(outer, part).or_else(|| unit(part));
        if name.is_some() {
            found = name;
        }
        outer = part;
    }
    found
}

fn unit(part: &str) -> Option<String> {
    let is_unit = [".service", ".scope"]
        .iter()
        .any(|kind| part.strip_suffix(kind).is_some_and(|name| !name.is_empty()));
    is_unit.then(|| part.to_string())
}

fn container(outer: &str, part: &str) -> Option<String> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    for (before, engine) in ENGINES {
        if let Some(id) = name.strip_prefix(before).and_then(short_id) {
            return Some(format!("{engine}:{id}"));
        }
    }
    if let Some(id) = short_id(name) {
        // cgroupfs drivers: /docker/ID, /kubepods/burstable/podUID/ID, /libpod_parent/ID
        let engine = match outer {
            "docker" => "docker",
            "libpod_parent" => "podman",
            _ => "container",
        };
        return Some(format!("{engine}:{id}"));
    }
    // systemd's driver for containerd and CRI: kubepods-...slice:cri-containerd:ID
    if let [_, engine, id] = name.split(':').collect::<Vec<_>>()[..]
        && let Some(id) = short_id(id)
    {
        let engine = if engine == "cri-containerd" { "containerd" } else { engine };
        return Some(format!("{engine}:{id}"));
    }
    if let Some(name) = part.strip_prefix("lxc.payload.").filter(|name| !name.is_empty()) {
        return Some(format!("lxc:{name}"));
    }
    (outer == "lxc").then(|| format!("lxc:{part}"))
}

fn short_id(text: &str) -> Option<&str> {
    let is_id = text.len() == WHOLE_ID && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_id.then(|| &text[..SHORT_ID])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_innermost_unit_or_container_counts() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let pod = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice";
        for (path, name) in [
            ("/", None),
            ("/system.slice", None),
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/system.slice/nginx.service/workers", Some("nginx.service")),
            ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
            ("/user.slice/user-0.slice/session-3.scope", Some("session-3.scope")),
            ("/user.slice/user-1.slice/user@1.service/app.slice/web.service", Some("web.service")),
            ("/init.scope", Some("init.scope")),
            ("/.service", None),
            (&format!("/system.slice/docker-{id}.scope"), Some("docker:0123456789ab")),
            (&format!("/docker/{id}"), Some("docker:0123456789ab")),
            (&format!("/docker/{id}/system.slice/sshd.service"), Some("sshd.service")),
            (&format!("/{pod}/cri-containerd-{id}.scope"), Some("containerd:0123456789ab")),
            (&format!("/{pod}/crio-{id}.scope"), Some("crio:0123456789ab")),
            (&format!("/kubepods/besteffort/pod1-2/{id}"), Some("container:0123456789ab")),
            (
                &format!("/system.slice/pod.slice:cri-containerd:{id}"),
                Some("containerd:0123456789ab"),
            ),
            (&format!("/machine.slice/libpod-{id}.scope/container"), Some("podman:0123456789ab")),
            (&format!("/libpod_parent/{id}"), Some("podman:0123456789ab")),
            ("/lxc.payload.web", Some("lxc:web")),
            ("/lxc/web/system.slice/sshd.service", Some("sshd.service")),
            ("/lxc/web", Some("lxc:web")),
            ("/machine.slice/machine-web.scope", Some("machine-web.scope")),
            ("/docker/0123", None),
        ] {
            assert_eq!(unit_name(path).as_deref(), name, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_read(path in "(/[a-z0-9.:é-]{0,80}){0,6}") {
            if let Some(name) = unit_name(&path) {
                prop_assert!(!name.is_empty());
            }
        }
    }
}
