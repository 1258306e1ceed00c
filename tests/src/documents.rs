//! The documents of the project, read as a person reads them: which commands, questions and
//! configurations they show.
//!
//! Enters: `README.md` and `docs/*.md`. Leave: their fenced blocks, the commands in them, and the
//! commands within sentences, each with its place.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What every command that is looked at begins with.
const PROGRAM: &str = "flow-agent";

/// A fenced block.
#[derive(Clone, Debug)]
pub struct Block {
    /// `docs/schema.md:131`: the file and the line of the fence.
    pub place: String,
    /// What the fence says that it is: `sh`, `sql`, ...
    pub kind: String,
    /// What is in it.
    pub text: String,
}

/// A line that somebody may type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// Where it is.
    pub place: String,
    /// Without prompt and comment.
    pub line: String,
}

/// The documents, by their paths in the project.
///
/// # Errors
/// A file cannot be read.
pub fn documents() -> Result<Vec<(String, String)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = vec![PathBuf::from("README.md")];
    for entry in std::fs::read_dir(root.join("docs"))? {
        let name = entry?.file_name();
        if Path::new(&name).extension().is_some_and(|kind| kind == "md") {
            files.push(Path::new("docs").join(name));
        }
    }
    files.sort();
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(root.join(&file));
        let text = text.with_context(|| file.display().to_string())?;
        Ok((file.display().to_string(), text))
    };
    files.into_iter().map(read).collect()
}

/// The fenced blocks of all documents.
///
/// # Errors
/// A file cannot be read.
pub fn blocks() -> Result<Vec<Block>> {
    let documents = documents()?;
    Ok(documents.iter().flat_map(|(file, text)| blocks_of(file, text)).collect())
}

fn blocks_of(file: &str, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (at, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), open) {
            (Some(kind), false) => {
                let (place, kind) = (format!("{file}:{}", at + 1), kind.trim().to_owned());
                blocks.push(Block { place, kind, text: String::new() });
                open = true;
            }
            (Some(_), true) => open = false,
            (None, true) => {
                if let Some(block) = blocks.last_mut() {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
            }
            (None, false) => {}
        }
    }
    blocks
}

impl Block {
    /// What is typed in it: every line of `sh`, and of `console` those after a prompt.
    pub fn typed(&self) -> Vec<Typed> {
        let console = match self.kind.as_str() {
            "sh" => false,
            "console" => true,
            _ => return Vec::new(),
        };
        let text = self.text.replace("\\\n", " ");
        let line = |line: &str| {
            let prompt = line.strip_prefix("# ").or_else(|| line.strip_prefix("$ "));
            let line = if console { prompt? } else { line };
            let line = without_comment(line).trim().to_owned();
            (!line.is_empty()).then(|| Typed { place: self.place.clone(), line })
        };
        text.lines().filter_map(line).collect()
    }
}

/// Code within sentences that begins with the name of the program.
///
/// # Errors
/// A file cannot be read.
pub fn mentioned() -> Result<Vec<Typed>> {
    let mut all = Vec::new();
    for (file, text) in documents()? {
        let mut fenced = false;
        for (at, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                let spans = line.split('`').skip(1).step_by(2);
                let ours = spans.filter(|code| code.starts_with(&format!("{PROGRAM} ")));
                let place = format!("{file}:{}", at + 1);
                all.extend(ours.map(|code| Typed { place: place.clone(), line: code.to_owned() }));
            }
        }
    }
    Ok(all)
}

/// The line up to ` #` outside of quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c == '#' && before == ' ' => return &line[..at],
            Some(_) | None => {}
        }
        before = c;
    }
    line
}

/// The words of a line as a shell has them, up to a pipe, a redirection or the like.
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            Some(_) | None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    let end = words.iter().position(|word| ["|", ">", "&", "&&", ";"].contains(&word.as_str()));
    words.truncate(end.unwrap_or(words.len()));
    words
}

/// The statements of a block of SQL, without comments.
pub fn statements(sql: &str) -> Vec<String> {
    let lines = sql.lines().filter(|line| !line.trim_start().starts_with("--"));
    let text = lines.collect::<Vec<_>>().join("\n");
    text.split(';').map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_their_place_and_what_is_typed_in_them() {
        let text =
            "# T\n\n```sh\na 'b # c' \\\n  --d # e\n```\nText\n```console\n# f\nout\n$ g\n```\n";
        let blocks = blocks_of("x.md", text);
        let typed: Vec<_> = blocks.iter().flat_map(Block::typed).collect();
        let typed: Vec<_> = typed.iter().map(|it| (&*it.place, &*it.line)).collect();
        assert_eq!(typed, [("x.md:3", "a 'b # c'    --d"), ("x.md:8", "f"), ("x.md:8", "g")]);
    }

    #[test]
    fn words_and_statements_are_those_of_the_shell_and_the_store() {
        assert_eq!(words("a 'b c' \"d|e\" f='' | g"), ["a", "b c", "d|e", "f="]);
        assert_eq!(statements("-- 1; one\nSELECT 1;\n\nSELECT 2\n"), ["SELECT 1", "SELECT 2"]);
    }
}
