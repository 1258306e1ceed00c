//! `flow-agent config`: what can be configured, what is wrong with a file, what is in force.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use flow_agent::Error;
use flow_agent::config::{Given, Source, commented, json_schema, markdown};
use toml::Value;

use super::RunArgs;
use crate::standard_output::StandardOutput;

/// The commands about the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Write every key with what it does and its default, as a file to begin with
    Print(Box<PrintArgs>),
    /// Say everything that is wrong with a file: line, key, what is allowed
    Check {
        /// The file (TOML)
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Do not look whether the files that it names are there: they are on another host
        #[arg(long)]
        elsewhere: bool,
    },
    /// Write the JSON Schema (draft 2020-12) of the file, for editors
    Schema,
    /// Write the reference of the manual
    #[command(hide = true)]
    Reference,
}

/// Arguments of `flow-agent config print`; of those of `run` all count that say something.
#[derive(Debug, Args)]
pub struct PrintArgs {
    /// Write what `run` with the same options would use instead, and where each value comes from
    /// (default, profile, file and line, variable, option); --config alone means it, too
    #[arg(long)]
    pub effective: bool,
    /// What would be given to `run`
    #[command(flatten)]
    pub run: RunArgs,
}

/// Carries out one of them.
pub fn run(command: ConfigCommand) -> Result<(), Error> {
    let text = match command {
        ConfigCommand::Print(args) => print(*args)?,
        ConfigCommand::Check { file, elsewhere } => {
            let name = file.display().to_string();
            let loaded = Source::here(Some(file), Vec::new()).load()?;
            if !elsewhere {
                loaded.check_files()?;
            }
            for warning in &loaded.config.warnings {
                crate::say(&format_args!("flow-agent: warning: {warning}"));
            }
            let default = loaded.effective.entries.iter();
            let said = default.filter(|entry| !entry.origin.starts_with("default")).count();
            format!("{name} is good: {said} keys are not the default\n")
        }
        ConfigCommand::Schema => format!("{:#}\n", json_schema()),
        ConfigCommand::Reference => markdown(),
    };
    let mut out = StandardOutput::default();
    out.write(text.as_bytes());
    out.finish()
}

fn print(args: PrintArgs) -> Result<String, Error> {
    let profile = args.run.profile.clone();
    let asked = args.effective || args.run.config.is_some();
    let source = args.run.source();
    if asked {
        return Ok(source.load()?.effective.toml());
    }
    // Its name is checked, too.
    source.load()?;
    Ok(commented(profile.as_deref().unwrap_or("default")))
}

impl RunArgs {
    /// Where the configuration of `run` comes from.
    pub fn source(self) -> Source {
        let list = |typed: Vec<String>| (!typed.is_empty()).then_some(typed);
        let file = self.config;
        let given = [
            Given::typed("--profile", "profile", self.profile),
            Given::typed("--interface", "interfaces", list(self.interface)),
            Given::typed("--exclude-interface", "exclude_interfaces", list(self.exclude_interface)),
            Given::typed("--attach", "attach", self.attach),
            Given::typed("--store", "store", list(self.store)),
            Given::typed("--exporter", "exporter", self.exporter),
            Given::typed("--decapsulate", "decapsulate", self.decapsulate.then_some(true)),
            Given::typed("--pin-dir", "pin_dir", self.pin_dir),
            Given::typed("--drain-interval", "drain_interval_ms", self.drain_interval),
            Given::typed("--idle-timeout", "idle_timeout_s", self.idle_timeout),
            Given::typed("--active-timeout", "active_timeout_s", self.active_timeout),
            Given::typed("--status", "status.listen", self.status),
            Given::typed("--state-file", "state.file", self.state_file),
            Given::typed("--spool-dir", "spool.dir", self.spool_dir),
        ];
        let typed: Vec<_> = given.into_iter().flatten().chain(self.access.given()).collect();
        Source::here(file, typed)
    }
}

/// Kept here beside the other options of the store.
impl super::AccessArgs {
    /// The same as keys of the configuration, which they override.
    fn given(self) -> impl Iterator<Item = Given> {
        let password = self.password_file.map(|file| Value::from(file.to_string()));
        let codec = self.compression.map(|codec| codec.label().to_owned());
        [
            Given::typed("--user", "delivery.user", self.user),
            Given::typed("--password-file", "delivery.password_file", password),
            Given::typed("--ca-file", "delivery.ca_file", self.ca_file),
            Given::typed("--client-cert", "delivery.client_cert_file", self.client_cert),
            Given::typed("--client-key", "delivery.client_key_file", self.client_key),
            Given::typed("--compression", "delivery.compression", codec),
        ]
        .into_iter()
        .flatten()
    }
}
