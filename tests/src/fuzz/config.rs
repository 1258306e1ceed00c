//! The configuration: a text is refused with sentences that name it, or it is in force; and what
//! is printed of what is in force means the same when it is read.

use flow_agent::config::Source;

/// See the module.
pub fn run(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let source = Source { host_name: "host".into(), cpus: 2, ..Source::default() };
    let loaded = match source.load_text(text) {
        Ok(loaded) => loaded,
        Err(problems) => {
            for problem in problems.each() {
                assert!(!problem.to_string().is_empty());
            }
            return;
        }
    };
    let printed = loaded.effective.toml();
    // Passwords are left out when it is printed, so that a URL with one means another.
    if printed.contains(":***@") {
        return;
    }
    let again = match source.load_text(&printed) {
        Ok(again) => again,
        Err(problem) => panic!("what is printed is refused: {problem}\n{printed}"),
    };
    let values = |loaded: &flow_agent::config::Loaded| {
        let entries = loaded.effective.entries.iter();
        let values = entries.filter(|entry| entry.value.is_some());
        values.map(|entry| (entry.name.clone(), entry.value.clone())).collect::<Vec<_>>()
    };
    assert_eq!(values(&loaded), values(&again), "printed as\n{printed}");
}
