//! Runs one request's statement on a thread of its own: enters the request and
//! its body, leaves the output in a pipe and the figures or the failure.
//!
//! Output goes through `INTO OUTFILE` to the pipe, because the engine's own
//! streaming begins the format anew for each block (a second JSON document, a
//! second header). Answers that are always short are taken whole. What must hold: an insert is committed only after its whole
//! body has arrived.

use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::body::{BodyReader, failure_of};
use super::failure::{Failure, code};
use super::ffi::{Connection, Engine, Figures};
use super::framing::FrameReader;
use super::multipart;
use super::request::Request;
use super::sessions::Sessions;
use super::settings::{quote, reset_statement, set_statement};
use super::sql::{self, Changes, Statement};

/// The longest SQL text, as ClickHouse's `max_query_size`.
const MAX_QUERY: u64 = 256 << 10;
/// The largest form: a query and its parameters.
const MAX_FORM: u64 = 16 << 20;
/// The pieces in which an insert's data goes to the engine.
const INSERT_PIECE: usize = 1 << 20;

/// What the response can know before the statement has ended.
#[derive(Debug, Default)]
pub struct Progress {
    /// The output format, once the statement is understood.
    pub format: OnceLock<String>,
    /// Set when the statement may be killed if nobody waits for its rows.
    pub killable: OnceLock<()>,
    /// Set when the statement has ended.
    pub ended: OnceLock<()>,
}

/// One request on its way through the engine.
pub struct Job {
    /// The open engine.
    pub engine: Arc<Engine>,
    /// Where sessions are kept.
    pub sessions: Arc<Sessions>,
    /// The request.
    pub request: Request,
    /// The id of the query.
    pub query_id: String,
    /// Its body.
    pub body: BodyReader,
    /// Where the output goes.
    pub out: OwnedFd,
    /// Told to the response.
    pub progress: Arc<Progress>,
}

impl Job {
    /// Runs to the end.
    pub fn run(mut self) -> Result<Figures, Failure> {
        let mut data = self.reader()?;
        let (text, statement) = self.statement(&mut data)?;
        if self.request.readonly
            && matches!(
                statement,
                Statement::Insert { .. } | Statement::Plain { changes: Changes::Data, .. }
            )
        {
            return Err(Failure::new(
                code::READONLY,
                "READONLY",
                "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. You should use method POST for modifying queries",
            ));
        }
        let Some(session) = self.request.session.clone() else {
            let mut connection = self.engine.connect()?;
            return self.execute(&mut connection, &text, statement, data);
        };
        let kept = self.sessions.take(&session, Instant::now())?;
        let opened = match kept {
            Some(connection) => Ok(connection),
            None => self.engine.connect(),
        };
        let mut connection = opened.inspect_err(|_| self.sessions.end(&session))?;
        let result = self.execute(&mut connection, &text, statement, data);
        let reset = reset_statement(&self.request.settings);
        // A killed statement leaves rows behind in its connection, and a cut
        // insert its stream: neither is used again.
        const SPOILED: [i32; 3] =
            [code::QUERY_WAS_CANCELLED, code::NETWORK_ERROR, code::LOGICAL_ERROR];
        let usable = !matches!(&result, Err(failure) if SPOILED.contains(&failure.code));
        if usable && connection.query(reset.as_bytes(), "Null", &[]).is_ok() {
            self.sessions.give(&session, connection, Instant::now());
        } else {
            drop(connection);
            self.sessions.end(&session);
        }
        result
    }

    /// The body, decoded.
    fn reader(&self) -> Result<Box<dyn Read + Send>, Failure> {
        let mut reader: Box<dyn Read + Send> = match self.request.body_encoding {
            Some(encoding) => {
                encoding.reader(self.body.clone()).map_err(|error| failure_of(&error))?
            }
            None => Box::new(self.body.clone()),
        };
        if self.request.decompress {
            reader = Box::new(FrameReader::new(reader));
        }
        Ok(reader)
    }

    /// Reads as much as is SQL; what follows in the text and in `data` is an
    /// insert's data.
    fn statement(&mut self, data: &mut dyn Read) -> Result<(Vec<u8>, Statement), Failure> {
        if let Some(boundary) = self.request.boundary.take() {
            self.read_form(&boundary, data)?;
        }
        let mut text = self.request.query.clone().into_bytes();
        if !text.is_empty() {
            text.push(b'\n');
            // An insert whose FORMAT or VALUES is in the URL: the body is data,
            // to be streamed. Anything else may go on in the body.
            if let Ok(statement @ Statement::Insert { .. }) = sql::parse(&text)
                && matches!(&statement, Statement::Insert { head, .. } if head.len() < text.len() - 1)
            {
                return Ok((text, statement));
            }
        }
        let room = MAX_QUERY.saturating_sub(text.len() as u64);
        let got = data.take(room + 1).read_to_end(&mut text).map_err(|error| failure_of(&error))?;
        let statement = sql::parse(&text)?;
        if got as u64 > room && !matches!(statement, Statement::Insert { .. }) {
            return Err(Failure::new(
                code::SYNTAX_ERROR,
                "SYNTAX_ERROR",
                format_args!("Max query size exceeded: a statement has at most {MAX_QUERY} octets"),
            ));
        }
        Ok((text, statement))
    }

