//! `flow-agent bench` measures what it says, or fails. Needs root and the agent's binary.

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
