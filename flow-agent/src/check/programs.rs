//! Programs of others at the hooks of an interface: who they are and what they may do to us.

use std::collections::BTreeMap;

use super::Finding;
use crate::attach::{Attached, IngressHook, holders};

const CHECK: &str = "other_programs";

/// Judges what is attached where `hook` is to meter what comes in.
pub fn check(name: &str, attached: &[Attached], hook: IngressHook, only_xdp: bool) -> Vec<Finding> {
    let ids: Vec<_> = attached.iter().map(|it| it.id).collect();
    let holders = if ids.is_empty() { BTreeMap::new() } else { holders(&ids) };
    let who = |it: &Attached| {
        let list = holders.get(&it.id).map(|list| list.join(", "));
        let called = if it.name.is_empty() { "without a name" } else { &it.name };
        let by = list.unwrap_or_else(|| "no process holds it: `ip link` or a pin does".into());
        format!("{} program {called} (id {}, {by})", it.hook, it.id)
    };
    let (ours, others): (Vec<_>, Vec<_>) = attached.iter().partition(|it| it.ours);
    let mut findings = Vec::new();
    if let Some(first) = ours.first() {
        let found = format!("a flow-agent meters it now: {}", who(first));
        findings.push(Finding::ok("metered", found));
    }
    for it in &others {
        let (what, xdp) = (who(it), it.hook.ends_with("XDP"));
        findings.push(match hook {
            IngressHook::NativeXdp | IngressHook::GenericXdp if xdp && only_xdp => Finding::fail(
                CHECK,
                format!("{what} has the only place for XDP"),
                format!("meter by TC (`{name}:tc`), or detach it: ip link set dev {name} xdp off"),
            ),
            IngressHook::NativeXdp | IngressHook::GenericXdp if xdp => Finding::warn(
                CHECK,
                format!("{what} has the only place for XDP: `auto` takes TC, behind it"),
                "what it drops or sends elsewhere is in no flow; `:tc` says that this is meant",
            ),
            _ if xdp => Finding::warn(
                CHECK,
                format!("{what} sees incoming packets first"),
                "what it drops or sends elsewhere (AF_XDP, XDP_TX, XDP_REDIRECT) is in no flow; \
                 `flow-agent reconcile` shows how much",
            ),
            _ => Finding::ok(CHECK, format!("{what} goes on working, behind ours")),
        });
    }
    if others.is_empty() {
        findings.push(Finding::ok(CHECK, "none"));
    }
    findings
}
