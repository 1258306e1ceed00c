//! What somebody should look at, and what to do about it.
//!
//! Enter: figures of all stages. Leave: alerts, the gravest first, each with the settings that
//! help. It holds that the same figures give the same alerts: nothing is asked or read here.

use serde::Serialize;

use super::{Phase, Sources, delivery};
use crate::cache::Counter;
use crate::latency::Stage;
use crate::ledger::{self, Entry};

/// How grave it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Packets or rows are lost, or will be soon.
    Critical,
    /// Something has to be changed before they are.
    Warning,
    /// Good to know.
    Info,
}

/// One thing to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// A name that stays the same.
    pub id: &'static str,
    /// How grave it is.
    pub severity: Severity,
    /// What it is, in a few words.
    pub title: &'static str,
    /// What was measured.
    pub detail: String,
    /// What to do.
    pub action: &'static str,
    /// The keys of the configuration that help.
    pub settings: &'static [&'static str],
}

/// What is judged; counts are since the start unless it says otherwise.
#[derive(Clone, Debug, Default)]
struct Figures {
    phase_is_metering: bool,
    illness: Option<String>,
    held: Option<String>,
    late: Option<String>,
    failing: Option<String>,
    endpoints_down: Vec<String>,
    /// Packets whose flow was lost in the kernel, and those of the last five minutes.
    lost: u64,
    lost_lately: u64,
    unaccounted: i64,
    undelivered: u64,
    quarantined: u64,
    drains: u64,
    early: u64,
    fill: f32,
    evicted_full: u64,
    evicted_memory: u64,
    /// Flows that the cache may hold now, and when memory is not short.
    cache_flows: Option<(u64, u64)>,
    /// Of the spool: octets, limit; of its memory: octets, limit.
    disk: (u64, u64),
    memory: (u64, u64),
    oldest_s: u64,
    spool_trouble: Option<String>,
    /// 99 % of the inserts are faster, ns.
    insert_p99_ns: u64,
    refused: Vec<(String, String)>,
    analytics_skipped: u64,
}

/// Part of a limit from which a spool is called full.
const FILLING: f64 = 0.7;
const NEARLY_FULL: f64 = 0.9;
/// Inserts that take longer are late, ns.
const LATE_INSERT_NS: u64 = 5_000_000_000;
/// Rows that wait longer for the store are late, s.
const LATE_ROWS_S: u64 = 60;
/// Losses of the kernel that are called recent, ns.
const LATELY_NS: u64 = 300_000_000_000;

/// The alerts now.
pub fn current(sources: &Sources) -> Vec<Alert> {
    judge(&figures(sources))
}

fn figures(sources: &Sources) -> Figures {
    let vitals = &sources.vitals;
    let drains = vitals.figures();
    let totals = sources.ledger.totals();
    let packets = |wanted: fn(&Entry) -> bool| -> u64 {
        totals.iter().filter(|(entry, _)| wanted(entry)).map(|(_, count)| count.packets).sum()
    };
    let delivered = sources.deliveries.figures();
    let spool = sources.spool.figures();
    let of_spool = |value: fn(&crate::spool::SpoolFigures) -> u64| spool.as_ref().map_or(0, value);
    let cache = sources.cache.stats();
    let pressure = sources.pressure.state();
    let insert = sources.latency.totals().into_iter().find(|(stage, _)| *stage == Stage::Insert);
    let now_s = vitals.now_ns() / 1_000_000_000;
    let oldest = spool.as_ref().and_then(|spool| spool.oldest_exported_at);
    let views = sources.store.view().into_iter();
    Figures {
        phase_is_metering: vitals.phase() == Phase::Metering,
        illness: vitals.illness(),
        late: delivery::illness(sources).filter(|_| delivered.held.is_none()),
        held: delivered.held,
        failing: delivered.failing,
        endpoints_down: views
            .filter(|view| view.state == "down")
            .map(|view| match view.last_error {
                Some(error) => format!("{}: {error}", view.url),
                None => view.url,
            })
            .collect(),
        lost: packets(|entry| matches!(entry, Entry::Lost(_))),
        lost_lately: vitals.traffic().lost_since(vitals.now_ns(), LATELY_NS),
        unaccounted: ledger::unaccounted(&totals).0,
        undelivered: packets(|entry| matches!(entry, Entry::LostRecord(_))),
        quarantined: delivered.quarantined_rows,
        drains: drains.drains,
        early: drains.early,
        fill: drains.fill.flows,
        evicted_full: cache.sum.counts.get(Counter::EvictedFull),
        evicted_memory: cache.sum.counts.get(Counter::EvictedMemory),
        cache_flows: pressure
            .enabled
            .then_some((pressure.max_flows as u64, pressure.configured_flows as u64)),
        disk: (of_spool(|spool| spool.disk_octets), of_spool(|spool| spool.max_octets)),
        memory: (of_spool(|spool| spool.memory_octets), of_spool(|spool| spool.memory_limit)),
        oldest_s: oldest.map_or(0, |oldest| now_s.saturating_sub(oldest.into())),
        spool_trouble: spool.and_then(|spool| spool.trouble),
        insert_p99_ns: insert.map_or(0, |(_, histogram)| histogram.value_at_quantile(0.99)),
        refused: sources
            .metered
            .current()
            .refused
            .iter()
            .map(|refused| (refused.name.clone(), refused.why.clone()))
            .collect(),
        analytics_skipped: sources.analytics.as_ref().map_or(0, crate::analytics::View::skipped),
    }
}

