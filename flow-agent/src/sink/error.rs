//! Why a sink did not take what it was given, and whether another try may help.

use crate::Exit;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message says what each field is")]
pub enum SinkError {
    /// The address cannot be used.
    #[error("{what} '{address}': {problem}; write {forms}")]
    BadAddress { what: &'static str, address: String, problem: String, forms: &'static str },
    /// No answer.
    #[error("the store at {address} cannot be reached: {problem}; is it running there?")]
    Unreachable { address: String, problem: String },
    /// No connection: nothing was sent.
    #[error("the store at {address} cannot be reached: {problem}; is it running there?")]
    NoConnection { address: String, problem: String },
    /// One of both ends does not believe the other; nothing was stored.
    #[error(
        "the store at {address} cannot be trusted over TLS, or does not trust this agent: {problem}"
    )]
    Tls { address: String, problem: String },
    /// Something that is no ClickHouse.
    #[error("something that is not ClickHouse answered at {address}: {problem}")]
    Strange { address: String, problem: String },
    /// The user or the password is wrong; the rows are not.
    #[error(
        "the store at {address} does not let the agent in: {problem}; check user and \
         password_file"
    )]
    Denied { address: String, problem: String },
    /// The password was changed; the next request has the new one.
    #[error("the store at {address} refused the password, and its file has another one now")]
    NewPassword { address: String },
    /// Two servers of one shard do not hold the same.
    #[error(
        "the stores at {other} and {address} are given as replicas of one shard, but share no \
         deduplication log: {problem}; give them as two shards (a list), or make the tables \
         with flow-agent schema apply --cluster"
    )]
    NoReplicas { address: String, other: String, problem: String },
    /// A file of the configuration cannot be used.
    #[error("{what} {path} cannot be used: {problem}")]
    File { what: &'static str, path: String, problem: String },
    /// No answer to an insert.
    #[error("the store has not answered an insert for {seconds} s")]
    Silent { seconds: u64 },
    /// The agent had to stop first.
    #[error("the store did not take them before the agent had to stop")]
    TooLate,
    /// An error answer.
    #[error("the store at {address} refused to {what}: {problem}")]
    Refused { address: String, what: String, problem: String },
    /// The tables were made by a newer agent.
    #[error(
        "the tables at {address} have schema version {found}, this agent knows {known}; \
         use an agent that is as new as the one that made them"
    )]
    NewerSchema { address: String, found: u32, known: u32 },
    /// A cluster's tables are changed by a person.
    #[error(
        "the cluster's tables at {address} have schema version {found}, this agent needs {known}; \
         use `flow-agent schema apply --cluster NAME`"
    )]
    OlderCluster { address: String, found: u32, known: u32 },
    /// A table that forgets inserts.
    #[error(
        "the table {table} at {address} would store a repeated insert twice: {problem}; {remedy}"
    )]
    NoWindow { address: String, table: String, problem: String, remedy: String },
    /// A table over those of all shards.
    #[error(
        "{table} at {address} is a Distributed table; an exporter's batches stay on one shard: \
         insert into its local tables, http://HOST:PORT/{local}"
    )]
    Distributed { address: String, table: String, local: String },
    /// A question that cannot be asked.
    #[error("{problem}")]
    BadQuestion { problem: String },
    /// The person who asked has stopped it.
    #[error("stopped: the query is ended at the store, and what it had answered is not kept")]
    Stopped,
    /// A file cannot be written.
    #[error("{path} cannot be written: {source}")]
    Output { path: String, source: std::io::Error },
}

impl SinkError {
    /// The process exit code for this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::BadAddress { .. }
            | Self::BadQuestion { .. }
            | Self::File { .. }
            | Self::NoReplicas { .. } => Exit::Usage,
            Self::Unreachable { .. }
            | Self::NoConnection { .. }
            | Self::Tls { .. }
            | Self::Strange { .. }
            | Self::NewPassword { .. }
            | Self::Silent { .. }
            | Self::TooLate => Exit::Store,
            Self::Refused { .. }
            | Self::Denied { .. }
            | Self::NewerSchema { .. }
            | Self::OlderCluster { .. }
            | Self::NoWindow { .. }
            | Self::Distributed { .. }
            | Self::Stopped
            | Self::Output { .. } => Exit::Failed,
        }
    }
}

impl SinkError {
    /// True when nobody answered: nothing says that the address or the access is wrong.
    pub const fn is_absence(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NoConnection { .. } | Self::Silent { .. })
    }

    /// True when the same request may succeed later: nothing is wrong with it.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::NoConnection { .. }
            | Self::Tls { .. }
            | Self::Strange { .. }
            | Self::NewPassword { .. }
            | Self::Denied { .. }
            | Self::Silent { .. }
            | Self::TooLate => true,
            Self::Refused { .. } => self.code().is_some_and(|code| TRANSIENT_CODES.contains(&code)),
            Self::BadAddress { .. }
            | Self::File { .. }
            | Self::NoReplicas { .. }
            | Self::NewerSchema { .. }
            | Self::OlderCluster { .. }
            | Self::NoWindow { .. }
            | Self::Distributed { .. }
            | Self::BadQuestion { .. }
            | Self::Stopped
            | Self::Output { .. } => false,
        }
    }

    /// ClickHouse's number of the error, if it refused.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Refused { problem, .. } => error_code(problem),
            _ => None,
        }
    }

    /// True when the store surely has nothing of what was to be sent.
    pub fn was_never_sent(&self) -> bool {
        matches!(self, Self::NoConnection { .. } | Self::NewPassword { .. } | Self::Denied { .. })
    }
}

/// ClickHouse error codes that pass: timeout, too many queries or threads, no
/// free connection, memory limit, read-only table, too many parts
/// (src/Common/ErrorCodes.cpp).
const TRANSIENT_CODES: [u32; 8] = [159, 202, 203, 209, 210, 241, 242, 252];

/// The number in ClickHouse's `Code: 60. DB::Exception: ...`.
fn error_code(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("Code: ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// Messages can be pages long; the first line says what is wrong, between a wrapper
/// and the server's version.
pub(super) fn first_line(text: &str) -> String {
    let line = text.trim_start().lines().next().unwrap_or_default().trim_end_matches(':');
    let line = line.rsplit_once(" (version ").map_or(line, |(line, _)| line);
    line.replacen("DB::Exception: ", "", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_pass_is_transient() {
        let refused = |problem: &str| SinkError::Refused {
            address: String::new(),
            what: String::new(),
            problem: problem.into(),
        };
        assert!(refused("bad response: Code: 252. DB::Exception: Too many parts").is_transient());
        assert!(!refused("bad response: Code: 60. DB::Exception: Unknown table").is_transient());
        assert!(!refused("schema mismatch").is_transient());
    }

    #[test]
    fn a_refusal_is_one_line_without_wrappers() {
        let text =
            "Code: 252. DB::Exception: Too many parts. (TOO_MANY_PARTS) (version 26.7.3)\nmore";
        let line = first_line(text);
        assert_eq!(line, "Code: 252. Too many parts. (TOO_MANY_PARTS)");
        assert_eq!(error_code(&line), Some(252));
    }
}
