//! How setup speaks: one line a step, with what it is for and what was found or done.

use std::fmt::Display;
use std::time::Instant;

/// A thing that is there already.
pub fn found(what: &str, why: &str, detail: impl Display) {
    println!("  ok    {what:<13} {why:<38} {detail}");
}

/// A thing that has to be installed or fetched: announced before the work begins.
pub struct Step {
    what: &'static str,
    started: Instant,
}

impl Step {
    /// Says what is about to be done and why.
    pub fn begin(what: &'static str, why: &str, doing: impl Display) -> Self {
        println!("  ...   {what:<13} {why:<38} {doing}");
        Self { what, started: Instant::now() }
    }

    /// Says that it is done and how long it took.
    pub fn done(self, detail: impl Display) {
        let seconds = self.started.elapsed().as_secs_f64();
        println!("  done  {:<13} {:<38} {detail}", self.what, format!("in {seconds:.1} s"));
    }
}
