//! The columns of the table: a flow enters, its cell and its place in the order leave.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::str::FromStr;

use super::history::Row;
use super::units;

/// A column that the table can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the titles say it")]
pub enum Column {
    Source,
    Destination,
    Protocol,
    Service,
    Interface,
    Direction,
    Packets,
    Octets,
    Rate,
    Age,
}

impl Column {
    /// From left to right.
    pub const ALL: [Self; 10] = [
        Self::Source,
        Self::Destination,
        Self::Protocol,
        Self::Service,
        Self::Interface,
        Self::Direction,
        Self::Packets,
        Self::Octets,
        Self::Rate,
        Self::Age,
    ];

    /// The title.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Protocol => "proto",
            Self::Service => "service",
            Self::Interface => "interface",
            Self::Direction => "dir",
            Self::Packets => "packets",
            Self::Octets => "octets",
            Self::Rate => "bit/s",
            Self::Age => "age",
        }
    }

    /// The narrowest it is shown, in characters.
    pub const fn width(self) -> u16 {
        match self {
            Self::Source | Self::Destination => 21,
            Self::Protocol | Self::Direction => 7,
            Self::Service | Self::Interface => 10,
            Self::Packets | Self::Octets | Self::Rate => 8,
            Self::Age => 6,
        }
    }

    /// True for numbers, which are shown at the right and sorted largest first.
    pub const fn is_number(self) -> bool {
        matches!(self, Self::Packets | Self::Octets | Self::Rate | Self::Age)
    }

    /// The column to the right, or the first one.
    #[must_use]
    pub fn next(self) -> Self {
        Self::ALL[(self as usize + 1) % Self::ALL.len()]
    }

    /// The column to the left, or the last one.
    #[must_use]
    pub fn previous(self) -> Self {
        Self::ALL[(self as usize + Self::ALL.len() - 1) % Self::ALL.len()]
    }

    /// What is in the cell.
    pub fn cell(self, row: &Row) -> String {
        let flow = &row.flow;
        match self {
            Self::Source => end(&flow.src_ip, flow.src_port),
            Self::Destination => end(&flow.dst_ip, flow.dst_port),
            Self::Protocol => flow.protocol_name(),
            Self::Service if flow.service.is_empty() => "-".into(),
            Self::Service => flow.service.clone(),
            Self::Interface => flow.interface.clone(),
            Self::Direction => flow.direction.clone(),
            Self::Packets => units::short(row.packets()),
            Self::Octets => units::short(row.octets()),
            Self::Rate => row.bits_per_second.map_or_else(|| "-".into(), units::rate),
            Self::Age => row.age_s().map_or_else(|| "-".into(), |age| format!("{age:.0}s")),
        }
    }

    /// The natural order, smallest first.
    pub fn compare(self, a: &Row, b: &Row) -> Ordering {
        let (x, y) = (&a.flow, &b.flow);
        match self {
            Self::Source => address(&x.src_ip, x.src_port).cmp(&address(&y.src_ip, y.src_port)),
            Self::Destination => {
                address(&x.dst_ip, x.dst_port).cmp(&address(&y.dst_ip, y.dst_port))
            }
            Self::Protocol => x.protocol.cmp(&y.protocol),
            Self::Service => x.service.cmp(&y.service),
            Self::Interface => x.interface.cmp(&y.interface),
            Self::Direction => x.direction.cmp(&y.direction),
            Self::Packets => a.packets().cmp(&b.packets()),
            Self::Octets => a.octets().cmp(&b.octets()),
            Self::Rate => {
                let rate = |row: &Row| row.bits_per_second.unwrap_or(0.0);
                rate(a).total_cmp(&rate(b))
            }
            Self::Age => a.age_s().unwrap_or(0.0).total_cmp(&b.age_s().unwrap_or(0.0)),
        }
    }
}

impl FromStr for Column {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let alias =
            |column: &Self| column.title() == text || (text == "rate" && *column == Self::Rate);
        Self::ALL.into_iter().find(alias).ok_or_else(|| {
            format!(
                "there is no such column; there are {}, rate",
                Self::ALL.map(Self::title).join(", ")
            )
        })
    }
}

/// By number, not by text: 10.0.0.9 comes before 10.0.0.10.
fn address(text: &str, port: u16) -> (Option<IpAddr>, u16) {
    (text.parse().ok(), port)
}

/// `ADDRESS:PORT`; the address alone where there is no port.
pub fn end(address: &str, port: u16) -> String {
    match (port, address.contains(':')) {
        (0, _) => address.to_owned(),
        (port, true) => format!("[{address}]:{port}"),
        (port, false) => format!("{address}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_title_is_understood_and_the_ring_is_closed() {
        let mut column = Column::Source;
        for expected in Column::ALL {
            assert_eq!(column, expected);
            assert_eq!(column.title().parse(), Ok(column));
            assert_eq!(column.next().previous(), column);
            column = column.next();
        }
        assert_eq!(column, Column::Source);
        assert!("colour".parse::<Column>().is_err_and(|said| said.contains("octets")));
    }

    #[test]
    fn addresses_are_sorted_as_numbers() {
        let row = |ip: &str| {
            let flow = super::super::flow::OpenFlow { src_ip: ip.into(), ..Default::default() };
            Row { flow, bits_per_second: None }
        };
        let (nine, ten) = (row("10.0.0.9"), row("10.0.0.10"));
        assert_eq!(Column::Source.compare(&nine, &ten), Ordering::Less);
    }
}
