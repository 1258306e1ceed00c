//! `flow-agent check`: arguments enter, lines or an object are printed, the exit code says the
//! worst of them.

use std::io::IsTerminal;

use flow_agent::Error;
use flow_agent::check;
use flow_agent::config::{Given, Source};

use crate::cli::CheckArgs;
use crate::standard_output::StandardOutput;

/// Checks and prints.
pub fn check(args: CheckArgs) -> Result<(), Error> {
    let list = |typed: Vec<String>| (!typed.is_empty()).then_some(typed);
    let typed = [
        Given::typed("--interface", "interfaces", list(args.interface)),
        Given::typed("--store", "store", list(args.store)),
        Given::typed("--spool-dir", "spool.dir", args.spool_dir),
    ];
    let source = Source::here(args.config, typed.into_iter().flatten().collect());
    let report = check::check(&source.load()?.config);
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let text = if args.json {
        let object = serde_json::to_string_pretty(&report);
        object.map_or_else(|error| error.to_string(), |text| text + "\n")
    } else {
        report.text(colours)
    };
    let mut out = StandardOutput::default();
    out.write(text.as_bytes());
    out.finish()?;
    match (report.failures, report.warnings) {
        (0, 0) => Ok(()),
        (failures, warnings) => Err(Error::Checked { failures, warnings }),
    }
}
