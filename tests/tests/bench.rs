//! `flow-agent bench` measures what it says, or fails. Needs root, libchdb and the agent's binary.

use std::process::Command;

use flow_tests::bin_path::flow_agent;
use serde_json::Value;

/// What `flow-agent bench --json` with these arguments says, one object a line.
fn measured(arguments: &[&str]) -> Vec<Value> {
    let output = Command::new(flow_agent())
        .args([&["bench"], arguments, &["--json"]].concat())
        .output()
        .expect("the agent can be started");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
}

#[test]
fn the_drain_is_measured_by_what_was_touched() {
    let results = measured(&["drain", "--flows", "20000"]);
    assert_eq!(results.len(), 2, "{results:?}");
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
    let results = measured(&["insert", "--rows", "12000"]);
    assert_eq!(results.len(), 3, "{results:?}");
    for result in &results {
        assert_eq!((&result["bench"], &result["rows"]), (&"insert".into(), &12_000.into()));
        let figure = |key: &str| result[key].as_f64().expect(key);
        // Fewer octets than a row's times and addresses have are no rows.
        assert!(figure("block_bytes_per_row") > 48.0, "{result}");
        assert!(figure("disk_bytes_per_row") > 4.0, "{result}");
        assert!(figure("rows_per_s") > 0.0 && figure("agent_ns_per_row") > 0.0, "{result}");
    }
}

/// Each peer has counted every packet that it was given, or the measurement fails.
#[test]
fn peers_meter_the_same_packets() {
    let results = measured(&["peers", "--flows", "1000"]);
    for program in ["flow-agent", "percpu_hash", "hash", "lru_hash", "lru_percpu_hash"] {
        for distribution in ["uniform", "zipf"] {
            let is = |result: &&Value| {
                result["program"] == program && result["distribution"] == distribution
            };
            let cpus: Vec<_> =
                results.iter().filter(is).filter_map(|result| result["cpus"].as_u64()).collect();
            let all = std::thread::available_parallelism().map_or(1, usize::from) as u64;
            let expected = if all > 1 { vec![1, all] } else { vec![1] };
            assert_eq!(cpus, expected, "{program}, {distribution}: {results:?}");
        }
    }
}

/// What the verifier says of each program that an agent attaches, within its limits.
#[test]
fn the_verifier_says_what_the_programs_are() {
    let results = measured(&["verifier"]);
    for program in ["xdp_ingress", "tc_ingress", "tc_egress"] {
        for decapsulate in [false, true] {
            let is = |one: &&Value| one["program"] == program && one["decapsulate"] == decapsulate;
            let result = results.iter().find(is).expect(program);
            let figure = |key: &str| result[key].as_u64().expect(key);
            assert!(figure("verified") < 1_000_000 && figure("instructions") > 100, "{result}");
            assert!((1..=512).contains(&figure("stack_bytes")), "{result}");
        }
    }
}
