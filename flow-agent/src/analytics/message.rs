//! What an event says to the person who is woken by it: what, where, and what to look at.

use super::event::{Finding, Kind, NONE, ip};

/// One or two sentences.
pub fn message(finding: &Finding) -> String {
    let Finding { src, dst, port, interface, value, threshold, count, .. } = finding;
    let (src_ip, dst_ip) = (ip(*src), ip(*dst));
    let detail = |name| finding.detail(name);
    let seconds = detail("window_s");
    match finding.kind {
        Kind::NewDevice => format!(
            "A new device is on {interface}: {src_ip}{}. If nobody has connected one, find out \
             what it is.",
            if detail("mac").is_empty() {
                ", whose MAC is not known".into()
            } else {
                format!(" with MAC {}", detail("mac"))
            }
        ),
        Kind::MacChanged => format!(
            "{src_ip} on {interface} has MAC {} now and had {} before. A replaced network card or \
             a failover does this, and so does somebody who pretends to be {src_ip}.",
            detail("mac"),
            detail("mac_before")
        ),
        Kind::NewListener => format!(
            "{dst_ip} answers at {}{}{} for the first time (asked by {src_ip}). If nobody has \
             started a service there, find out which program listens.",
            endpoint(finding.protocol, *port),
            named(finding.service),
            if *value > 1.0 {
                format!(", and at {:.0} other ports,", value - 1.0)
            } else {
                String::new()
            }
        ),
        Kind::PortScan => format!(
            "{src_ip} tries the ports of {dst_ip}: {value:.0} different ones within {seconds} s \
             (limit {threshold:.0}), {count} attempts so far, none of which got through. Unless \
             it is a scanner of yours, find out what runs on {src_ip}."
        ),
        Kind::HostScan if *dst == NONE && *port == 0 && finding.protocol == 0 => format!(
            "{src_ip} tries many ports of many hosts: {count} attempts so far, none of which got \
             through. Unless it is a scanner of yours, find out what runs on {src_ip}."
        ),
        Kind::HostScan => format!(
            "{src_ip} looks for hosts that answer at {}{}: {value:.0} different ones within \
             {seconds} s (limit {threshold:.0}), {count} attempts so far, none of which got \
             through. Unless it is a scanner of yours, find out what runs on {src_ip}.",
            endpoint(finding.protocol, *port),
            named(finding.service)
        ),
        Kind::SynFlood => format!(
            "{dst_ip} gets {value:.0} TCP connection attempts a second that are never completed \
             (limit {threshold:.0}), {} at port {port}{}, from {}. Its connection table may be \
             full; SYN cookies or a filter in front of it help.",
            detail("share"),
            named(finding.service),
            if *src == NONE {
                format!("about {} addresses", detail("sources"))
            } else {
                src_ip.to_string()
            }
        ),
        Kind::TrafficRise | Kind::TrafficDrop => {
            let verb = if finding.kind == Kind::TrafficRise { "rose" } else { "fell" };
            let what = match (finding.service, finding.port) {
                ("", 0) if finding.protocol == 0 => "All traffic".to_owned(),
                ("", 0) => "Traffic of services without a name".to_owned(),
                ("", port) => format!("Traffic at {}", endpoint(finding.protocol, port)),
                (service, _) => format!("Traffic of {service}"),
            };
            let unit = detail("unit");
            format!(
                "{what} on {interface} {verb} to {} {unit}, from usually {} {unit} (limit {} \
                 {unit}).",
                figure(*value),
                detail("usual"),
                figure(*threshold)
            )
        }
    }
}

/// A number with three digits that matter and a unit prefix.
pub fn figure(value: f64) -> String {
    let mut scaled = value;
    for prefix in ["", " k", " M", " G", " T"] {
        if scaled.abs() < 1000.0 || prefix == " T" {
            let digits = if scaled.abs() < 10.0 { 2 } else { usize::from(scaled.abs() < 100.0) };
            return format!("{scaled:.digits$}{prefix}");
        }
        scaled /= 1000.0;
    }
    String::new()
}

fn endpoint(protocol: u8, port: u16) -> String {
    match protocol {
        6 => format!("TCP port {port}"),
        17 => format!("UDP port {port}"),
        1 | 58 => "ICMP".into(),
        other => format!("port {port} of IP protocol {other}"),
    }
}

fn named(service: &str) -> String {
    if service.is_empty() { String::new() } else { format!(" ({service})") }
}

#[cfg(test)]
mod tests {
    use super::figure;

    #[test]
    fn figures_have_three_digits_and_a_prefix() {
        let figures = [0.0, 9.5, 42.0, 999.0, 1000.0, 12_345_678.0, 5e15].map(figure);
        assert_eq!(figures, ["0.00", "9.50", "42.0", "999", "1.00 k", "12.3 M", "5000 T"]);
    }
}
