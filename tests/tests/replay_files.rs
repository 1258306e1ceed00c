//! Replay and the files it is given: what is refused, and what is never overwritten.

use std::path::Path;
use std::process::{Command, Stdio};

use flow_tests::bin_path::flow_agent;
use flow_tests::made::{Pcap, capture, folder_with, json_file, lines, replay};
use serde_json::{Value, json};

/// Runs `replay` with these arguments, the standard input from `input`; it must be refused with a
/// sentence that has `words`.
fn assert_refused(arguments: &[&str], input: Option<&Path>, words: &str) {
    let input =
        input.map_or_else(Stdio::null, |path| std::fs::File::open(path).expect("there").into());
    let output = Command::new(flow_agent())
        .arg("replay")
        .args(arguments)
        .stdin(input)
        .output()
        .expect("runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
    assert!(error.contains(words), "{arguments:?}: {error}");
}

#[test]
fn a_file_in_two_roles_is_refused_and_kept() {
    let (folder, file) = folder_with("made.pcap", &capture());
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_string();
    std::fs::hard_link(&file, path("hard")).expect("linked");
    std::os::unix::fs::symlink(&file, path("soft")).expect("linked");
    let (made, hard, soft) = (path("made.pcap"), path("hard"), path("soft"));
    let (rows, same) = (format!("jsonl:{}", path("new")), path("./new"));
    for arguments in [
        &["--output", &format!("jsonl:{made}"), &made][..],
        &["--output", &format!("jsonl:{soft}"), &made],
        &["--output", &format!("jsonl:{made}"), &hard],
        &["--ledger", &soft, &hard],
        &["--output", &rows, "--ledger", &same, &made],
        &[&made, &soft],
        &["-", "-"],
        &["-", &made],
        &["--ledger", &made, "-"],
    ] {
        assert_refused(arguments, Some(&file), "is the same file as");
        assert_eq!(std::fs::read(&file).expect("kept"), capture());
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("ours").count(), 3);
}

#[test]
fn what_cannot_be_read_or_written_is_refused_before_any_work() {
    let (folder, file) = folder_with("made.pcap", &capture());
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_string();
    std::fs::write(path("text"), "no capture").expect("ours");
    let mut ppp = Pcap::new();
    ppp.0[20] = 9;
    ppp.add(0, &[0; 20]);
    std::fs::write(path("ppp.pcap"), &ppp.0).expect("ours");
    let made = file.to_str().expect("UTF-8");
    let (data, store) = (path("data"), format!("embedded:{}", path("data")));
    let to_folder = format!("jsonl:{}", folder.path().display());
    for (arguments, words) in [
        (&[made, &path("text")][..], "text is no capture"),
        (&[made, &path("missing")], "missing"),
        (&[made, &path("ppp.pcap")], "ppp.pcap: link type PPP"),
        (&[made, "--ledger", &path("no/ledger")], "the ledger"),
        (&[made, "--ledger", "/dev/null/ledger"], "the ledger"),
    ] {
        assert_refused(&[&["--output", &store], arguments].concat(), None, words);
        assert!(!Path::new(&data).exists(), "the store was started: {arguments:?}");
    }
    assert_refused(&["--output", &to_folder, made], None, "the output");
    assert_refused(&["--output", "jsonl:/no/rows", made], None, "the output");
}

#[test]
fn an_unknown_link_type_late_in_a_capture_leaves_the_old_rows() {
    let mut dice = flow_tests::wild::Dice::new(7);
    let good = flow_tests::wild::frames(&mut dice, 1, 3);
    let late = flow_tests::wild::pcapng(&[(1, good.clone()), (9, good)]);
    let (folder, file) = folder_with("late.pcapng", &late);
    let rows = folder.path().join("rows");
    std::fs::write(&rows, "old").expect("ours");
    let to_rows = format!("jsonl:{}", rows.display());
    assert_refused(&["--output", &to_rows, file.to_str().expect("UTF-8")], None, "late.pcapng: ");
    assert_eq!(std::fs::read_to_string(&rows).expect("kept"), "old");
    assert_eq!(std::fs::read_dir(folder.path()).expect("ours").count(), 2);
}

#[test]
fn devices_fifos_and_the_standard_output_are_written_as_they_are() {
    let (folder, file) = folder_with("made.pcap", &capture());
    let expected = replay(&[], &file).stdout;
    let null = replay(&["--output", "jsonl:/dev/null", "--ledger", "/dev/stdout"], &file);
    assert!(null.status.success());
    let ledger: Value = serde_json::from_slice(&null.stdout).expect("JSON");
    assert_eq!(ledger["flows_emitted"], 4);
    assert_eq!(replay(&["--output", "jsonl:/dev/stdout"], &file).stdout, expected);
    // A fifo on each side.
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    for fifo in [&input, &output] {
        assert!(Command::new("mkfifo").arg(fifo).status().expect("runs").success());
    }
    let filler = {
        let input = input.clone();
        std::thread::spawn(move || std::fs::write(input, capture()).expect("is read"))
    };
    let mut child = Command::new(flow_agent())
        .args(["replay", "--exporter", "probe", "--output"])
        .arg(format!("jsonl:{}", output.display()))
        .arg(&input)
        .spawn()
        .expect("runs");
    let rows = String::from_utf8(std::fs::read(&output).expect("is written")).expect("UTF-8");
    assert!(child.wait().expect("ends").success());
    filler.join().expect("ends");
    assert_eq!(rows.replace("\"in\"", "\"made.pcap\"").into_bytes(), expected);
}

#[test]
fn a_full_standard_output_fails_and_one_that_is_closed_does_not() {
    let (folder, file) = folder_with("made.pcap", &capture());
    let ledger = folder.path().join("ledger.json");
    let start = |stdout: Stdio| {
        let mut command = Command::new(flow_agent());
        command.arg("replay").arg("--ledger").arg(&ledger).arg(&file);
        command.stdout(stdout).stderr(Stdio::piped()).spawn().expect("runs")
    };
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a Linux host");
    let output = start(full.into()).wait_with_output().expect("ends");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.lines().count() == 1 && error.contains("standard output"), "{error}");

    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = start(writer.into()).wait_with_output().expect("ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
    assert_eq!(json_file(&ledger)["flows_emitted"], 4);
}

#[test]
fn captures_of_one_name_are_told_apart_by_their_paths() {
    let (folder, file) = folder_with("made.pcap", &capture());
    let other = folder.path().join("b").join("made.pcap");
    std::fs::create_dir(folder.path().join("b")).expect("made");
    std::fs::copy(&file, &other).expect("copied");
    let output = replay(&[file.to_str().expect("UTF-8")], &other);
    let mut names: Vec<_> = lines(&output).iter().map(|row| row["interface"].clone()).collect();
    names.sort_by_key(Value::to_string);
    names.dedup();
    assert_eq!(names, [json!(other), json!(file)]);
}
