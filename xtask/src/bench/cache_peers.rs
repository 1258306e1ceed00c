//! The flow cache beside others: `cargo bench -p flow-benches --bench cache`, whose tables are
//! read here.

use anyhow::{Result, ensure};

use super::Run;
use super::results::Figure;
use crate::command;

const COMMAND: &str = "cargo bench -p flow-benches --bench cache -- update";

/// Updates a second of each, of flows that are there.
pub fn measure(run: &Run<'_>) -> Result<Vec<Figure>> {
    let mut cargo = command::cargo();
    cargo.args(["bench", "--package", "flow-benches", "--bench", "cache", "--", "update"]);
    let said = command::quiet(run.tools.apply(&mut cargo))?;
    let figures = figures(&said);
    ensure!(!figures.is_empty(), "{COMMAND} printed no table:\n{said}");
    Ok(figures)
}

/// Rows of the tables: a line with a name and times, and below it one with rates. The columns are
/// fastest, slowest, median, mean, samples, iterations.
fn figures(said: &str) -> Vec<Figure> {
    let mut figures = Vec::new();
    // Names by depth: what is measured, then with how many flows or threads.
    let mut names: Vec<(usize, String)> = Vec::new();
    let mut samples = 0;
    for line in said.lines() {
        let indent = line.chars().take_while(|c| " │├╰─".contains(*c)).count();
        let rest: String = line.chars().skip(indent).collect();
        let columns: Vec<&str> = rest.split('│').map(str::trim).collect();
        if columns.len() < 4 {
            continue;
        }
        if let Some(rates) = rates(&columns) {
            let [fastest, slowest, median] = rates;
            let words: Vec<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
            let flows = words.iter().find_map(|word| word.parse().ok());
            let threads = words.iter().find_map(|word| word.strip_prefix("t="));
            let is_program = |word: &&&str| word.parse::<u32>().is_err() && !word.starts_with("t=");
            let program = words.iter().rfind(is_program).copied().unwrap_or_default();
            let of_threads = threads.map_or(String::new(), |n| format!(", {n} threads"));
            figures.push(Figure {
                stage: "cache-peers".into(),
                what: format!("{}{of_threads}", named(program)),
                flows,
                median,
                min: slowest.min(fastest),
                max: fastest.max(slowest),
                runs: samples,
                unit: "updates a second".into(),
                command: COMMAND.into(),
                ..Figure::default()
            });
            continue;
        }
        let Some(name) = columns[0].split_whitespace().next() else { continue };
        names.retain(|(depth, _)| *depth < indent);
        names.push((indent, name.to_owned()));
        samples = columns.get(4).and_then(|count| count.parse().ok()).unwrap_or(samples);
    }
    figures
}

/// Items a second: fastest, slowest, median. Nothing if the line has times.
fn rates(columns: &[&str]) -> Option<[f64; 3]> {
    let rate = |text: &str| {
        let (value, unit) = text.split_once(' ')?;
        let factor = match unit.trim() {
            "item/s" => 1.0,
            "Kitem/s" => 1e3,
            "Mitem/s" => 1e6,
            "Gitem/s" => 1e9,
            _ => return None,
        };
        Some(value.parse::<f64>().ok()? * factor)
    };
    Some([rate(columns[0])?, rate(columns[1])?, rate(columns[2])?])
}

/// Without the letter that sorts it.
fn named(program: &str) -> &str {
    match program.split_once('_') {
        Some((letter, rest)) if letter.len() == 1 => rest,
        _ => program,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read() {
        let said = "\
cache                           fastest       │ slowest       │ median        │ mean          │ samples │ iters
├─ evict                                      │               │               │               │         │
╰─ update                                     │               │               │               │         │
   ├─ a_shard                                 │               │               │               │         │
   │  ├─ 10000                  18.1 ms       │ 20.2 ms       │ 19.4 ms       │ 19.3 ms       │ 7       │ 7
   │  │                         57.93 Mitem/s │ 51.7 Mitem/s  │ 53.9 Mitem/s  │ 54.2 Mitem/s  │         │
   ╰─ f_moka_get_insert                       │               │               │               │         │
      ╰─ 10000                                │               │               │               │         │
         ╰─ t=2                 600 ms        │ 700 ms        │ 650 ms        │ 650 ms        │ 5       │ 5
                                1.7 Mitem/s   │ 1.5 Mitem/s   │ 1.6 Mitem/s   │ 1.6 Mitem/s   │         │
";
        let found: Vec<_> = figures(said)
            .into_iter()
            .map(|figure| (figure.what, figure.flows, figure.median, figure.runs))
            .collect();
        assert_eq!(
            found,
            [
                ("shard".to_owned(), Some(10_000), 53.9e6, 7),
                ("moka_get_insert, 2 threads".to_owned(), Some(10_000), 1.6e6, 5),
            ]
        );
    }
}
