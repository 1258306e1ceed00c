//! Draws the state: it enters with a frame, cells leave.

use std::fmt::Write as _;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row as Cells, Table, TableState, Wrap};
use serde_json::Value;

use super::app::{App, Overlay};
use super::column::{Column, end};
use super::history::{Row, reasons};
use super::units;

const HELP: &str = "\
1 ... 9, 0       sort by this column; again: the other way round
left, right      sort by the column to the left or right; r: reverse
/                filter as you type; Enter keeps it, Esc clears it
                 words must all match: part of an address, protocol, service,
                 interface or direction; :443 a port; 10.0.0.0/8 a network
up, down, PgUp, PgDn, Home, End    choose a flow
Enter            all of the chosen flow; Esc closes it
p or space       pause: the screen stays as it is
e, E             export what is shown as CSV, as JSON
?                this help
q, Ctrl-C        quit

Flows are those that are open in the cache of the agent, both directions of
each in one row. Rates are over the last looks; '-' until there are two.";

/// The widest a column of names gets, in characters.
const WIDEST: u16 = 28;

/// Draws all of it.
pub fn draw(frame: &mut Frame, app: &mut App) {
    let header = header(app, usize::from(frame.area().width));
    let lines = header.lines.len() as u16;
    let parts = [Constraint::Length(lines), Constraint::Min(3), Constraint::Length(1)];
    let [top, middle, bottom] = Layout::vertical(parts).areas(frame.area());
    frame.render_widget(Paragraph::new(header), top);
    table(frame, app, middle);
    frame.render_widget(Paragraph::new(footer(app)), bottom);
    match app.overlay {
        Overlay::None => {}
        Overlay::Help => over(frame, " help ", Text::raw(HELP)),
        Overlay::Detail => {
            if let Some(row) = app.rows.get(app.chosen) {
                over(frame, " flow ", Text::from(detail(row)));
            }
        }
    }
}

/// Totals and health.
fn header(app: &App, width: usize) -> Text<'static> {
    let mut lines = Vec::new();
    let title = Style::new().add_modifier(Modifier::BOLD);
    let mut first =
        vec![Span::styled("flow-agent", title), Span::raw(format!(" at {}", app.agent))];
    if let Some(look) = app.history.last() {
        let status = look.status();
        first.push(Span::raw(format!(
            "  {} {}, {}, up {}",
            text(&status["exporter"]),
            text(&status["version"]),
            text(&status["phase"]),
            units::duration(number(&status["uptime_s"])),
        )));
    }
    if app.paused {
        first.push(Span::styled(
            "  PAUSED",
            Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD),
        ));
    }
    lines.push(Line::from(first));
    if let Some(away) = &app.away {
        let red = Style::new().fg(Color::Red);
        lines.extend(wrapped(&format!("AWAY: {away}"), width, red));
        if app.history.last().is_some() {
            lines.push(Line::raw("What follows is what it said last."));
        }
    }
    for (line, bad) in facts(app) {
        let style = if bad { Style::new().fg(Color::Red) } else { Style::new() };
        lines.extend(wrapped(&line, width, style));
    }
    Text::from(lines)
}

/// Lines that are no longer than the screen is wide; only words that are longer are cut.
fn wrapped(text: &str, width: usize, style: Style) -> Vec<Line<'static>> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().filter(|line| {
            line.is_empty() || line.chars().count() + 1 + word.chars().count() <= width
        });
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => *line = format!("{line} {word}"),
            None => lines.push(word.to_owned()),
        }
    }
    lines.into_iter().map(|line| Line::styled(line, style)).collect()
}

/// The lines of the header, and whether each is bad news.
pub fn facts(app: &App) -> Vec<(String, bool)> {
    let Some(look) = app.history.last() else { return Vec::new() };
    let (status, total) = (look.status(), look.ledger());
    let rates = app.history.rates().map_or_else(
        || "metered: wait for the second look".to_owned(),
        |rates| {
            let one = |packets: f64, bits: f64| {
                format!("{} packets/s, {} bit/s", units::rate(packets), units::rate(bits))
            };
            let received = one(rates.received_packets, rates.received_bits);
            format!("in {received}; out {}", one(rates.sent_packets, rates.sent_bits))
        },
    );
    let mut lines = vec![(rates, false)];
    let named = |stage: &str| -> Vec<String> {
        let named = |(reason, packets)| format!("{reason} {}", units::short(packets));
        reasons(&total[stage]).map(named).collect()
    };
    let mut losses = [named("lost"), named("undelivered")].concat();
    let unaccounted = total["unaccounted"]["packets"].as_i64().unwrap_or(0);
    if unaccounted != 0 {
        losses.push(format!("unaccounted {unaccounted}"));
    }
    let lost = !losses.is_empty();
    let mut loss = if lost {
        format!("loss, packets since the start: {}", losses.join(", "))
    } else {
        "loss: none".to_owned()
    };
    let left_out = named("not_metered");
    if !left_out.is_empty() {
        let _ = write!(loss, "; not metered: {}", left_out.join(", "));
    }
    lines.push((loss, lost));
    lines.extend([store(status), cache(status), (kernel(status), false)]);
    lines
}

