//! What the agent is made of, as `CycloneDX` 1.5 JSON, from the dependencies that cargo resolves.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::command;

/// The list for this version; the same lock file gives the same octets.
pub fn cyclonedx(version: &str) -> Result<Vec<u8>> {
    let mut cargo = command::cargo();
    cargo.args(["metadata", "--format-version=1", "--locked"]);
    let metadata: Value = serde_json::from_str(&command::quiet(&mut cargo)?)?;
    let packages: BTreeMap<&str, &Value> = list(&metadata["packages"])
        .filter_map(|package| Some((package["id"].as_str()?, package)))
        .collect();
    let nodes: BTreeMap<&str, &Value> = list(&metadata["resolve"]["nodes"])
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let root = packages.iter().find(|(_, package)| package["name"] == "flow-agent");
    let (root, _) = root.context("cargo metadata does not list flow-agent")?;
    let mut reached = BTreeSet::new();
    let mut open = vec![*root];
    while let Some(id) = open.pop() {
        if reached.insert(id)
            && let Some(node) = nodes.get(id)
        {
            // What only tests need (kind "dev") is not in the binary.
            let shipped = list(&node["deps"]).filter(|dependency| {
                list(&dependency["dep_kinds"]).any(|kind| kind["kind"] != "dev")
            });
            open.extend(shipped.filter_map(|dependency| dependency["pkg"].as_str()));
        }
    }
    reached.remove(root);
    let mut components: Vec<Value> = reached
        .iter()
        .filter_map(|id| packages.get(id))
        .map(|package| component(package))
        .collect();
    components.sort_by_key(|component| component["bom-ref"].to_string());
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": {
            "type": "application", "name": "flow-agent", "version": version,
            "bom-ref": format!("pkg:cargo/flow-agent@{version}"),
        } },
        "components": components,
    });
    Ok((serde_json::to_string_pretty(&bill)? + "\n").into_bytes())
}

fn component(package: &Value) -> Value {
    let text = |key: &str| package[key].as_str().unwrap_or_default();
    let address = format!("pkg:cargo/{}@{}", text("name"), text("version"));
    let mut component = json!({
        "type": "library", "name": text("name"), "version": text("version"),
        "purl": address, "bom-ref": address,
    });
    if let Some(license) = package["license"].as_str() {
        component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
    }
    component
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
