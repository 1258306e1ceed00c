//! The proof: the wire by the independent tally, beside what ClickHouse sums up, and
//! the agent's ledger.

use anyhow::Result;
use comfy_table::Cell;
use flow_tests::lab::{SUBNETS, Side};
use flow_tests::ledger::Ledger;
use flow_tests::sql;
use flow_tests::tally::{Count, Counts};
use flow_tests::traffic::Sent;
use indicatif::{DecimalBytes, HumanCount};

use crate::look::Look;

/// The question whose answer must be the wire's own count.
fn question() -> String {
    let inside = SUBNETS.map(|subnet| format!("isIPAddressInRange(toString(src_ip), '{subnet}')"));
    format!(
        "SELECT interface, sum(packets + reverse_packets), sum(bytes + reverse_bytes) \
         FROM flow.flows WHERE {} GROUP BY interface",
        inside.join(" OR ")
    )
}

/// One end of the lab, three times: on the wire, in ClickHouse, in the ledger.
struct End {
    interface: &'static str,
    wire: Count,
    stored: Count,
    ledger: Ledger,
}

impl End {
    fn matches(&self) -> bool {
        self.wire == self.stored && self.wire.packets > 0
    }

    fn balances(&self) -> bool {
        self.ledger.unaccounted() == (0, 0) && self.ledger.seen.packets > 0
    }
}

/// What the demo found at both ends.
pub struct Verdict {
    ends: Vec<End>,
}

impl Verdict {
    /// Asks ClickHouse and compares.
    pub fn reach(url: &str, sides: [&Side; 2], wire: &[Counts; 2]) -> Result<Self> {
        let rows = sql::rows(url, &question())?;
        let mut ends = Vec::new();
        for (side, counts) in sides.into_iter().zip(wire) {
            let mut stored = Count::default();
            for row in rows.iter().filter(|row| row[0].ends_with(side.interface)) {
                stored.add(Count { packets: row[1].parse()?, octets: row[2].parse()? });
            }
            let ledger = Ledger::read(url, side.interface)?;
            ends.push(End { interface: side.interface, wire: counts.total, stored, ledger });
        }
        Ok(Self { ends })
    }

    /// True if all of the wire is in ClickHouse and the ledger balances.
    pub fn good(&self) -> bool {
        self.ends.iter().all(|end| end.matches() && end.balances())
    }

    /// Prints both comparisons.
    pub fn show(&self, look: Look, sent: Sent) {
        look.title("On the wire and in ClickHouse");
        let mut table =
            look.table(&["interface", "counted by", "packets", "IP octets", ""], &[2, 3]);
        for end in &self.ends {
            let verdict = Look::verdict_cell(end.matches(), "equal", "DIFFERENT");
            table.add_row(
                row(end.interface, "the wire (tally)", end.wire).into_iter().chain([Cell::new("")]),
            );
            table.add_row(row("", "sum() in ClickHouse", end.stored).into_iter().chain([verdict]));
        }
        Look::show(&table);
        println!(
            "  The sockets sent {} of payload; the rest is headers and acknowledgements.",
            DecimalBytes(sent.forward + sent.backward)
        );

        look.title("Ledger: what became of each packet given to the hooks");
        let headings = ["interface", "seen", "metered", "not metered", "lost", "unaccounted"];
        let mut table = look.table(&headings, &[1, 2, 3, 4, 5]);
        for end in &self.ends {
            let ledger = end.ledger;
            let packets = [ledger.seen, ledger.metered, ledger.not_metered, ledger.lost];
            let mut cells = vec![Cell::new(end.interface)];
            cells.extend(packets.map(|count| Cell::new(HumanCount(count.packets))));
            let unaccounted = ledger.unaccounted().0.to_string();
            cells.push(Look::verdict_cell(end.balances(), &unaccounted, &unaccounted));
            table.add_row(cells);
        }
        Look::show(&table);
        if self.good() {
            look.news(true, "  Every packet and octet on the wire is in ClickHouse.");
        } else {
            look.news(false, "  What is in ClickHouse is not what was on the wire.");
        }
    }
}

fn row(interface: &str, counted: &str, count: Count) -> Vec<Cell> {
    vec![
        Cell::new(interface),
        Cell::new(counted),
        Cell::new(HumanCount(count.packets)),
        Cell::new(HumanCount(count.octets)),
    ]
}
