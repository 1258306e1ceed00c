//! The commented default file: what `config print` writes and the packages ship.

use super::keys::{self, Key};
use super::profile;
use std::fmt::Write as _;

/// Columns of a comment.
const WIDTH: usize = 98;
/// What the packages set: the engine of flow-agent-store.service.
const SHIPPED_STORE: &str = "\"http://127.0.0.1:8123\"";

const HEAD: &str = "\
# flow-agent. Every key is optional; what is behind a # is the default, or an example where it
# says so. `flow-agent config check FILE` says what is wrong with a file, `flow-agent config print
# --effective` what is in force and where it comes from, and the manual has more:
# /usr/share/doc/flow-agent/configuration.md.
#
# Each key can be set by a variable, too: FLOW_AGENT__SHARDS=2, FLOW_AGENT__CACHE__POLICY=fifo.
# The command line wins over variables, they win over this file, the file over its profile.
# Keys marked [live] are followed when this file is changed; others need a restart.
";

/// Every key with what it does, as a file that says nothing but where the store is; with the
/// values of a profile instead of the defaults.
pub fn commented(profile: &str) -> String {
    let mut text = HEAD.to_owned();
    for key in keys::in_section("") {
        write_key(&mut text, key, profile);
    }
    for (section, about) in keys::SECTIONS {
        text.push('\n');
        comment(&mut text, about);
        _ = writeln!(text, "[{section}]");
        for key in keys::in_section(section) {
            write_key(&mut text, key, profile);
        }
    }
    text
}

fn write_key(text: &mut String, key: &Key, profile: &str) {
    text.push('\n');
    comment(text, &about(key));
    let own = profile::values(profile).iter().find(|(name, _)| *name == key.name);
    let line = match (key.name, own) {
        ("profile", _) if profile != "default" => format!("profile = {profile:?}"),
        ("store", _) => {
            comment(
                text,
                "This file sets it for the engine of flow-agent-store.service; for a server of \
                 yours: \"https://clickhouse.example:8443\".",
            );
            format!("store = {SHIPPED_STORE}")
        }
        ("services.*", _) => format!("#my-app = {}", key.example),
        (_, Some((_, value))) => format!("#{} = {value}", key.short()),
        _ => {
            let value = if key.example.is_empty() { key.default } else { Some(key.example) };
            format!("#{} = {}", key.short(), value.unwrap_or("\"\""))
        }
    };
    text.push_str(&line);
    text.push('\n');
}

/// What a key does, what is allowed and what is the default.
fn about(key: &Key) -> String {
    let mut about = key.doc.to_owned();
    let range = key.range();
    if !range.is_empty() {
        _ = write!(about, " Allowed: {range}.");
    }
    match key.default {
        // What is shown is not the default.
        Some(default) if !key.example.is_empty() => {
            _ = write!(about, " Default: {default}; below is an example.");
        }
        Some(default) => _ = write!(about, " Default: {default}."),
        None => _ = write!(about, " Default: {}; below is an example.", key.otherwise),
    }
    if key.live {
        about.push_str(" [live]");
    }
    about
}

/// Words behind `#`, in lines.
fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split_whitespace() {
        if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}
