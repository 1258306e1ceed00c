//! The terminal: keys and signals enter, drawn screens leave.
//!
//! What must hold: the terminal is as it was when this returns, fails or panics, and at a
//! signal. Nothing can be done about SIGKILL: `reset` helps then.

use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};

use super::app::{App, Next};
use super::watch::Watch;
use super::{TopError, TopOptions, draw};
use crate::Error;

/// How long a key is waited for before signals and news are looked at.
const TICK: Duration = Duration::from_millis(50);

/// Shows it until somebody quits.
///
/// # Errors
/// There is no terminal, or it fails.
pub fn run(options: &TopOptions) -> Result<(), Error> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(TopError::NoTerminal.into());
    }
    let stopped = signals().map_err(Error::thread)?;
    let watch = Watch::start(options.client.clone(), options.interval, options.limit);
    let watch = watch.map_err(Error::thread)?;
    // Its hook restores the terminal before a panic is told.
    let terminal = ratatui::try_init().map_err(TopError::from);
    let shown = terminal.and_then(|mut terminal| {
        show(&mut terminal, App::new(options), &watch, &stopped).map_err(TopError::from)
    });
    ratatui::restore();
    Ok(shown?)
}

fn show(
    terminal: &mut DefaultTerminal,
    mut app: App,
    watch: &Watch,
    stopped: &Receiver<()>,
) -> io::Result<()> {
    let mut changed = true;
    loop {
        if changed {
            terminal.draw(|frame| draw::draw(frame, &mut app))?;
        }
        changed = event::poll(TICK)?;
        if changed {
            // Of other events only a new size needs the drawing that follows.
            if let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
                && app.key(key, Timestamp::now()) == Next::Quit
            {
                return Ok(());
            }
        }
        match watch.news.try_recv() {
            Ok(news) => {
                app.take(news);
                changed = true;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                return Err(io::Error::other("the thread that asks the agent has ended: a bug"));
            }
        }
        if stopped.try_recv() != Err(TryRecvError::Empty) {
            return Ok(());
        }
    }
}

/// Hears of signals that end a program.
fn signals() -> io::Result<Receiver<()>> {
    let (sender, stopped) = channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut heard = {
        let _context = runtime.enter();
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()]
            .map(signal)
    };
    let work = move || {
        runtime.block_on(async {
            let [Ok(a), Ok(b), Ok(c), Ok(d)] = &mut heard else { return };
            tokio::select! { _ = a.recv() => {}, _ = b.recv() => {}, _ = c.recv() => {}, _ = d.recv() => {} }
            // A screen that is gone needs no word.
            let _ = sender.send(());
        });
    };
    thread::Builder::new().name("top-signals".into()).spawn(work)?;
    Ok(stopped)
}
