//! What was found under a load, and whether it is within the limits.

use serde::Serialize;

use crate::shape::{Shape, Thresholds};

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// What kind of measurement this is.
    pub bench: &'static str,
    /// The shape of the load.
    pub shape: &'static str,
    /// How long it was measured.
    pub seconds: f64,
    /// Packets that came, a second.
    pub packets_per_s: f64,
    /// What was asked for, if anything was.
    pub asked_packets_per_s: Option<u32>,
    /// Of all packets that came, by the interface's counter.
    pub packets: u64,
    /// Packets that came and are nowhere, rows and reasons included.
    pub unaccounted: i64,
    /// Packets that were counted as lost, with a reason.
    pub lost: u64,
    /// Rows that are stored.
    pub rows: u64,
    /// Rows that were stored each second while it was measured.
    pub rows_per_s: f64,
    /// CPU of the agent in user space, in percent of a core.
    pub agent_user_percent: f64,
    /// CPU of the agent in the kernel, in percent of a core.
    pub agent_system_percent: f64,
    /// The first, for a million packets a second.
    pub agent_user_percent_per_mpps: f64,
    /// CPU of the agent, both, for a million rows.
    pub agent_cpu_s_per_million_rows: f64,
    /// CPU of the store, in percent of a core.
    pub store_percent: f64,
    /// The most memory that the agent had: its own, without the kernel's tables.
    pub memory_mib: f64,
    /// From a row's record entering a batch until it was frozen, and from then to the answer.
    pub batch_p99_ms: f64,
    /// One insert.
    pub insert_p99_ms: f64,
    /// From the last packet of a flow until its row was stored, its timeout included.
    pub packet_to_row_p50_s: f64,
    /// The same, 99 of 100.
    pub packet_to_row_p99_s: f64,
    /// Without the time that a connection which has ended lingers, if nothing else is said of it.
    pub linger_to_row_p99_s: f64,
}

impl Figures {
    /// For people.
    pub fn lines(&self) -> String {
        format!(
            "{}: {:.0} packets a second for {:.0} s; {} came in all, {} unaccounted, {} lost; {} \
             rows, {:.0} a second\n  agent: {:.2} % of a core in user space ({:.2} % for a million \
             packets a second), {:.2} % in the kernel, {:.2} s for a million rows; {:.0} MiB; \
             store: {:.1} % of a core\n  last packet to row: {:.2} s, p99 {:.2} s; without the \
             linger p99 {:.2} s; of that in a batch p99 {:.0} ms, insert p99 {:.0} ms",
            self.shape,
            self.packets_per_s,
            self.seconds,
            self.packets,
            self.unaccounted,
            self.lost,
            self.rows,
            self.rows_per_s,
            self.agent_user_percent,
            self.agent_user_percent_per_mpps,
            self.agent_system_percent,
            self.agent_cpu_s_per_million_rows,
            self.memory_mib,
            self.store_percent,
            self.packet_to_row_p50_s,
            self.packet_to_row_p99_s,
            self.linger_to_row_p99_s,
            self.batch_p99_ms,
            self.insert_p99_ms
        )
    }

    /// What is not within the limits of its shape.
    pub fn missed(&self, shape: Shape) -> Vec<String> {
        let Thresholds {
            least_rate_share,
            lost_share,
            user_cpu_percent_per_mpps,
            memory_mib,
            linger_to_row_p99_s,
        } = shape.thresholds();
        let mut missed = Vec::new();
        let mut at_most = |what: &str, value: f64, limit: Option<f64>| {
            // What is no number is within no limit.
            if limit.is_some_and(|limit| value.is_nan() || value > limit) {
                missed.push(format!("{what} is {value:.2}, more than {:.2}", limit.unwrap_or(0.0)));
            }
        };
        at_most("unaccounted packets", self.unaccounted.unsigned_abs() as f64, Some(0.0));
        at_most("the share of lost packets", self.lost as f64 / self.packets as f64, lost_share);
        at_most(
            "user CPU for a million packets a second, % of a core,",
            self.agent_user_percent_per_mpps,
            user_cpu_percent_per_mpps,
        );
        at_most("memory, MiB,", self.memory_mib, memory_mib);
        at_most("end of linger to row, p99, s,", self.linger_to_row_p99_s, linger_to_row_p99_s);
        if let (Some(share), Some(asked)) = (least_rate_share, self.asked_packets_per_s) {
            let least = share * f64::from(asked);
            if self.packets_per_s < least {
                missed.push(format!(
                    "only {:.0} packets a second came, not {least:.0}: this machine cannot send \
                     that many beside the agent",
                    self.packets_per_s
                ));
            }
        }
        missed
    }
}
