//! Licences, banned crates and sources of all dependencies, against `deny.toml`.
//!
//! The file is that of `cargo-deny`, and so are its meanings; this is a small part of that tool,
//! because building all of it takes a fresh machine longer than all of our lints. What cargo
//! resolves enters, a sentence for each crate that may not be there leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::command;

#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    wildcards: Level,
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    unknown_registry: Level,
    unknown_git: Level,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Level {
    Deny,
    Warn,
    Allow,
}

/// Checks everything that `Cargo.lock` can bring in.
pub fn check() -> Result<()> {
    let text = fs::read_to_string(command::workspace().join("deny.toml"))?;
    let policy: Policy = toml::from_str(&text).context("deny.toml")?;
    let mut cargo = command::cargo();
    cargo.args(["metadata", "--format-version=1", "--locked", "--all-features"]);
    let metadata: Value = serde_json::from_str(&command::quiet(&mut cargo)?)?;
    let packages: Vec<&Value> = metadata["packages"].as_array().into_iter().flatten().collect();
    let problems = problems(&policy, &packages)?;
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in &packages {
        versions.entry(text_of(package, "name")).or_default().insert(text_of(package, "version"));
    }
    let several = versions.values().filter(|versions| versions.len() > 1).count();
    println!("{} crates, {several} of them in several versions", packages.len());
    if problems.is_empty() {
        return Ok(());
    }
    bail!("deny.toml does not allow this:\n  {}", problems.join("\n  "))
}

/// What is not allowed.
fn problems(policy: &Policy, packages: &[&Value]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for package in packages {
        let (name, version) = (text_of(package, "name"), text_of(package, "version"));
        let mut say = |what: &str| problems.push(format!("{name} {version}: {what}"));
        let exceptions = policy.licenses.exceptions.iter().filter(|one| one.name == name);
        let allowed: Vec<&String> =
            policy.licenses.allow.iter().chain(exceptions.flat_map(|one| &one.allow)).collect();
        match package["license"].as_str() {
            None => say("it names no licence"),
            Some(license) if !is_allowed(license, &allowed)? => {
                say(&format!("its licence is {license}"));
            }
            Some(_) => {}
        }
        if let Some(ban) = policy.bans.deny.iter().find(|ban| ban.name == name) {
            say(&format!("it is banned: {}", ban.reason));
        }
        let source = package["source"].as_str();
        let own = source.is_none();
        let registry = source.is_some_and(|source| source.ends_with("/crates.io-index"));
        let git = source.is_some_and(|source| source.starts_with("git+"));
        if git && policy.sources.unknown_git == Level::Deny {
            say("it comes from a git repository");
        } else if !own && !git && !registry && policy.sources.unknown_registry == Level::Deny {
            say("it comes from another registry");
        }
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let any = text_of(dependency, "req") == "*" && dependency["path"].is_null();
            if own && any && policy.bans.wildcards == Level::Deny {
                say(&format!("it takes any version of {}", text_of(dependency, "name")));
            }
        }
    }
    Ok(problems)
}

fn is_allowed(license: &str, allowed: &[&String]) -> Result<bool> {
    // As `/` was written before there were expressions.
    let mode = spdx::ParseMode::LAX;
    let expression = spdx::Expression::parse_mode(license, mode)
        .with_context(|| format!("the licence {license:?} is no SPDX expression"))?;
    Ok(expression.evaluate(|need| {
        let need = need.to_string();
        allowed.iter().any(|one| **one == need)
    }))
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const POLICY: &str = "[licenses]\nallow = ['MIT']\nexceptions = [{ crate = 'k', allow = ['GPL-2.0-only'] }]\n\
        [bans]\nwildcards = 'deny'\ndeny = [{ crate = 'b', reason = 'no' }]\n\
        [sources]\nunknown-registry = 'deny'\nunknown-git = 'deny'\n";

    fn said(name: &str, license: Option<&str>, source: Option<&str>) -> Vec<String> {
        let policy: Policy = toml::from_str(POLICY).expect("TOML");
        let package = json!({
            "name": name, "version": "1.0.0", "license": license, "source": source,
            "dependencies": [{ "name": "d", "req": if name == "w" { "*" } else { "^1" } }],
        });
        problems(&policy, &[&package]).expect("expressions")
    }

    #[test]
    fn the_workspace_keeps_to_its_policy() {
        check().expect("deny.toml allows every dependency");
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        let index = Some("registry+https://example.org/crates.io-index");
        assert!(said("a", Some("MIT OR GPL-3.0"), index).is_empty());
        assert!(said("a", Some("Apache-2.0/MIT"), index).is_empty());
        assert!(said("k", Some("MIT AND GPL-2.0-only"), None).is_empty());
        for (name, license, source, words) in [
            ("a", Some("MIT AND GPL-2.0-only"), index, "its licence is"),
            ("a", None, index, "names no licence"),
            ("b", Some("MIT"), index, "banned: no"),
            ("a", Some("MIT"), Some("git+https://example.org/a"), "git repository"),
            ("a", Some("MIT"), Some("registry+https://example.org/own"), "another registry"),
            ("w", Some("MIT"), None, "any version of d"),
        ] {
            let said = said(name, license, source);
            assert!(said.len() == 1 && said[0].contains(words), "{said:?}");
        }
    }
}
