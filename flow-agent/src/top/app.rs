//! What is on the screen: keys and looks enter, the rows to draw leave. It knows no terminal.

use std::path::PathBuf;
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::TopOptions;
use super::column::Column;
use super::export::{self, Format};
use super::filter::Filter;
use super::history::{History, Row};
use super::watch::News;

/// The longest filter, in characters.
const MAX_FILTER: usize = 200;

/// What lies over the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// Nothing.
    None,
    /// The keys.
    Help,
    /// All of the flow that is chosen.
    Detail,
}

/// What to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    Stay,
    /// End.
    Quit,
}

/// The state.
#[derive(Debug)]
pub struct App {
    /// Who is asked.
    pub agent: String,
    /// What was looked at.
    pub history: History,
    /// Why the last look failed.
    pub away: Option<String>,
    /// Sorted by this.
    pub sort: Column,
    /// Against its natural order.
    pub descending: bool,
    /// What was typed of a filter.
    pub filter: String,
    /// Keys go to the filter.
    pub typing: bool,
    /// Looks are not shown.
    pub paused: bool,
    /// Position of the chosen flow in [`App::rows`].
    pub chosen: usize,
    /// What lies over the table.
    pub overlay: Overlay,
    /// What was done last.
    pub notice: Option<String>,
    /// What is shown, sorted and filtered.
    pub rows: Vec<Row>,
    /// Rows that fit on a page.
    pub page: usize,
    interval: Duration,
    export_dir: PathBuf,
}

impl App {
    /// Nothing looked at yet.
    pub fn new(options: &TopOptions) -> Self {
        Self {
            agent: options.client.address().to_string(),
            history: History::default(),
            away: None,
            sort: options.sort,
            descending: options.sort.is_number(),
            filter: options.filter.clone(),
            typing: false,
            paused: false,
            chosen: 0,
            overlay: Overlay::None,
            notice: None,
            rows: Vec::new(),
            page: 10,
            interval: options.interval,
            export_dir: options.export_dir.clone(),
        }
    }

    /// Takes a look; while it is paused the screen stays as it is.
    pub fn take(&mut self, news: News) {
        if self.paused {
            return;
        }
        match news {
            Ok(look) => {
                self.away = None;
                self.history.add(look);
                self.refresh();
            }
            Err(error) => {
                let again = self.interval.as_secs_f64();
                self.away = Some(format!("{error} (asked again every {again} s)"));
            }
        }
    }

    /// Filters and sorts anew; the chosen flow stays chosen while it is there.
    fn refresh(&mut self) {
        let chosen = self.rows.get(self.chosen).map(|row| identity(row).to_owned());
        let filter = Filter::parse(&self.filter);
        let mut rows = self.history.rows();
        rows.retain(|row| filter.matches(&row.flow));
        let sort = self.sort;
        rows.sort_by(|a, b| {
            let order = sort.compare(a, b);
            let order = if self.descending { order.reverse() } else { order };
            // What is equal keeps its place from look to look.
            order.then_with(|| identity(a).cmp(&identity(b)))
        });
        self.rows = rows;
        let found =
            chosen.and_then(|chosen| self.rows.iter().position(|row| identity(row) == chosen));
        if self.overlay == Overlay::Detail && found.is_none() {
            self.overlay = Overlay::None;
            self.notice = Some("the flow has ended: it is on its way to the store".into());
        }
        self.chosen = found.unwrap_or(self.chosen).min(self.rows.len().saturating_sub(1));
    }

    /// Acts on a key; `now` is Unix time, for the names of exports.
    pub fn key(&mut self, key: KeyEvent, now: jiff::Timestamp) -> Next {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => Next::Quit,
                KeyCode::Char('u') if self.typing => self.refilter(String::clear),
                _ => Next::Stay,
            };
        }
        self.notice = None;
        if self.typing {
            return self.key_of_filter(key.code);
        }
        if self.overlay != Overlay::None {
            let closes = [KeyCode::Esc, KeyCode::Enter, KeyCode::Char('q'), KeyCode::Char('?')];
            if closes.contains(&key.code) {
                self.overlay = Overlay::None;
                return Next::Stay;
            }
        }
        match key.code {
            KeyCode::Char('q') => return Next::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.overlay = Overlay::Help,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Esc => return self.refilter(String::clear),
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('r') => self.resort(self.sort, !self.descending),
            KeyCode::Left | KeyCode::Char('<') => self.sort_by(self.sort.previous()),
            KeyCode::Right | KeyCode::Char('>') => self.sort_by(self.sort.next()),
            KeyCode::Char(digit @ '0'..='9') => {
                let position = (digit as usize - '0' as usize + 9) % 10;
                self.sort_by(Column::ALL[position]);
            }
            KeyCode::Char('e') => self.export(Format::Csv, now),
            KeyCode::Char('E') => self.export(Format::Json, now),
            KeyCode::Enter if !self.rows.is_empty() => self.overlay = Overlay::Detail,
            code => self.choose(code),
        }
        Next::Stay
    }

    fn choose(&mut self, code: KeyCode) {
        let last = self.rows.len().saturating_sub(1);
        self.chosen = match code {
            KeyCode::Up | KeyCode::Char('k') => self.chosen.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => (self.chosen + 1).min(last),
            KeyCode::PageUp => self.chosen.saturating_sub(self.page),
            KeyCode::PageDown => (self.chosen + self.page).min(last),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => last,
            _ => self.chosen,
        };
    }

    fn key_of_filter(&mut self, code: KeyCode) -> Next {
        match code {
            KeyCode::Esc => {
                self.typing = false;
                return self.refilter(String::clear);
            }
            KeyCode::Enter => self.typing = false,
            KeyCode::Backspace => {
                return self.refilter(|filter| {
                    filter.pop();
                });
            }
            KeyCode::Char(typed) if self.filter.chars().count() < MAX_FILTER => {
                return self.refilter(|filter| filter.push(typed));
            }
            code => self.choose(code),
        }
        Next::Stay
    }

    fn refilter(&mut self, change: impl FnOnce(&mut String)) -> Next {
        change(&mut self.filter);
        self.refresh();
        Next::Stay
    }

    fn sort_by(&mut self, column: Column) {
        let again = column == self.sort;
        self.resort(column, if again { !self.descending } else { column.is_number() });
    }

    fn resort(&mut self, column: Column, descending: bool) {
        (self.sort, self.descending) = (column, descending);
        self.refresh();
        self.chosen = 0;
    }

    fn export(&mut self, format: Format, now: jiff::Timestamp) {
        let rows = self.rows.len();
        self.notice = Some(match export::save(&self.export_dir, format, &self.rows, now) {
            Ok(path) => format!("{rows} flows are in {}", path.display()),
            Err((path, error)) => format!("{} cannot be written: {error}", path.display()),
        });
    }
}

/// What makes a flow the same one in two looks.
fn identity(row: &Row) -> (String, String, u16, u16, u8, String, String) {
    let flow = &row.flow;
    let (src, dst) = (flow.src_ip.clone(), flow.dst_ip.clone());
    let place = (flow.interface.clone(), flow.direction.clone());
    (src, dst, flow.src_port, flow.dst_port, flow.protocol, place.0, place.1)
}

#[cfg(test)]
#[path = "app_tests.rs"]
mod tests;