fn judge(figures: &Figures) -> Vec<Alert> {
    let mut alerts = Vec::new();
    kernel(figures, &mut alerts);
    cache(figures, &mut alerts);
    store(figures, &mut alerts);
    spool(figures, &mut alerts);
    // Those of like gravity in the order in which packets pass the stages.
    alerts.sort_by_key(|alert| alert.severity);
    alerts
}

fn kernel(figures: &Figures, alerts: &mut Vec<Alert>) {
    use Severity::{Critical, Info, Warning};
    if let Some(illness) = &figures.illness {
        alerts.push(Alert {
            id: "not_drained",
            severity: Critical,
            title: "The kernel tables are not drained",
            detail: illness.clone(),
            action: "Read the agent's log (journalctl -u flow-agent), then restart it: what is in \
                     the tables is taken over.",
            settings: &["pin_dir"],
        });
    }
    if figures.unaccounted != 0 {
        alerts.push(Alert {
            id: "unaccounted",
            severity: Critical,
            title: "The books do not balance",
            detail: format!("{} packets are explained by nothing", figures.unaccounted),
            action: "This is a bug: please report it with /api/v1/ledger and the log.",
            settings: &[],
        });
    }
    if figures.lost > 0 {
        let lately = figures.lost_lately > 0;
        alerts.push(Alert {
            id: "kernel_tables_full",
            severity: if lately { Critical } else { Info },
            title: "Flows were lost in the kernel",
            detail: format!(
                "{} packets since the start, {} in the last five minutes, are in no flow; the \
                 ledger has them by reason",
                figures.lost, figures.lost_lately
            ),
            action: "Give the kernel tables more memory, or drain them more often. For no_region \
                     (CPUs were added) restart the agent.",
            settings: &["table_memory_mib", "drain_interval_ms"],
        });
    }
    if figures.early >= 10 && figures.early * 5 > figures.drains {
        alerts.push(Alert {
            id: "kernel_tables_filling",
            severity: Warning,
            title: "The kernel tables fill up before they are drained",
            detail: format!(
                "{} of {} drains came before their time; the fullest CPU's table is {:.0} % full",
                figures.early,
                figures.drains,
                figures.fill * 100.0
            ),
            action: "Nothing is lost yet. Give the tables more memory, or sample.",
            settings: &["table_memory_mib", "sampling.rate"],
        });
    }
    if let Some((name, why)) = figures.refused.first() {
        let more = figures.refused.len() - 1;
        alerts.push(Alert {
            id: "interface_refused",
            severity: Warning,
            title: "An interface is not metered",
            detail: match more {
                0 => format!("{name}: {why}"),
                more => format!("{name}: {why}; and {more} more"),
            },
            action: "Choose another mode for it (NAME:tc), or leave it out.",
            settings: &["interfaces", "exclude_interfaces", "attach"],
        });
    }
    if !figures.phase_is_metering {
        alerts.push(Alert {
            id: "not_metering",
            severity: Info,
            title: "The agent is not metering",
            detail: "It is starting or stopping.".into(),
            action: "Wait a moment.",
            settings: &[],
        });
    }
}

fn cache(figures: &Figures, alerts: &mut Vec<Alert>) {
    use Severity::{Info, Warning};
    if let Some((flows, configured)) = figures.cache_flows
        && flows < configured
    {
        alerts.push(Alert {
            id: "cache_shrunk",
            severity: Warning,
            title: "The cache is smaller than configured",
            detail: format!("memory is short: {flows} flows instead of {configured}"),
            action: "Flows that leave early make more rows; none is lost. Give the host or the \
                     unit more memory (MemoryMax), or configure a smaller cache.",
            settings: &["cache.max_memory_mib", "memory.shrink_above_percent"],
        });
    }
    if figures.evicted_full + figures.evicted_memory > 0 {
        alerts.push(Alert {
            id: "cache_full",
            severity: Warning,
            title: "The cache was full",
            detail: format!(
                "{} flows made room for others at the limit of flows, {} at the limit of memory",
                figures.evicted_full, figures.evicted_memory
            ),
            action: "Flows that leave early make more rows; none is lost. Raise the limit, or let \
                     idle flows leave earlier.",
            settings: &["max_flows", "cache.max_memory_mib", "idle_timeout_s"],
        });
    }
    if figures.analytics_skipped > 0 {
        alerts.push(Alert {
            id: "analytics_skipped",
            severity: Info,
            title: "The analytics could not keep up",
            detail: format!("{} records were not looked at", figures.analytics_skipped),
            action: "All of them are stored. Talkers and events are not of all records.",
            settings: &["analytics.enabled"],
        });
    }
}

