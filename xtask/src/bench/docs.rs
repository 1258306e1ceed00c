//! Puts table and chart into the documents, between two marks.

use anyhow::{Context, Result};

use super::results::{Results, write_whole};
use crate::command;

const BEGIN: &str = "<!-- written by `cargo xtask bench --docs` -->";
const END: &str = "<!-- end of what `cargo xtask bench --docs` writes -->";

/// Writes `docs/images/performance.svg` and the part of `docs/performance.md` between the marks.
pub fn write(results: &Results, picture: &str) -> Result<()> {
    let docs = command::workspace().join("docs");
    let path = docs.join("performance.md");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let missing = || format!("{} has no line \"{BEGIN}\" and \"{END}\" after it", path.display());
    let (before, rest) = text.split_once(BEGIN).with_context(missing)?;
    let (_, after) = rest.split_once(END).with_context(missing)?;
    let new = format!(
        "{before}{BEGIN}\n![growth with the number of flows](images/performance.svg)\n\n{}{END}{after}",
        results.markdown()
    );
    write_whole(&docs.join("images/performance.svg"), picture)?;
    write_whole(&path, &new)
}
