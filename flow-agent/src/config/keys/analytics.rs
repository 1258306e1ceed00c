//! The section `analytics`.

use super::Key;

const MANY: i64 = 1_000_000_000;
const NETWORKS: &str = "prefixes or addresses of IPv4 or IPv6";

pub const KEYS: &[Key] = &[
    Key::switch("analytics.enabled", "true", "Look at flow records at all."),
    Key::whole(
        "analytics.learning_s",
        "s",
        "600",
        (0, 604_800),
        "Devices and listeners are only learned, and no news, for so long after a start without \
         saved state.",
    ),
    Key::whole(
        "analytics.cool_down_s",
        "s",
        "900",
        (10, 86_400),
        "What stays quiet for so long is another event when it comes again.",
    ),
    Key::whole(
        "analytics.events_per_hour",
        "events",
        "120",
        (1, 100_000),
        "Of each kind, at once and an hour; more are counted.",
    ),
    Key::texts(
        "analytics.local_networks",
        "[\"10.0.0.0/8\", \"172.16.0.0/12\", \"192.168.0.0/16\", \"100.64.0.0/10\", \
         \"169.254.0.0/16\", \"fc00::/7\", \"fe80::/10\"]",
        "Addresses of this network, beside those of directly connected networks.",
    )
    .allowing(NETWORKS),
    Key::texts(
        "analytics.ignored_sources",
        "[]",
        "Sources that may scan: your scanners, your monitoring.",
    )
    .allowing(NETWORKS)
    .shown("[\"10.0.0.5\", \"10.9.0.0/24\"]"),
    Key::switch("analytics.devices", "true", "Keep an inventory of devices."),
    Key::whole(
        "analytics.neighbour_interval_s",
        "s",
        "30",
        (1, 3600),
        "Between two looks at the kernel's neighbour tables.",
    ),
    Key::switch(
        "analytics.listeners",
        "true",
        "Say when an address of this network answers at a port for the first time.",
    ),
    Key::switch("analytics.scans", "true", "Look for scanners."),
    Key::whole(
        "analytics.scan_window_s",
        "s",
        "60",
        (1, 3600),
        "Attempts that came to nothing are counted for so long.",
    ),
    Key::whole(
        "analytics.scan_ports",
        "ports",
        "100",
        (5, 65_535),
        "Different ports of one host by one source.",
    ),
    Key::whole(
        "analytics.scan_hosts",
        "hosts",
        "100",
        (5, 1 << 24),
        "Different hosts at one port by one source.",
    ),
    Key::switch("analytics.syn_floods", "true", "Look for SYN floods."),
    Key::whole(
        "analytics.syn_flood_per_s",
        "attempts/s",
        "200",
        (1, MANY),
        "Connection attempts to one host that are never completed, over 10 s.",
    ),
    Key::switch(
        "analytics.changes",
        "true",
        "Look for sudden change of the volume of a service at an interface.",
    ),
    Key::whole("analytics.change_factor", "", "3", (2, 1000), "Times the usual."),
    Key::whole("analytics.change_deviations", "", "6", (1, 1000), "Mean deviations from it."),
    Key::whole("analytics.change_mbit_per_s", "Mbit/s", "10", (0, MANY), "Less is never a change."),
    Key::whole(
        "analytics.change_packets_per_s",
        "packets/s",
        "2000",
        (0, MANY),
        "Less is never a change.",
    ),
    Key::whole(
        "analytics.change_flows_per_s",
        "flows/s",
        "50",
        (0, MANY),
        "Less is never a change.",
    ),
    Key::switch("analytics.top", "true", "Keep the lists of who talks most."),
    Key::whole(
        "analytics.top_window_s",
        "s",
        "600",
        (10, 86_400),
        "They cover the last half to whole of this.",
    ),
];
