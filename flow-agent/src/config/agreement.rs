//! The table of keys agrees with the checks, with what is printed, and with the documentation.

use std::collections::BTreeSet;

use super::keys::{self, Key, Kind};
use super::*;

fn source(environment: &[(&str, &str)]) -> Source {
    let environment = environment.iter().map(|(a, b)| (a.into(), b.into())).collect();
    Source { environment, host_name: "host".into(), cpus: 1, ..Source::default() }
}

/// A value as TOML that differs from the default.
fn other_value(key: &Key) -> String {
    match (key.kind, key.name) {
        (_, "retention.flows_1m_days" | "retention.flows_1h_days") => "77".into(),
        (Kind::Switch, _) => (key.default != Some("true")).to_string(),
        (Kind::Whole { least, most }, _) => {
            let other = (least + 1).max(3).min(most);
            if key.default == Some(&*other.to_string()) { other + 1 } else { other }.to_string()
        }
        (Kind::Word(words), _) => {
            let mut other = words.iter().map(|word| format!("{word:?}"));
            other.rfind(|word| Some(&**word) != key.default).expect("two words")
        }
        (_, "pin_dir" | "spool.dir" | "state.file" | "delivery.quarantine_dir") => {
            "\"/x/y\"".into()
        }
        (_, "status.listen") => "\"127.0.0.1:1\"".into(),
        (_, "log.level") => "\"warn\"".into(),
        (_, "store") => "\"http://db\"".into(),
        (_, "exclude_interfaces") => "[\"veth*\"]".into(),
        (_, "analytics.local_networks") => "[\"10.0.0.0/8\"]".into(),
        _ => key.example.into(),
    }
}

/// The key alone, with what it cannot be without.
fn file_with(key: &Key, value: &str) -> String {
    let short = if key.short() == "*" { "name" } else { key.short() };
    let line = match key.section() {
        "" => format!("{short} = {value}\n"),
        section => format!("[{section}]\n{short} = {value}\n"),
    };
    line + match key.name {
        "sampling.mode" => "rate = 2",
        "sampling.rate" => "mode = 'flow'",
        "delivery.client_cert_file" => "client_key_file = '/k'",
        "delivery.client_key_file" => "client_cert_file = '/c'",
        "status.tls_cert_file" => "tls_key_file = '/k'",
        "status.tls_key_file" => "tls_cert_file = '/c'",
        "memory.regrow_below_percent" => "shrink_above_percent = 100",
        "spool.max_mib" => "segment_mib = 1",
        "spool.segment_mib" => "max_mib = 16777216",
        "memory.floor_flows" => "[cache]\nmax_flows = 1073741824",
        "retention.flows_days" => "flows_1m_days = 3650\nflows_1h_days = 3650",
        "retention.flows_1m_days" | "retention.flows_1h_days" => "flows_days = 2",
        _ => "",
    }
}

fn effective(text: &str) -> Result<Effective, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("agent.toml");
    std::fs::write(&file, text).expect("ours");
    let source = Source { file: Some(file), ..source(&[]) };
    source.load().map(|loaded| loaded.effective).map_err(|error| error.to_string())
}

