//! axe-core, which looks for what hinders people: `FLOW_AXE`, else the copy that
//! `cargo xtask setup` fetched.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Browser;

/// Where the setup puts it.
const IN_CACHE: &str = "flow-agent/axe-core-4.14.1/axe.min.js";

fn script() -> Result<String> {
    let in_cache = || {
        let cache = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty());
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        Some(cache.map(PathBuf::from).or_else(home)?.join(IN_CACHE))
    };
    let path = std::env::var_os("FLOW_AXE").map(PathBuf::from).or_else(in_cache);
    let path = path.context("neither FLOW_AXE nor HOME is set")?;
    let problem = || format!("no axe-core at {}: run `cargo xtask setup`", path.display());
    std::fs::read_to_string(&path).with_context(problem)
}

/// Each rule that is broken, with the elements that break it.
pub fn violations(browser: &Browser) -> Result<Vec<String>> {
    // By the protocol, as the page's policy forbids it scripts from elsewhere.
    browser.devtools("Runtime.evaluate", json!({ "expression": script()? }))?;
    let asked = json!({
        "expression": "axe.run(document).then((found) => JSON.stringify({ \
            passes: found.passes.length, \
            violations: found.violations.map((one) => `${one.id} (${one.impact}): ` \
                + one.nodes.map((node) => node.html.slice(0, 160) + ' ' + node.failureSummary).join(' | ')) }))",
        "awaitPromise": true,
        "returnByValue": true,
    });
    let answer = browser.devtools("Runtime.evaluate", asked)?;
    let text = answer["result"]["value"].as_str();
    let found: Value = serde_json::from_str(text.with_context(|| format!("axe said {answer}"))?)?;
    ensure!(found["passes"].as_u64() > Some(20), "axe looked at nothing: {found}");
    let violations = found["violations"].as_array().context("a list")?;
    Ok(violations.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect())
}
