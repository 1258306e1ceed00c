//! Exports: the rows that are shown enter, a new file leaves, readable for its owner alone.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::json;

use super::history::Row;
use crate::report::csv_line;

/// What an export is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A line for each flow, names first.
    Csv,
    /// A list of objects.
    Json,
}

/// Writes `flow-agent-top-TIME.csv` or `.json` in a folder.
///
/// # Errors
/// The path, and why it cannot be written.
pub fn save(
    folder: &Path,
    format: Format,
    rows: &[Row],
    now: Timestamp,
) -> Result<PathBuf, (PathBuf, io::Error)> {
    let (ending, text) = match format {
        Format::Csv => ("csv", csv(rows)),
        Format::Json => ("json", format!("{:#}\n", json(rows))),
    };
    let time = now.strftime("%Y%m%dT%H%M%S%3fZ");
    let path = folder.join(format!("flow-agent-top-{time}.{ending}"));
    // Never over another file, and nobody else learns who talks to whom.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    match file.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => Ok(path),
        Err(error) => Err((path, error)),
    }
}

/// A list of objects, as the API has them, and the rate.
pub fn json(rows: &[Row]) -> serde_json::Value {
    let object = |row: &Row| {
        let mut value = json!(row.flow);
        value["bits_per_second"] = json!(row.bits_per_second);
        value
    };
    rows.iter().map(object).collect()
}

fn csv(rows: &[Row]) -> String {
    let names = [
        "interface",
        "direction",
        "protocol",
        "service",
        "src_ip",
        "src_port",
        "dst_ip",
        "dst_port",
        "packets",
        "bytes",
        "reverse_packets",
        "reverse_bytes",
        "bits_per_second",
        "flow_start",
        "flow_end",
    ];
    let mut text = csv_line(names.map(str::to_owned));
    for row in rows {
        let flow = &row.flow;
        text += &csv_line([
            flow.interface.clone(),
            flow.direction.clone(),
            flow.protocol_name(),
            flow.service.clone(),
            flow.src_ip.clone(),
            flow.src_port.to_string(),
            flow.dst_ip.clone(),
            flow.dst_port.to_string(),
            flow.packets.to_string(),
            flow.bytes.to_string(),
            flow.reverse_packets.to_string(),
            flow.reverse_bytes.to_string(),
            row.bits_per_second.map(|rate| format!("{rate:.0}")).unwrap_or_default(),
            flow.flow_start.clone().unwrap_or_default(),
            flow.flow_end.clone().unwrap_or_default(),
        ]);
    }
    text
}
