//! `flow-agent check`: would an agent with this configuration work on this host?
//!
//! Enters: a configuration. Leaves: a [`Report`], a line for everything that an agent depends
//! on. It holds that nothing is changed and nothing is left behind: programs are loaded
//! privately and never attached, folders are only looked at, the store is only asked.

mod clock;
mod disk;
mod finding;
mod host;
mod interfaces;
mod kernel_side;
mod privileges;
mod programs;
mod store;

pub use finding::{Finding, Report, Verdict};

use crate::attach::{Interface, Missing, Scan, Scanner};
use crate::config::Config;

/// Checks everything that `config` needs.
pub fn check(config: &Config) -> Report {
    let before = clock::sample();
    let mut findings = host::kernel();
    let (found, missing) = look(config);
    let elsewhere = config.selection.include.iter().any(|spec| !spec.is_in_own_namespace());
    let privileges = privileges::check(elsewhere);
    let may_load = privileges.iter().all(|it| it.verdict != Verdict::Fail);
    findings.extend(privileges);
    findings.extend(host::limits(config));
    findings.push(kernel_side::check(config, may_load));
    findings.extend(missing);
    for interface in &found {
        findings.extend(interfaces::check(interface));
    }
    findings.extend(disk::check(config));
    let (store, skew) = store::check(config);
    findings.extend(store);
    findings.extend(clock::check(before, clock::sample()));
    findings.extend(skew);
    Report::new(findings)
}

/// The interfaces that would be metered, and what is wrong with those that would not.
fn look(config: &Config) -> (Vec<Interface>, Vec<Finding>) {
    const CHECK: &str = "interfaces";
    let fix = "name one that is there: `interfaces` in the configuration or --interface";
    match Scanner::once(config.selection.clone()).scan() {
        Err(error) => (Vec::new(), vec![Finding::fail(CHECK, error.to_string(), fix)]),
        Ok(Scan { found, missing }) => {
            let finding = |Missing { exact, error }| {
                if exact {
                    Finding::fail(CHECK, error.to_string(), fix)
                } else {
                    Finding::warn(CHECK, format!("{error}; what comes later is metered"), fix)
                }
            };
            let mut findings: Vec<_> = missing.into_iter().map(finding).collect();
            if findings.is_empty() {
                let names: Vec<_> = found.iter().map(ToString::to_string).collect();
                findings.push(Finding::ok(CHECK, format!("to be metered: {}", names.join(", "))));
            }
            (found, findings)
        }
    }
}
