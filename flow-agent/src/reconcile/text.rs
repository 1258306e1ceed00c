//! The comparison as text for a person.

use std::fmt::Write;

use super::Reconciliation;

/// A block for each interface, aligned.
pub fn text(all: &Reconciliation) -> String {
    let mut text = format!("over {:.1} s\n", all.seconds);
    // Writing to a text cannot fail.
    for it in &all.interfaces {
        let how = it.ingress.as_deref().unwrap_or("not metered");
        let _ = writeln!(text, "\n{} ({how})", it.interface);
        let margin = match it.gap.driver_margin {
            0 => String::new(),
            margin => format!(" (+-{margin}: packets on their way between readings)"),
        };
        let _ = writeln!(text, "  {:>14}  counted by the driver{margin}", it.gap.driver);
        for part in &it.gap.explained {
            let _ = writeln!(text, "  {:>+14}  {}", part.packets, part.why);
        }
        let what = match it.gap.unexplained {
            0 => "unexplained",
            1.. => {
                "UNEXPLAINED: the hooks were given packets that the driver did not count, or \
                    the ledger does not balance"
            }
            _ => {
                "UNEXPLAINED: counted by the driver, seen by no hook; was a program attached \
                  (XDP, `ip -d link`) or AF_XDP used meanwhile?"
            }
        };
        let left = match it.gap.unexplained {
            0 => "0".to_owned(),
            left => format!("{left:+}"),
        };
        let _ = writeln!(text, "  {left:>14}  {what}");
        let _ = writeln!(text, "  {:>14}  given to the hooks, of which", it.gap.hooks);
        for (stage, packets) in &it.ledger {
            let _ = writeln!(text, "  {packets:>14}    {stage}");
        }
    }
    for it in &all.sockets {
        let _ = writeln!(text, "\nIP layer and sockets in {}", it.namespace);
        for (name, count) in &it.counters {
            let _ = writeln!(text, "  {count:>14}  {name}");
        }
    }
    text
}