    fn read_form(&mut self, boundary: &str, data: &mut dyn Read) -> Result<(), Failure> {
        let mut form = Vec::new();
        data.take(MAX_FORM + 1).read_to_end(&mut form).map_err(|error| failure_of(&error))?;
        if form.len() as u64 > MAX_FORM {
            return Err(Failure::new(
                code::QUERY_IS_TOO_LARGE,
                "QUERY_IS_TOO_LARGE",
                format_args!("A form has at most {MAX_FORM} octets"),
            ));
        }
        for (name, value) in multipart::fields(&form, boundary)? {
            let value = String::from_utf8(value).map_err(|_| {
                Failure::new(
                    code::BAD_ARGUMENTS,
                    "BAD_ARGUMENTS",
                    format_args!("The form field '{name}' is not UTF-8"),
                )
            })?;
            match name.as_str() {
                "query" => self.request.query.push_str(&value),
                _ => self.request.add(&name, value),
            }
        }
        Ok(())
    }

    fn execute(
        &mut self,
        connection: &mut Connection,
        text: &[u8],
        statement: Statement,
        mut data: Box<dyn Read + Send>,
    ) -> Result<Figures, Failure> {
        let set = set_statement(&self.query_id, &self.request.settings)?;
        connection.query(set.as_bytes(), "Null", &[])?;
        if let Some(database) = &self.request.database {
            let name = database.replace('\\', "\\\\").replace('`', "\\`");
            connection.query(format!("USE `{name}`").as_bytes(), "Null", &[])?;
        }
        let default = self.request.format.as_deref().unwrap_or("TabSeparated").to_owned();
        check_format(&default)?;
        let params = &self.request.params;
        match statement {
            Statement::Insert { head, format, data_at } => {
                check_revision(&self.request, &format)?;
                let rest = &text[data_at..];
                let mut insert = connection.insert(&head, &format, params)?;
                let fed = feed(rest, &mut data, |piece| insert.append(piece))
                    .and_then(|()| self.body.drain().map_err(|error| failure_of(&error)));
                match fed {
                    Ok(()) => insert.finish(),
                    Err(failure) => {
                        insert.cancel();
                        Err(failure)
                    }
                }
            }
            Statement::Output { before, format, after } => {
                let format = format.unwrap_or(default);
                check_format(&format)?;
                check_revision(&self.request, &format)?;
                let target = quote(&format!("/proc/self/fd/{}", self.out.as_raw_fd()));
                let mut sql = before;
                sql.extend_from_slice(
                    format!("\nINTO OUTFILE {target} APPEND FORMAT {format} ").as_bytes(),
                );
                sql.extend_from_slice(&after);
                self.announce(format);
                let _ = self.progress.killable.set(());
                connection.query(&sql, "Null", params).map(|(_, figures)| figures)
            }
            Statement::Plain { sql, format, changes } => {
                let format = format.unwrap_or(default);
                check_format(&format)?;
                check_revision(&self.request, &format)?;
                if changes == Changes::Nothing {
                    let _ = self.progress.killable.set(());
                }
                let (output, figures) = connection.query(&sql, &format, params)?;
                if changes == Changes::Nothing || !output.is_empty() {
                    self.announce(format);
                }
                if !output.is_empty() {
                    let mut out =
                        File::from(self.out.try_clone().map_err(|error| failure_of(&error))?);
                    // The reader may be gone; the statement is done all the same.
                    let _ = out.write_all(&output);
                }
                Ok(figures)
            }
        }
    }

    fn announce(&self, format: String) {
        let _ = self.progress.format.set(format);
    }
}

/// Feeds an insert in large pieces.
fn feed(
    first: &[u8],
    data: &mut dyn Read,
    mut append: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut source = first.chain(data);
    let mut piece = Vec::with_capacity(INSERT_PIECE);
    loop {
        piece.clear();
        let n = source
            .by_ref()
            .take(INSERT_PIECE as u64)
            .read_to_end(&mut piece)
            .map_err(|error| failure_of(&error))?;
        if n == 0 {
            return Ok(());
        }
        append(&piece)?;
    }
}

/// The engine writes Native without a revision; a client that asks for one
/// would read garbage.
fn check_revision(request: &Request, format: &str) -> Result<(), Failure> {
    if !request.native_revision || !format.eq_ignore_ascii_case("Native") {
        return Ok(());
    }
    Err(Failure::new(
        code::NOT_IMPLEMENTED,
        "NOT_IMPLEMENTED",
        "The embedded store writes the Native format without a client_protocol_version: leave it out or set it to 0",
    ))
}

fn check_format(name: &str) -> Result<(), Failure> {
    if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(());
    }
    Err(Failure::new(
        code::UNKNOWN_FORMAT,
        "UNKNOWN_FORMAT",
        format_args!("Unknown format '{name}'"),
    ))
}
