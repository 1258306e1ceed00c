//! One interface: driver, native XDP, queues, MTU, offloads, programs of others.

use super::{Finding, programs};
use crate::attach::{AttachMode, IngressHook, Interface, Survey, VLAN_FEATURES};
use crate::host::online_cpus;

/// What XDP takes in one buffer: a page without headroom, Ethernet and VLAN headers, and what
/// the kernel keeps behind the packet. Some drivers take less.
const ONE_BUFFER: u32 = 4096 - 256 - 320 - 18;

/// Looks at it and judges; nothing is attached.
pub fn check(interface: &Interface) -> Vec<Finding> {
    let survey = match Survey::of(interface) {
        Ok(survey) => survey,
        Err(error) => {
            let finding = Finding::fail("interface", error.to_string(), "see `ip -d link`");
            return vec![finding.of(interface.to_string())];
        }
    };
    let hook = IngressHook::first_choice(interface);
    let only_xdp = interface.mode != AttachMode::Auto;
    let mut findings = vec![driver(interface, &survey, hook)];
    if hook == IngressHook::NativeXdp {
        findings.push(native_xdp(interface, &survey, only_xdp));
    }
    findings.push(mtu(interface, &survey, hook, only_xdp));
    findings.extend(queues(interface, &survey));
    findings.push(offloads(interface, &survey, hook));
    findings.extend(programs::check(&interface.name, &survey.attached, hook, only_xdp));
    findings.into_iter().map(|it| it.of(interface.to_string())).collect()
}

fn driver(interface: &Interface, survey: &Survey, hook: IngressHook) -> Finding {
    let driver = match survey.driver.as_str() {
        "" if interface.loopback => "loopback",
        "" => "driver not known",
        name => name,
    };
    let egress = if interface.loopback { "" } else { ", what leaves by TC egress" };
    let found = format!("{driver}; what comes in is metered by {}{egress}", hook.label());
    if interface.bond && hook == IngressHook::NativeXdp {
        let fix = "use ':tc' for the bond, or name its members instead";
        return Finding::fail("interface", format!("{found}, which runs at its members"), fix);
    }
    if survey.up {
        return Finding::ok("interface", found);
    }
    let fix = format!("ip link set dev {} up", interface.name);
    Finding::warn("interface", format!("{found}; it is down"), fix)
}

fn native_xdp(interface: &Interface, survey: &Survey, only_xdp: bool) -> Finding {
    const CHECK: &str = "native_xdp";
    match &survey.xdp {
        Ok(features) if features.is_native() && survey.driver == "veth" => Finding::warn(
            CHECK,
            "the driver has it, but on a veth it turns its peer's segmentation offload off",
            format!("use '{}:tc', which is what `auto` does", interface.name),
        ),
        Ok(features) if features.is_native() => Finding::ok(CHECK, "the driver has it"),
        Ok(_) if only_xdp => Finding::fail(
            CHECK,
            "the driver does not have it",
            format!("use '{}:tc'", interface.name),
        ),
        Ok(_) => Finding::warn(
            CHECK,
            "the driver does not have it: `auto` takes TC instead",
            format!("'{}:tc' says that this is meant", interface.name),
        ),
        Err(error) => Finding::ok(
            CHECK,
            format!(
                "the kernel does not say ({error}; 6.3 and later do): it is tried at the start"
            ),
        ),
    }
}

fn mtu(interface: &Interface, survey: &Survey, hook: IngressHook, only_xdp: bool) -> Finding {
    const CHECK: &str = "mtu";
    let mtu = survey.mtu;
    if hook != IngressHook::NativeXdp || mtu <= ONE_BUFFER {
        return Finding::ok(CHECK, format!("{mtu} octets"));
    }
    let above = format!("{mtu} octets, above the {ONE_BUFFER} that XDP takes in one buffer");
    let fix = format!("ip link set dev {} mtu {ONE_BUFFER}, or use ':tc'", interface.name);
    match &survey.xdp {
        Ok(features) if features.takes_fragments() => {
            Finding::ok(CHECK, format!("{above}; driver and programs take fragments"))
        }
        Ok(_) if only_xdp => {
            Finding::fail(CHECK, format!("{above}; the driver takes no fragments"), fix)
        }
        Ok(_) => Finding::warn(
            CHECK,
            format!("{above}; the driver takes no fragments: `auto` takes TC instead"),
            fix,
        ),
        Err(_) => Finding::warn(CHECK, format!("{above}; the driver may take no fragments"), fix),
    }
}

fn queues(interface: &Interface, survey: &Survey) -> Option<Finding> {
    let queues = *survey.channels.as_ref().ok()?;
    let (cpus, receive) = (online_cpus(), queues.receive);
    let found = format!("{receive} receive (at most {}), {cpus} CPUs", queues.most_receive);
    if interface.hardware && receive == 1 && cpus > 1 && queues.most_receive > 1 {
        let most = queues.most_receive.min(cpus);
        let fix = format!("ethtool -L {} combined {most}", interface.name);
        return Some(Finding::warn("queues", format!("{found}: one CPU meters everything"), fix));
    }
    Some(Finding::ok("queues", found))
}

fn offloads(interface: &Interface, survey: &Survey, hook: IngressHook) -> Finding {
    const CHECK: &str = "offloads";
    let name = &interface.name;
    let features = match &survey.features {
        Ok(features) => features,
        Err(error) => {
            return Finding::ok(CHECK, format!("the kernel does not say ({error})"));
        }
    };
    let on = |feature: &str| features.iter().any(|it| it == feature);
    let native = hook == IngressHook::NativeXdp;
    if native && VLAN_FEATURES.iter().any(|feature| on(feature)) {
        let fix = match survey.driver.as_str() {
            "veth" => "ethtool -K PEER txvlan off at its other end".to_owned(),
            _ => format!("ethtool -K {name} rxvlan off"),
        };
        return Finding::warn(
            CHECK,
            "the driver takes VLAN tags out of packets before native XDP: flows are metered \
             without their VLAN",
            format!("{fix}, or use ':tc'"),
        );
    }
    if on("rx-lro") {
        return Finding::warn(
            CHECK,
            "LRO joins received packets beyond recognition: packets are undercounted",
            format!("ethtool -K {name} lro off"),
        );
    }
    if native && on("rx-gro-hw") {
        return Finding::warn(
            CHECK,
            "the hardware joins packets (rx-gro-hw): drivers refuse XDP, or switch it off",
            format!("ethtool -K {name} rx-gro-hw off, or use ':tc'"),
        );
    }
    if hook == IngressHook::GenericXdp && on("rx-gro") {
        return Finding::warn(
            CHECK,
            "generic XDP counts a super-packet (GRO) as one packet",
            "use ':tc', which counts its segments",
        );
    }
    let worth = ["rx-gro", "rx-gro-hw", "tx-tcp-segmentation", "rx-vlan-hw-parse"];
    let active: Vec<_> = worth.into_iter().filter(|it| on(it)).collect();
    let list = if active.is_empty() { "none that matter".into() } else { active.join(", ") };
    Finding::ok(CHECK, format!("{list}; none in the way"))
}
