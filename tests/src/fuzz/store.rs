//! Requests to the embedded store: each asks the engine for one statement at most, and settings
//! from the URL stay settings.

use flow_agent::fuzz::store::{connection, has_several};

use super::block_on;

/// See the module.
pub fn run(octets: &[u8]) {
    for asked in block_on(connection(octets)) {
        match asked {
            Ok(asked) => {
                for statement in &asked.statements {
                    let text = String::from_utf8_lossy(statement);
                    assert!(!has_several(statement), "several statements: {text}");
                }
            }
            Err(problem) => assert!(!problem.is_empty()),
        }
    }
}
