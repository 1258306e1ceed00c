//! How the demo looks: width, colours, tables, bars. It suits 80 and 120 columns, a
//! terminal or a file.

use std::io::IsTerminal;

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ContentArrangement, LineStyle, Table, TableStyle,
};
use indicatif::{ProgressBar, ProgressStyle};

const NARROW: u16 = 80;
const WIDE: u16 = 120;
/// Columns left of a table.
const INDENT: u16 = 2;
/// A line under the headings and nothing else.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// What the output can show.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    width: u16,
    colours: bool,
}

impl Look {
    /// Asks the terminal, if there is one.
    pub fn of_terminal() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
        let width = Table::new().width().or(columns).unwrap_or(NARROW);
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { width: width.clamp(NARROW, WIDE), colours: terminal && !plain }
    }

    /// Columns that a line may take.
    pub fn width(self) -> usize {
        usize::from(self.width)
    }

    /// A heading.
    pub fn title(self, text: &str) {
        println!("\n{}", self.paint("1", text));
    }

    /// Something that was done.
    pub fn step(self, what: &str, detail: &str) {
        println!("  {} {what:<8} {detail}", self.paint("32", "✓"));
    }

    /// Good news in green, bad news in red.
    pub fn news(self, good: bool, text: &str) {
        println!("{}", self.paint(if good { "1;32" } else { "1;31" }, text));
    }

    /// A bar for a known number of rounds; it shows nothing without a terminal.
    pub fn bar(rounds: u64) -> ProgressBar {
        let template = "  {spinner} traffic  [{bar:28}] {pos}/{len} s  {msg}";
        let style = ProgressStyle::with_template(template)
            .expect("a constant template")
            .progress_chars("█▉▊▋▌▍▎▏ ");
        ProgressBar::new(rounds).with_style(style)
    }

    /// A table with these headings; the columns listed in `numbers` are aligned right.
    pub fn table(self, headings: &[&str], numbers: &[usize]) -> Table {
        let mut table = Table::new();
        table.load_style(STYLE);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(self.width - INDENT);
        if self.colours {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table
            .set_header(headings.iter().map(|text| Cell::new(text).add_attribute(Attribute::Bold)));
        for column in table.column_iter_mut() {
            column.set_padding((0, 1));
        }
        for column in numbers {
            if let Some(column) = table.column_mut(*column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    /// Prints a table, set in a little.
    pub fn show(table: &Table) {
        for line in table.lines() {
            println!("  {}", line.trim_end());
        }
    }

    /// A cell that says yes in green or no in red.
    pub fn verdict_cell(good: bool, yes: &str, no: &str) -> Cell {
        if good { Cell::new(yes).fg(Color::Green) } else { Cell::new(no).fg(Color::Red) }
    }

    /// A line of bars, one a value, as high as its share of the largest.
    pub fn sparkline(self, values: &[u64]) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let largest = values.iter().copied().max().unwrap_or(0).max(1);
        let bars = values.iter().map(|value| BARS[(value * 7).div_ceil(largest) as usize]);
        self.paint("36", &bars.collect::<String>())
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
