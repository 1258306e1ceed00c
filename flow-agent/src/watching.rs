//! The commands `top`, `report` and `plan`: arguments enter, what they say is printed.

use std::path::Path;

use flow_agent::Error;
use flow_agent::plan::{Load, Plan};
use flow_agent::report::{Format, Report, Window};
use flow_agent::sink::SinkError;
use flow_agent::target::{Opening, Store};
use jiff::Timestamp;

use crate::cli::{PlanArgs, ReportArgs};
use crate::query::FileOutput;
use crate::standard_output::StandardOutput;

fn print(text: &str) -> Result<(), Error> {
    let mut out = StandardOutput::default();
    out.write(text.as_bytes());
    out.finish()
}

/// `flow-agent top`.
#[cfg(feature = "live")]
pub fn top(args: crate::cli::TopArgs) -> Result<(), Error> {
    use flow_agent::top;

    let options = top::TopOptions {
        client: crate::ask::client(&args.agent)?,
        interval: args.interval,
        limit: args.limit.into(),
        sort: args.sort,
        filter: args.filter,
        export_dir: args.export_dir,
    };
    match (args.once, args.json) {
        (true, true) => print(&format!("{:#}\n", top::once_json(&options)?)),
        (true, false) => print(&top::once(&options)?),
        (false, _) => top::run(&options),
    }
}

/// `flow-agent report`.
pub fn report(args: ReportArgs) -> Result<(), Error> {
    let usage = |problem: String| SinkError::BadQuestion { problem };
    let now = Timestamp::now();
    let window = match (args.from, args.last) {
        (Some(from), _) => Window::between(from, args.to.unwrap_or(now)).map_err(usage)?,
        (None, Some(span)) => Window::last(span, now),
        (None, None) => Window::last("1h".parse().map_err(usage)?, now),
    };
    let format = format(args.format, args.output.as_deref()).map_err(usage)?;
    if format == Format::Svg && args.kind != flow_agent::report::Kind::Bandwidth {
        let problem = "there is a picture of bandwidth only: choose table, json, csv or html";
        return Err(usage(problem.into()).into());
    }
    let file = args.output.map(FileOutput::new).transpose()?;
    let opening = Opening { access: args.access.config(), ..Opening::default() };
    let store = Store::connect(&args.store, &opening)?;
    let report = Report::ask(&store, args.kind, window, args.limit);
    let closed = store.close();
    let text = report?.write(format).map_err(usage)?;
    closed?;
    match file {
        None => print(&text),
        Some(mut file) => {
            file.write(text.as_bytes());
            file.finish()
        }
    }
}

/// As typed, as the file's name says, or a table.
fn format(typed: Option<Format>, output: Option<&Path>) -> Result<Format, String> {
    let (None, Some(path)) = (typed, output) else { return Ok(typed.unwrap_or(Format::Table)) };
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.and_then(Format::by_name).ok_or_else(|| {
        format!(
            "the name of {} does not say its format: end it with .txt, .json, .csv, .html or \
             .svg, or add --format",
            path.display()
        )
    })
}

/// `flow-agent plan`.
pub fn plan(args: &PlanArgs) -> Result<(), Error> {
    let flows_days = args.retention_days;
    let plan = Plan::new(Load {
        hosts: args.hosts,
        packets_per_second: args.packets_per_second,
        flows_per_second: args.flows_per_second,
        open_flows: args.open_flows,
        flows_days,
        flows_1m_days: args.retention_1m_days.max(flows_days),
        flows_1h_days: args.retention_1h_days.max(flows_days),
        replicas: args.replicas,
        batch_age_ms: args.batch_age_ms,
        idle_timeout_s: args.idle_timeout,
    });
    if !args.json {
        return print(&plan.text());
    }
    let json = serde_json::to_value(&plan)
        .map_or_else(|error| error.to_string(), |value| format!("{value:#}"));
    print(&(json + "\n"))
}
