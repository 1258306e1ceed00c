//! What a command says when it refuses: an exit code, and one sentence for whoever reads it.

use std::process::Output;

/// The command failed with this code and one sentence, which is returned.
///
/// # Panics
/// When it did not.
pub fn sentence(output: &Output, code: i32) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert_eq!(errors.lines().count(), 1, "not one line: {errors}");
    errors
}

/// The same; the sentence has these words, and nothing else is printed.
///
/// # Panics
/// When it has not.
pub fn refused(output: &Output, code: i32, words: &[&str]) {
    let errors = sentence(output, code);
    for word in words {
        assert!(errors.contains(word), "no {word:?} in: {errors}");
    }
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}
