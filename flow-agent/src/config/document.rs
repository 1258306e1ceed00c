//! The reference of keys and profiles in docs/configuration.md.

use super::keys::{self, Key};
use super::profile;
use std::fmt::Write as _;

/// The reference, as Markdown.
pub fn markdown() -> String {
    let mut text = String::from("### Above the sections\n\n");
    table(&mut text, keys::in_section(""));
    for (section, about) in keys::SECTIONS {
        _ = write!(text, "\n### `[{section}]`\n\n{about}\n\n");
        table(&mut text, keys::in_section(section));
    }
    text.push_str("\n### Values of the profiles\n\n| key | small | default | large | debug |\n");
    text.push_str("|---|---|---|---|---|\n");
    for key in keys::all() {
        let value = |name: &str| {
            let own = profile::values(name).iter().find(|(own, _)| *own == key.name);
            own.map(|(_, value)| format!("`{value}`"))
        };
        let values = profile::NAMES.map(value);
        if values.iter().any(Option::is_some) {
            let values = values.map(|value| value.unwrap_or_else(|| default(key)));
            _ = writeln!(text, "| `{}` | {} |", key.name, values.join(" | "));
        }
    }
    text.push('\n');
    for name in profile::NAMES {
        _ = writeln!(text, "- **`{name}`**: {}", profile::about(name));
    }
    text
}

fn table(text: &mut String, keys: impl Iterator<Item = &'static Key>) {
    text.push_str("| key | default | allowed | while running | |\n|---|---|---|---|---|\n");
    for key in keys {
        let name =
            if key.short() == "*" { "*any name*".into() } else { format!("`{}`", key.short()) };
        let live = if key.live { "followed" } else { "restart" };
        let default = default(key);
        let range = key.range().replace('|', "\\|");
        _ = writeln!(text, "| {name} | {default} | {range} | {live} | {} |", key.doc);
    }
}

fn default(key: &Key) -> String {
    key.default.map_or_else(|| key.otherwise.into(), |default| format!("`{default}`"))
}
