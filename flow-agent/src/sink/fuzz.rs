//! What a ClickHouse server says enters; what the agent takes from it leaves.

use super::answer::Answers;
use super::error::first_line;
use super::{Class, SinkError};

/// Looks at octets of a connection, which came in these pieces, before the HTTP client sees them.
///
/// # Errors
/// Why they are not believed.
pub fn answers<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(), String> {
    let mut answers = Answers::default();
    pieces.into_iter().try_for_each(|piece| answers.read(piece)).map_err(|why| why.to_string())
}

/// What becomes of the text of an error: the line that is shown, its number, whether it passes,
/// and what the delivery does about it.
pub fn refusal(text: &str) -> (String, Option<u32>, bool, Class) {
    let problem = first_line(text);
    let error = SinkError::Refused {
        address: "fuzz".into(),
        what: "insert".into(),
        problem: problem.clone(),
    };
    (problem, error.code(), error.is_transient(), Class::of(&error))
}
