//! `flow-agent query`: enters a question as it was typed, leaves the answer on
//! the standard output or in a file. What must hold: the file is there whole or
//! not at all; a question that is given up is ended at the store.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flow_agent::Error;
use flow_agent::sink::{ClickHouse, Question, SinkError};
use flow_agent::target::{Opening, Store};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tempfile::NamedTempFile;

use crate::cli::QueryArgs;
use crate::standard_output::StandardOutput;

/// The longest question that is read from the standard input, in octets.
const MAX_SQL: u64 = 256 << 10;
/// How often the store is asked how far it is.
const LOOK: Duration = Duration::from_millis(300);
/// How long the store may take to end a question.
const CANCEL: Duration = Duration::from_secs(5);

/// Names of formats, and ClickHouse's for them.
const FORMATS: [(&str, &str); 6] = [
    ("table", "PrettyCompactMonoBlock"),
    ("json", "JSON"),
    ("jsonl", "JSONEachRow"),
    ("csv", "CSVWithNames"),
    ("tsv", "TabSeparatedWithNames"),
    ("parquet", "Parquet"),
];

/// Asks and writes the answer.
pub fn query(args: QueryArgs) -> Result<(), Error> {
    let terminal = io::stdout().is_terminal() && args.output.is_none();
    let format = format(args.format.as_deref(), args.output.as_deref(), terminal)?;
    let mut question = Question::new(read_sql(args.sql)?, &format);
    question.parameters = args.param;
    let mut out = match args.output {
        None => Out::Standard(StandardOutput::default()),
        Some(path) => Out::File(FileOutput::new(path)?),
    };
    let opening = Opening { access: args.access.config(), ..Opening::default() };
    let store = Store::connect(&args.store, &opening)?;
    let bar = progress_bar();
    let answer = store.ask(async |client| ask(client, &question, &mut out, &bar).await);
    bar.finish_and_clear();
    let closed = store.close();
    answer?;
    closed?;
    match out {
        Out::Standard(out) => {
            if out.is_untouched() && terminal {
                crate::say(&"0 rows");
            }
            out.finish()
        }
        Out::File(file) => file.finish(),
    }
}

fn usage(problem: String) -> Error {
    SinkError::BadQuestion { problem }.into()
}

/// The format that was asked for, that the file's name says, or that suits the reader.
fn format(typed: Option<&str>, output: Option<&Path>, terminal: bool) -> Result<String, Error> {
    let known = |name: &str| FORMATS.iter().find(|(ours, _)| *ours == name).map(|(_, name)| *name);
    let by_name = |path: &Path| known(path.extension()?.to_str()?);
    let format = match (typed, output) {
        (Some(name), _) => known(name).unwrap_or(name),
        (None, Some(path)) => by_name(path).ok_or_else(|| {
            usage(format!(
                "the name of {} does not say its format: end it with .json, .jsonl, .csv, .tsv \
                 or .parquet, or add --format",
                path.display()
            ))
        })?,
        (None, None) if terminal => "PrettyCompactMonoBlock",
        // As the tools of ClickHouse print for other programs: values and nothing else.
        (None, None) => "TabSeparated",
    };
    if terminal && format == "Parquet" {
        let problem = "Parquet is not for a terminal: add --output FILE, or redirect the output";
        return Err(usage(problem.into()));
    }
    Ok(format.into())
}

fn read_sql(typed: String) -> Result<String, Error> {
    if typed != "-" {
        return Ok(typed);
    }
    let mut sql = String::new();
    let read = io::stdin().take(MAX_SQL + 1).read_to_string(&mut sql);
    read.map_err(|error| usage(format!("the standard input cannot be read: {error}")))?;
    if sql.len() as u64 > MAX_SQL {
        return Err(usage(format!("the SQL has more than {MAX_SQL} octets; it may have no more")));
    }
    Ok(sql)
}

/// Asks until the answer is whole or Ctrl-C.
async fn ask(
    client: &ClickHouse,
    question: &Question,
    out: &mut Out,
    bar: &ProgressBar,
) -> Result<(), SinkError> {
    let answer = client.stream(question, |bytes| {
        if out.is_shared_with(bar) {
            // From here on the answer is what a person looks at.
            bar.finish_and_clear();
        }
        out.write(bytes)
    });
    tokio::select! {
        biased;
        answer = answer => answer,
        // An error means that there is no handler: Ctrl-C ends the process then.
        Ok(()) = tokio::signal::ctrl_c() => {
            bar.finish_and_clear();
            // A store that is gone has ended the question, too.
            let _ = tokio::time::timeout(CANCEL, client.cancel(&question.id)).await;
            Err(SinkError::Stopped)
        }
        () = watch(client, question, bar), if io::stderr().is_terminal() => Ok(()),
    }
}

/// Shows how far the question is, for as long as it is asked; a short one shows nothing.
async fn watch(client: &ClickHouse, question: &Question, bar: &ProgressBar) {
    loop {
        tokio::time::sleep(LOOK).await;
        // Whoever cannot be asked has no progress to show.
        if let Ok(Some(reading)) = client.reading(&question.id).await
            && !bar.is_finished()
        {
            if bar.is_hidden() {
                bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            }
            if reading.total_rows > 0 {
                bar.set_length(reading.total_rows);
            }
            bar.set_position(reading.rows);
            bar.set_message(indicatif::HumanBytes(reading.bytes).to_string());
        }
    }
}

/// A bar that is not shown yet.
fn progress_bar() -> ProgressBar {
    let style = "{spinner} {wide_bar} {human_pos}/{human_len} rows, {msg} read, {elapsed}";
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden()).with_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}

enum Out {
    Standard(StandardOutput),
    File(FileOutput),
}

impl Out {
    fn write(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Standard(out) => out.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn is_shared_with(&self, bar: &ProgressBar) -> bool {
        matches!(self, Self::Standard(_)) && !bar.is_finished() && io::stdout().is_terminal()
    }
}

/// A file that gets its name when it is whole.
pub struct FileOutput {
    path: PathBuf,
    file: NamedTempFile,
    failure: Option<io::Error>,
}

impl FileOutput {
    /// A file to be; nothing is there yet.
    pub fn new(path: PathBuf) -> Result<Self, Error> {
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let file = NamedTempFile::with_prefix_in(".query-", folder.unwrap_or(Path::new(".")))
            .map_err(|source| failed(&path, source))?;
        Ok(Self { path, file, failure: None })
    }

    /// Writes; false when there is no use in writing more.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.failure = self.file.write_all(bytes).err();
        self.failure.is_none()
    }

    /// Gives it its name.
    pub fn finish(mut self) -> Result<(), Error> {
        let path = self.path;
        let written = self.failure.take().map_or_else(|| self.file.as_file().sync_all(), Err);
        written.map_err(|source| failed(&path, source))?;
        self.file.persist(&path).map_err(|error| failed(&path, error.error))?;
        Ok(())
    }
}

fn failed(path: &Path, source: io::Error) -> Error {
    SinkError::Output { path: path.display().to_string(), source }.into()
}