#[test]
fn both_ends_of_every_range_are_allowed_and_nothing_beyond() {
    for key in keys::all() {
        let Kind::Whole { least, most } = key.kind else { continue };
        for value in [least, most] {
            let text = file_with(key, &value.to_string());
            effective(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        for value in [least - 1, most + 1] {
            let text = file_with(key, &value.to_string());
            let error = effective(&text).expect_err(&text);
            assert!(error.contains(&format!("{} is {value}; it must be", key.name)), "{error}");
        }
    }
}

#[test]
fn every_key_takes_its_type_its_words_and_its_default_and_no_other_type() {
    for key in keys::all() {
        let mut good: Vec<String> = [key.default.unwrap_or_default(), key.example]
            .iter()
            .filter(|text| !text.is_empty())
            .map(ToString::to_string)
            .collect();
        good.push(other_value(key));
        if let Kind::Word(words) = key.kind {
            good.extend(words.iter().map(|word| format!("{word:?}")));
            let error = effective(&file_with(key, "\"no-such\"")).expect_err("refused");
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
        for value in good {
            let text = file_with(key, &value);
            effective(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        let error = effective(&file_with(key, "1979-05-27")).expect_err("no key is a date");
        let place = if key.short() == "*" { "services.name" } else { key.name };
        assert!(error.contains(&format!("{place} is a date; it must be ")), "{error}");
    }
}

#[test]
fn the_defaults_of_the_table_are_those_of_the_agent() {
    let said: String = keys::all()
        .filter(|key| key.name != "status.listen") // saying it means that it must be free
        .filter_map(|key| Some((key, key.default?)))
        .fold((String::new(), ""), |(mut text, section), (key, default)| {
            if key.section() != section {
                text += "[";
                text += key.section();
                text += "]\n";
            }
            for part in [key.short(), " = ", default, "\n"] {
                text += part;
            }
            (text, key.section())
        })
        .0;
    let said = Settings::parse(&said, "all").expect("valid").check("host", 2).expect("valid");
    let default = Settings::default().check("host", 2).expect("valid");
    assert_eq!(format!("{said:?}"), format!("{default:?}"));
}

#[test]
fn every_key_is_followed_or_named_as_one_that_needs_a_restart() {
    let before = effective("").expect("valid");
    for key in keys::all() {
        let text = file_with(key, &other_value(key));
        let changed = effective(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let after = before.followed_by(&changed);
        let name = if key.short() == "*" { "services.name" } else { key.name };
        let named = after.needs_restart.iter().any(|needs| needs == name);
        assert_eq!(named, !key.live, "{text}");
        let value = |entries: &Effective| {
            let entry = entries.entries.iter().find(|entry| entry.name == name);
            entry.and_then(|entry| entry.value.clone())
        };
        let expected = if key.live { value(&changed) } else { value(&before) };
        assert_eq!(value(&after), expected, "in force: {text}");
        // What was changed back needs no restart any more.
        assert_eq!(after.followed_by(&before).needs_restart, Vec::<String>::new(), "{text}");
    }
}

#[test]
fn what_is_printed_is_valid_as_it_is_and_with_every_line_taken_in() {
    for profile in profile::NAMES {
        let text = commented(profile);
        let mut comments = text.lines().filter(|line| line.starts_with("# "));
        assert!(comments.all(|line| line.chars().count() <= 100), "{profile}");
        let said = effective(&text).unwrap_or_else(|error| panic!("{error}"));
        let origin = |name: &str| said.entries.iter().find(|entry| entry.name == name);
        assert_eq!(
            origin("store").and_then(|entry| entry.value.clone()),
            Some("http://127.0.0.1:8123".into())
        );
        let taken_in = |line: &str| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        };
        let text: String = text.lines().map(taken_in).collect();
        let said = effective(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
        let defaults = said.entries.iter().filter(|entry| entry.origin.starts_with("default"));
        let missing: Vec<_> = defaults.map(|entry| &entry.name).collect();
        assert!(missing.iter().all(|name| *name == "profile"), "not printed: {missing:?}");
    }
}

#[test]
fn the_shipped_file_and_the_manual_are_what_is_printed() {
    let shipped = include_str!("../../../deploy/config/flow-agent.toml");
    assert!(
        shipped == commented("default"),
        "flow-agent config print > deploy/config/flow-agent.toml"
    );
    let manual = include_str!("../../../docs/configuration.md");
    let (_, rest) = manual.split_once("<!-- keys -->\n").expect("the beginning");
    let (keys, _) = rest.split_once("<!-- /keys -->").expect("the end");
    assert!(keys == markdown(), "flow-agent config reference, between the marks <!-- keys -->");
}

#[test]
fn profiles_say_known_keys_and_differ_from_the_default() {
    for name in profile::NAMES {
        let loaded = source(&[("FLOW_AGENT__PROFILE", name)]).load();
        let effective = loaded.unwrap_or_else(|error| panic!("{name}: {error}")).effective;
        let own: BTreeSet<_> = effective
            .entries
            .iter()
            .filter(|entry| entry.origin == format!("profile {name}"))
            .map(|entry| (&*entry.name, entry.value.as_ref().map(ToString::to_string)))
            .collect();
        assert_eq!(own.len(), profile::values(name).len(), "{name}");
        for (key, value) in own {
            let default = keys::find(key).expect("known").default;
            assert_ne!(value.as_deref(), default, "{name}: {key} is the default");
        }
    }
}

#[test]
fn every_key_can_be_set_by_its_variable() {
    for key in keys::all().filter(|key| key.short() != "*") {
        let variable = environment::variable(key.name);
        let value = other_value(key);
        let partner: &[(&str, &str)] = match key.name {
            "sampling.mode" => &[("FLOW_AGENT__SAMPLING__RATE", "2")],
            "sampling.rate" => &[("FLOW_AGENT__SAMPLING__MODE", "flow")],
            "delivery.client_cert_file" => &[("FLOW_AGENT__DELIVERY__CLIENT_KEY_FILE", "/k")],
            "delivery.client_key_file" => &[("FLOW_AGENT__DELIVERY__CLIENT_CERT_FILE", "/c")],
            "status.tls_cert_file" => &[("FLOW_AGENT__STATUS__TLS_KEY_FILE", "/k")],
            "status.tls_key_file" => &[("FLOW_AGENT__STATUS__TLS_CERT_FILE", "/c")],
            "spool.max_mib" => &[("FLOW_AGENT__SPOOL__SEGMENT_MIB", "1")],
            _ => &[],
        };
        // As in the file, and without the quotes and brackets.
        let bare = value.replace(['"', '[', ']'], "");
        for text in [&value, &bare] {
            let mut variables = partner.to_vec();
            variables.push((&variable, text));
            let loaded = source(&variables).load().unwrap_or_else(|e| panic!("{text}: {e}"));
            let entries = loaded.effective.entries;
            let entry = entries.iter().find(|entry| entry.name == key.name).expect("known");
            assert_eq!(entry.origin, format!("environment variable {variable}"));
            let shown = entry.value.as_ref().map(ToString::to_string).unwrap_or_default();
            assert_eq!(shown.replace(['"', '[', ']'], ""), bare, "{variable}={text}");
        }
    }
}

#[test]
fn a_default_that_gives_way_is_shown_as_it_is_in_force() {
    for (text, shown) in [
        ("[batch]\nmax_rows = 500\n", "min_rows = 500"),
        ("[batch]\nmin_rows = 600000\n", "max_rows = 600000"),
        ("[memory]\nshrink_above_percent = 10\n", "regrow_below_percent = 9"),
        ("max_flows = 15\n", "floor_flows = 15"),
        ("max_flows = 15\n[cache]\nmax_flows = 20\n", "floor_flows = 20"),
    ] {
        let printed = effective(text).expect(text).toml();
        assert!(printed.lines().any(|line| line.starts_with(shown)), "{printed}");
        effective(&printed).expect(&printed);
    }
}
