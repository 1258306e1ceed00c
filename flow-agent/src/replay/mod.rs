//! Replay: captures through the same parser, cache and sinks as live packets.

pub mod capture;
