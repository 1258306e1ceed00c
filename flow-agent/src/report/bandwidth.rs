//! The course of each interface: means by step enter, lines for charts and tables leave.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{Section, Window};

/// One interface over the time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// `EXPORTER INTERFACE`.
    pub name: String,
    /// Bits a second in each step.
    pub bits: Vec<f64>,
}

/// A line for each row of the table; steps without a flow are 0.
pub fn series(table: &Section, points: &Section, window: Window) -> Vec<Series> {
    let steps = ((window.seconds() + window.step() - 1) / window.step()) as usize;
    let name = |row: &[Value]| {
        let text = |position: usize| row.get(position).and_then(Value::as_str).unwrap_or_default();
        format!("{} {}", text(0), text(1))
    };
    let mut found: HashMap<String, Vec<f64>> = HashMap::new();
    for row in &points.rows {
        let bits = found.entry(name(row)).or_insert_with(|| vec![0.0; steps]);
        if let (Some(point), Some(mean)) = (row[2].as_u64(), row[3].as_f64())
            && let Some(bits) = bits.get_mut(point as usize)
        {
            *bits = mean;
        }
    }
    let names = table.rows.iter().map(|row| name(row));
    names
        .map(|name| {
            let bits = found.remove(&name).unwrap_or_else(|| vec![0.0; steps]);
            Series { name, bits }
        })
        .collect()
}

/// Adds the lines to the table.
pub fn add_sparklines(table: &mut Section, series: &[Series]) {
    table.columns.push("course".into());
    for (row, series) in table.rows.iter_mut().zip(series) {
        row.push(json!(sparkline(&series.bits)));
    }
}

/// A character for each value, from none to the largest.
pub fn sparkline(values: &[f64]) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().copied().fold(0.0, f64::max);
    let bar = |value: &f64| match *value {
        value if value <= 0.0 || most <= 0.0 => BARS[0],
        // Whatever is there is seen.
        value => BARS[((value / most * 8.0).round() as usize).clamp(1, 8)],
    };
    values.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_shows_every_value_in_its_order() {
        assert_eq!(sparkline(&[0.0, 1.0, 4.0, 8.0, 1000.0]), " ▁▁▁█");
        assert_eq!(sparkline(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]), " ▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&[0.0, 0.0]), "  ");
        assert_eq!(sparkline(&[]), "");
    }
}
