//! The picture of bandwidth: lines enter, SVG leaves.

use jiff::Timestamp;
use plotters::prelude::*;

use super::Window;
use super::bandwidth::Series;

/// In pixels; it scales.
const SIZE: (u32, u32) = (960, 420);
/// Lines that can be told apart.
const MOST: usize = 8;
const COLOURS: [RGBColor; MOST] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0xd6, 0x4a, 0x05),
    RGBColor(0x2c, 0xa0, 0x2c),
    RGBColor(0x94, 0x67, 0xbd),
    RGBColor(0x8c, 0x56, 0x4b),
    RGBColor(0xc2, 0x18, 0x5b),
    RGBColor(0x55, 0x55, 0x55),
    RGBColor(0x0b, 0x84, 0x91),
];

/// A line for each of the busiest interfaces.
///
/// # Errors
/// A sentence.
pub fn svg(series: &[Series], window: Window) -> Result<String, String> {
    let mut out = String::new();
    paint(&mut out, series, window)
        .map_err(|error| format!("the picture cannot be drawn: {error}"))?;
    Ok(out)
}

fn paint(
    out: &mut String,
    series: &[Series],
    window: Window,
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let wrap = |_| DrawingAreaErrorKind::LayoutError;
    let area = SVGBackend::with_string(out, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(wrap)?;
    let ((from, to), step) = (window.bounds(), window.step());
    let most = series.iter().flat_map(|one| &one.bits).copied().fold(1.0, f64::max);
    let (unit, scale) = match most {
        most if most >= 1e9 => ("Gbit/s", 1e9),
        most if most >= 1e6 => ("Mbit/s", 1e6),
        most if most >= 1e3 => ("kbit/s", 1e3),
        _ => ("bit/s", 1.0),
    };
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("Bandwidth, {window}"), ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(from..to, 0.0..most / scale * 1.05)
        .map_err(wrap)?;
    let day = window.seconds() > 86_400;
    let time = move |second: &i64| {
        let format = if day { "%m-%d %H:%M" } else { "%H:%M" };
        let time = Timestamp::from_second(*second).unwrap_or_default();
        time.strftime(format).to_string()
    };
    chart
        .configure_mesh()
        .x_label_formatter(&time)
        .x_labels(8)
        .y_desc(unit)
        .light_line_style(TRANSPARENT)
        .draw()
        .map_err(wrap)?;
    for (one, colour) in series.iter().zip(COLOURS) {
        let points = one.bits.iter().enumerate();
        let points = points.map(|(at, bits)| (from + at as i64 * step, bits / scale));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))
            .map_err(wrap)?
            .label(one.name.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(wrap)?;
    area.present().map_err(wrap)
}
