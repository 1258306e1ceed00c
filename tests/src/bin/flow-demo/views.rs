//! What an analyst would look at: top talkers, throughput, latency; and how to go on.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::Cell;
use flow_tests::sql;
use indicatif::{DecimalBytes, HumanCount};

use crate::look::Look;

const TALKERS: usize = 10;
/// Columns that the peak takes beside the throughput.
const PEAK: usize = 24;
const SHARE_BAR: usize = 5;
/// A service's name beyond this gives way to its port.
const LONG_NAME: usize = 6;

/// Prints the views of one interface.
pub fn show(look: Look, url: &str, interface: &str) -> Result<()> {
    talkers(look, url, interface).context("the top talkers")?;
    throughput(look, url, interface).context("the throughput")?;
    latency(look, url).context("the latencies")
}

fn talkers(look: Look, url: &str, interface: &str) -> Result<()> {
    look.title(&format!("Top talkers at {interface}"));
    let query = format!(
        "SELECT toString(src_ip), toString(dst_ip), toUInt8(protocol), dst_port, \
         toString(any(service)), count() AS flows, sum(packets + reverse_packets) AS p, \
         sum(bytes + reverse_bytes) AS b, b / sum(b) OVER () FROM flow.flows \
         WHERE endsWith(interface, '{interface}') \
         GROUP BY src_ip, dst_ip, protocol, dst_port ORDER BY b DESC LIMIT {TALKERS}"
    );
    let headings = ["client", "server", "service", "flows", "packets", "octets", "share"];
    let mut table = look.table(&headings, &[3, 4, 5]);
    for row in sql::rows(url, &query)? {
        let number = |index: usize| row[index].parse::<u64>();
        let share: f64 = row[8].parse()?;
        table.add_row(vec![
            Cell::new(address(&row[0])),
            Cell::new(address(&row[1])),
            Cell::new(service(&row[2], &row[3], &row[4])),
            Cell::new(HumanCount(number(5)?)),
            Cell::new(HumanCount(number(6)?)),
            Cell::new(DecimalBytes(number(7)?)),
            Cell::new(bar(share)),
        ]);
    }
    Look::show(&table);
    Ok(())
}

fn throughput(look: Look, url: &str, interface: &str) -> Result<()> {
    look.title(&format!("Throughput at {interface}, both ways, each second"));
    // A flow's octets are spread over the seconds it lasted; the last seconds that fit.
    let query = format!(
        "SELECT arrayJoin(range(toUnixTimestamp(flow_start), toUnixTimestamp(flow_end) + 1)) \
         AS second, toUInt64(sum((bytes + reverse_bytes) / \
         (toUnixTimestamp(flow_end) - toUnixTimestamp(flow_start) + 1))) FROM flow.flows \
         WHERE endsWith(interface, '{interface}') \
         GROUP BY second ORDER BY second DESC LIMIT {}",
        look.width() - PEAK
    );
    let mut octets = sql::rows(url, &query)?
        .iter()
        .map(|row| row[1].parse::<u64>().map_err(Into::into))
        .collect::<Result<Vec<u64>>>()?;
    octets.reverse();
    let peak = octets.iter().copied().max().unwrap_or(0);
    println!("  {}  peak {}/s", look.sparkline(&octets), DecimalBytes(peak));
    Ok(())
}

fn latency(look: Look, url: &str) -> Result<()> {
    look.title("Latency of each stage");
    let rows = sql::rows(
        url,
        "SELECT toString(stage), quantilesExactWeighted(0.5, 0.9, 0.99)(bucket_ns, count) AS q, \
         q[1], q[2], q[3], sum(count) FROM flow.latency GROUP BY stage ORDER BY indexOf( \
         ['drain', 'cache', 'batch', 'insert', 'packet_to_acknowledged'], stage)",
    )?;
    let mut table = look.table(&["stage", "p50", "p90", "p99", "measured"], &[1, 2, 3, 4]);
    for row in rows {
        let time = |index: usize| row[index].parse::<u64>().map(duration);
        table.add_row(vec![
            Cell::new(&row[0]),
            Cell::new(time(2)?),
            Cell::new(time(3)?),
            Cell::new(time(4)?),
            Cell::new(HumanCount(row[5].parse()?)),
        ]);
    }
    Look::show(&table);
    Ok(())
}

/// How to ask more of the data that the demo keeps.
pub fn suggestions(look: Look, agent: &Path, data: &Path) {
    let agent = here(agent);
    look.title("Ask it yourself");
    println!("  The data is kept in {} until the next demo. Serve it:\n", here(data));
    println!("    {agent} store --dir {} --listen 127.0.0.1:8123\n", here(data));
    println!("  and ask, for example, who spoke to how many others:\n");
    println!("    curl http://127.0.0.1:8123/ --data-binary \\");
    println!("      \"SELECT toString(src_ip), uniqExact(dst_ip, dst_port) AS peers,");
    println!("              formatReadableSize(sum(bytes + reverse_bytes)) AS octets");
    println!("       FROM flow.flows WHERE interface LIKE '%left'");
    println!("       GROUP BY src_ip ORDER BY peers DESC FORMAT PrettyCompact\"\n");
}

/// The path from the current folder, if it lies below it.
fn here(path: &Path) -> String {
    let current = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&current).unwrap_or(path).display().to_string()
}

fn address(text: &str) -> String {
    text.parse::<IpAddr>().map_or_else(|_| text.to_owned(), |ip| ip.to_canonical().to_string())
}

fn service(protocol: &str, port: &str, name: &str) -> String {
    let protocol = match protocol {
        "1" => return "ICMP".to_owned(),
        "58" => return "ICMPv6".to_owned(),
        "6" => "tcp",
        "17" => "udp",
        other => other,
    };
    let name = if name.is_empty() || name.len() > LONG_NAME { port } else { name };
    format!("{name}/{protocol}")
}

fn bar(share: f64) -> String {
    let full = (share * SHARE_BAR as f64).round() as usize;
    format!("{}{} {:>2.0}%", "█".repeat(full), "░".repeat(SHARE_BAR - full), share * 100.0)
}

fn duration(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.1} µs", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", value / 1e6),
        _ => format!("{:.2} s", value / 1e9),
    }
}
