//! What a check has found: a line for a person, an object for a program.

use std::fmt::Write;

use serde::Serialize;

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing to do.
    Ok,
    /// It works, but something is lost, slow or risky.
    Warn,
    /// The agent does not start, or does not do its work.
    Fail,
}

impl Verdict {
    /// The word in the text.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at; the same in every version.
    pub check: &'static str,
    /// Of which interface, folder or server; none for the host.
    pub subject: Option<String>,
    /// How good it is.
    pub verdict: Verdict,
    /// What was found, one sentence.
    pub found: String,
    /// What to do; always there unless all is well.
    pub fix: Option<String>,
}

impl Finding {
    /// Nothing to do.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, subject: None, verdict: Verdict::Ok, found: found.into(), fix: None }
    }

    /// It works, but.
    pub fn warn(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, fix: Some(fix.into()), ..Self::ok(check, found) }
    }

    /// It does not work.
    pub fn fail(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, fix: Some(fix.into()), ..Self::ok(check, found) }
    }

    /// Of something.
    #[must_use]
    pub fn of(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }
}

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Of this agent.
    pub version: &'static str,
    /// The worst of all.
    pub verdict: Verdict,
    /// How many of the findings are so.
    pub warnings: usize,
    /// And so.
    pub failures: usize,
    /// In the order in which an agent would come upon them.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Sums up.
    pub fn new(findings: Vec<Finding>) -> Self {
        let count = |verdict| findings.iter().filter(|it| it.verdict == verdict).count();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            verdict: findings.iter().map(|it| it.verdict).max().unwrap_or(Verdict::Ok),
            warnings: count(Verdict::Warn),
            failures: count(Verdict::Fail),
            findings,
        }
    }

    /// Aligned lines: `ok|warn|fail  what  - found  - fix`; `colours` only for a terminal.
    pub fn text(&self, colours: bool) -> String {
        let name = |it: &Finding| match &it.subject {
            Some(subject) => format!("{} {subject}", it.check),
            None => it.check.to_owned(),
        };
        let width = self.findings.iter().map(|it| name(it).chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for it in &self.findings {
            let label = it.verdict.label();
            let verdict = match (colours, it.verdict) {
                (false, _) => format!("{label:4}"),
                (true, Verdict::Ok) => format!("\x1b[32m{label:4}\x1b[0m"),
                (true, Verdict::Warn) => format!("\x1b[33m{label:4}\x1b[0m"),
                (true, Verdict::Fail) => format!("\x1b[31;1m{label:4}\x1b[0m"),
            };
            // Writing to a text cannot fail.
            let _ = write!(text, "{verdict}  {:width$}  - {}", name(it), it.found);
            if let Some(fix) = &it.fix {
                let _ = write!(text, "  - {fix}");
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_aligned_and_the_worst_decides() {
        let report = Report::new(vec![
            Finding::ok("kernel", "6.18"),
            Finding::warn("mtu", "9000", "lower it").of("eth0"),
        ]);
        assert_eq!(
            report.text(false),
            "ok    kernel    - 6.18\nwarn  mtu eth0  - 9000  - lower it\n"
        );
        assert_eq!((report.verdict, report.warnings, report.failures), (Verdict::Warn, 1, 0));
        assert!(report.text(true).contains("\x1b[33mwarn\x1b[0m  mtu eth0"));
        assert_eq!(Report::new(Vec::new()).verdict, Verdict::Ok);
    }
}
