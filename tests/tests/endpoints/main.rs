//! Servers that must not be believed, and servers that come and go. Needs libchdb; the tests of
//! the running agent need root.

mod failover;
mod impostors;
mod servers;
mod strange;
mod tls;

use std::process::{Command, Output};

use flow_tests::bin_path::flow_agent;

/// Asks `SELECT 1` with these options.
fn ask(options: &[&str]) -> Output {
    let mut command = Command::new(flow_agent());
    command.args(["query", "--format", "TabSeparated"]).args(options).arg("SELECT 40 + 2");
    command.output().expect("flow-agent starts")
}

/// The answer was this exit code and an error with these words.
fn assert_refused(output: &Output, code: i32, words: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert!(errors.contains(words), "{words:?} is not in: {errors}");
    assert!(output.stdout.is_empty(), "there is no answer");
}

/// The question was answered.
fn assert_answered(output: &Output) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "42\n", "{errors}");
}
