//! The sections of what is looked up beside the packets.

use super::Key;

const YEAR_S: (i64, i64) = (1, 31_536_000);
const ENTRIES: (i64, i64) = (1, 1 << 24);
const FILE: &str = "an absolute path of a file in MaxMind's format (.mmdb), or \"\" for none";

pub const KEYS: &[Key] = &[
    Key::switch(
        "enrich.enabled",
        "true",
        "Look anything up at all; false switches off everything here.",
    ),
    Key::whole(
        "enrich.sockets_interval_s",
        "s",
        "5",
        (1, 3600),
        "Time between two looks at this host's sockets.",
    ),
    Key::switch("enrich.listeners", "true", "Learn the ports at which this host listens."),
    Key::whole(
        "enrich.listeners_ttl_s",
        "s",
        "86400",
        YEAR_S,
        "Remember them for so long after they were last seen.",
    ),
    Key::switch(
        "enrich.units",
        "true",
        "Find the systemd unit or container of this host's sockets.",
    ),
    Key::whole("enrich.units_entries", "sockets", "65536", ENTRIES, "Of so many sockets."),
    Key::whole("enrich.units_ttl_s", "s", "600", YEAR_S, "Remember them for so long."),
    Key::text("enrich.geoip_country", "\"\"", "Countries of addresses.")
        .allowing(FILE)
        .shown("\"/usr/share/GeoIP/GeoLite2-City.mmdb\""),
    Key::text("enrich.geoip_asn", "\"\"", "Autonomous systems of addresses.")
        .allowing(FILE)
        .shown("\"/usr/share/GeoIP/GeoLite2-ASN.mmdb\""),
    Key::whole("enrich.geoip_entries", "addresses", "65536", ENTRIES, "Of so many addresses."),
    Key::whole("enrich.geoip_ttl_s", "s", "3600", YEAR_S, "Remember them for so long."),
    Key::switch("enrich.host_names", "false", "Ask the system's resolver for host names."),
    Key::whole("enrich.host_names_entries", "addresses", "65536", ENTRIES, "Of so many addresses."),
    Key::whole("enrich.host_names_ttl_s", "s", "3600", YEAR_S, "Remember names for so long."),
    Key::whole(
        "enrich.host_names_negative_ttl_s",
        "s",
        "300",
        YEAR_S,
        "Remember for so long that an address has no name.",
    ),
    Key::texts("services.*", "", "Ports of this name; at most 10000 names.")
        .without_default("none", "[\"tcp/9000\", \"udp/9000-9010\"]")
        .allowing("\"tcp/9000\", \"udp/9000-9010\", \"sctp/2905\""),
];