fn store(figures: &Figures, alerts: &mut Vec<Alert>) {
    use Severity::{Critical, Warning};
    if let Some(held) = &figures.held {
        alerts.push(Alert {
            id: "store_refuses",
            severity: Critical,
            title: "The store refuses, and all batches wait",
            detail: held.clone(),
            action: "Correct the address, the user or the tables (flow-agent schema apply); the \
                     agent tries again by itself. Rows wait in the spool meanwhile.",
            settings: &["store", "delivery.user", "delivery.password_file"],
        });
    }
    if let Some(late) = &figures.late {
        alerts.push(Alert {
            id: "store_away",
            severity: Critical,
            title: "The store takes nothing",
            detail: late.clone(),
            action: "Start the store or correct its address. Rows wait in the spool until then.",
            settings: &["store", "spool.max_mib"],
        });
    } else if let Some(why) = figures.failing.as_ref().or(figures.endpoints_down.first()) {
        alerts.push(Alert {
            id: "store_failing",
            severity: Warning,
            title: "The store does not answer as it should",
            detail: why.clone(),
            action: "Look at the server. Rows wait in the spool and are sent again by themselves.",
            settings: &["store", "delivery.connect_timeout_ms"],
        });
    }
    if figures.insert_p99_ns > LATE_INSERT_NS {
        alerts.push(Alert {
            id: "late_inserts",
            severity: Warning,
            title: "Inserts are slow",
            detail: format!(
                "one in a hundred took longer than {:.1} s, retries included",
                figures.insert_p99_ns as f64 / 1e9
            ),
            action: "Larger batches and fewer of them cost the store less; more may be under way \
                     at once.",
            settings: &["batch.age_ms", "batch.target_insert_ms", "delivery.in_flight"],
        });
    }
    if figures.quarantined > 0 {
        alerts.push(Alert {
            id: "quarantine",
            severity: Warning,
            title: "Rows are in the quarantine",
            detail: format!("{} rows were refused by the store and put aside", figures.quarantined),
            action: "See why (flow-agent quarantine list), correct it, and send them again \
                     (flow-agent quarantine resend).",
            settings: &["delivery.quarantine_dir"],
        });
    }
}

fn spool(figures: &Figures, alerts: &mut Vec<Alert>) {
    use Severity::{Critical, Warning};
    if let Some(trouble) = &figures.spool_trouble {
        alerts.push(Alert {
            id: "spool_disk",
            severity: Critical,
            title: "The disk of the spool fails",
            detail: trouble.clone(),
            action: "Make room or replace the disk. Batches are held in memory until it works.",
            settings: &["spool.dir", "spool.memory_mib"],
        });
    }
    let share = |(used, limit): (u64, u64)| used as f64 / limit.max(1) as f64;
    // Files keep some settled batches: only what waits long is filling up.
    let waits = figures.oldest_s > LATE_ROWS_S;
    let full = share(figures.disk).max(share(figures.memory));
    if waits && full > FILLING {
        alerts.push(Alert {
            id: "spool_filling",
            severity: if full > NEARLY_FULL { Critical } else { Warning },
            title: "The spool fills up",
            detail: format!(
                "{:.0} % of it are used; when it is full, the setting spool.full says what becomes \
                 of batches",
                full * 100.0
            ),
            action: "Bring the store back, or give the spool more room.",
            settings: &["spool.max_mib", "spool.memory_mib", "spool.full"],
        });
    }
    if waits {
        alerts.push(Alert {
            id: "rows_late",
            severity: Warning,
            title: "Rows are late",
            detail: format!("the oldest batch has waited for the store for {} s", figures.oldest_s),
            action: "If the store is there, it is too slow for what comes: more inserts at once, \
                     larger batches, or sampling.",
            settings: &["delivery.in_flight", "batch.age_ms", "sampling.rate"],
        });
    }
    if figures.undelivered > 0 {
        alerts.push(Alert {
            id: "undelivered",
            severity: Critical,
            title: "Packets are in no row",
            detail: format!(
                "{} packets since the start were metered and not stored; the ledger has them by \
                 reason",
                figures.undelivered
            ),
            action: "More room in the spool keeps more. What is quarantined is not lost: \
                     flow-agent quarantine resend.",
            settings: &["spool.max_mib", "spool.full", "delivery.quarantine_dir"],
        });
    }
}

#[cfg(test)]
#[path = "alerts_tests.rs"]
mod tests;
