//! `flow-agent report`: a store, a kind and a window of time enter, a document leaves.
//!
//! Rows come from the rollups and views (`questions`), never more than the limit of each
//! section, so a report costs the store as little as a look at a dashboard. What must hold: a
//! document says of which time it is and how each section is computed.

mod bandwidth;
mod chart;
mod html;
mod questions;
mod section;
mod text;
mod window;

use clap::ValueEnum;
use serde_json::{Value, json};

pub use section::Section;
pub use text::{csv_line, grouped};
pub use window::{Span, Window};

use crate::Error;
use crate::target::Store;
use bandwidth::Series;
use questions::Questions;

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Addresses with most octets
    TopTalkers,
    /// Who exchanged most with whom
    Conversations,
    /// Services with most octets
    Services,
    /// Bits a second of each interface over the time
    Bandwidth,
    /// Events, scanners, new services, gaps of the ledger, sudden changes
    Anomalies,
    /// How long each stage of the agents took, and handshakes by service
    Latency,
}

impl Kind {
    /// As it is typed.
    pub const fn label(self) -> &'static str {
        match self {
            Self::TopTalkers => "top-talkers",
            Self::Conversations => "conversations",
            Self::Services => "services",
            Self::Bandwidth => "bandwidth",
            Self::Anomalies => "anomalies",
            Self::Latency => "latency",
        }
    }
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people at a terminal
    Table,
    /// One document
    Json,
    /// A line for each row; of several sections a column says which
    Csv,
    /// One page that needs nothing else
    Html,
    /// A picture; of `bandwidth` only
    Svg,
}

impl Format {
    /// What the name of a file says.
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "txt" => Some(Self::Table),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "html" | "htm" => Some(Self::Html),
            "svg" => Some(Self::Svg),
            _ => None,
        }
    }
}

/// A finished report.
#[derive(Clone, Debug)]
pub struct Report {
    kind: Kind,
    store: String,
    window: Window,
    sections: Vec<Section>,
    /// Of `bandwidth` only.
    series: Vec<Series>,
}

impl Report {
    /// Asks the store; each section has at most `limit` rows.
    ///
    /// # Errors
    /// The store is away, or has not the tables.
    pub fn ask(store: &Store, kind: Kind, window: Window, limit: u32) -> Result<Self, Error> {
        let questions = Questions::new(&store.address().database, window, limit);
        let ask = |question: questions::Asked| Section::ask(store, question);
        let mut series = Vec::new();
        let sections = match kind {
            Kind::TopTalkers => vec![ask(questions.top_talkers())?],
            Kind::Conversations => vec![ask(questions.conversations())?],
            Kind::Services => vec![ask(questions.services())?],
            Kind::Bandwidth => {
                let mut section = ask(questions.bandwidth())?;
                let points = ask(questions.points())?;
                series = bandwidth::series(&section, &points, window);
                bandwidth::add_sparklines(&mut section, &series);
                vec![section]
            }
            Kind::Anomalies => {
                questions.anomalies().into_iter().map(ask).collect::<Result<_, _>>()?
            }
            Kind::Latency => vec![ask(questions.stages())?, ask(questions.handshakes())?],
        };
        let address = store.address().to_string();
        Ok(Self { kind, store: address, window, sections, series })
    }

    /// As text in a format.
    ///
    /// # Errors
    /// A sentence: there is no picture of it.
    pub fn write(&self, format: Format) -> Result<String, String> {
        Ok(match format {
            Format::Table => text::table(self),
            Format::Json => format!("{:#}\n", self.json()),
            Format::Csv => text::csv(&self.sections),
            Format::Html => html::page(self),
            Format::Svg if self.kind == Kind::Bandwidth => chart::svg(&self.series, self.window)?,
            Format::Svg => {
                let kind = self.kind.label();
                return Err(format!(
                    "there is no picture of {kind}, only of bandwidth; formats of {kind} are \
                     table, json, csv and html"
                ));
            }
        })
    }

    fn title(&self) -> String {
        format!("{}, {} ({})", self.kind.label(), self.window, self.store)
    }

    fn json(&self) -> Value {
        let sections: Vec<_> = self.sections.iter().map(Section::json).collect();
        json!({
            "report": self.kind.label(),
            "store": self.store,
            "from": self.window.from().to_string(),
            "to": self.window.to().to_string(),
            "sections": sections,
        })
    }
}
