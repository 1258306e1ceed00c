//! Logs: what is said, how much of it, how often, and in which form.
//!
//! Enters: events of `tracing`, of `log` and of the kernel side (`run::kernel_log`). Leaves: lines
//! on the standard error, or fields in the journal. It holds that nothing is repeated without end,
//! that what is left out is counted and told, and that level and form can change at any time.

mod level;
mod output;
mod repeats;

use std::ffi::OsString;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tracing_log::log;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

pub use level::check_level;
use output::Output;
use repeats::{Repeats, Throttle};

/// In which form events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The journal's, if the standard error is the journal, else text.
    #[default]
    Auto,
    /// A line each.
    Text,
    /// An object each, a line each.
    Json,
    /// Fields, to the journal.
    Journald,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Text, Self::Json, Self::Journald];

    /// Its name.
    pub fn label(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
            Self::Journald => "journald",
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// In which form.
    pub format: Format,
    /// As [`check_level`] allows it.
    pub level: String,
    /// The same message at most so often in an interval; 0 for no limit.
    pub repeat_limit: u32,
    /// The interval.
    pub repeat_interval: Duration,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: Format::Auto,
            level: "info".into(),
            repeat_limit: 20,
            repeat_interval: Duration::from_mins(1),
        }
    }
}

/// What changes the log while it is in use.
struct Control {
    filter: reload::Handle<Targets, Registry>,
    output: Arc<Output>,
    repeats: Arc<Repeats>,
}

static CONTROL: OnceLock<Control> = OnceLock::new();

/// `RUST_LOG`, if it can be used.
pub fn from_rust_log(variables: &[(OsString, OsString)]) -> Option<String> {
    let (_, value) = variables.iter().find(|(name, _)| name == "RUST_LOG")?;
    let value = value.to_str().filter(|value| !value.trim().is_empty())?;
    check_level(value).is_ok().then(|| value.into())
}

/// Logs with the defaults, and the level of `RUST_LOG`, until [`apply`] says more. Called once.
pub fn start() {
    let variables: Vec<_> = std::env::vars_os().filter(|(name, _)| name == "RUST_LOG").collect();
    let level = from_rust_log(&variables);
    let ignored = variables.iter().any(|(_, value)| !value.is_empty()) && level.is_none();
    let config = LogConfig { level: level.unwrap_or_else(|| "info".into()), ..Default::default() };
    let (filter, handle) = reload::Layer::new(level::targets(&config.level));
    let output = Arc::new(Output::new(config.format));
    let repeats = Arc::new(Repeats::new(config.repeat_limit, config.repeat_interval));
    let subscriber = tracing_subscriber::registry()
        .with(filter)
        .with(Throttle(repeats.clone()))
        .with(output.layer());
    // Only the first one counts.
    if subscriber.try_init().is_ok() {
        let _ = CONTROL.set(Control { filter: handle, output, repeats });
    }
    pass_on(&config.level);
    if ignored {
        tracing::warn!(
            "RUST_LOG is ignored: it must be off, error, warn, info, debug or trace, or \
             MODULE=LEVEL, with commas"
        );
    }
}

/// From now on logs like this.
///
/// # Errors
/// The journal is asked for and is not there; nothing has changed then.
pub fn apply(config: &LogConfig) -> io::Result<()> {
    let Some(control) = CONTROL.get() else { return Ok(()) };
    control.output.set(config.format)?;
    control.repeats.set(config.repeat_limit, config.repeat_interval);
    // Fails only when the subscriber is gone.
    let _ = control.filter.reload(level::targets(&config.level));
    pass_on(&config.level);
    Ok(())
}

/// Tells what was left out in intervals that are over at `now`. Cheap; called now and then.
pub fn tick(now: Instant) {
    if let Some(control) = CONTROL.get() {
        control.repeats.tell(Some(now));
    }
}

/// Tells everything that was left out; the process is about to end.
pub fn finish() {
    if let Some(control) = CONTROL.get() {
        control.repeats.tell(None);
    }
}

/// The crate `log`, which the kernel side's lines come through, asks for its own level first.
fn pass_on(level: &str) {
    log::set_max_level(level::most(level));
}
