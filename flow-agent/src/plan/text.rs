//! A plan for people.

use std::fmt::Write as _;

use super::{Figure, Plan};
use crate::report::grouped;

/// Figures, what each rests on, and the commands that measured that.
pub fn text(plan: &Plan) -> String {
    let load = &plan.load;
    let mut text = format!(
        "{} hosts, {} packets/s and {} flows/s each\n\nA host\n",
        load.hosts, load.packets_per_second, load.flows_per_second
    );
    list(&mut text, &plan.host);
    text += "\nThe store\n";
    list(&mut text, &plan.store);
    text += "\nNotes\n";
    for note in &plan.notes {
        let _ = writeln!(text, "- {note}");
    }
    text += "\nMeasured costs\n";
    for cost in &plan.costs {
        let value = format!("{} {}", cost.value, cost.unit);
        let _ =
            writeln!(text, "  {:<17} {value}\n  {:<17} by: {}", cost.name, "", cost.measured_by);
    }
    text
}

fn list(text: &mut String, figures: &[Figure]) {
    for figure in figures {
        let (name, value) = (figure.name.replace('_', " "), amount(figure.value, figure.unit));
        let _ = writeln!(text, "  {name:<22} {value:>18}  {}", figure.how);
    }
}

fn amount(value: f64, unit: &str) -> String {
    match unit {
        "bytes" => octets(value),
        "cores" if value < 0.001 => "under 0.001 cores".into(),
        "cores" => format!("{value:.3} cores"),
        "s" if value >= 365.0 * 86_400.0 => "over a year".into(),
        "s" if value >= 2.0 * 86_400.0 => format!("{:.1} days", value / 86_400.0),
        "s" if value >= 7200.0 => format!("{:.1} hours", value / 3600.0),
        "s" => format!("{value:.0} s"),
        unit if value >= 100.0 => format!("{} {unit}", grouped(value.round() as u64)),
        unit => format!("{value:.1} {unit}"),
    }
}

fn octets(mut value: f64) -> String {
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 999.5 {
            return format!("{value:.1} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1} PB")
}
