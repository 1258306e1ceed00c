//! Reports as text: a table for a terminal, or lines of CSV.

use std::fmt::Write as _;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use serde_json::Value;

use super::{Report, Section};

/// For people.
pub fn table(report: &Report) -> String {
    let mut text = format!("{}\n", report.title());
    for section in &report.sections {
        if report.sections.len() > 1 {
            let _ = write!(text, "\n{}\n", section.name);
        }
        let _ = writeln!(text, "{}", section.how);
        if section.rows.is_empty() {
            let _ = writeln!(text, "0 rows");
            continue;
        }
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(section.columns.clone());
        for row in &section.rows {
            let cells = section.columns.iter().zip(row).map(|(column, value)| {
                let cell = Cell::new(shown(column, value));
                if value.is_number() { cell.set_alignment(CellAlignment::Right) } else { cell }
            });
            table.add_row(cells.collect::<Vec<_>>());
        }
        let _ = writeln!(text, "{table}");
    }
    text
}

/// A value for people: rates with a unit, octets in groups, no control characters.
pub fn shown(column: &str, value: &Value) -> String {
    match value {
        Value::String(text) => text.replace(char::is_control, " "),
        Value::Null => "-".into(),
        Value::Number(number) if column.contains("bits_per_second") => {
            bits(number.as_f64().unwrap_or(0.0))
        }
        Value::Number(number) if column.ends_with("_ms") => {
            format!("{:.3}", number.as_f64().unwrap_or(0.0))
        }
        Value::Number(number) => match number.as_u64() {
            Some(whole) if column != "service_port" => grouped(whole),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

fn bits(mut value: f64) -> String {
    for unit in ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"] {
        if value < 999.5 {
            return format!("{value:.1} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1} Tbit/s")
}

/// With a comma before each third digit from the right.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Lines of CSV; where there are several sections, a column says which, and each row has the
/// columns of all.
pub fn csv(sections: &[Section]) -> String {
    let several = sections.len() > 1;
    let mut columns: Vec<String> = Vec::new();
    if several {
        columns.push("section".into());
    }
    for column in sections.iter().flat_map(|section| &section.columns) {
        if !columns.contains(column) {
            columns.push(column.clone());
        }
    }
    let mut text = csv_line(columns.clone());
    for section in sections {
        for row in &section.rows {
            text += &csv_line(columns.iter().enumerate().map(|(at, column)| {
                if several && at == 0 {
                    return section.name.to_owned();
                }
                section.position(column).map(|at| field(&row[at])).unwrap_or_default()
            }));
        }
    }
    text
}

fn field(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A line of CSV (RFC 4180).
pub fn csv_line(fields: impl IntoIterator<Item = String>) -> String {
    let quote = |field: String| {
        if field.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field
        }
    };
    let fields: Vec<_> = fields.into_iter().map(quote).collect();
    fields.join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        let fields = ["a", "b,c", "say \"x\"", "", "two\nlines"].map(str::to_owned);
        assert_eq!(csv_line(fields), "a,\"b,c\",\"say \"\"x\"\"\",,\"two\nlines\"\n");
    }

    #[test]
    fn numbers_are_grouped_and_texts_cannot_move_the_cursor() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(123), "123");
        assert_eq!(shown("message", &json!("a\u{1b}[2Jb")), "a [2Jb");
        assert_eq!(shown("bits_per_second", &json!(2_500_000.0)), "2.5 Mbit/s");
        assert_eq!(shown("service_port", &json!(8080)), "8080");
    }

    #[test]
    fn sections_share_the_columns_of_all() {
        let section = |name, column: &str, value| Section {
            name,
            columns: vec![column.into(), "n".into()],
            rows: vec![vec![value, json!(1)]],
            ..Section::default()
        };
        let text = csv(&[section("one", "a", json!("x")), section("two", "b", json!(7))]);
        assert_eq!(text, "section,a,n,b\none,x,1,\ntwo,,1,7\n");
    }
}
