//! The command line of `flow-agent schema`.

use clap::{Args, Subcommand};
use flow_agent::schema::{Retention, Schema};
use flow_agent::sink::StoreTarget;
use flow_agent::target::Opening;

use super::AccessArgs;

/// `flow-agent schema ...`.
#[derive(Debug, Subcommand)]
pub enum SchemaCommand {
    /// Print the statements, for people who apply them themselves
    Print {
        /// The database that people query
        #[arg(long, value_name = "NAME", default_value = "flow", value_parser = identifier)]
        database: String,
        /// What the tables are to be like
        #[command(flatten)]
        shape: ShapeArgs,
    },
    /// Bring the tables of a store up to date
    Apply {
        /// The store: embedded:DIR or http[s]://HOST[:PORT][/DATABASE], replicas with commas
        #[arg(long, value_name = "STORE", default_value = "http://127.0.0.1:8123")]
        store: StoreTarget,
        /// How the store is reached
        #[command(flatten)]
        access: AccessArgs,
        /// What the tables are to be like
        #[command(flatten)]
        shape: ShapeArgs,
    },
    /// Name every difference between the tables of a store and those that this agent knows; exit
    /// code 1 if there is one
    Verify {
        /// The store: embedded:DIR or http[s]://HOST[:PORT][/DATABASE], replicas with commas
        #[arg(long, value_name = "STORE", default_value = "http://127.0.0.1:8123")]
        store: StoreTarget,
        /// How the store is reached
        #[command(flatten)]
        access: AccessArgs,
        /// What the tables are to be like
        #[command(flatten)]
        shape: ShapeArgs,
    },
}

/// What the tables are to be like.
#[derive(Debug, Args)]
pub struct ShapeArgs {
    /// Replicated tables on this cluster in a database of their own, and tables over all its shards
    #[arg(long, value_name = "NAME", value_parser = identifier)]
    pub cluster: Option<String>,
    /// Days that rows of flows are kept [default: 15]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(2..=3650))]
    pub flows_days: Option<u32>,
    /// Days that rows by the minute are kept, at least as many [default: 90]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(2..=3650))]
    pub flows_1m_days: Option<u32>,
    /// Days that rows by the hour are kept, at least as many [default: 400]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(2..=3650))]
    pub flows_1h_days: Option<u32>,
}

impl ShapeArgs {
    /// The schema in this shape.
    pub fn of(&self, schema: Schema) -> Schema {
        let schema = match &self.cluster {
            Some(name) => schema.on_cluster(name),
            None => schema,
        };
        match self.retention() {
            Some(retention) => schema.keeping(retention),
            None => schema,
        }
    }

    /// How a store with tables in this shape is opened.
    pub fn opening(&self, access: AccessArgs) -> Opening<'_> {
        let (retention, cluster) = (self.retention(), self.cluster.as_deref());
        Opening { access: access.config(), retention, cluster, ..Opening::default() }
    }

    /// What was said of it, with defaults for the rest.
    fn retention(&self) -> Option<Retention> {
        if [self.flows_days, self.flows_1m_days, self.flows_1h_days] == [None; 3] {
            return None;
        }
        let defaults = Retention::default();
        let flows_days = self.flows_days.unwrap_or(defaults.flows_days);
        let longer = |said: Option<u32>, default: u32| said.unwrap_or(default).max(flows_days);
        Some(Retention {
            flows_days,
            flows_1m_days: longer(self.flows_1m_days, defaults.flows_1m_days),
            flows_1h_days: longer(self.flows_1h_days, defaults.flows_1h_days),
        })
    }
}

fn identifier(text: &str) -> Result<String, &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if text.is_empty() || !text.chars().all(plain) {
        return Err("it may have letters, digits, '_' and '-' only");
    }
    Ok(text.into())
}
