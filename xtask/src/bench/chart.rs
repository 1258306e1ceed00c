//! The picture: how the cost of a packet and of a flow grows with the number of flows.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::results::{Figure, Results};

/// In pixels; it scales.
const SIZE: (u32, u32) = (1160, 460);
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0xd6, 0x4a, 0x05),
    RGBColor(0x2c, 0xa0, 0x2c),
    RGBColor(0x94, 0x67, 0xbd),
    RGBColor(0x8c, 0x56, 0x4b),
    RGBColor(0x55, 0x55, 0x55),
];

/// Lines by name: flows and ns.
type Lines = BTreeMap<String, Vec<(f64, f64)>>;

/// Draws what is there.
pub fn svg(results: &Results) -> Result<String> {
    let mut own = Lines::new();
    let mut peers = Lines::new();
    for figure in &results.figures {
        let Some(flows) = figure.flows.filter(|flows| *flows >= 1000) else { continue };
        let (lines, name, ns) = match (figure.stage.as_str(), figure.what.as_str()) {
            ("kernel", "XDP, IPv4, zipf") => (&mut own, "packet, XDP, Zipf", figure.median),
            ("kernel", "XDP, IPv4, uniform") => (&mut own, "packet, XDP, uniform", figure.median),
            ("drain", "read and cleared") => (&mut own, "flow drained", figure.median),
            ("cache", what) if what.starts_with("update, uniform, statistics full, 1 ") => {
                (&mut own, "flow updated in the cache", 1e9 / figure.median)
            }
            ("peers", what) => match peer(figure, what) {
                Some(name) => (&mut peers, name, figure.median),
                None => continue,
            },
            _ => continue,
        };
        lines.entry(name.to_owned()).or_default().push((f64::from(flows), ns));
    }
    let mut out = String::new();
    paint(&mut out, own, peers).map_err(|error| anyhow!("the chart cannot be drawn: {error}"))?;
    Ok(out)
}

/// The program, if this is how it does alone with flows that are all alike.
fn peer<'f>(figure: &Figure, what: &'f str) -> Option<&'f str> {
    let program = what.strip_suffix(", uniform, 1 CPUs at once")?;
    figure.median.is_finite().then_some(program)
}

fn paint(
    out: &mut String,
    own: Lines,
    peers: Lines,
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let wrap = |_| DrawingAreaErrorKind::LayoutError;
    let area = SVGBackend::with_string(out, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(wrap)?;
    let (left, right) = area.split_horizontally(SIZE.0 / 2);
    let panels =
        [(left, "What it costs, by flows", own), (right, "A packet, beside hash maps", peers)];
    for (panel, title, lines) in panels {
        let most = lines.values().flatten().map(|point| point.1).fold(1.0, f64::max);
        let mut chart = ChartBuilder::on(&panel)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(52)
            .build_cartesian_2d((900.0..1_200_000.0).log_scale(), 0.0..most * 1.1)
            .map_err(wrap)?;
        chart
            .configure_mesh()
            .x_desc("flows")
            .y_desc("ns")
            .x_label_formatter(&|flows| match *flows {
                flows if flows >= 1e6 => format!("{:.0}M", flows / 1e6),
                flows => format!("{:.0}k", flows / 1e3),
            })
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(wrap)?;
        for ((name, mut points), colour) in lines.into_iter().zip(COLOURS) {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            let dots = points.clone().into_iter().map(|at| Circle::new(at, 3, colour.filled()));
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))
                .map_err(wrap)?
                .label(name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2))
                });
            chart.draw_series(dots).map_err(wrap)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .draw()
            .map_err(wrap)?;
    }
    area.present().map_err(wrap)
}