fn store(status: &Value) -> (String, bool) {
    let states: Vec<_> = status["endpoints"].as_array().into_iter().flatten().collect();
    let up = states.iter().filter(|endpoint| endpoint["state"] == "up").count();
    let down = states.iter().find(|endpoint| endpoint["state"] == "down");
    let mut line = format!("store {} of {} up", up, states.len());
    if let Some(error) = down.and_then(|endpoint| endpoint["last_error"].as_str()) {
        line = format!("{line} ({error})");
    }
    let waiting = &status["waiting"];
    let _ = write!(
        line,
        "; waiting {} records in {} batches",
        units::short(number(&waiting["open_records"]) + number(&waiting["batch_records"])),
        number(&waiting["batches"]),
    );
    let spool = &status["spool"];
    let trouble = spool["trouble"].as_str();
    if spool.is_object() {
        let _ = write!(line, "; spool {} on disk", units::memory(number(&spool["disk_bytes"])));
        if let Some(age) = spool["oldest_age_s"].as_u64() {
            let _ = write!(line, ", oldest {}", units::duration(age));
        }
        if let Some(trouble) = trouble {
            let _ = write!(line, ", TROUBLE: {trouble}");
        }
    }
    (line, down.is_some() || trouble.is_some())
}

fn cache(status: &Value) -> (String, bool) {
    let (cache, tables) = (&status["cache"], &status["tables"]);
    let (flows, most) = (number(&cache["flows"]), number(&cache["max_flows"]));
    let line = format!(
        "cache {} of {} flows, {}, hits {:.1} %; kernel tables {:.0} % full",
        units::short(flows),
        units::short(most),
        units::memory(number(&cache["bytes"])),
        cache["hit_ratio"].as_f64().unwrap_or(0.0) * 100.0,
        tables["fill"].as_f64().unwrap_or(0.0) * 100.0,
    );
    (line, most > 0 && flows >= most)
}

/// What the programs cost in the kernel.
fn kernel(status: &Value) -> String {
    let programs = &status["programs"];
    if let Some(switch_on) = programs["switch_on"].as_str() {
        return format!("kernel time not counted: `{switch_on}` does");
    }
    let share = programs["cpu_share"].as_f64().unwrap_or(0.0) * 100.0;
    match programs["ns_per_run"].as_f64() {
        Some(ns) => format!("kernel {ns:.0} ns a packet, {share:.2} % of a CPU"),
        None => "kernel time: no packet yet".to_owned(),
    }
}

fn table(frame: &mut Frame, app: &mut App, area: Rect) {
    let title = |column: Column| {
        let mark = match (column == app.sort, app.descending) {
            (false, _) => "",
            (true, true) => "▼",
            (true, false) => "▲",
        };
        cell(column, format!("{}{mark}", column.title()))
    };
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let titles = Cells::new(Column::ALL.map(title)).style(bold);
    let rows = app
        .rows
        .iter()
        .map(|row| Cells::new(Column::ALL.map(|column| cell(column, column.cell(row)))));
    let widths = Column::ALL.map(|column| match column {
        Column::Source | Column::Destination => Constraint::Min(column.width()),
        // Names are as long as they are, within bounds.
        Column::Service | Column::Interface => {
            let cells = app.rows.iter().map(|row| column.cell(row).chars().count() as u16);
            let longest = cells.max().unwrap_or(0).min(WIDEST);
            Constraint::Length(longest.max(column.width()))
        }
        _ => Constraint::Length(column.width()),
    });
    let shown = app.rows.len();
    let open = app.history.last().map_or(0, |look| look.flows.open);
    let title = format!(" {shown} flows shown of {open} open ");
    let table = Table::new(rows, widths)
        .header(titles)
        .block(Block::bordered().title(title))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected((shown > 0).then_some(app.chosen));
    app.page = usize::from(area.height.saturating_sub(3)).max(1);
    frame.render_stateful_widget(table, area, &mut state);
}

fn cell(column: Column, text: String) -> Cell<'static> {
    let side = if column.is_number() { Alignment::Right } else { Alignment::Left };
    Cell::from(Line::from(text).alignment(side))
}

fn footer(app: &App) -> Line<'static> {
    let dim = Style::new().add_modifier(Modifier::DIM);
    match (&app.notice, app.typing) {
        (Some(notice), _) => Line::raw(notice.clone()),
        (None, true) => Line::raw(format!("filter: {}_", app.filter)),
        (None, false) if app.filter.is_empty() => Line::styled(
            "? help  / filter  <> sort  r reverse  p pause  Enter flow  e export  q quit",
            dim,
        ),
        (None, false) => Line::raw(format!("filter: {} (Esc clears)", app.filter)),
    }
}

/// Every value of a flow.
fn detail(row: &Row) -> Vec<Line<'static>> {
    let flow = &row.flow;
    let rate = row
        .bits_per_second
        .map_or_else(|| "-".into(), |rate| format!("{} bit/s", units::rate(rate)));
    let known = |time: &Option<String>| time.clone().unwrap_or_else(|| "-".into());
    [
        ("source", end(&flow.src_ip, flow.src_port)),
        ("destination", end(&flow.dst_ip, flow.dst_port)),
        ("protocol", format!("{} {}", flow.protocol_name(), flow.service)),
        ("interface", format!("{} {}", flow.interface, flow.direction)),
        ("sent", format!("{} packets, {} octets", flow.packets, flow.bytes)),
        ("answered", format!("{} packets, {} octets", flow.reverse_packets, flow.reverse_bytes)),
        ("rate", rate),
        ("sampling", format!("1 in {}", flow.sampling.unwrap_or(1).max(1))),
        ("first", known(&flow.flow_start)),
        ("last", known(&flow.flow_end)),
    ]
    .into_iter()
    .chain([("ask also", format!("flow-agent explain '{}'", flow.key))])
    .map(|(name, value)| Line::raw(format!("{name:<12} {value}")))
    .collect()
}

/// A box in the middle.
fn over(frame: &mut Frame, title: &'static str, text: Text<'static>) {
    let area = frame.area();
    let width = (text.width() as u16 + 4).min(area.width);
    let height = (text.lines.len() as u16 + 2).min(area.height);
    let x = area.x + (area.width - width) / 2;
    let place = Rect { x, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    let block = Block::bordered().title(title);
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }).block(block), place);
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}
