//! What the command prints and refuses, before any kernel or capture. The store is needed for
//! `query`, root for nothing.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use flow_tests::bin_path::flow_agent;
use flow_tests::process::Store;
use flow_tests::refusal::sentence;

fn agent(arguments: &[&str]) -> Command {
    let mut command = Command::new(flow_agent());
    command.args(arguments);
    command
}

fn store(folder: &tempfile::TempDir) -> Store {
    let log = folder.path().join("log");
    Store::start(&flow_agent(), &folder.path().join("data"), &log).expect("the store starts")
}

fn into_full(command: &mut Command) -> String {
    let full = File::options().write(true).open("/dev/full").expect("a Linux host");
    sentence(&command.stdout(full).output().expect("runs"), 1)
}

/// Reads one line of the command's output, then goes away.
fn into_head(command: &mut Command) {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the agent runs");
    let mut line = String::new();
    let mut out = BufReader::with_capacity(64, child.stdout.take().expect("piped"));
    out.read_line(&mut line).expect("a line");
    drop(out);
    let mut errors = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut errors).expect("UTF-8");
    assert!(child.wait().expect("ends").success(), "{errors}");
    assert_eq!(errors, "");
}

#[test]
fn a_full_output_is_an_error_and_a_reader_that_goes_away_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(&folder);
    let query = |sql| agent(&["query", "--store", store.url(), "--format", "TSV", sql]);
    for mut command in [
        agent(&["schema", "print"]),
        query("SELECT 1"),
        query("SELECT number FROM numbers(1000000)"),
    ] {
        assert!(into_full(&mut command).contains("standard output"));
        if command.get_args().last() != Some("SELECT 1".as_ref()) {
            into_head(&mut command);
        }
    }
}

#[test]
fn an_answer_of_the_store_is_told_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(&folder);
    let output = agent(&["query", "--store", store.url(), "SELECT * FROM nowhere"]).output();
    let words = sentence(&output.expect("runs"), 1);
    assert!(words.contains(": Code: 60. "), "{words}");
    for wrapper in ["bad response", "DB::Exception", "(version"] {
        assert!(!words.contains(wrapper), "{words}");
    }
}

#[test]
fn an_empty_answer_says_so_on_a_terminal_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(&folder);
    let sql = "SELECT 1 WHERE 0";
    let output = agent(&["query", "--store", store.url(), sql]).output().expect("runs");
    assert!(output.status.success() && output.stderr.is_empty() && output.stdout.is_empty());
    // script (util-linux) gives a command a terminal.
    let command = format!("'{}' query --store {} '{sql}'", flow_agent().display(), store.url());
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .expect("script (util-linux) is installed");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0 rows");
}

#[test]
fn help_shows_the_defaults() {
    for (command, defaults) in [
        (
            "run",
            &[
                "[default: all hardware interfaces]",
                "[default: auto]",
                "[default: embedded:/var/lib/flow-agent/store]",
                "[default: the host name]",
                "[default: 1000]",
                "[default: 15]",
                "[default: 60]",
            ][..],
        ),
        (
            "replay",
            &["[default: jsonl:-]", "[default: 15]", "[default: 60]", "[default: 1000000]"][..],
        ),
        ("store", &["[default: 127.0.0.1:8123]"][..]),
        ("query", &["[default: http://127.0.0.1:8123]"][..]),
    ] {
        let help = agent(&[command, "--help"]).output().expect("runs").stdout;
        let help = String::from_utf8(help).expect("UTF-8");
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for default in defaults {
            assert!(help.contains(default), "{command}: {default}: {help}");
        }
    }
}

#[test]
fn a_bad_configuration_names_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("agent.toml");
    std::fs::write(&file, "attach = \"tc\"\nidle_timeout_s = -1\n").expect("ours");
    let file = file.to_str().expect("UTF-8");
    for (arguments, words) in [
        (
            &["--config", file][..],
            "agent.toml, line 2: idle_timeout_s is -1; it must be 1 to 86400",
        ),
        (&["--config", "/dev/zero"], "/dev/zero is larger than 1 MiB"),
        (&["--drain-interval", "-5"], "--drain-interval is -5; it must be 10 to 60000"),
        (&["--attach", "fast"], "--attach is \"fast\"; it must be auto, xdp, xdp-generic or tc"),
        (&["--store", "ftp://x"], "--store: store 'ftp://x'"),
        (&["--interface", "eth0:quick"], "--interface: interface 'eth0:quick'"),
        (&["--exporter", ""], "--exporter is \"\""),
    ] {
        let output = agent(&["run"]).args(arguments).output().expect("runs");
        let error = sentence(&output, 2);
        assert!(error.contains(words), "{error}");
    }
    let output = agent(&["replay", "--output", "rows.json", "in.pcap"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    for form in ["jsonl:FILE", "clickhouse:http://HOST", "embedded:DIR"] {
        assert!(words.contains(form), "{words}");
    }
}

#[test]
fn an_idle_timeout_above_the_active_one_is_warned_of() {
    let output = agent(&["run", "--idle-timeout", "90", "--interface", "nosuch/none"]).output();
    let words = String::from_utf8_lossy(&output.expect("runs").stderr).into_owned();
    assert!(
        words.contains("idle timeout (90 s) is longer than the active timeout (60 s)"),
        "{words}"
    );
}
