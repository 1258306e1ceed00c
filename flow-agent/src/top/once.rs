//! `top --once`: two looks enter, a text or a document leaves.

use std::fmt::Write as _;
use std::time::Instant;

use serde_json::{Value, json};

use super::app::App;
use super::column::Column;
use super::history::Look;
use super::watch::Watch;
use super::{TopOptions, draw, export};
use crate::Error;

/// The state after two looks, an interval apart, so that there are rates.
fn state(options: &TopOptions) -> Result<App, Error> {
    let mut app = App::new(options);
    // What is wrong is told at once.
    let first = super::watch::look(&options.client, options.limit, Instant::now());
    first?;
    let watch = Watch::start(options.client.clone(), options.interval, options.limit);
    let watch = watch.map_err(Error::thread)?;
    for _ in 0..2 {
        let news = watch.news.recv().map_err(|_| Error::Stage { stage: "top" })?;
        app.take(Ok(news?));
    }
    Ok(app)
}

/// For people and pipes.
///
/// # Errors
/// The agent is away or refuses.
pub fn once(options: &TopOptions) -> Result<String, Error> {
    let app = state(options)?;
    let mut text = String::new();
    for (line, _) in draw::facts(&app) {
        let _ = writeln!(text, "{line}");
    }
    let titles = Column::ALL.map(|column| column.title().to_owned());
    let rows = app.rows.iter().map(|row| Column::ALL.map(|column| column.cell(row)));
    let lines: Vec<_> = std::iter::once(titles).chain(rows).collect();
    let width = |position: usize| {
        lines.iter().map(|line| line[position].chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..Column::ALL.len()).map(width).collect();
    for line in &lines {
        let mut shown = String::new();
        for ((cell, column), width) in line.iter().zip(Column::ALL).zip(&widths) {
            let _ = if column.is_number() {
                write!(shown, "{cell:>width$}  ")
            } else {
                write!(shown, "{cell:<width$}  ")
            };
        }
        let _ = writeln!(text, "{}", shown.trim_end());
    }
    Ok(text)
}

/// For programs.
///
/// # Errors
/// As [`once`].
pub fn once_json(options: &TopOptions) -> Result<Value, Error> {
    let app = state(options)?;
    let rates = app.history.rates().map(|rates| {
        json!({
            "received_packets_per_second": rates.received_packets,
            "received_bits_per_second": rates.received_bits,
            "sent_packets_per_second": rates.sent_packets,
            "sent_bits_per_second": rates.sent_bits,
            "lost_packets_per_second": rates.lost,
        })
    });
    let look = app.history.last();
    Ok(json!({
        "agent": app.agent,
        "metered": rates,
        "open": look.map(|look| look.flows.open),
        "status": look.map(Look::status),
        "ledger": look.map(Look::ledger),
        "flows": export::json(&app.rows),
    }))
}
