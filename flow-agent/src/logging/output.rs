//! Where events go: one of three layers, which can be changed for another one.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::Format;

const TEXT: u8 = 0;
const JSON: u8 = 1;
const JOURNAL: u8 = 2;

/// The form that is in use.
pub struct Output {
    form: AtomicU8,
    journal: OnceLock<tracing_journald::Layer>,
}

impl Output {
    /// In this form; as text, should the journal not be there.
    pub fn new(format: Format) -> Self {
        let output = Self { form: AtomicU8::new(TEXT), journal: OnceLock::new() };
        if output.set(format).is_err() {
            output.form.store(TEXT, Ordering::Relaxed);
        }
        output
    }

    /// From now on in this form.
    pub fn set(&self, format: Format) -> io::Result<()> {
        let form = match format {
            Format::Json => JSON,
            Format::Journald => {
                self.open_journal()?;
                JOURNAL
            }
            Format::Auto if is_journal() && self.open_journal().is_ok() => JOURNAL,
            Format::Text | Format::Auto => TEXT,
        };
        self.form.store(form, Ordering::Relaxed);
        Ok(())
    }

    fn open_journal(&self) -> io::Result<()> {
        if self.journal.get().is_none() {
            let layer = tracing_journald::layer()?.with_syslog_identifier("flow-agent".into());
            // Another thread's is as good.
            let _ = self.journal.set(layer.with_field_prefix(Some("FLOW_AGENT".into())));
        }
        Ok(())
    }

    /// What writes events.
    pub fn layer<S>(self: &Arc<Self>) -> Choice<S, impl Layer<S>, impl Layer<S>>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let text = fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .with_target(false);
        let json = fmt::layer().json().flatten_event(true).with_writer(io::stderr);
        let json = json.with_current_span(false).with_span_list(false);
        Choice { output: self.clone(), text, json, _subscriber: std::marker::PhantomData }
    }
}

/// Writes events in the form that is in use.
pub struct Choice<S, T, J> {
    output: Arc<Output>,
    text: T,
    json: J,
    _subscriber: std::marker::PhantomData<fn(S)>,
}

impl<S, T, J> Layer<S> for Choice<S, T, J>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    T: Layer<S>,
    J: Layer<S>,
{
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        match (self.output.form.load(Ordering::Relaxed), self.output.journal.get()) {
            (JSON, _) => self.json.on_event(event, context),
            (JOURNAL, Some(journal)) => journal.on_event(event, context),
            _ => self.text.on_event(event, context),
        }
    }
}

/// True if the standard error is what systemd says it connected to the journal.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Some((device, inode)) = stream.split_once(':') else { return false };
    let stderr = io::stderr();
    let Ok(about) = rustix::fs::fstat(stderr.as_fd()) else { return false };
    device.parse() == Ok(about.st_dev) && inode.parse() == Ok(about.st_ino)
}
