//! Arguments of `query`.

use std::path::PathBuf;

use clap::Args;
use flow_agent::sink::StoreTarget;

use super::AccessArgs;

/// Arguments of `flow-agent query`.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// The store: embedded:DIR or http[s]://HOST[:PORT][/DATABASE], replicas with commas
    #[arg(long, value_name = "STORE", default_value = "http://127.0.0.1:8123")]
    pub store: StoreTarget,
    /// How the store is reached
    #[command(flatten)]
    pub access: AccessArgs,
    /// table, json, jsonl, csv, tsv, parquet, or any of ClickHouse's formats
    /// [default: as the name of --output says; table on a terminal, else tsv
    /// without names]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Write the answer to this file; it is there whole or not at all
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// A value for {NAME:Type} in the question, may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parameter)]
    pub param: Vec<(String, String)>,
    /// The question; - reads it from the standard input
    #[arg(value_name = "SQL")]
    pub sql: String,
}

fn parameter(text: &str) -> Result<(String, String), &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && name.chars().all(plain) => {
            Ok((name.into(), value.into()))
        }
        _ => Err("write NAME=VALUE; NAME has letters, digits and '_'"),
    }
}
