//! JSON lines of a whole replay: records enter as they were emitted, lines leave in order of flow
//! start, then key.
//!
//! Threads format parts of the rows, one thread writes them. It holds that the lines do not depend
//! on how many threads there are, and that only a few parts are in memory at one time.

use std::io::{self, Write};
use std::thread;

use crossbeam::channel::bounded;

use crate::enrich::BatchLabels;
use crate::names::Names;
use crate::record::FlowRecord;
use crate::sink::write_json_lines;

/// Rows of a part: some MiB of text at most.
const PART_ROWS: usize = 2048;

/// The records in the order of their lines. Stable: flows that are equal here ended in a fixed
/// order.
pub fn sorted(records: &[Vec<FlowRecord>]) -> Vec<&FlowRecord> {
    // Most starts differ: they are compared without a look at the record.
    let mut rows: Vec<(u64, &FlowRecord)> =
        records.iter().flatten().map(|record| (record.start_ns, record)).collect();
    rows.sort_by(|(a_ns, a), (b_ns, b)| a_ns.cmp(b_ns).then_with(|| key(a).cmp(&key(b))));
    rows.into_iter().map(|(_, record)| record).collect()
}

/// Flow start, then key.
pub fn key(record: &FlowRecord) -> impl Ord + use<> {
    (
        record.start_ns,
        (record.interface, record.vlan_id, record.inner_vlan_id),
        (record.src, record.dst, record.protocol, record.src_port, record.dst_port),
        (record.icmp_type, record.icmp_code, record.tunnel(), record.end_ns),
    )
}

/// Writes a line for each row; the labels are those of the rows' positions.
///
/// # Errors
/// `out` cannot be written, or the system refuses a thread.
pub fn write(
    out: &mut dyn Write,
    rows: &[&FlowRecord],
    labels: Option<&BatchLabels>,
    names: &Names,
    threads: usize,
) -> io::Result<()> {
    let format = |part: usize, mut text: Vec<u8>| {
        let first = part * PART_ROWS;
        let rows = rows.iter().enumerate().skip(first).take(PART_ROWS);
        text.clear();
        write_json_lines(&mut text, rows.map(|(at, record)| (at, *record)), labels, names)?;
        io::Result::Ok(text)
    };
    let parts = rows.len().div_ceil(PART_ROWS);
    if threads < 2 || parts < 2 {
        let mut text = Vec::new();
        for part in 0..parts {
            text = format(part, text)?;
            out.write_all(&text)?;
        }
        return Ok(());
    }
    thread::scope(|scope| {
        let mut workers = Vec::with_capacity(threads);
        for worker in 0..threads {
            let (sender, formatted) = bounded(1);
            let (empty, emptied) = bounded::<Vec<u8>>(2);
            let format = &format;
            thread::Builder::new().name(format!("lines-{worker}")).spawn_scoped(
                scope,
                move || {
                    for part in (worker..parts).step_by(threads) {
                        let text = emptied.try_recv().unwrap_or_default();
                        // Who takes none has failed.
                        if sender.send(format(part, text)).is_err() {
                            return;
                        }
                    }
                },
            )?;
            workers.push((formatted, empty));
        }
        for part in 0..parts {
            let (formatted, empty) = &workers[part % threads];
            let text = formatted.recv().map_err(io::Error::other)??;
            out.write_all(&text)?;
            let _ = empty.try_send(text);
        }
        Ok(())
    })
}
