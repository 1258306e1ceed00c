//! `flow-agent bench` measures what it says, or fails. Needs root, libchdb and the agent's binary.

use std::process::Command;

use flow_tests::bin_path::flow_agent;
use serde_json::Value;

#[test]
fn the_drain_is_measured_by_what_was_touched() {
    let output = Command::new(flow_agent())
        .args(["bench", "drain", "--flows", "20000", "--json"])
        .output()
        .expect("the agent can be started");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let results: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    assert_eq!(results.len(), 2, "{text}");
    for result in &results {
        assert_eq!(result["bench"], "drain");
        assert_eq!(result["flows"], 20_000);
        assert!(result["ns_per_entry"].as_f64().is_some_and(|ns| ns > 0.0), "{result}");
    }
    assert_eq!(results[0].get("touched"), None);
    assert_eq!(results[1]["touched"], 1000);
}

#[test]
fn inserts_are_measured_by_what_is_stored() {
    let output = Command::new(flow_agent())
        .args(["bench", "insert", "--rows", "12000", "--json"])
        .output()
        .expect("the agent can be started");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let results: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    assert_eq!(results.len(), 3, "{text}");
    for result in &results {
        assert_eq!((&result["bench"], &result["rows"]), (&"insert".into(), &12_000.into()));
        let figure = |key: &str| result[key].as_f64().expect(key);
        // Fewer octets than a row's times and addresses have are no rows.
        assert!(figure("block_bytes_per_row") > 48.0, "{result}");
        assert!(figure("disk_bytes_per_row") > 4.0, "{result}");
        assert!(figure("rows_per_s") > 0.0 && figure("agent_ns_per_row") > 0.0, "{result}");
    }
}
