//! Figures: what was measured, how it spread and by which command; as JSON and as a table.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::machine::Machine;

/// One measured thing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The stage that it belongs to.
    pub stage: String,
    /// What was measured, and under which circumstances.
    pub what: String,
    /// Flows, where they matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flows: Option<u32>,
    /// The median.
    pub median: f64,
    /// The smallest run.
    pub min: f64,
    /// The largest run.
    pub max: f64,
    /// How many runs.
    pub runs: u32,
    /// Of the three.
    pub unit: String,
    /// What the project aims at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<String>,
    /// What measured it.
    pub command: String,
    /// Where and when it was measured; known when it is kept.
    pub machine: Machine,
}

impl Figure {
    /// A figure of runs that were made here.
    pub fn of_runs(stage: &str, what: &str, unit: &str, runs: &[f64], command: &str) -> Self {
        let mut sorted: Vec<f64> = runs.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
        Self {
            stage: stage.to_owned(),
            what: what.to_owned(),
            median: at(sorted.len() / 2),
            min: at(0),
            max: at(sorted.len().wrapping_sub(1)),
            runs: sorted.len() as u32,
            unit: unit.to_owned(),
            command: command.to_owned(),
            ..Self::default()
        }
    }

    /// The same with what the project aims at.
    pub fn with_goal(self, goal: &str) -> Self {
        Self { goal: Some(goal.to_owned()), ..self }
    }

    /// For people.
    pub fn line(&self) -> String {
        let flows = self.flows.map_or(String::new(), |flows| format!("{flows} flows"));
        format!(
            "{:<12} {:<44} {flows:<14} {:>10} {:<22} ({} to {}, {} runs)",
            self.stage,
            self.what,
            short(self.median),
            self.unit,
            short(self.min),
            short(self.max),
            self.runs
        )
    }

    /// True if both are of the same thing, and so the newer one replaces the older one.
    fn same_as(&self, other: &Self) -> bool {
        (&self.stage, &self.what, self.flows) == (&other.stage, &other.what, other.flows)
    }
}

/// Everything that is known.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// By stage.
    pub figures: Vec<Figure>,
}

impl Results {
    /// What a file holds; nothing if there is none.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| {
            format!("{} holds no figures: remove it, or name another --output", path.display())
        })
    }

    /// Writes all of it.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_whole(path, &serde_json::to_string_pretty(self)?)
    }

    /// Adds figures from a machine in the place of older ones of the same things.
    pub fn replace(&mut self, found: Vec<Figure>, machine: &Machine) {
        self.figures.retain(|old| !found.iter().any(|new| new.same_as(old)));
        let kept = found.into_iter().map(|figure| Figure { machine: machine.clone(), ..figure });
        self.figures.extend(kept);
        let place = |figure: &Figure| STAGES.iter().position(|stage| *stage == figure.stage);
        // Stable: in a stage they stay in the order in which they were measured.
        self.figures.sort_by_key(place);
    }

    /// Where it was measured: a line for each machine and program, with its stages.
    fn machines(&self) -> String {
        let mut all: Vec<(&Machine, Vec<&str>)> = Vec::new();
        for figure in &self.figures {
            let known = all.iter().position(|(machine, _)| **machine == figure.machine);
            let at = known.unwrap_or_else(|| {
                all.push((&figure.machine, Vec::new()));
                all.len() - 1
            });
            let stages = &mut all[at].1;
            if !stages.contains(&figure.stage.as_str()) {
                stages.push(&figure.stage);
            }
        }
        let line = |(machine, stages): &(&Machine, Vec<&str>)| {
            format!("- {}: {}\n", stages.join(", "), machine.line())
        };
        all.iter().map(line).collect()
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = self.machines();
        for figure in &self.figures {
            let _ = write!(text, "\n{}", figure.line());
            if let Some(goal) = &figure.goal {
                let _ = write!(text, "; goal: {goal}");
            }
        }
        text
    }

    /// For the documents.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n", self.machines());
        text += "| stage | what | flows | median | least to most (runs) | goal |\n";
        text += "|---|---|---|---|---|---|\n";
        for figure in &self.figures {
            let flows = figure.flows.map_or(String::new(), |flows| flows.to_string());
            let _ = writeln!(
                text,
                "| {} | {} | {flows} | **{}** {} | {} to {} ({}) | {} |",
                figure.stage,
                figure.what,
                short(figure.median),
                figure.unit,
                short(figure.min),
                short(figure.max),
                figure.runs,
                figure.goal.as_deref().unwrap_or_default()
            );
        }
        text
    }
}

/// The order of the stages in tables.
const STAGES: [&str; 9] =
    ["kernel", "peers", "live", "drain", "cache", "cache-peers", "insert", "replay", "pipeline"];

/// Writes a file that is there whole or not at all.
pub fn write_whole(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("a file is in a folder")?;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let new = path.with_extension("new");
    std::fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
    std::fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
}

/// As many digits as a measurement has.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.2} M", value / 1e6),
        size if size >= 1e4 => format!("{:.1} k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_figure_takes_the_place_of_the_older_one() {
        let figure = |what, runs: &[f64]| Figure::of_runs("drain", what, "ns", runs, "bench");
        let on = |commit: &str| Machine { commit: commit.into(), ..Machine::default() };
        let mut results = Results::default();
        results.replace(vec![figure("a", &[1.0]), figure("b", &[3.0, 1.0, 2.0])], &on("old"));
        results.replace(vec![figure("a", &[9.0])], &on("new"));
        let medians: Vec<_> =
            results.figures.iter().map(|figure| (figure.what.as_str(), figure.median)).collect();
        assert_eq!(medians, [("b", 2.0), ("a", 9.0)]);
        let b = &results.figures[0];
        assert_eq!((b.min, b.max, b.runs), (1.0, 3.0, 3));
        let machines = results.machines();
        let lines: Vec<_> = machines.lines().collect();
        assert!(lines.len() == 2 && lines[0].contains("(old)") && lines[1].contains("(new)"));
        assert!(lines.iter().all(|line| line.starts_with("- drain: ")), "{machines}");
    }
}
