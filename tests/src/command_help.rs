//! What the program says of its commands: a command line enters, what is wrong with it leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::bin_path::flow_agent;
use crate::documents::words;

/// The help of commands, asked once each.
#[derive(Debug, Default)]
pub struct Help(BTreeMap<Vec<String>, String>);

impl Help {
    fn of(&mut self, path: &[String]) -> Result<&str> {
        if !self.0.contains_key(path) {
            let output = Command::new(flow_agent()).args(path).arg("--help").output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(output.status.success(), "{path:?} --help: {}", output.status);
            self.0.insert(path.to_owned(), text);
        }
        self.0.get(path).map(String::as_str).context("just asked")
    }

    /// Commands below this one.
    fn below(&mut self, path: &[String]) -> Result<BTreeSet<String>> {
        let text = self.of(path)?;
        let Some((_, list)) = text.split_once("Commands:\n") else { return Ok(BTreeSet::new()) };
        let (list, _) = list.split_once("\n\n").unwrap_or((list, ""));
        let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        Ok(names.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect())
    }

    /// What the first argument may be; empty for anything.
    fn positional(&mut self, path: &[String]) -> Result<BTreeSet<String>> {
        let text = self.of(path)?;
        let Some((_, list)) = text.split_once("Arguments:\n") else { return Ok(BTreeSet::new()) };
        let (list, _) = list.split_once("Options:\n").unwrap_or((list, ""));
        let values = list.lines().filter_map(|line| line.trim().strip_prefix("- "));
        Ok(values.filter_map(|it| it.split(':').next().map(str::to_owned)).collect())
    }

    fn flags(&mut self, path: &[String]) -> Result<BTreeSet<String>> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let text = self.of(path)?;
        let names = text.split(|c: char| !is_name(c)).filter(|word| word.starts_with("--"));
        Ok(names.map(str::to_owned).collect())
    }

    /// What is wrong with a command; `a|b` are both meant, and brackets may be left out.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn wrong(&mut self, line: &str) -> Result<Option<String>> {
        let bare = line.replace(['[', ']'], " ").replace("...", " ");
        let words = words(&bare);
        let (mut path, mut at) = (Vec::new(), 1);
        loop {
            let below = self.below(&path)?;
            let Some(word) = words.get(at).filter(|word| !word.starts_with('-')) else { break };
            if below.is_empty() {
                break;
            }
            let names: Vec<_> = word.split('|').collect();
            for name in &names {
                // Some are hidden, and there all the same.
                let hidden = [&path[..], &[(*name).to_owned()]].concat();
                if !below.contains(*name) && self.of(&hidden).is_err() {
                    return Ok(Some(format!("{path:?} has no {name:?}, but {below:?}")));
                }
            }
            path.push(names[0].to_owned());
            at += 1;
        }
        let known = self.positional(&path)?;
        if let Some(word) = words.get(at).filter(|word| !word.starts_with('-') && !known.is_empty())
        {
            let mut names = word.split('|').filter(|name| name.chars().any(char::is_lowercase));
            if let Some(name) = names.find(|name| !known.contains(*name)) {
                return Ok(Some(format!("{path:?} does not take {name:?}, but {known:?}")));
            }
        }
        let flags = self.flags(&path)?;
        let said = words.iter().filter(|word| word.starts_with("--"));
        let mut said = said.map(|word| word.split('=').next().unwrap_or_default());
        let unknown = said.find(|flag| !flags.contains(*flag));
        Ok(unknown.map(|flag| format!("{path:?} has no {flag}, but {flags:?}")))
    }
}
