//! What keys say together: folders that are in each other's way, limits that exclude each other,
//! files that are not there.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use toml::Value;

use super::layers::Given;
use super::{Config, ConfigError};
use crate::sink::StoreTarget;

/// Keys with a file that the agent reads.
const FILES: [&str; 6] = [
    "delivery.password_file",
    "delivery.ca_file",
    "delivery.client_cert_file",
    "delivery.client_key_file",
    "enrich.geoip_country",
    "enrich.geoip_asn",
];

/// Files that are named and cannot be read. A credential of systemd is there only for the unit.
pub fn unreadable(given: &BTreeMap<String, Given>) -> Vec<ConfigError> {
    let mut problems = Vec::new();
    for key in FILES {
        let Some(Given { value: Value::String(path), place, .. }) = given.get(key) else {
            continue;
        };
        if path.is_empty() || path.starts_with("credential:") {
            continue;
        }
        let opened = File::open(path).and_then(|file| file.metadata());
        let why = match opened {
            Ok(about) if about.is_dir() => "it is a folder".to_owned(),
            Ok(_) => continue,
            Err(error) => error.to_string(),
        };
        let problem =
            format!("{path:?} cannot be read: {why}; give the path of a file that is there");
        problems.push(ConfigError::Rule { place: place.clone(), problem });
    }
    problems
}

/// What is allowed by itself and not together.
pub fn contradictions(config: &Config, given: &BTreeMap<String, Given>) -> Vec<ConfigError> {
    let mut problems = Vec::new();
    let mut refuse = |keys: [&str; 2], problem: String| {
        // Of two that were said the last one in the file is named; a default is nobody's fault.
        let said = keys.iter().filter_map(|key| given.get(*key));
        if let Some(said) = said.max_by_key(|said| line_of(&said.place)) {
            problems.push(ConfigError::Rule { place: said.place.clone(), problem });
        }
    };
    let store = match &config.store {
        StoreTarget::Embedded(dir) => Some(dir.as_path()),
        StoreTarget::Servers(_) => None,
    };
    let folders: [(&str, Option<&Path>); 3] = [
        ("spool.dir", config.spool.dir.as_deref()),
        ("delivery.quarantine_dir", Some(&config.delivery.quarantine_dir)),
        ("store", store),
    ];
    for (index, (key, folder)) in folders.iter().enumerate() {
        for (other, same) in &folders[..index] {
            if let (Some(folder), Some(same)) = (folder, same)
                && folder == same
            {
                let problem = format!(
                    "{} is the folder of {other}, too; give each a folder of its own",
                    folder.display()
                );
                refuse([key, other], problem);
            }
        }
        if let (Some(folder), Some(state)) = (folder, &config.state)
            && state.file.starts_with(folder)
        {
            let problem = format!(
                "the file {} is in {}, the folder of {key}; give it a place outside",
                state.file.display(),
                folder.display()
            );
            refuse(["state.file", key], problem);
        }
    }
    let most = config.cache.limits.max_flows;
    if let (Some(memory), Some(_)) = (&config.memory, given.get("memory.floor_flows"))
        && memory.floor_flows > most
    {
        let problem = format!(
            "{} is more than the {most} flows that the cache may hold (max_flows): it could never \
             be made smaller; give less here, or more there",
            memory.floor_flows
        );
        refuse(["memory.floor_flows", "memory.floor_flows"], problem);
    }
    problems
}

/// The line in a place; 0 for what is of no file.
pub fn line_of(place: &str) -> usize {
    let rest = place.split(", line ").nth(1).unwrap_or_default();
    rest.split(':').next().and_then(|line| line.parse().ok()).unwrap_or(0)
}
