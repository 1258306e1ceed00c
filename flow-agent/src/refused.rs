//! `flow-agent quarantine`: what the store refused, shown and sent again.

use std::io;
use std::time::Duration;

use flow_agent::Error;
use flow_agent::frozen::Table;
use flow_agent::ledger::LostRecord;
use flow_agent::sink::quarantine::{Card, Quarantine};
use flow_agent::sink::{SinkError, resend, write_json_lines};
use flow_agent::target::{Opening, Store};
use jiff::Timestamp;
use uuid::Uuid;

use crate::cli::{QuarantineArgs, QuarantineCommand};
use crate::say;
use crate::standard_output::StandardOutput;

/// How long a store may take nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Does what the command says.
pub fn run(command: QuarantineCommand) -> Result<(), Error> {
    match command {
        QuarantineCommand::List(folder) => list(&open(folder)),
        QuarantineCommand::Show { folder, id } => show(&open(folder), id),
        QuarantineCommand::Resend { folder, store, access, ids } => {
            let quarantine = open(folder);
            let store =
                Store::connect(&store, &Opening { access: access.config(), ..Opening::default() })?;
            let sent = ids.into_iter().try_for_each(|id| send(&quarantine, &store, id));
            let closed = store.close();
            sent.and(closed)
        }
    }
}

fn open(QuarantineArgs { dir }: QuarantineArgs) -> Quarantine {
    Quarantine::new(dir)
}

fn list(quarantine: &Quarantine) -> Result<(), Error> {
    let (cards, damaged) = quarantine.list()?;
    let mut out = StandardOutput::default();
    if cards.is_empty() {
        say(&format_args!("nothing is in {}", quarantine.dir().display()));
    } else {
        let table = "ID                                    SINCE                 TABLE    REASON   \
                     ROWS     PACKETS    ERROR\n";
        out.write(table.as_bytes());
        for card in cards {
            out.write(line(&card).as_bytes());
        }
    }
    out.finish()?;
    damaged.into_iter().next().map_or(Ok(()), |error| Err(error.into()))
}

fn line(card: &Card) -> String {
    let since = Timestamp::from_second((card.at_ns / 1_000_000_000) as i64);
    let since = since.map_or_else(|_| String::new(), |time| time.to_string());
    let reason = card.reason.label();
    let (table, rows, packets) = (&card.table, card.rows, card.total().packets);
    // One line, whatever the server has said.
    let error: String = card.error.chars().filter(|c| !c.is_control()).collect();
    format!("{}  {since}  {table:<8} {reason:<8} {rows:<8} {packets:<10} {error}\n", card.id)
}

fn show(quarantine: &Quarantine, id: Uuid) -> Result<(), Error> {
    let (card, batch) = quarantine.get(id)?;
    if batch.table != Table::Flows {
        say(&format_args!("it has {} rows of {}, which are no flows", card.rows, card.table));
        return Ok(());
    }
    let path = || quarantine.dir().join(id.to_string()).display().to_string();
    let output = |source| SinkError::Output { path: path(), source };
    let flows = batch.records().map_err(|error| output(io::Error::other(error)))?;
    let mut lines = Vec::new();
    write_json_lines(
        &mut lines,
        flows.records.iter().enumerate(),
        Some(&flows.labels),
        &flows.names,
    )
    .map_err(output)?;
    let mut out = StandardOutput::default();
    out.write(&lines);
    out.finish()
}

fn send(quarantine: &Quarantine, store: &Store, id: Uuid) -> Result<(), Error> {
    let (card, batch) = quarantine.get(id)?;
    let rows = batch.rows;
    // For the time when it was counted as undelivered.
    let at = (card.at_ns / 1_000_000_000) as u32;
    let note = batch.resent(LostRecord::aside(card.reason), at);
    let note = note.map_err(|error| SinkError::Output {
        path: quarantine.dir().join(id.to_string()).display().to_string(),
        source: io::Error::other(error),
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::thread)?;
    for batch in std::iter::once(batch).chain(note) {
        let schema = store.schema().clone();
        runtime.block_on(resend(store.endpoints(), schema, batch, PATIENCE, quarantine))?;
    }
    quarantine.remove(id)?;
    say(&format_args!("{id}: the store has its {rows} rows"));
    Ok(())
}
