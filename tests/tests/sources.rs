//! What the sources themselves must keep: `unsafe` stands only in the modules that SECURITY.md
//! lists, and no crate switches the lints off that ask for its reasons.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the workspace")
}

/// Every Rust source of the workspace, relative to it.
fn sources() -> Vec<PathBuf> {
    let mut folders = vec![workspace().to_path_buf()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("ours") {
            let path = entry.expect("ours").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(path.strip_prefix(workspace()).expect("below").to_path_buf());
            }
        }
    }
    sources.sort();
    sources
}

/// True if the word `unsafe` is code there: not in a comment, a string or an attribute.
fn has_unsafe(text: &str) -> bool {
    let rest = |line: &str| -> String {
        // What a string says does not matter, and no string here has half a comment.
        let code = line.split("//").next().unwrap_or_default();
        code.split('"').step_by(2).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(rest).any(|line| {
        let words = line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '(');
        words.into_iter().any(|word| word == "unsafe")
    })
}

#[test]
fn unsafe_stands_only_where_security_md_says() {
    let text = fs::read_to_string(workspace().join("SECURITY.md")).expect("it is there");
    let (_, list) = text.split_once("<!-- unsafe: begin -->").expect("the list begins");
    let (list, _) = list.split_once("<!-- unsafe: end -->").expect("the list ends");
    let listed: BTreeSet<&str> = list.lines().filter_map(|line| line.split('`').nth(1)).collect();
    let found: Vec<String> = sources()
        .iter()
        .filter(|path| {
            has_unsafe(&fs::read_to_string(workspace().join(path)).expect("it can be read"))
        })
        .map(|path| path.display().to_string())
        .collect();
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found, listed, "left: modules with unsafe code; right: those that are listed");
}

#[test]
fn what_is_code_is_told_from_what_is_not() {
    for code in ["unsafe { x }", "pub unsafe fn f()", "unsafe impl Send", "a(|x| unsafe {x})"] {
        assert!(has_unsafe(code), "{code}");
    }
    for other in ["// unsafe {", "#[unsafe(no_mangle)]", "\"unsafe {\"", "forbid(unsafe_code)"] {
        assert!(!has_unsafe(other), "{other}");
    }
}

#[test]
fn every_crate_has_the_lints_of_the_workspace() {
    let lints = fs::read_to_string(workspace().join("Cargo.toml")).expect("it is there");
    for lint in ["undocumented_unsafe_blocks = \"deny\"", "unsafe_op_in_unsafe_fn = \"deny\""] {
        assert!(lints.contains(lint), "{lint}");
    }
    let mut crates = 0;
    for member in fs::read_dir(workspace()).expect("ours") {
        let manifest = member.expect("ours").path().join("Cargo.toml");
        let Ok(text) = fs::read_to_string(&manifest) else { continue };
        crates += 1;
        assert!(text.contains("[lints]\nworkspace = true"), "{}", manifest.display());
    }
    assert!(crates >= 6, "{crates} crates");
    let reasons = |text: &str| text.contains("allow(clippy::undocumented_unsafe_blocks");
    for path in sources().iter().filter(|path| !path.ends_with("sources.rs")) {
        let text = fs::read_to_string(workspace().join(path)).expect("it can be read");
        assert!(!reasons(&text), "{} needs no reasons for unsafe blocks", path.display());
    }
}
